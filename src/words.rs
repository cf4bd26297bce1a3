//! Choices that are written as a word.

/// A word that does not name a choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{text}`")]
pub struct UnknownWord {
    /// What is chosen.
    pub what: &'static str,
    /// As given.
    pub text: String,
    /// The words that there are.
    pub words: &'static [&'static str],
}

impl UnknownWord {
    /// How to mend it.
    pub fn hint(&self) -> String {
        format!("choose one of: {}", self.words.join(", "))
    }
}

/// Gives an enum without fields its words: `WORDS`, `name`, `Display` and `FromStr`.
macro_rules! words {
    ($choice:ident, $what:literal: $($variant:ident $word:literal),* $(,)?) => {
        impl $choice {
            /// The words of all choices.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word that it is written as.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $choice {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, $crate::UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::UnknownWord { what: $what, text: text.into(), words: Self::WORDS }),
                }
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use crate::landscape::{DirectionKind, Normalisation, Statistics};
    use crate::optim::Decay;
    use crate::report::figures::Look;
    use crate::train::NormStatistics;

    #[test]
    fn words_are_read_as_they_are_written_and_others_are_refused_with_the_known_ones() {
        macro_rules! check {
            ($($choice:ty)*) => { $(
                for word in <$choice>::WORDS {
                    assert_eq!(word.parse::<$choice>().unwrap().to_string(), *word);
                }
                let error = "nonsense".parse::<$choice>().unwrap_err();
                assert!(error.to_string().ends_with(" `nonsense`"), "{error}");
                assert!(error.hint().contains(<$choice>::WORDS[1]));
            )* };
        }
        check!(Decay NormStatistics Look DirectionKind Normalisation Statistics);
    }

    #[test]
    fn json_has_the_same_words() {
        macro_rules! check {
            ($($choice:ty)*) => { $(
                for word in <$choice>::WORDS {
                    assert_eq!(serde_json::to_value(word.parse::<$choice>().unwrap()).unwrap(), *word);
                }
            )* };
        }
        check!(Decay NormStatistics DirectionKind Normalisation Statistics);
    }
}
