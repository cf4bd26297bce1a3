//! What can go wrong between an experiment file and its cells.

use std::path::PathBuf;

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
    /// The file is no TOML.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// The experiment file.
        path: PathBuf,
        /// What the reader says, with line and column.
        reason: String,
    },
    /// A key that means nothing there.
    #[error("{}: {place} has no `{key}`", path.display())]
    UnknownKey {
        /// The experiment file.
        path: PathBuf,
        /// The table, or the command.
        place: String,
        /// What was written.
        key: String,
        /// The most similar key that exists.
        nearest: Option<String>,
        /// What exists, where the list is short.
        known: String,
    },
    /// A key whose value does not make sense.
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
    #[error("{}: no profile `{name}`", path.display())]
    UnknownProfile {
        /// The experiment file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// The profiles that exist.
        known: Vec<String>,
    },
    /// A cell whose step would refuse its settings.
    #[error("{}: cell `{cell}`, {step}: {reason}", path.display())]
    Cell {
        /// The experiment file.
        path: PathBuf,
        /// The cell's label.
        cell: String,
        /// The step's command.
        step: &'static str,
        /// What the command says.
        reason: String,
        /// How it says to mend it.
        hint: Option<String>,
    },
}

impl ExperimentError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("check the path".into()),
            Self::Syntax { .. } => Some("docs/experiments.md shows a file".into()),
            Self::UnknownKey { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::UnknownKey { known, .. } => Some(known.clone()),
            Self::Setting { .. } => None,
            Self::UnknownProfile { known, .. } if known.is_empty() => {
                Some("leave out --profile, or add a table such as [profile.smoke]".into())
            }
            Self::UnknownProfile { known, .. } => Some(format!("its profiles are {}", known.join(", "))),
            Self::Cell { hint, .. } => hint.clone(),
        }
    }
}
