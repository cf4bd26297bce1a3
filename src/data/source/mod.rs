//! Where rows come from: the known sources, their text form and their default normalisation.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{DataError, DataResult, Normalisation, TokenFile, cifar, glyphs};
use crate::path_text::{from_text, to_text};

/// The sources as a user writes them.
pub(super) const FORMS: &str =
    "`glyphs`, `mnist:DIR`, `cifar10:DIR`, `cifar100:DIR`, `images:DIR`, `tensors:FILE`, `tokens:FILE,context=T`";

/// Least similarity (Jaro-Winkler, 0 to 1) at which a name counts as misspelt rather than unknown.
const RESEMBLANCE: f64 = 0.7;

/// A source of rows; written `glyphs`, `mnist:DIR`, `cifar10:DIR`, `cifar100:DIR`, `images:DIR`, `tensors:FILE` or
/// `tokens:FILE,context=T`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// Digits drawn by the program, `[1, 16, 16]`.
    Glyphs,
    /// A folder with MNIST's four idx files, gzipped or not.
    Mnist(PathBuf),
    /// A folder with CIFAR-10 as Parquet files (they win where both are present) or in the binary layout.
    Cifar10(PathBuf),
    /// A folder with CIFAR-100 in the same two forms; its 100 fine classes.
    Cifar100(PathBuf),
    /// A folder with image files in `train/CLASS` and `test/CLASS` or `val/CLASS`, read when they are needed.
    Images(PathBuf),
    /// Tensors by name, inputs and `y`: a `.safetensors` or `.npz` file, or a folder of `.npy` files.
    Tensors(PathBuf),
    /// One sequence of tokens in a file.
    Tokens(TokenFile),
}

impl Source {
    /// The normalisation that goes with the source unless another is asked for; `None` leaves values as they are.
    ///
    /// MNIST 0.1307 and 0.3081; CIFAR-10 (0.4914, 0.4822, 0.4465) and (0.2023, 0.1994, 0.2010), the customary
    /// constants (the second triple averages the deviations within single images; over all pixels they are a
    /// quarter larger); CIFAR-100 (0.5071, 0.4865, 0.4409) and (0.2673, 0.2564, 0.2762); images
    /// ImageNet's (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225); glyphs what was measured over the default training images; tensors none.
    pub fn default_normalisation(&self) -> Option<Normalisation> {
        match self {
            Self::Glyphs => Some(glyphs::normalisation()),
            Self::Mnist(_) => Some(Normalisation { mean: vec![0.1307], std: vec![0.3081] }),
            Self::Cifar10(_) => {
                Some(Normalisation { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.2023, 0.1994, 0.2010] })
            }
            Self::Cifar100(_) => {
                Some(Normalisation { mean: vec![0.5071, 0.4865, 0.4409], std: vec![0.2673, 0.2564, 0.2762] })
            }
            Self::Images(_) => Some(Normalisation { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }),
            Self::Tensors(_) | Self::Tokens(_) => None,
        }
    }

    /// Whether it has rows to test on.
    pub fn has_test_split(&self) -> bool {
        !matches!(self, Self::Tensors(_) | Self::Tokens(_))
    }

    /// The class that `class` is mistaken for under asymmetric noise; `class` itself where it is not.
    ///
    /// CIFAR-10: truck → automobile, bird → airplane, deer → horse, cat ↔ dog; CIFAR-100: the next class of the same
    /// coarse one, around (Patrini et al. 2017); elsewhere `class + 1`, around.
    pub(super) fn mistaken(&self, class: u32, num_classes: usize) -> u32 {
        match self {
            Self::Cifar10(_) => match class {
                9 => 1,
                2 => 0,
                4 => 7,
                3 => 5,
                5 => 3,
                _ => class,
            },
            Self::Cifar100(_) => cifar::next_in_coarse(class),
            _ => ((class as usize + 1) % num_classes.max(1)) as u32,
        }
    }

    /// The folder that the source lies in.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Glyphs => None,
            Self::Mnist(folder) | Self::Cifar10(folder) | Self::Cifar100(folder) | Self::Images(folder) => {
                Some(folder.clone())
            }
            Self::Tensors(file) | Self::Tokens(TokenFile { file, .. }) => file.parent().map(PathBuf::from),
        }
    }

    /// The same source, with a relative place seen from `directory`.
    pub(super) fn seen_from(&self, directory: &Path) -> Self {
        match self {
            Self::Glyphs => Self::Glyphs,
            Self::Mnist(folder) => Self::Mnist(directory.join(folder)),
            Self::Cifar10(folder) => Self::Cifar10(directory.join(folder)),
            Self::Cifar100(folder) => Self::Cifar100(directory.join(folder)),
            Self::Images(folder) => Self::Images(directory.join(folder)),
            Self::Tensors(file) => Self::Tensors(directory.join(file)),
            Self::Tokens(tokens) => Self::Tokens(tokens.seen_from(directory)),
        }
    }
}

