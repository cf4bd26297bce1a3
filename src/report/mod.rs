//! Writes report structs as Parquet tables and figures; runs no numerics.

mod atomic;
pub mod figures;
pub mod latex;
mod lock;
pub mod notebook;
pub mod page;
mod recorded;
mod save;
#[cfg(test)]
pub(crate) mod synthetic;
pub mod tables;
pub mod terminal;

use std::path::PathBuf;

pub use atomic::{remove_leftovers, write_atomic};
pub use lock::{FolderLock, Holder, Sharing, holder, sweep};
pub use recorded::Recorded;
pub use save::{is_complete, read_run_json, save_analysis, save_landscape, write_run_json};

/// What can go wrong while writing results.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
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
    /// Another process writes into the folder.
    #[error("{} is in use by {holder}", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// A table could not be encoded, or a file is no such table.
    #[error("table {}: {source}", path.display())]
    Table {
        /// The table's file.
        path: PathBuf,
        /// What polars says.
        source: polars::error::PolarsError,
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
        use std::io::ErrorKind;
        let source = match self {
            Self::Write { source, .. } => source,
            Self::InUse { .. } => return Some("wait for its end, or choose another --out".into()),
            Self::RunJson { .. } => return Some("copy the result again, or repeat the command that made it".into()),
            _ => return None,
        };
        Some(match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "choose another folder with --out, or make this one writable".into()
            }
            ErrorKind::NotFound => "create the folder first, or choose another with --out".into(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "free some space on that disk; the old file, if any, is untouched".into()
            }
            _ => return None,
        })
    }
}
