//! Checkpoints: weights under PyTorch's names with architecture, data and training facts in the metadata.

mod error;
mod keys;
mod locate;
mod naming;
mod optimizer;
mod read;
mod safetensors;
mod samples;
mod state;
mod vectors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};

pub use error::CheckpointError;
pub use keys::ARCH_KEY;
pub(crate) use keys::{DATA_KEY, TRAIN_KEY, VERSION_KEY};
pub use optimizer::{AdamMoment, AdamState};
pub(crate) use optimizer::{OPTIMIZER_FILE, Recorded};
pub use read::{Choices, TensorFile};
pub use safetensors::write_tensors;
pub(crate) use samples::SampleWriter;
pub(crate) use state::{StateTensors, read_state, write_state_as_it_comes};
pub use state::{differences, write_state};
pub use vectors::checked_rows;

use self::naming::Bound;
use crate::Result;
use crate::formats::Architecture;
use crate::program::Network;

/// A network with its weights, and what the file says about them.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Where it was read from.
    pub path: PathBuf,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Architecture, parameter space, buffers.
    pub network: Network,
    /// All parameters, f64 `[n]`, whatever the file's dtype.
    pub theta: Tensor,
    /// The widest dtype of the weights in the file.
    pub stored_dtype: DType,
    /// Whether f16 or bf16 weights were widened.
    pub widened: bool,
    /// What is worth saying of how the weights were found in the file.
    pub notes: Vec<String>,
    /// JSON strings by key.
    pub metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Reads a file as [`TensorFile::read`] does, with the program that an archive of torch.export brings; `architecture`
    /// replaces the one in the file.
    ///
    /// # Errors
    /// [`CheckpointError`]: the file cannot be read or is damaged, has no architecture, or its tensors do not fit it
    /// (all misfits by name in one error), or holds NaN.
    pub fn read(path: &Path, architecture: Option<Architecture>) -> Result<Self> {
        Self::read_with(path, architecture, Choices::default())
    }

    /// [`Checkpoint::read`], with choices where the file offers several things.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; [`crate::formats::ModelError::Outputs`] for an output that does not exist.
    pub(crate) fn read_with(path: &Path, architecture: Option<Architecture>, choices: Choices<'_>) -> Result<Self> {
        let file = TensorFile::read_with(path, choices)?;
        let architecture = architecture.map_or_else(|| file.architecture(), |given| Ok(Some(given)))?;
        let architecture = architecture.ok_or_else(|| CheckpointError::NoArchitecture { path: path.into() })?;
        let samples = file.num_samples();
        if samples == 0 {
            return Self::of(file, architecture);
        }
        let mut first = Self::of(file.sample(0), architecture)?;
        first.notes.push(format!("these weights are the first of {samples} samples; flatness evaluate takes all"));
        Ok(first)
    }

    /// A network that `tools/export_torch.py` or the Python package describes, from tensors in memory: `content` is what their
    /// files hold in the metadata, and `name` stands for the path.
    ///
    /// # Errors
    /// As for a file with the same content.
    pub fn exported(name: &str, content: &str, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let file = TensorFile::exported(name, content, tensors)?;
        let architecture = file.architecture()?;
        let architecture = architecture.ok_or_else(|| CheckpointError::NoArchitecture { path: name.into() })?;
        Self::of(file, architecture)
    }

    /// The checkpoint that a file is for an architecture.
    ///
    /// # Errors
    /// Tensors that do not fit it.
    pub(crate) fn of(file: TensorFile, architecture: Architecture) -> Result<Self> {
        let Bound { architecture, theta, buffers, stored_dtype, widened, notes } = file.bind(architecture)?;
        let network = architecture.network(buffers)?;
        let TensorFile { path, sha256, metadata, .. } = file;
        Ok(Self { path, sha256, network, theta, stored_dtype, widened, notes, metadata })
    }

    /// The training facts, where the trainer wrote them.
    pub fn training(&self) -> Option<serde_json::Value> {
        serde_json::from_str(self.metadata.get(TRAIN_KEY)?).ok()
    }

    /// The data specification, where the trainer wrote it.
    pub fn data(&self) -> Option<crate::data::DataSpec> {
        serde_json::from_str(self.metadata.get(DATA_KEY)?).ok()
    }
}

/// The architecture that a file brings: a description, an archive of torch.export, or another checkpoint.
///
/// # Errors
/// A file that brings none.
pub(crate) fn read_architecture(path: &Path) -> Result<Architecture> {
    let is_checkpoint = path.extension().is_some_and(|extension| extension == "safetensors");
    if !is_checkpoint {
        return Architecture::read(path);
    }
    let architecture = TensorFile::read(path)?.architecture()?;
    Ok(architecture.ok_or_else(|| CheckpointError::NoArchitecture { path: path.into() })?)
}

/// Writes parameters `theta` `[n]` and the buffers under their names in `dtype`, atomically, with the metadata.
///
/// # Errors
/// The folder cannot be written.
pub fn write_checkpoint(
    path: &Path,
    network: &Network,
    theta: &Tensor,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    write_tensors(path, &weights_by_name(network, theta)?, metadata)
}

/// Parameters `theta` `[n]` and the buffers of `network` under their names, in the dtype of `theta`.
fn weights_by_name(network: &Network, theta: &Tensor) -> Result<Vec<(String, Tensor)>> {
    let mut tensors: Vec<(String, Tensor)> = network
        .space()
        .tensors()
        .iter()
        .zip(network.space().split(theta)?)
        .map(|(tensor, values)| (tensor.name.clone(), values))
        .collect();
    for (name, _) in &network.program().buffers {
        if let Some(values) = network.buffers().get(name) {
            tensors.push((name.clone(), values.to_dtype(theta.dtype())?));
        }
    }
    Ok(tensors)
}
