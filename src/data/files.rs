//! Reads files and lists folders, with errors that say what was expected.

use std::io::ErrorKind;
use std::path::Path;

use super::{DataError, DataResult};
use crate::{input, path_text};

/// The whole file; `expected` says what it should be.
pub(super) fn read(path: &Path, expected: &str) -> DataResult<Vec<u8>> {
    if path.is_dir() {
        return Err(DataError::NotAFile { path: path.to_path_buf(), expected: expected.to_string() });
    }
    input::read(path).map_err(|source| failure(path, source, expected))
}

/// Names in a folder as [`path_text`] writes them, sorted; `expected` says what the folder should hold.
pub(super) fn names(folder: &Path, expected: &str) -> DataResult<Vec<String>> {
    if folder.is_file() {
        return Err(DataError::NotAFolder { path: folder.to_path_buf(), expected: expected.to_string() });
    }
    let fail = |source| failure(folder, source, expected);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        names.push(path_text::to_text(entry.map_err(fail)?.file_name()));
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn failure(path: &Path, source: std::io::Error, expected: &str) -> DataError {
    let path = path.to_path_buf();
    match source.kind() {
        ErrorKind::NotFound => DataError::Missing { path, expected: expected.to_string() },
        _ => DataError::Io { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_kinds_of_place_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.txt");
        std::fs::write(&file, "text").unwrap();
        std::fs::write(folder.path().join("a.txt"), "").unwrap();
        assert_eq!(names(folder.path(), "").unwrap(), ["a.txt", "b.txt"]);
        assert_eq!(read(&file, "").unwrap(), b"text");
        assert!(matches!(names(&file, "").unwrap_err(), DataError::NotAFolder { .. }));
        assert!(matches!(read(folder.path(), "").unwrap_err(), DataError::NotAFile { .. }));
        let missing = names(&folder.path().join("c"), "idx files").unwrap_err();
        assert!(missing.to_string().ends_with("c does not exist"), "{missing}");
        assert_eq!(missing.hint().unwrap(), "expected idx files");
        assert!(matches!(read(&folder.path().join("c"), "").unwrap_err(), DataError::Missing { .. }));
    }
}
