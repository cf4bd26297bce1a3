//! The names that the command line, the numerics and the tables share, each written once, and the headline number that is
//! made of them.

/// An enum of names, each of which stands here only: `ALL` and `name()`, and `Display`, serde and `FromStr` by name.
/// `FromStr` also takes `-` for `_`.
macro_rules! names {
    ($what:literal; $(#[$about:meta])* pub enum $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$doc])* $variant,)+
        }

        impl $type {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The word in tables, in configurations and on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::vocabulary::UnknownName;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                let name = word.replace('-', "_");
                Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| Self::Err {
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

mod curvature;
mod end;
mod method;
mod minimum;
mod outside;
mod quantity;
mod sampler;
mod scope;
mod sharpness;
mod summary;

pub use curvature::Curvature;
pub use end::End;
pub use method::Method;
pub use minimum::Minimum;
pub use outside::Outside;
pub(crate) use quantity::subscript;
pub use quantity::{Quantity, QuantityKind};
pub use sampler::Sampler;
pub use scope::{ParamKind, Scope, ScopeError};
pub use sharpness::{Ball, Direction, Logits, Scaling, Sharpness};
pub use summary::SummaryRow;

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

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::str::FromStr;

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
        check(Direction::ALL);
        check(End::ALL);
        check(Logits::ALL);
        check(Method::ALL);
        check(Minimum::ALL);
        check(Outside::ALL);
        check(ParamKind::ALL);
        check(Sampler::ALL);
        check(Scaling::ALL);
        assert_eq!("empirical-fisher".parse(), Ok(Curvature::EmpiricalFisher));
    }

    #[test]
    fn other_words_are_refused_with_the_names() {
        let error = "hesian".parse::<Curvature>().unwrap_err();
        let names = "hessian, ggn, residual, empirical_fisher, mc_fisher, gradient_covariance, preconditioned_hessian";
        assert_eq!(error.to_string(), format!("unknown curvature `hesian`: the names are {names}"));
        assert_eq!(error.hint().unwrap(), "did you mean `hessian`?");
        assert_eq!("covid".parse::<Curvature>().unwrap_err().hint(), None);
        assert!(serde_json::from_str::<Method>("\"guess\"").is_err());
    }
}
