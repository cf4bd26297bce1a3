//! What can be wrong with an experiment file.

use std::path::{Path, PathBuf};

/// An experiment that cannot be read or does not make sense.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The experiment file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not valid TOML.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// The experiment file.
        path: PathBuf,
        /// The parser's message, with line and column.
        reason: String,
    },
    /// A key that does not exist there.
    #[error("{}: {place} has no `{key}`", path.display())]
    UnknownKey {
        /// The experiment file.
        path: PathBuf,
        /// The table or command that it stands in.
        place: String,
        /// What was written.
        key: String,
        /// The most similar key, or where all keys are listed.
        hint: String,
    },
    /// A key whose value is not allowed.
    #[error("{}: `{key}` {reason}", path.display())]
    Setting {
        /// The experiment file.
        path: PathBuf,
        /// The key, with dots between tables.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A profile that the file does not have.
    #[error("{}: unknown profile `{name}`", path.display())]
    UnknownProfile {
        /// The experiment file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// The profiles that exist.
        known: Vec<String>,
    },
    /// A cell with settings that the command of a step refuses.
    #[error("{}: {step}: {reason}", path.display())]
    Cell {
        /// The experiment file.
        path: PathBuf,
        /// The cell's label and the command, such as "cell `sgd-s0`, train".
        step: String,
        /// The command's message.
        reason: String,
        /// The command's hint.
        hint: Option<String>,
    },
}

impl ExperimentError {
    /// [`ExperimentError::UnknownKey`], with the most similar of the `known` keys for a hint, or `otherwise`.
    pub(crate) fn unknown_key<'a>(
        path: &Path,
        place: &str,
        key: &str,
        known: impl IntoIterator<Item = &'a str>,
        otherwise: String,
    ) -> Self {
        let hint = crate::nearest(key, known).map_or(otherwise, |nearest| format!("did you mean `{nearest}`?"));
        Self::UnknownKey { path: path.into(), place: place.into(), key: key.into(), hint }
    }

    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("check the path".into()),
            Self::Syntax { .. } | Self::Setting { .. } => {
                Some("see docs/experiments.md for what an experiment file may contain".into())
            }
            Self::UnknownKey { hint, .. } => Some(hint.clone()),
            Self::UnknownProfile { known, .. } if known.is_empty() => {
                Some("leave out --profile, or add a table such as [profile.smoke]".into())
            }
            Self::UnknownProfile { known, .. } => Some(format!("its profiles are {}", known.join(", "))),
            Self::Cell { hint, .. } => hint.clone(),
        }
    }
}
