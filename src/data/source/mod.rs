//! Where rows come from: the list of sources, and their text form.

mod arrays;
mod cifar;
mod glyphs;
mod images;
mod kind;
mod memory;
mod mnist;
mod npy;
mod request;
mod table;
mod tensors;
mod tokens;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use cifar::{Cifar10, Cifar100};
pub use glyphs::Glyphs;
pub use images::Images;
pub use memory::Memory;
pub use mnist::Mnist;
pub use request::GlyphOptions;
pub use tensors::Tensors;
pub use tokens::Tokens;

pub(super) use arrays::Entry;
#[cfg(test)]
pub(super) use cifar::COARSE;
pub(super) use cifar::check_label;
pub(super) use request::Request;
pub(super) use table::{Rows, Table};
pub(crate) use tensors::read_weights;
pub(super) use tensors::table as table_of_tensors;

use super::{DataError, DataResult, Normalisation};
use crate::path_text::to_text;
use kind::Kind;

/// Least similarity (Jaro-Winkler, 0 to 1) at which a name counts as misspelt rather than unknown.
const RESEMBLANCE: f64 = 0.7;

/// Declares [`Source`] from the list of kinds, each with its word and what a user writes after it.
macro_rules! sources {
    ($($word:literal $($place:literal)? => $kind:ident),* $(,)?) => {
        const WORDS: [&str; [$($word),*].len()] = [$($word),*];

        /// A source of rows; written as a word and, for most, a place after a colon, such as `glyphs` or `mnist:DIR`.
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[allow(missing_docs)] // each is documented at its type
        pub enum Source {
            $($kind($kind),)*
        }

        impl Source {
            fn word(&self) -> &'static str {
                match self { $(Self::$kind(_) => $word,)* }
            }

            fn kind(&self) -> &dyn Kind {
                match self { $(Self::$kind(kind) => kind,)* }
            }

            fn kind_mut(&mut self) -> &mut dyn Kind {
                match self { $(Self::$kind(kind) => kind,)* }
            }

            /// The forms of all sources as a user writes them, each with what it is.
            pub fn forms() -> Vec<(&'static str, &'static str)> {
                vec![$((concat!($word $(, $place)?), $kind::about())),*]
            }
        }

        impl FromStr for Source {
            type Err = DataError;

            fn from_str(text: &str) -> DataResult<Self> {
                let (word, place) = match text.split_once(':') {
                    Some((word, place)) => (word, Some(place)),
                    None => (text, None),
                };
                match word {
                    $($word => {
                        let expected = || format!("`{}`: {}", concat!($word $(, $place)?), $kind::about());
                        let wrong = || DataError::syntax("source", text, expected());
                        $kind::parse(place).map(Self::$kind).ok_or_else(wrong)
                    })*
                    _ => {
                        let forms: Vec<String> = Self::forms().iter().map(|(form, _)| format!("`{form}`")).collect();
                        let known = forms.join(", ");
                        Err(DataError::UnknownSource { name: word.into(), nearest: nearest(text, word), known })
                    }
                }
            }
        }

        $(impl From<$kind> for Source {
            fn from(kind: $kind) -> Self {
                Self::$kind(kind)
            }
        })*
    };
}

sources! {
    "glyphs" => Glyphs,
    "mnist" ":DIR" => Mnist,
    "cifar10" ":DIR" => Cifar10,
    "cifar100" ":DIR" => Cifar100,
    "images" ":DIR" => Images,
    "tensors" ":FILE" => Tensors,
    "tokens" ":FILE,context=T" => Tokens,
    "memory" => Memory,
}

/// What may have been meant: a source of a similar name, or the one that reads files like this.
fn nearest(text: &str, word: &str) -> Option<String> {
    match Path::new(text).extension().and_then(|extension| extension.to_str()) {
        Some("safetensors" | "npz") => return Some(format!("tensors:{text}")),
        Some("bin" | "npy") => return Some(format!("tokens:{text},context=T")),
        _ => {}
    }
    let name = word.to_lowercase();
    WORDS
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|&(resemblance, _)| resemblance >= RESEMBLANCE)
        .map(|(_, known)| known.to_owned())
}

impl Source {
    /// The file or folder that it reads, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.kind().path()
    }

    /// The source in a word or a file name, for captions: no folders of one machine.
    pub fn caption(&self) -> String {
        self.kind().caption()
    }

    /// The normalisation that goes with the source unless another is asked for; `None` leaves values as they are.
    pub fn default_normalisation(&self) -> Option<Normalisation> {
        self.kind().default_normalisation()
    }

    /// Whether it has rows to test on.
    pub fn has_test_split(&self) -> bool {
        self.kind().has_test_split()
    }

    /// The class that `class` is mistaken for under asymmetric noise; `class` itself where it is not (Patrini et al.
    /// 2017).
    pub(super) fn mistaken(&self, class: u32, num_classes: usize) -> u32 {
        self.kind().mistaken(class, num_classes)
    }

    /// The folder that it is, or in which its file lies.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        let path = self.path()?;
        if path.is_file() { path.parent().map(PathBuf::from) } else { Some(path.to_path_buf()) }
    }

    /// The same source, with a relative place seen from `directory`.
    pub(super) fn seen_from(&self, directory: &Path) -> Self {
        let mut seen = self.clone();
        if let Some(path) = seen.kind_mut().path_mut() {
            *path = directory.join(&*path);
        }
        seen
    }

    /// Writes out the defaults of the options that it takes.
    pub(super) fn resolve(&self, request: &mut Request) {
        self.kind().resolve(request);
    }

    /// All rows of a split, images not yet drawn or decoded.
    pub(super) fn open(&self, request: &Request) -> DataResult<Table> {
        if request.split == super::Split::Test && !self.has_test_split() {
            return Err(DataError::NoTestSplit { source_name: self.to_string() });
        }
        self.kind().open(request)
    }

    /// What a user writes, with places as `path` writes them.
    fn written(&self, path: &dyn Fn(&Path) -> String) -> String {
        match self.kind().written(path) {
            Some(place) => format!("{}:{place}", self.word()),
            None => self.word().into(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(&|path| path.display().to_string()))
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
        source.written(&|path| to_text(path))
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
            "tokens:a.bin,context=4,dtype=u32",
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
        assert!(hint("runs/rows.safetensors").starts_with("did you mean `tensors:runs/rows.safetensors`?"));
        assert!(
            hint("text.bin,context=8").starts_with("the sources are")
                && hint("text.bin").contains("tokens:text.bin,context=T")
        );
        let forms = "`glyphs`, `mnist:DIR`, `cifar10:DIR`, `cifar100:DIR`, `images:DIR`, `tensors:FILE`, \
                     `tokens:FILE,context=T`, `memory`";
        assert_eq!(hint("qq"), format!("the sources are {forms}"));
        assert_eq!("imagenet".parse::<Source>().unwrap_err().to_string(), "data: unknown source `imagenet`");
    }

    #[test]
    fn the_page_on_data_has_a_row_for_every_source() {
        let page = include_str!("../../../docs/data.md");
        assert!(Source::forms().iter().all(|(form, _)| page.contains(&format!("\n| `{form}` |"))));
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
