//! Vectors that a user names in a file.

use std::path::Path;

use candle_core::{DType, Tensor};

use super::{CheckpointError, TensorFile};
use crate::Result;

/// The tensor `name`, `[k, n]`, whose rows are finite and not zero; `k` may be 0.
///
/// # Errors
/// [`CheckpointError::Vectors`] for another shape, for values that are not finite, and for the first row of zeros.
pub fn checked_rows(file: &TensorFile, path: &Path, name: &str) -> Result<Tensor> {
    let tensor = file.get(name)?;
    let refuse = |reason| CheckpointError::Vectors { path: path.into(), name: name.into(), reason };
    let &[rows, _] = tensor.dims() else {
        return Err(refuse(format!("has shape {:?}", tensor.dims())).into());
    };
    let (mut not_finite, mut zero) = (0, None);
    for row in 0..rows {
        let values = tensor.get(row)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        not_finite += values.iter().filter(|value| !value.is_finite()).count();
        if values.iter().all(|&value| value == 0.0) {
            zero.get_or_insert(row);
        }
    }
    match (not_finite, zero) {
        (0, None) => Ok(tensor),
        (0, Some(row)) => Err(refuse(format!("has nothing but zeros in row {row}")).into()),
        (count, _) => Err(refuse(format!("holds {count} values that are not finite")).into()),
    }
}
