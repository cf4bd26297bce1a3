//! Folders of image files, one folder per class, read and decoded when a batch is made.

mod error;
mod jpeg;
mod picture;
mod resize;
mod share;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

pub use error::ImageError;
pub(super) use picture::{Picture, contained, decoder};

use super::table::{RowInputs, Table};
use super::{DataError, DataResult, Split, Targets, files};
use crate::input;
use crate::path_text::from_text;
use crate::workers::may_share;

/// Side of the images that a network sees, unless another is asked for.
pub(super) const DEFAULT_SIZE: usize = 224;
/// Largest side.
const MAX_SIZE: usize = 4096;
/// Decoded images are kept for the next reading where all of a data set fit into this many bytes: an analysis reads
/// each some hundred times.
const KEPT_BYTES: usize = 1 << 29;

const EXPECTED: &str =
    "`train/CLASS/*.jpg|jpeg|png|webp|bmp|tif|tiff|gif` and, with the same classes, `test/CLASS/…` or `val/CLASS/…`";

/// Endings of image files, in any case.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];
/// Kinds of other files that a note counts one by one.
const NAMED_KINDS: usize = 8;

/// Rows that are image files; decoded when they are asked for.
#[derive(Debug, Clone)]
pub struct ImageFiles {
    root: PathBuf,
    /// Side of the squares that they become.
    size: usize,
    files: Vec<ImageFile>,
    /// What decoding may take.
    memory_bytes: usize,
    /// Squares by row, once read; `None` where there are too many.
    kept: Option<Arc<[OnceLock<Vec<u8>>]>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ImageFile {
    /// Below the root, such as `train/cat/0001.jpg`, with `/` on every system, as [`crate::path_text`] writes it.
    path: String,
    bytes: u64,
}

impl PartialEq for ImageFiles {
    fn eq(&self, other: &Self) -> bool {
        (&self.root, self.size, &self.files) == (&other.root, other.size, &other.files)
    }
}

/// What to make of a folder.
pub(super) struct ImageOptions {
    pub(super) size: usize,
    /// Leaves out files that do not decode.
    pub(super) skip_broken: bool,
    /// What decoding may take.
    pub(super) memory_bytes: usize,
}

/// Lists a split of `folder`. Classes are the folders of the training split, sorted by name; rows are sorted by class
/// and name. Hidden entries and other endings than those of image files are no images; a note counts them.
pub(super) fn open(folder: &Path, split: Split, options: &ImageOptions) -> DataResult<Table> {
    if !(1..=MAX_SIZE).contains(&options.size) {
        return Err(ImageError::Size { size: options.size }.into());
    }
    let train = folder.join("train");
    files::names(folder, EXPECTED)?;
    let classes = subfolders(&train)?;
    if classes.is_empty() {
        return Err(ImageError::NoClasses { folder: train }.into());
    }
    let name = split_folder(folder, split)?;
    let place = folder.join(name);
    let present = subfolders(&place)?;
    if let Some(class) = present.iter().find(|class| classes.binary_search(class).is_err()) {
        return Err(ImageError::UnknownClass { folder: place.join(from_text(class)) }.into());
    }
    let (mut labels, mut found, mut others) = (Vec::new(), Vec::new(), BTreeMap::new());
    count_loose(&place, &mut others)?;
    for (label, class) in classes.iter().enumerate().filter(|(_, class)| present.contains(class)) {
        let images = list(folder, format!("{name}/{class}"), &mut others)?;
        labels.extend(std::iter::repeat_n(label as u32, images.len()));
        found.extend(images);
    }
    let &ImageOptions { size, memory_bytes, .. } = options;
    let mut images = ImageFiles { root: folder.to_path_buf(), size, files: found, memory_bytes, kept: None };
    let mut notes: Vec<String> = left_out(others).into_iter().collect();
    if options.skip_broken {
        let whole: Vec<bool> = (0..images.files.len()).into_par_iter().map(|row| images.picture(row).is_ok()).collect();
        let rows: Vec<usize> = (0..whole.len()).filter(|&row| whole[row]).collect();
        if rows.len() < whole.len() {
            let broken = whole.len() - rows.len();
            notes.push(format!("image files left out because they do not decode: {broken}"));
        }
        labels = rows.iter().map(|&row| labels[row]).collect();
        images = images.take(&rows);
    }
    Ok(Table {
        input_name: None,
        more: Vec::new(),
        sample_shape: vec![3, options.size, options.size],
        targets: Targets::Classes { labels, num_classes: classes.len() },
        inputs: RowInputs::Files(images),
        notes,
    })
}

/// `train`; for the test split the first of `test` and `val` with class folders (ImageNet's `test` has no labels).
fn split_folder(folder: &Path, split: Split) -> DataResult<&'static str> {
    if split == Split::Train {
        return Ok("train");
    }
    for name in ["test", "val"] {
        if folder.join(name).is_dir() && !subfolders(&folder.join(name))?.is_empty() {
            return Ok(name);
        }
    }
    let what = "folder `test` or `val` with class folders".to_string();
    Err(DataError::NoFiles { folder: folder.to_path_buf(), what, expected: EXPECTED.to_string() })
}

