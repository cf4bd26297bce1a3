//! The files of weights that a path stands for: one file, the shards that an index names, or those in a folder.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::CheckpointError;
use crate::Result;

/// Files of weights in folders, as this program, Hugging Face's libraries and PyTorch name them: the first that is there counts.
const IN_FOLDERS: [&str; 7] = [
    "checkpoint.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The path of the weights that a user names: the path itself, or a file in the folder.
///
/// # Errors
/// [`CheckpointError::NoWeightsInFolder`].
pub(super) fn weights(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let folder = snapshot(path).unwrap_or_else(|| path.into());
    let known = IN_FOLDERS.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    known.ok_or_else(|| CheckpointError::NoWeightsInFolder { path: path.into() }.into())
}

/// The files of tensors behind `path`: those of an index in the order of their names, or the file alone.
///
/// # Errors
/// [`CheckpointError::Index`] for one that is damaged or names files elsewhere.
pub(super) fn shards(path: &Path, bytes: &[u8]) -> Result<Option<Vec<PathBuf>>> {
    if !path.to_string_lossy().ends_with(".index.json") {
        return Ok(None);
    }
    let wrong = |reason: String| CheckpointError::Index { path: path.into(), reason };
    let index: Value = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let map = index["weight_map"].as_object().ok_or_else(|| wrong("it has no `weight_map`".into()))?;
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || map.values().any(|name| !name.is_string()) {
        return Err(wrong("its `weight_map` names no files".into()).into());
    }
    let is_plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', '\0']);
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return Err(wrong(format!("`{name}` is not the name of a file beside it")).into());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(Some(names.into_iter().map(|name| folder.join(name)).collect()))
}

/// In Hugging Face's cache, `models--OWNER--NAME`, the snapshot that `refs/main` names, or the only one.
fn snapshot(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.join("snapshots");
    let named = std::fs::read_to_string(folder.join("refs/main")).ok().map(|name| snapshots.join(name.trim()));
    named.filter(|path| path.is_dir()).or_else(|| {
        let mut entries = std::fs::read_dir(snapshots).ok()?.flatten();
        let only = entries.next()?.path();
        entries.next().is_none().then_some(only)
    })
}
