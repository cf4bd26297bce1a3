//! Checkpoints on the way: the trajectory of a training.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::epoch::Run;
use crate::Result;
use crate::checkpoint::{ARCH_KEY, DATA_KEY, TRAIN_KEY, VERSION_KEY, write_checkpoint};
use crate::data::DataSpec;
use crate::files::make_folder;

/// Where a run keeps `epoch-NNN.safetensors` every few epochs: the folder `snapshots` of the run.
#[derive(Debug)]
pub struct SnapshotFolder {
    folder: PathBuf,
    spec: Value,
}

impl SnapshotFolder {
    /// In the run's `folder`, which exists, for a training on `spec`.
    pub fn new(folder: &Path, spec: &DataSpec) -> Self {
        Self { folder: folder.join("snapshots"), spec: json!(spec.resolved()) }
    }

    /// What is there, of this run and of earlier ones.
    pub fn files(&self) -> Vec<PathBuf> {
        let is_snapshot = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let number = name.strip_prefix("epoch-").and_then(|rest| rest.strip_suffix(".safetensors"));
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(is_snapshot).collect()
    }

    /// Removes what an earlier run left.
    pub fn clear(&self) {
        self.files().into_iter().for_each(|path| _ = std::fs::remove_file(path));
        // Fails, as it should, on a folder that holds something.
        let _ = std::fs::remove_dir(&self.folder);
    }

    /// The weights and running statistics of `run` after its last finished epoch, where that is one to be kept: the
    /// start, every so many epochs, and the last one. An interrupted run writes some of them again, with equal bytes.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn after_epoch(&self, run: &Run<'_>) -> Result<()> {
        let (epoch, config) = (run.state.epochs.len(), run.config);
        let Some(every) = config.snapshots else { return Ok(()) };
        if !(epoch.is_multiple_of(every) || epoch == config.epochs) {
            return Ok(());
        }
        let folder = &self.folder;
        make_folder(folder)?;
        let training = json!({
            "config": config,
            "weights": "snapshot",
            "epoch": epoch,
            "step": run.state.steps,
            "norm_statistics": crate::plan::NormStatistics::Running,
            "data_sha256": run.data.sha256,
        });
        let network = run.objective.network();
        let entries = [
            (ARCH_KEY, network.about.description.clone()),
            (DATA_KEY, self.spec.to_string()),
            (TRAIN_KEY, training.to_string()),
            (VERSION_KEY, env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let metadata = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let weights = &run.state.weights;
        let network = network.with_buffers(weights.buffers.clone())?;
        let path = folder.join(format!("epoch-{epoch:03}.safetensors"));
        write_checkpoint(&path, &network, &run.part.whole(&weights.theta)?, &metadata)
    }
}
