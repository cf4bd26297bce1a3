//! Files appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::FileError;

/// The end of the names of temporary files, which tells them from those of other programs.
const TEMPORARY: &str = ".flatness-tmp";

/// Writes `path` through a temporary file in the same folder, flushed to the disk and then renamed.
///
/// A link at `path` is replaced, never written through. Whatever stood at `path` stays until the new bytes are safe; on any failure the temporary file is removed. The new
/// file gets the usual permissions of the process (its `umask`), not those of a private temporary file.
///
/// # Errors
/// [`FileError::Write`] with `path` and the system's reason: folder missing or not writable, disk full, or what
/// `write` itself returned.
pub fn write_atomic<F>(path: &Path, write: F) -> Result<(), FileError>
where
    F: FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
{
    replace(path, write).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

fn replace<F>(path: &Path, write: F) -> io::Result<()>
where
    F: FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
{
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let prefix = format!(".{}.", name.to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(TEMPORARY);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let temporary = builder.tempfile_in(folder)?;
    let mut buffer = BufWriter::new(temporary.as_file());
    write(&mut buffer)?;
    // Errors at drop are silent: take the buffer apart by hand.
    buffer.flush()?;
    drop(buffer);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failed| failed.error)?;
    // The rename itself lives in the folder. Not every system lets one open a folder, and the file is whole anyway.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
    Ok(())
}

/// Removes the temporary files that a killed [`write_atomic`] left in `folder`; nobody may be writing there.
pub fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_temporary) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether it is `.NAME.RANDOM.flatness-tmp`, six letters or digits being random.
fn is_temporary(name: &str) -> bool {
    let parts = name.strip_prefix('.').and_then(|name| name.strip_suffix(TEMPORARY)?.rsplit_once('.'));
    parts.is_some_and(|(_, random)| random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_the_old_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.bin");
        write_atomic(&path, |file| file.write_all(b"old")).unwrap();
        write_atomic(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["table.bin"]);
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_removes_the_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.bin");
        write_atomic(&path, |file| file.write_all(b"old")).unwrap();
        let error = write_atomic(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(error.to_string().contains("table.bin"), "{error}");
        assert!(error.hint().unwrap().contains("space"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["table.bin"]);
    }

    #[test]
    fn what_a_kill_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        write_atomic(&folder.path().join("table.bin"), |file| {
            // A copy of the unfinished file stays, as the file itself does at a kill.
            let unfinished = names(folder.path()).remove(0);
            std::fs::write(folder.path().join(unfinished.replace("table", "killed")), b"half")?;
            file.write_all(b"whole")
        })
        .unwrap();
        let others = [".hidden", ".notes.abcdef.tmp", ".table.bin.short.flatness-tmp", "a.bin.abcdef.flatness-tmp"];
        others.iter().for_each(|name| std::fs::write(folder.path().join(name), b"mine").unwrap());
        assert_eq!(names(folder.path()).len(), 6);
        remove_leftovers(folder.path());
        assert_eq!(names(folder.path()), [&others[..], &["table.bin"]].concat());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_what_it_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("table.bin"), folder.path().join("other"));
        std::fs::write(&other, b"mine").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        write_atomic(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!((std::fs::read(&other).unwrap(), std::fs::read(&path).unwrap()), (b"mine".into(), b"new".into()));
        assert!(!path.is_symlink());
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("table.bin");
        let error = write_atomic(&path, |_| Ok(())).unwrap_err();
        assert!(matches!(&error, FileError::Write { path: named, .. } if *named == path));
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_the_file_as_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (atomic, plain) = (folder.path().join("atomic"), folder.path().join("plain"));
        write_atomic(&atomic, |file| file.write_all(b"x")).unwrap();
        std::fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&atomic), mode(&plain));
    }
}
