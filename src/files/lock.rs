//! Which process may write into a folder of results.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::FileError;
use crate::input;

/// The file that is locked; it is there only as long as the folder is in use, or after a kill.
const FILE: &str = ".flatness.lock";

/// How often a lock is tried, and how long is between: a glance of [`holder`] takes it for an instant.
const TRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(20);

/// Whether several processes may have a folder at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One alone.
    Alone,
    /// Any number that all ask for this.
    Together,
}

/// A folder that this process may write into.
///
/// The system lets go of it when the process ends, however it ends, and so do children that were given
/// [`FolderLock::handle`]. A file system without locks holds nobody back.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    file: File,
    sharing: Sharing,
}

/// The process that has a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its number, where it has written it down.
    pub pid: Option<u32>,
    /// Since when, in seconds since 1970.
    pub unix_time_s: Option<u64>,
}

impl FolderLock {
    /// Takes `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// [`FileError::InUse`] where another process has it, [`FileError::Write`] where it is not writable.
    pub fn acquire(folder: &Path, sharing: Sharing) -> Result<Self, FileError> {
        let path = folder.join(FILE);
        for left in (0..TRIES).rev() {
            match Self::try_acquire(folder, &path, sharing) {
                Ok(Some(file)) => return Ok(Self { path, file, sharing }),
                // The one before has just removed its file, or with it the folder.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound && left > 0 => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                Err(source) => return Err(FileError::Write { path: folder.into(), source }),
            }
        }
        Err(FileError::InUse { folder: folder.into(), holder: written(&path).unwrap_or_default() })
    }

    fn try_acquire(folder: &Path, path: &Path, sharing: Sharing) -> io::Result<Option<File>> {
        std::fs::create_dir_all(folder)?;
        if std::fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            // Neither written through, nor waited for.
            std::fs::remove_file(path)?;
        }
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let locked = match sharing {
            Sharing::Alone => file.try_lock(),
            Sharing::Together => file.try_lock_shared(),
        };
        if let Err(TryLockError::WouldBlock) = locked {
            return Err(ErrorKind::WouldBlock.into());
        }
        if !is_at(&file, path)? {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let holder = Holder { pid: Some(std::process::id()), unix_time_s: now.ok().map(|time| time.as_secs()) };
        file.set_len(0)?;
        writeln!(file, "{}", serde_json::json!(holder))?;
        Ok(Some(file))
    }

    /// A handle that keeps the lock as long as it is open, for a child to inherit.
    ///
    /// # Errors
    /// The system has no more handles.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Of several that share it the last one removes it.
        if self.sharing == Sharing::Alone || self.file.try_lock().is_ok() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The process that has `folder` alone, where one has.
pub fn holder(folder: &Path) -> Option<Holder> {
    let path = folder.join(FILE);
    let locked = input::open(&path).ok()?.try_lock_shared();
    matches!(locked, Err(TryLockError::WouldBlock)).then(|| written(&path).unwrap_or_default())
}

/// Removes what the lock of a killed process left in `folder`; that of a living one stays.
pub fn sweep(folder: &Path) {
    if folder.join(FILE).exists() {
        drop(FolderLock::acquire(folder, Sharing::Alone));
    }
}

fn written(path: &Path) -> Option<Holder> {
    serde_json::from_slice(&input::read(path).ok()?).ok()
}

/// Whether `file` is what stands at `path`: whoever had it before removes it at the end.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (own, there) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((own.dev(), own.ino()) == (there.dev(), there.ino()))
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => f.write_str("another process")?,
        }
        let since = self.unix_time_s.and_then(|time| chrono::DateTime::from_timestamp(i64::try_from(time).ok()?, 0));
        since.map_or(Ok(()), |since| write!(f, " since {since}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_a_folder_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b");
        let first = FolderLock::acquire(&place, Sharing::Alone).unwrap();
        assert_eq!(holder(&place).unwrap().pid, Some(std::process::id()));
        for sharing in [Sharing::Alone, Sharing::Together] {
            let error = FolderLock::acquire(&place, sharing).unwrap_err();
            let expected = format!("a/b is in use by process {} since 20", std::process::id());
            assert!(error.to_string().contains(&expected), "{error}");
            assert!(error.hint().unwrap().contains("--out"));
        }
        drop(first);
        assert!(holder(&place).is_none() && std::fs::read_dir(&place).unwrap().next().is_none());
    }

    #[test]
    fn those_that_share_keep_out_those_that_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let acquire = |sharing| FolderLock::acquire(folder.path(), sharing);
        let (first, second) = (acquire(Sharing::Together).unwrap(), acquire(Sharing::Together).unwrap());
        assert!(acquire(Sharing::Alone).is_err());
        drop(first);
        assert!(acquire(Sharing::Alone).is_err() && acquire(Sharing::Together).is_ok());
        drop(second);
        assert!(acquire(Sharing::Alone).is_ok());
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn what_a_kill_left_holds_nobody_back() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{\"pid\": 1}").unwrap();
        assert!(holder(folder.path()).is_none());
        drop(FolderLock::acquire(folder.path(), Sharing::Alone).unwrap());
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn many_at_once_never_have_it_together() {
        let folder = tempfile::tempdir().unwrap();
        let (place, inside) = (folder.path().join("new"), std::sync::atomic::AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let Ok(_lock) = FolderLock::acquire(&place, Sharing::Alone) else { continue };
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(std::fs::read_dir(&place).unwrap().next().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_its_place_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "mine").unwrap();
        let place = folder.path().join("out");
        std::fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(&other, place.join(FILE)).unwrap();
        drop(FolderLock::acquire(&place, Sharing::Alone).unwrap());
        assert_eq!(std::fs::read(&other).unwrap(), b"mine");
    }
}
