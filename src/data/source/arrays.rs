//! Named tensors of a file or a folder: safetensors, NumPy's `.npz`, or `.npy` files side by side.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{SafeTensors, TensorView};

use super::npy::{self, Array};
use crate::container::Archive;
use crate::data::{DataError, DataResult, files};
use crate::path_text::from_text;

const EXPECTED: &str = "a .safetensors or .npz file with the inputs and `y`, or a folder of .npy files named so";

/// Calls `read` with the tensors of `path` by name.
pub(super) fn with_tensors<T>(
    path: &Path,
    read: impl FnOnce(BTreeMap<String, TensorView<'_>>) -> DataResult<T>,
) -> DataResult<T> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if path.is_dir() {
        return read(views(path, &in_folder(path)?)?);
    }
    let corrupt = |kind, reason: String| DataError::Corrupt { path: path.to_path_buf(), kind, reason };
    if extension == Some("npy") {
        return Err(DataError::NotAFolder { path: path.to_path_buf(), expected: EXPECTED.to_string() });
    }
    let bytes = files::read(path, EXPECTED)?;
    if extension == Some("npz") {
        let archive = Archive::open(&bytes).map_err(|reason| corrupt("a .npz file", reason))?;
        let mut arrays = Vec::new();
        for entry in archive.names() {
            let Some(name) = entry.strip_suffix(".npy") else { continue };
            let array = archive.entry(entry).and_then(Array::parse);
            arrays.push((name.into(), array.map_err(|reason| corrupt("a .npz file", format!("`{name}`: {reason}")))?));
        }
        return read(views(path, &arrays)?);
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| corrupt("a safetensors file", error.to_string()))?;
    read(tensors.tensors().into_iter().collect())
}

fn in_folder(folder: &Path) -> DataResult<Vec<(String, Array)>> {
    let mut arrays = Vec::new();
    for file in files::names(folder, EXPECTED)? {
        let Some(name) = file.strip_suffix(".npy") else { continue };
        let path = folder.join(from_text(&file));
        let array = Array::parse(&files::read(&path, EXPECTED)?).map_err(|reason| npy::corrupt(&path, reason))?;
        arrays.push((name.to_owned(), array));
    }
    Ok(arrays)
}

fn views<'a>(path: &Path, arrays: &'a [(String, Array)]) -> DataResult<BTreeMap<String, TensorView<'a>>> {
    let view = |(name, array): &'a (String, Array)| Ok((name.clone(), array.view()?));
    arrays.iter().map(view).collect::<Result<_, String>>().map_err(|reason| npy::corrupt(path, reason))
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
