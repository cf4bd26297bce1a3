//! Writes report structs as Parquet tables and figures; runs no numerics.

pub mod figures;
pub mod latex;
pub mod notebook;
pub mod page;
mod recorded;
mod save;
#[cfg(test)]
pub(crate) mod synthetic;
pub mod tables;
pub mod terminal;

use std::path::PathBuf;

use crate::files::FileError;

pub use recorded::Recorded;
pub use save::{is_complete, read_run_json, save_analysis, save_landscape, write_run_json};

/// What can go wrong while writing results.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of a result could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A `run.json` that is none.
    #[error("{} is damaged: {reason}", path.display())]
    RunJson {
        /// The file.
        path: PathBuf,
        /// What the reader met.
        reason: String,
    },
    /// A table could not be encoded, or a file is not such a table.
    #[error("table {}: {source}", path.display())]
    Table {
        /// The table's file.
        path: PathBuf,
        /// What polars says.
        source: polars_core::error::PolarsError,
    },
    /// A figure could not be drawn.
    #[error("figure {figure}: {source}")]
    Figure {
        /// Its name, without an extension.
        figure: String,
        /// What the drawing library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ReportError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::RunJson { .. } => Some("copy the result again, or repeat the command that made it".into()),
            _ => None,
        }
    }
}
