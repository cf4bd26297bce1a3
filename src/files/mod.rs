//! Files of results: written whole or not at all, in folders that one process has to itself.

mod atomic;
mod lock;

use std::path::{Path, PathBuf};

pub use atomic::{remove_leftovers, write_atomic};
pub use lock::{FolderLock, Holder, Sharing, holder, sweep};

/// A file or folder that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another process writes into the folder.
    #[error("{} is in use by {holder}", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Who has it.
        holder: Holder,
    },
}

impl FileError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        use std::io::ErrorKind;
        let Self::Write { source, .. } = self else {
            return Some("wait until that process ends, or choose another --out".into());
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

/// Makes `folder` and those above it, where they are missing.
///
/// # Errors
/// [`FileError::Write`] where the system refuses.
pub fn make_folder(folder: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(folder).map_err(|source| FileError::Write { path: folder.into(), source })
}
