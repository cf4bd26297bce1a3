//! Input files: opened only where they are regular files, so that no pipe, device or socket keeps a command waiting.

use std::fs::{File, FileType};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Opens `path`, or the file that it links to.
///
/// # Errors
/// The system's, and in words what `path` is where it is not a regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Behind these names is whatever the caller's shell put there, which a result could not name.
    if path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc") {
        return Err(refused("a stream"));
    }
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() {
        return Err(refused(name(kind)));
    }
    File::open(path)
}

/// The whole file.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The whole file as text.
///
/// # Errors
/// As [`open`], and where it is no UTF-8.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

fn refused(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("it is {what}, not a file"))
}

fn name(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    if kind.is_dir() { "a folder" } else { "a device" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_to_a_regular_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!((read(&file).unwrap(), read_text(&file).unwrap()), (b"text".to_vec(), "text".to_owned()));
        assert_eq!(read(folder.path()).unwrap_err().to_string(), "it is a folder, not a file");
        assert_eq!(read(&folder.path().join("absent")).unwrap_err().kind(), ErrorKind::NotFound);
        #[cfg(unix)]
        for (target, reads) in [(file.as_path(), true), (folder.path(), false), (Path::new("/dev/null"), false)] {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(target, &link).unwrap();
            assert_eq!(read(&link).is_ok(), reads, "{}", target.display());
            std::fs::remove_file(link).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_could_block_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (pipe.as_path(), "a named pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/stdin"), "a stream"),
            (Path::new("/dev/fd/0"), "a stream"),
        ] {
            assert_eq!(open(path).unwrap_err().to_string(), format!("it is {what}, not a file"));
        }
    }
}
