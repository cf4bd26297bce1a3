//! Image files, read and decoded when a batch is made.

mod error;
mod jpeg;
mod picture;
mod resize;
mod share;

use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

pub use error::ImageError;
pub(super) use picture::{Picture, contained, decoder};

use super::{DataError, DataResult};
use crate::input;
use crate::path_text::from_text;
use crate::workers::may_share;

/// Decoded images are kept in memory where all of a data set fit into this many bytes: an analysis reads each about a
/// hundred times.
const KEPT_BYTES: usize = 1 << 29;

/// Rows that are image files; decoded when they are asked for.
#[derive(Debug, Clone)]
pub struct ImageFiles {
    root: PathBuf,
    /// Side of the squares that they become.
    size: usize,
    files: Vec<ImageFile>,
    /// The most memory that decoding may take.
    memory_bytes: usize,
    /// Squares by row, once read; `None` where there are too many.
    kept: Option<Arc<[OnceLock<Vec<u8>>]>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageFile {
    /// Below the root, such as `train/cat/0001.jpg`, with `/` on every system, as [`crate::path_text`] writes it.
    pub(super) path: String,
    pub(super) bytes: u64,
}

impl PartialEq for ImageFiles {
    fn eq(&self, other: &Self) -> bool {
        (&self.root, self.size, &self.files) == (&other.root, other.size, &other.files)
    }
}

impl ImageFiles {
    /// The `files` below `root` as squares of `size` pixels.
    pub(super) fn new(root: PathBuf, size: usize, files: Vec<ImageFile>, memory_bytes: usize) -> Self {
        Self { root, size, files, memory_bytes, kept: None }
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes of a decoded square.
    pub(super) fn sample_len(&self) -> usize {
        3 * self.size * self.size
    }

    /// Path below the root and size in bytes of the files of some rows, which must exist.
    pub(super) fn entries(&self, rows: Range<usize>) -> impl Iterator<Item = (&str, u64)> {
        self.files[rows].iter().map(|file| (file.path.as_str(), file.bytes))
    }

    /// The given rows, which must exist.
    pub(super) fn take(&self, rows: &[usize]) -> Self {
        let files: Vec<ImageFile> = rows.iter().map(|&row| self.files[row].clone()).collect();
        let fits = files.len().saturating_mul(self.sample_len()) <= KEPT_BYTES;
        let kept = fits.then(|| files.iter().map(|_| OnceLock::new()).collect());
        Self { files, kept, root: self.root.clone(), ..*self }
    }

    /// Looks at the size and the first bytes of every file.
    ///
    /// # Errors
    /// [`ImageError::Unreadable`] for the first file that is empty or of another kind, with the number of further ones.
    pub(super) fn check(&self) -> DataResult<()> {
        let broken = |file: &ImageFile| {
            if file.bytes == 0 {
                return Some("the file is empty".to_string());
            }
            let mut start = Vec::new();
            let opened = input::open(&self.root.join(from_text(&file.path)));
            match opened.and_then(|file| file.take(picture::MAGIC_LEN as u64).read_to_end(&mut start)) {
                Err(error) => Some(error.to_string()),
                Ok(_) if picture::format(&start).is_none() => Some(format!("it is not a {} file", picture::KINDS)),
                Ok(_) => None,
            }
        };
        let found: Vec<(usize, String)> =
            self.files.par_iter().enumerate().filter_map(|(row, file)| Some((row, broken(file)?))).collect();
        match found.first() {
            Some((row, reason)) => Err(self.unreadable(*row, reason.clone(), found.len() - 1)),
            None => Ok(()),
        }
    }

    /// The whole image of an existing row.
    pub(super) fn picture(&self, row: usize) -> DataResult<Picture> {
        let file = &self.files[row];
        if file.bytes > self.memory_bytes as u64 {
            return Err(self.unreadable(row, "the file is larger than --memory".into(), 0));
        }
        let picture = match input::read(&self.root.join(from_text(&file.path))) {
            // Otherwise the hash would be that of other data.
            Ok(bytes) if bytes.len() as u64 != file.bytes => {
                Err("its size has changed since it was listed".to_string())
            }
            Ok(bytes) => picture::decode(&bytes, self.memory_bytes),
            Err(error) => Err(error.to_string()),
        };
        picture.map_err(|reason| self.unreadable(row, reason, 0))
    }

    /// The square in the middle of an existing row's image, `[3, size, size]`.
    pub(super) fn square(&self, row: usize) -> DataResult<Vec<u8>> {
        let place = self.kept.as_ref().map(|kept| &kept[row]);
        if let Some(bytes) = place.and_then(OnceLock::get) {
            return Ok(bytes.clone());
        }
        let bytes = self.picture(row)?.centre(self.size).bytes;
        if let Some(place) = place {
            // Another thread may have been faster, with the same bytes.
            let _ = place.set(bytes.clone());
        }
        Ok(bytes)
    }

    /// The squares of existing rows, `[rows, 3, size, size]`; over the rayon pool that the caller runs in, where it may
    /// share its work.
    ///
    /// # Errors
    /// [`ImageError::Unreadable`] for the first of `rows` that does not decode.
    pub(super) fn squares(&self, rows: &[usize]) -> DataResult<Vec<u8>> {
        let squares: DataResult<Vec<Vec<u8>>> = if may_share() {
            // All results first, so that the error is that of the first row and not of the fastest thread.
            let results: Vec<_> = rows.par_iter().map(|&row| self.square(row)).collect();
            results.into_iter().collect()
        } else {
            rows.iter().map(|&row| self.square(row)).collect()
        };
        Ok(squares?.concat())
    }

    fn unreadable(&self, row: usize, reason: String, others: usize) -> DataError {
        ImageError::Unreadable { path: self.root.join(from_text(&self.files[row].path)), reason, others }.into()
    }
}

#[cfg(test)]
mod tests;
