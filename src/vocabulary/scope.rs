//! Parts of the parameters by name: all, one layer, one kind, or a pattern of names.

use std::fmt;
use std::str::FromStr;

names! {
    "kind of parameter";
    /// The role of a parameter tensor.
    pub enum ParamKind {
        /// Filters and matrices.
        Weight = "weight",
        /// Offsets of linear maps and convolutions.
        Bias = "bias",
        /// Scale and shift of a normalisation.
        Norm = "norm",
    }
}

/// Which parameters: `all`, `layer:NAME`, `kind:weight|bias|norm`, or `params:GLOB`. `Display` gives the text back.
///
/// ```
/// use flatness::autodiff::ParamSpace;
/// use flatness::vocabulary::{ParamKind, Scope};
///
/// # fn main() -> flatness::Result<()> {
/// let space = ParamSpace::new([
///     ("fc1.weight".into(), vec![4, 2], ParamKind::Weight),
///     ("fc1.bias".into(), vec![4], ParamKind::Bias),
///     ("fc2.weight".into(), vec![1, 4], ParamKind::Weight),
/// ]);
/// assert_eq!("kind:weight".parse::<Scope>()?.resolve(&space)?, [0..8, 12..16]);
/// assert_eq!("params:fc1.*".parse::<Scope>()?.resolve(&space)?, [0..12]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scope {
    /// Every parameter.
    #[default]
    All,
    /// The tensors of one layer, such as `layer1.0.conv1`. Each tensor belongs to exactly one.
    Layer(String),
    /// The tensors of one kind.
    Kind(ParamKind),
    /// The tensors whose names match: `*` stands for any text, `?` for any one character.
    Params(String),
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let unknown = |reason: String| ScopeError::UnknownScope { text: text.into(), reason };
        match text.split_once(':') {
            None if text == "all" => Ok(Self::All),
            Some(("layer", name)) if !name.is_empty() => Ok(Self::Layer(name.into())),
            Some(("params", glob)) if !glob.is_empty() => Ok(Self::Params(glob.into())),
            Some(("kind", name)) => match name.parse() {
                Ok(kind) => Ok(Self::Kind(kind)),
                Err(_) => Err(unknown(format!("unknown kind `{name}`"))),
            },
            Some(("layer" | "params", _)) => Err(unknown("nothing after the colon".into())),
            Some((word, _)) => Err(unknown(format!("unknown word `{word}`"))),
            None => Err(unknown(format!("unknown word `{text}`"))),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Layer(name) => write!(f, "layer:{name}"),
            Self::Kind(kind) => write!(f, "kind:{}", kind.name()),
            Self::Params(glob) => write!(f, "params:{glob}"),
        }
    }
}

/// A scope that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// Text that is not a scope.
    #[error("scope `{text}`: {reason}")]
    UnknownScope {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A scope that no parameter belongs to.
    #[error("scope `{scope}` has no parameters")]
    EmptyScope {
        /// The scope.
        scope: String,
        /// What there is, the most similar first.
        candidates: Vec<String>,
    },
}

impl ScopeError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownScope { .. } => {
                "write all, layer:NAME, kind:weight, kind:bias, kind:norm, or params:GLOB with * and ?".into()
            }
            Self::EmptyScope { candidates, .. } => match candidates.as_slice() {
                [] => return None,
                candidates => format!("there is {}", candidates.join(", ")),
            },
        })
    }
}
