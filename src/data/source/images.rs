//! A folder of image files, one folder per class.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::kind::{Kind, is_a_path};
use super::request::Request;
use super::table::Table;
use crate::data::images::{ImageFile, ImageFiles};
use crate::data::{DataError, DataResult, ImageError, Inputs, Normalisation, Split, Targets, files};
use crate::path_text::from_text;

/// Side of the images that a network sees, unless another is asked for.
const DEFAULT_SIZE: usize = 224;
/// Largest side.
const MAX_SIZE: usize = 4096;

const EXPECTED: &str =
    "`train/CLASS/*.jpg|jpeg|png|webp|bmp|tif|tiff|gif` and, with the same classes, `test/CLASS/…` or `val/CLASS/…`";

/// Endings of image files, in any case.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];
/// Kinds of other files that a note counts one by one.
const NAMED_KINDS: usize = 8;

/// A folder with image files in `train/CLASS` and `test/CLASS` or `val/CLASS`, read when they are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images(pub PathBuf);

impl Kind for Images {
    fn place() -> &'static str {
        "DIR"
    }

    fn about() -> &'static str {
        "the folder that holds the image files as `train/CLASS/…`, and `test/CLASS/…` or `val/CLASS/…`"
    }

    is_a_path!();

    /// ImageNet's customary constants.
    fn default_normalisation(&self) -> Option<Normalisation> {
        Some(Normalisation { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] })
    }

    fn resolve(&self, request: &mut Request) {
        request.image_size.get_or_insert(DEFAULT_SIZE);
    }

    fn open(&self, request: &Request) -> DataResult<Table> {
        open(&self.0, request)
    }
}

/// Lists a split of `folder`. Classes are the folders of the training split, sorted by name; rows are sorted by class
/// and name. Hidden entries and other endings than those of image files are not images; a note counts them.
fn open(folder: &Path, request: &Request) -> DataResult<Table> {
    let &Request { split, skip_broken, memory_bytes, .. } = request;
    let size = request.image_size.unwrap_or(DEFAULT_SIZE);
    if !(1..=MAX_SIZE).contains(&size) {
        return Err(ImageError::Size { size, most: MAX_SIZE }.into());
    }
    let train = folder.join("train");
    files::names(folder, EXPECTED)?;
    let classes = subfolders(&train)?;
    if classes.is_empty() {
        return Err(ImageError::NoClasses { folder: train, expected: EXPECTED }.into());
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
    let mut images = ImageFiles::new(folder.to_path_buf(), size, found, memory_bytes);
    let mut notes: Vec<String> = left_out(others).into_iter().collect();
    if skip_broken {
        let whole: Vec<bool> = (0..images.len()).into_par_iter().map(|row| images.picture(row).is_ok()).collect();
        let rows: Vec<usize> = (0..whole.len()).filter(|&row| whole[row]).collect();
        if rows.len() < whole.len() {
            let broken = whole.len() - rows.len();
            notes.push(format!("image files left out because they do not decode: {broken}"));
        }
        labels = rows.iter().map(|&row| labels[row]).collect();
        images = images.take(&rows);
    }
    let targets = Targets::Classes { labels, num_classes: classes.len() };
    let table = Table::new(vec![3, size, size], targets, move |rows| {
        let files = images.take(rows);
        files.check()?;
        Ok(Inputs::Files(files))
    });
    Ok(Table { notes, ..table })
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
