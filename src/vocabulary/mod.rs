//! The words that the command line, the numerics and the tables share, each written once.

use std::fmt;
use std::str::FromStr;

mod curvature;

pub use curvature::Curvature;

/// A word that is not one of the names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{word}`: the names are {}", names.join(", "))]
pub struct UnknownName {
    /// What the names are of.
    pub what: &'static str,
    /// What was written.
    pub word: String,
    /// The names that exist.
    pub names: Vec<&'static str>,
}

impl UnknownName {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        let nearest = crate::nearest(&self.word, self.names.iter().copied())?;
        Some(format!("did you mean `{nearest}`?"))
    }
}

/// `Display` as [`Curvature::name`] and its like, and `FromStr` back, which takes `-` for `_`.
macro_rules! named {
    ($type:ty, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(word: &str) -> Result<Self, UnknownName> {
                let name = word.replace('-', "_");
                Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| UnknownName {
                    what: $what,
                    word: word.into(),
                    names: Self::ALL.map(Self::name).to_vec(),
                })
            }
        }
    };
}

named!(Curvature, "curvature");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_others_are_refused_with_a_list() {
        for curvature in Curvature::ALL {
            assert_eq!(curvature.name().parse(), Ok(curvature));
            // Results record the same word.
            assert_eq!(serde_json::json!(curvature), curvature.name());
            assert!(!curvature.about().is_empty());
        }
        assert_eq!("empirical-fisher".parse(), Ok(Curvature::EmpiricalFisher));
        let error = "hesian".parse::<Curvature>().unwrap_err();
        let names = "hessian, ggn, residual, empirical_fisher, mc_fisher, gradient_covariance";
        assert_eq!(error.to_string(), format!("unknown curvature `hesian`: the names are {names}"));
        assert_eq!(error.hint().unwrap(), "did you mean `hessian`?");
        assert_eq!("covid".parse::<Curvature>().unwrap_err().hint(), None);
    }
}
