//! What is measured during training.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::plan::PlanError;

/// What is tracked; written `top:1,trace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Track {
    /// Largest eigenvalues of the Hessian; `lambda_max` is the first, `lambda_2` the second.
    pub top: usize,
    /// Whether the Hessian's trace.
    pub trace: bool,
}

impl FromStr for Track {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let bad = || PlanError::Track { text: text.into() };
        let mut track = Self { top: 0, trace: false };
        for word in text.split(',') {
            match word.split_once(':') {
                None if word == "trace" => track.trace = true,
                None if word == "top" => track.top = 1,
                Some(("top", count)) => {
                    track.top = count.parse().ok().filter(|count| (1..=100).contains(count)).ok_or_else(bad)?;
                }
                _ => return Err(bad()),
            }
        }
        Ok(track)
    }
}

impl TryFrom<String> for Track {
    type Error = PlanError;

    fn try_from(text: String) -> Result<Self, PlanError> {
        text.parse()
    }
}

impl From<Track> for String {
    fn from(track: Track) -> Self {
        match (track.top, track.trace) {
            (0, _) => "trace".into(),
            (top, true) => format!("top:{top},trace"),
            (top, false) => format!("top:{top}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        for (text, top, trace) in [("top:1,trace", 1, true), ("trace", 0, true), ("top:5", 5, false)] {
            let track: Track = text.parse().unwrap();
            assert_eq!((track.top, track.trace), (top, trace));
            assert_eq!(String::from(track), text);
        }
        for text in ["", "top:0", "bottom:1", "trace:1", "top:x", "top:1,", "top:101"] {
            let error = text.parse::<Track>().unwrap_err();
            assert!(error.hint().unwrap().contains("top:1,trace"), "{error}");
        }
    }
}
