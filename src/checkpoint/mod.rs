//! Checkpoints: weights under PyTorch's names with architecture, data and training facts in the metadata.

mod error;
mod read;
mod safetensors;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};

pub use error::CheckpointError;
pub use read::{TensorFile, sha256_hex};
pub use safetensors::write_tensors;
pub use state::{differences, read_state, write_state};

use crate::Result;
use crate::formats::{Architecture, Exported};
use crate::program::{About, Loss, Network};

/// Metadata key of the architecture.
pub const ARCH_KEY: &str = "flatness.arch";
/// Metadata key of the data specification.
pub const DATA_KEY: &str = "flatness.data";
/// Metadata key of the training facts.
pub const TRAIN_KEY: &str = "flatness.train";
/// Metadata key of the program's version.
pub const VERSION_KEY: &str = "flatness.version";

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
    /// JSON strings by key.
    pub metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Reads `.safetensors`, a zipped `.pth`, or a `.pt2` of torch.export, which brings its program; `architecture` replaces
    /// the one in the file.
    ///
    /// # Errors
    /// [`CheckpointError`]: the file cannot be read or is damaged, has no architecture, or its tensors do not fit it
    /// (all misfits by name in one error), or holds NaN.
    pub fn read(path: &Path, architecture: Option<Architecture>) -> Result<Self> {
        let mut file = TensorFile::read(path)?;
        if let (Some(exported), None) = (file.exported.take(), &architecture) {
            return Self::of_program(file, *exported);
        }
        let architecture = match (architecture, file.metadata.get(ARCH_KEY)) {
            (Some(architecture), _) => architecture,
            (None, Some(text)) => Architecture::from_json(text, &format!("in {}", path.display()))?,
            (None, None) => return Err(CheckpointError::NoArchitecture { path: path.into() }.into()),
        };
        let (theta, buffers, widened) = file.bind(&architecture)?;
        let stored_dtype = file.widest_dtype();
        let network = architecture.network(buffers)?;
        Ok(Self {
            path: path.into(),
            sha256: file.sha256,
            network,
            theta,
            stored_dtype,
            widened,
            metadata: file.metadata,
        })
    }

    /// Weights with the program that an archive of torch.export brings.
    fn of_program(file: TensorFile, exported: Exported) -> Result<Self> {
        for (name, tensor) in file.tensors() {
            file.check_finite(name, tensor)?;
        }
        let Exported { program, buffers, theta, input_shape, stored_dtype, widened } = exported;
        let name = file.path().file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let loss = program.loss.as_ref().map(|_| Loss::Program {});
        let about = About { name, loss, input_shape, ..About::default() };
        let network = Network::new(program, buffers, about)?;
        let path = file.path().into();
        Ok(Self { path, sha256: file.sha256, network, theta, stored_dtype, widened, metadata: file.metadata })
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
    write_tensors(path, &tensors, metadata)
}
