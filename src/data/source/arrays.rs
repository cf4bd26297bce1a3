//! Named tensors of a file or a folder: safetensors, NumPy's `.npz`, or `.npy` files side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::TensorView;

use super::npy::{self, Array, Header};
use crate::container::{Archive, safetensors_header};
use crate::data::stored::{StoredFile, StoredRows};
use crate::data::{DataError, DataResult, files};
use crate::path_text::from_text;

const EXPECTED: &str = "a .safetensors or .npz file with the inputs and `y`, or a folder of .npy files named so";

/// A tensor by name.
pub(in crate::data) enum Entry<'a> {
    /// In memory.
    Read(TensorView<'a>),
    /// In its file.
    Stored(StoredRows),
}

/// Calls `read` with the tensors of `path` by name.
pub(super) fn with_tensors<T>(
    path: &Path,
    read: impl FnOnce(BTreeMap<String, Entry<'_>>) -> DataResult<T>,
) -> DataResult<T> {
    if path.is_dir() {
        let (stored, unpacked) = in_folder(path)?;
        return read(stored.into_iter().chain(views(path, &unpacked)?).collect());
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Err(DataError::NotAFolder { path: path.to_path_buf(), expected: EXPECTED.to_string() }),
        Some("npz") => read(views(path, &in_archive(path)?)?.collect()),
        _ => read(in_safetensors(&StoredFile::open(path, EXPECTED)?)?),
    }
}

fn in_archive(path: &Path) -> DataResult<Vec<(String, Array)>> {
    let corrupt = |reason| DataError::Corrupt { path: path.to_path_buf(), kind: "a .npz file", reason };
    let bytes = files::read(path, EXPECTED)?;
    let archive = Archive::open(&bytes).map_err(corrupt)?;
    let mut arrays = Vec::new();
    for entry in archive.names() {
        let Some(name) = entry.strip_suffix(".npy") else { continue };
        let array = archive.entry(entry).and_then(Array::parse);
        arrays.push((name.into(), array.map_err(|reason| corrupt(format!("`{name}`: {reason}")))?));
    }
    Ok(arrays)
}

/// The arrays of a folder that can be read by rows, and those whose first axis is the fastest.
#[expect(clippy::type_complexity, reason = "two lists by name")]
fn in_folder(folder: &Path) -> DataResult<(Vec<(String, Entry<'static>)>, Vec<(String, Array)>)> {
    let (mut stored, mut unpacked) = (Vec::new(), Vec::new());
    for name in files::names(folder, EXPECTED)? {
        let Some(stem) = name.strip_suffix(".npy") else { continue };
        let path = folder.join(from_text(&name));
        let file = StoredFile::open(&path, EXPECTED)?;
        let header = Header::read(&file)?;
        if header.fortran_order {
            let array = Array::parse(&file.read(0..file.len())?).map_err(|reason| npy::corrupt(&path, reason))?;
            unpacked.push((stem.to_owned(), array));
        } else {
            stored.push((stem.to_owned(), Entry::Stored(header.rows(file, stem.into()))));
        }
    }
    Ok((stored, unpacked))
}

fn in_safetensors(file: &Arc<StoredFile>) -> DataResult<BTreeMap<String, Entry<'static>>> {
    let corrupt = |reason| DataError::Corrupt { path: file.path().into(), kind: "a safetensors file", reason };
    let read = |range| file.read(range).map_err(|error| error.to_string());
    let (metadata, start) = safetensors_header(file.len(), read).map_err(corrupt)?;
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let place = start + info.data_offsets.0 as u64;
        let rows = StoredRows::new(file.clone(), name.clone(), info.dtype, info.shape.clone(), place);
        (name, Entry::Stored(rows))
    });
    Ok(tensors.collect())
}

fn views<'a>(path: &Path, arrays: &'a [(String, Array)]) -> DataResult<impl Iterator<Item = (String, Entry<'a>)>> {
    let view = |(name, array): &'a (String, Array)| Ok((name.clone(), Entry::Read(array.view()?)));
    let views = arrays.iter().map(view).collect::<Result<Vec<_>, String>>();
    views.map(Vec::into_iter).map_err(|reason| npy::corrupt(path, reason))
}

#[cfg(test)]
mod tests {
    use super::super::npy::tests::npy;
    use super::*;
    use crate::container::archive;
    use crate::data::testing::damaged;
    use crate::data::{DataSpec, Dataset, Inputs, Targets, Tensors};

    fn load(path: &Path) -> crate::Result<Dataset> {
        DataSpec::new(Tensors(path.into()).into()).load()
    }

    #[test]
    fn npz_files_and_folders_of_npy_files_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let x = npy("<i8", "False", "(2, 2)", &[5i64, 6, 7, 8].map(i64::to_le_bytes).concat());
        let y = npy("<f4", "False", "(2,)", &[0.5f32, 1.5].map(f32::to_le_bytes).concat());
        let path = folder.path().join("data.npz");
        let bytes = archive(&[("ids.npy", &x), ("y.npy", &y), ("readme.txt", b"words")]);
        std::fs::write(&path, &bytes).unwrap();
        let data = load(&path).unwrap();
        assert_eq!((data.input_name.as_str(), &data.inputs), ("ids", &Inputs::Whole(vec![5, 6, 7, 8])));
        assert_eq!(data.targets, Targets::Values { values: vec![0.5, 1.5], sample_shape: vec![] });
        for (name, bytes) in [("ids.npy", &x), ("y.npy", &y)] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        assert_eq!(load(folder.path()).unwrap().sha256, data.sha256);
        let alone = load(&folder.path().join("y.npy")).unwrap_err();
        assert!(alone.hint().unwrap().contains("a folder of .npy files"), "{alone}");
        for bytes in damaged(&bytes) {
            std::fs::write(&path, bytes).unwrap();
            let _ = load(&path);
        }
    }
}
