//! The second moments of Adam, from the folder of a training or from what `torch.save` writes of an optimiser.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, CheckpointError, TensorFile};
use crate::Result;
use crate::autodiff::{ParamSpace, ParamTensor};
use crate::container::{Failure, Optimizer, ParamState};
use crate::digest::sha256_hex;
use crate::input;

/// Name of the file in the folder of a training.
pub(crate) const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// Beginning of the names of second moments in it.
const SECOND_MOMENT: &str = "second_moment/";
/// Metadata key of what is recorded with them.
const RECORDED: &str = "flatness.optimizer";

/// What `optimizer.safetensors` records beside tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    /// Steps done.
    pub(crate) steps: u64,
    /// Of the weights after the last of them.
    pub(crate) checkpoint_sha256: String,
}

/// What Adam keeps of one tensor of parameters.
#[derive(Debug, Clone)]
pub struct AdamMoment {
    /// The tensor's name.
    pub name: String,
    /// `β₁`.
    pub beta1: f64,
    /// `β₂`.
    pub beta2: f64,
    /// `ε`.
    pub eps: f64,
    /// Steps done.
    pub steps: f64,
    /// `v`, f64 `[len]`.
    pub second_moment: Tensor,
}

/// The second moments of a network's parameters, as far as they are known.
#[derive(Debug, Clone)]
pub struct AdamState {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// In any order.
    pub moments: Vec<AdamMoment>,
    /// What is worth saying of how they were found.
    pub notes: Vec<String>,
}

impl Recorded {
    /// Writes second moments under the names of their tensors.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, path: &Path, moments: Vec<(String, Tensor)>) -> Result<()> {
        let tensors: Vec<_> =
            moments.into_iter().map(|(name, moment)| (format!("{SECOND_MOMENT}{name}"), moment)).collect();
        let recorded = serde_json::to_string(self).unwrap_or_default();
        super::write_tensors(path, &tensors, &[(RECORDED.to_owned(), recorded)].into())
    }
}

impl AdamState {
    /// Reads the state at `path`, or without one that beside the checkpoint, or in its own file where PyTorch wrote it.
    ///
    /// Parameters of PyTorch are found by their names where the optimiser knows them (`named_parameters`), else by their
    /// order.
    ///
    /// # Errors
    /// [`CheckpointError::NoOptimizerState`]; [`CheckpointError::OptimizerState`] for that of another optimiser, where names,
    /// numbers or shapes do not fit, or it belongs to other weights; a file that cannot be read.
    pub fn read(path: Option<&Path>, checkpoint: &Checkpoint) -> Result<Self> {
        let path = locate(path, checkpoint)?;
        if path.extension().is_some_and(|ending| ending == "safetensors") {
            return Self::recorded(&path, checkpoint);
        }
        let bytes = input::read(&path).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        let found = Optimizer::read(&bytes).map_err(|failure| match failure {
            Failure::Damaged { format, reason } => CheckpointError::Corrupt { path: path.clone(), format, reason },
            Failure::Foreign { what, remedy } => CheckpointError::Foreign { path: path.clone(), what, remedy },
        })?;
        let misfit = |reason| CheckpointError::OptimizerState { path: path.clone(), reason };
        let found = found.map_err(misfit)?;
        let mut notes = Vec::new();
        if found.num_groups > 1 && found.params.iter().any(|param| param.name.is_none()) {
            notes.push(format!(
                "the optimiser has {} groups of parameters without names: they are taken in the order of the network",
                found.num_groups
            ));
        }
        let mut moments = Vec::new();
        for (param, tensor) in pairs(found, checkpoint.network.space()).map_err(misfit)? {
            moments.extend(of_torch(param, tensor, &bytes).map_err(misfit)?);
        }
        Ok(Self { sha256: sha256_hex(&bytes), path, moments, notes })
    }

