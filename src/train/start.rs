//! Initial weights from a file, with a new head where the number of classes differs.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Tensor};

use super::TrainError;
use crate::Result;
use crate::checkpoint::TensorFile;
use crate::program::Network;

/// Takes parameters and running statistics from `file`. Returns also the names of the tensors that keep their fresh
/// values: those of the last linear layer, where the file lacks them or has them in another shape.
///
/// # Errors
/// [`TrainError::Init`] with every other tensor that is missing or misshapen.
pub(super) fn from_file(network: &mut Network, fresh: &Tensor, file: &TensorFile) -> Result<(Tensor, Vec<String>)> {
    let head = network.program().head();
    let names = network.tensor_names();
    let file = file.under_names(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let (mut parts, mut kept, mut misfits) = (Vec::new(), Vec::new(), Vec::new());
    for (tensor, values) in network.space().tensors().iter().zip(network.space().split(fresh)?) {
        match fitting(&file, &tensor.name, &tensor.shape) {
            Ok(found) => parts.push(found.to_dtype(fresh.dtype())?.flatten_all()?),
            Err(_) if head.contains(&tensor.name.as_str()) => {
                kept.push(tensor.name.clone());
                parts.push(values.flatten_all()?);
            }
            Err(misfit) => misfits.push(misfit),
        }
    }
    let mut buffers: HashMap<String, Tensor> = HashMap::new();
    for (name, shape) in &network.program().buffers {
        match fitting(&file, name, shape) {
            Ok(found) => _ = buffers.insert(name.clone(), found.to_dtype(fresh.dtype())?),
            Err(misfit) => misfits.push(misfit),
        }
    }
    if !misfits.is_empty() {
        return Err(TrainError::Init { misfits }.into());
    }
    *network = network.with_buffers(buffers)?;
    let theta = Tensor::cat(&parts, 0)?;
    let sum = theta.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    if !sum.is_finite() {
        return Err(TrainError::Init { misfits: vec!["a weight is not finite".into()] }.into());
    }
    Ok((theta, kept))
}

fn fitting<'a>(file: &'a BTreeMap<String, Tensor>, name: &str, shape: &[usize]) -> Result<&'a Tensor, String> {
    let found = file.get(name).ok_or_else(|| format!("no tensor `{name}`"))?;
    if found.dims() == shape { Ok(found) } else { Err(format!("`{name}` is {:?}, not {shape:?}", found.dims())) }
}
