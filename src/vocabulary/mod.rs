//! The words that the command line, the numerics and the tables share, each written once.

use std::fmt;
use std::str::FromStr;

mod curvature;
mod end;
mod method;
mod quantity;
mod sharpness;

pub use curvature::Curvature;
pub use end::End;
pub use method::Method;
pub(crate) use quantity::subscript;
pub use quantity::{Quantity, QuantityKind};
pub use sharpness::{Ball, Logits, Scaling, Sharpness};

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

/// Names in and out: `Display` and serde as [`Curvature::name`] and its like; `FromStr` also takes `-` for `_`.
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

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <String as serde::Deserialize>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

named!(Ball, "ball");
named!(Curvature, "curvature");
named!(End, "end of the spectrum");
named!(Method, "method");
named!(Scaling, "scaling");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        fn check<T, const N: usize>(all: [T; N])
        where
            T: Copy + PartialEq + fmt::Debug + fmt::Display + FromStr + serde::Serialize + serde::de::DeserializeOwned,
        {
            for value in all {
                assert_eq!(value.to_string().parse().ok(), Some(value));
                let json = serde_json::json!(value);
                assert_eq!(json, value.to_string());
                assert_eq!(serde_json::from_value::<T>(json).unwrap(), value);
            }
        }
        check(Ball::ALL);
        check(Curvature::ALL);
        check(End::ALL);
        check(Method::ALL);
        check(Scaling::ALL);
        assert_eq!("empirical-fisher".parse(), Ok(Curvature::EmpiricalFisher));
    }

    #[test]
    fn other_words_are_refused_with_the_names() {
        let error = "hesian".parse::<Curvature>().unwrap_err();
        let names = "hessian, ggn, residual, empirical_fisher, mc_fisher, gradient_covariance";
        assert_eq!(error.to_string(), format!("unknown curvature `hesian`: the names are {names}"));
        assert_eq!(error.hint().unwrap(), "did you mean `hessian`?");
        assert_eq!("covid".parse::<Curvature>().unwrap_err().hint(), None);
        assert!(serde_json::from_str::<Method>("\"guess\"").is_err());
    }
}