fn visible(folder: &Path) -> DataResult<Vec<String>> {
    let mut names = files::names(folder, EXPECTED)?;
    names.retain(|name| !name.starts_with('.'));
    Ok(names)
}

fn subfolders(folder: &Path) -> DataResult<Vec<String>> {
    let mut names = visible(folder)?;
    names.retain(|name| folder.join(from_text(name)).is_dir());
    Ok(names)
}

/// Images of one class, sorted by name; everything else is counted in `others`.
fn list(root: &Path, class: String, others: &mut BTreeMap<String, usize>) -> DataResult<Vec<ImageFile>> {
    let mut images = Vec::new();
    for name in files::names(&root.join(from_text(&class)), EXPECTED)? {
        let path = format!("{class}/{name}");
        let place = root.join(from_text(&path));
        let kind = kind(&name);
        if !ENDINGS.contains(&kind.trim_start_matches('.')) {
            let kind = if place.is_dir() { "folders".to_owned() } else { kind };
            *others.entry(kind).or_default() += 1;
            continue;
        }
        let metadata = std::fs::metadata(&place).map_err(|source| DataError::Io { path: place, source })?;
        if metadata.is_file() {
            images.push(ImageFile { path, bytes: metadata.len() });
        } else {
            *others.entry("no plain files".to_owned()).or_default() += 1;
        }
    }
    Ok(images)
}

/// Counts the files beside the class folders.
fn count_loose(split: &Path, others: &mut BTreeMap<String, usize>) -> DataResult<()> {
    for name in files::names(split, EXPECTED)? {
        if !split.join(&name).is_dir() {
            *others.entry("beside the class folders".to_owned()).or_default() += 1;
        } else if name.starts_with('.') {
            *others.entry("hidden".to_owned()).or_default() += 1;
        }
    }
    Ok(())
}

/// `.txt`, `hidden` or `without an ending`.
fn kind(name: &str) -> String {
    match name.rsplit_once('.') {
        _ if name.starts_with('.') => "hidden".to_owned(),
        Some((_, ending)) => format!(".{}", ending.to_ascii_lowercase()),
        None => "without an ending".to_owned(),
    }
}

/// The note on what is not read, the most frequent kinds first; none where there is nothing.
fn left_out(others: BTreeMap<String, usize>) -> Option<String> {
    let mut kinds: Vec<(String, usize)> = others.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total: usize = kinds.iter().map(|(_, count)| count).sum();
    let mut named: Vec<String> =
        kinds.iter().take(NAMED_KINDS).map(|(kind, count)| format!("{count} {kind}")).collect();
    if kinds.len() > NAMED_KINDS {
        let rest: usize = kinds[NAMED_KINDS..].iter().map(|(_, count)| count).sum();
        named.push(format!("{rest} of other kinds"));
    }
    (total > 0).then(|| format!("files left out because their names are not those of images: {}", named.join(", ")))
}

impl ImageFiles {
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

    /// Path below the root and size in bytes of each file.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|file| (file.path.as_str(), file.bytes))
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
            // Else the hash would be that of other data.
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

    /// The squares of existing rows, `[rows, 3, size, size]`; over the rayon pool that the caller runs in, where it may share its work.
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
