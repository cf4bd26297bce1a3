//! Writes report structs as Parquet tables and figures; runs no numerics.

mod atomic;

use std::path::PathBuf;

pub use atomic::write_atomic;

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
}

impl ReportError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}