    fn recorded(path: &Path, checkpoint: &Checkpoint) -> Result<Self> {
        let file = TensorFile::read(path)?;
        let misfit = |reason: &str| CheckpointError::OptimizerState { path: path.into(), reason: reason.into() };
        let recorded = file.metadata.get(RECORDED).and_then(|text| serde_json::from_str::<Recorded>(text).ok());
        let recorded =
            recorded.ok_or_else(|| misfit("it is not the optimizer.safetensors of a training with adamw"))?;
        if recorded.checkpoint_sha256 != checkpoint.sha256 {
            return Err(misfit("it belongs to other weights").into());
        }
        let Recorded { beta1, beta2, eps, steps, .. } = recorded;
        let mut moments = Vec::new();
        for tensor in checkpoint.network.space().tensors() {
            let name = format!("{SECOND_MOMENT}{}", tensor.name);
            if file.entries.contains_key(&name) {
                let second_moment = flat(&file.get(&name)?, tensor).map_err(|reason| misfit(&reason))?;
                let (name, steps) = (tensor.name.clone(), steps as f64);
                moments.push(AdamMoment { name, beta1, beta2, eps, steps, second_moment });
            }
        }
        Ok(Self { path: path.into(), sha256: file.sha256, moments, notes: Vec::new() })
    }
}

/// The file of the state.
fn locate(path: Option<&Path>, checkpoint: &Checkpoint) -> Result<PathBuf> {
    let own = &checkpoint.path;
    let wanted = match path {
        Some(path) if path.is_dir() => path.join(OPTIMIZER_FILE),
        Some(path) => path.into(),
        None if own.is_file() && own.extension().is_some_and(|ending| ending != "safetensors" && ending != "pt2") => {
            own.clone()
        }
        None => own.parent().unwrap_or(Path::new("")).join(OPTIMIZER_FILE),
    };
    if wanted.is_file() {
        return Ok(wanted);
    }
    Err(CheckpointError::NoOptimizerState { checkpoint: own.clone(), path: wanted }.into())
}

/// Each of the optimiser's parameters with its tensor.
fn pairs(found: Optimizer, space: &ParamSpace) -> Result<Vec<(ParamState, &ParamTensor)>, String> {
    let tensors = space.tensors();
    if found.params.iter().all(|param| param.name.is_some()) {
        let named = |param: ParamState| {
            let name = param.name.clone().unwrap_or_default();
            // As torch.compile and data parallelism name them.
            let bare = name.replace("_orig_mod.", "");
            let bare = bare.strip_prefix("module.").unwrap_or(&bare);
            let tensor = tensors.iter().find(|tensor| tensor.name == name || tensor.name == bare);
            Ok((param, tensor.ok_or_else(|| format!("the network has no parameter `{name}`"))?))
        };
        return found.params.into_iter().map(named).collect();
    }
    if found.params.len() != tensors.len() {
        return Err(format!("it has {} parameters, and the network has {}", found.params.len(), tensors.len()));
    }
    Ok(found.params.into_iter().zip(tensors).collect())
}

/// The moment of one parameter; `None` where no step has met it.
fn of_torch(param: ParamState, tensor: &ParamTensor, bytes: &[u8]) -> Result<Option<AdamMoment>, String> {
    let ParamState { betas: [beta1, beta2], eps, moment, .. } = param;
    let Some((steps, entry)) = moment else { return Ok(None) };
    let settings = (0.0..1.0).contains(&beta1) && (0.0..1.0).contains(&beta2) && eps >= 0.0;
    if !settings {
        return Err(format!("its settings betas = ({beta1}, {beta2}) and eps = {eps} are out of range"));
    }
    if entry.shape() != tensor.shape {
        return Err(misshapen(entry.shape(), tensor));
    }
    let second_moment = flat(&entry.read(bytes)?, tensor)?;
    Ok(Some(AdamMoment { name: tensor.name.clone(), beta1, beta2, eps, steps, second_moment }))
}

fn misshapen(shape: &[usize], tensor: &ParamTensor) -> String {
    format!("the second moment of `{}` has shape {shape:?}, but the parameter has {:?}", tensor.name, tensor.shape)
}

/// A moment of a tensor in f64, `[len]`.
fn flat(moment: &Tensor, tensor: &ParamTensor) -> Result<Tensor, String> {
    if moment.dims() != tensor.shape {
        return Err(misshapen(moment.dims(), tensor));
    }
    let wide = moment.to_device(&Device::Cpu).and_then(|moment| moment.to_dtype(DType::F64)?.flatten_all());
    let wide = wide.map_err(|error| error.to_string())?;
    let values = wide.to_vec1::<f64>().map_err(|error| error.to_string())?;
    match values.iter().all(|value| *value >= 0.0 && value.is_finite()) {
        true => Ok(wide),
        false => Err(format!("the second moment of `{}` has negative or non-finite entries", tensor.name)),
    }
}