impl FromStr for Source {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        let (name, place) = match text.split_once(':') {
            Some((name, place)) => (name, Some(place)),
            None => (text, None),
        };
        let syntax = |expected| DataError::Syntax { what: "source", text: text.to_string(), expected };
        let at = |expected| place.filter(|place| !place.is_empty()).map(from_text).ok_or(syntax(expected));
        match name {
            "glyphs" if place.is_none() => Ok(Self::Glyphs),
            "glyphs" => Err(syntax("`glyphs` alone: it is drawn and needs no place")),
            "mnist" => at("`mnist:DIR` with the folder of the idx files").map(Self::Mnist),
            "cifar10" => at("`cifar10:DIR` with the folder of the Parquet or binary files").map(Self::Cifar10),
            "cifar100" => at("`cifar100:DIR` with the folder of the Parquet or binary files").map(Self::Cifar100),
            "images" => at("`images:DIR` with the folder that holds `train`").map(Self::Images),
            "tensors" => {
                at("`tensors:FILE` with a .safetensors or .npz file, or a folder of .npy files").map(Self::Tensors)
            }
            "tokens" => place.unwrap_or_default().parse().map(Self::Tokens),
            _ => Err(DataError::UnknownSource { name: name.to_string(), nearest: nearest(name) }),
        }
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    ["glyphs", "mnist", "cifar10", "cifar100", "images", "tensors", "tokens"]
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|&(resemblance, _)| resemblance >= RESEMBLANCE)
        .map(|(_, known)| known)
}

impl Source {
    /// What a user writes, with places as `path` writes them.
    fn written(&self, path: impl Fn(&Path) -> String) -> String {
        match self {
            Self::Glyphs => "glyphs".into(),
            Self::Mnist(folder) => format!("mnist:{}", path(folder)),
            Self::Cifar10(folder) => format!("cifar10:{}", path(folder)),
            Self::Cifar100(folder) => format!("cifar100:{}", path(folder)),
            Self::Images(folder) => format!("images:{}", path(folder)),
            Self::Tensors(file) => format!("tensors:{}", path(file)),
            Self::Tokens(tokens) => format!("tokens:{}", tokens.written(path)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(|path| path.display().to_string()))
    }
}

impl TryFrom<String> for Source {
    type Error = DataError;

    fn try_from(text: String) -> DataResult<Self> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.written(|path| to_text(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in [
            "glyphs",
            "mnist:data/mnist",
            "cifar10:/data/cifar",
            "cifar100:c",
            "tensors:toy.safetensors",
            "mnist:C:\\data",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_relative_place_is_seen_from_another_folder_and_an_absolute_one_stays() {
        let seen = |text: &str| text.parse::<Source>().unwrap().seen_from(Path::new("/runs")).to_string();
        assert_eq!(seen("mnist:../data"), "mnist:/runs/../data");
        assert_eq!((seen("images:/data"), seen("glyphs")), ("images:/data".into(), "glyphs".into()));
    }

    #[test]
    fn unknown_names_get_the_nearest_known_one() {
        let hint = |text: &str| text.parse::<Source>().unwrap_err().hint().unwrap();
        assert!(hint("cifar:DIR").starts_with("did you mean `cifar10`?"));
        assert!(hint("glyph").starts_with("did you mean `glyphs`?"));
        assert!(hint("MNIST:x").starts_with("did you mean `mnist`?"));
        assert_eq!(hint("qq"), format!("the sources are {FORMS}"));
        assert_eq!("imagenet".parse::<Source>().unwrap_err().to_string(), "data: unknown source `imagenet`");
    }

    #[test]
    fn a_missing_place_is_asked_for() {
        for text in ["mnist", "mnist:", "cifar10", "tensors:", "glyphs:x"] {
            let error = text.parse::<Source>().unwrap_err();
            assert_eq!(error.to_string(), format!("data: `{text}` is not a valid source"));
            assert!(error.hint().unwrap().starts_with("write `"));
        }
    }
}
