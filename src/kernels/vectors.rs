//! Dot products and norms of vectors, in f64 whatever their dtype.

use candle_core::{DType, Device, Result, Tensor, WithDType};

use super::access::{Slice, with_float};
use super::parallel;

/// `Σ a_k b_k` per row `k` of two equally shaped blocks `[k, …]`, in f64.
///
/// # Errors
/// Reading the tensors from their device.
pub fn row_dots(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let (a, b) = (a.to_device(&Device::Cpu)?.contiguous()?, b.to_device(&Device::Cpu)?.contiguous()?);
    let rows = a.dims()[0];
    with_float!(a.dtype(), T => {
        let (a, b) = (Slice::<T>::of(&a)?, Slice::<T>::of(&b)?);
        let width = a.len() / rows.max(1);
        Ok(parallel::map(rows, |row| chunk_dot(&a[row * width..][..width], &b[row * width..][..width])))
    })
}

/// `Σ_k a_k b_k` per column of two equally shaped blocks `[k, …]`, in f64.
///
/// # Errors
/// Reading the tensors from their device.
pub(crate) fn column_dots(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let (a, b) = (a.to_device(&Device::Cpu)?.contiguous()?, b.to_device(&Device::Cpu)?.contiguous()?);
    let width = a.elem_count() / a.dims()[0].max(1);
    with_float!(a.dtype(), T => {
        let (a, b) = (Slice::<T>::of(&a)?, Slice::<T>::of(&b)?);
        let mut dots = vec![0.0f64; width];
        for (a, b) in a.chunks(width.max(1)).zip(b.chunks(width.max(1))) {
            dots.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a.to_f64() * b.to_f64());
        }
        Ok(dots)
    })
}

/// `‖v‖` of a vector `[n]`.
///
/// # Errors
/// Reading the tensor from its device.
pub(crate) fn norm(vector: &Tensor) -> Result<f64> {
    let row = vector.unsqueeze(0)?;
    Ok(row_dots(&row, &row)?.iter().sum::<f64>().sqrt())
}

/// `Σ a b` of two tensors of equal shape. candle adds it up, in another order than [`row_dots`]: the last digits of results
/// depend on which of the two is used.
///
/// # Errors
/// An operation on tensors that fails.
pub(crate) fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    (a.to_dtype(DType::F64)? * b.to_dtype(DType::F64)?)?.sum_all()?.to_scalar()
}

/// `‖v‖` of numbers on the host.
pub(crate) fn norm_of(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Four running sums, since one chain of f64 additions would wait for itself.
fn chunk_dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    let mut lanes = [0.0f64; 4];
    let (a_chunks, b_chunks) = (a.chunks_exact(4), b.chunks_exact(4));
    let tail: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(&a, &b)| a.into() * b.into()).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..4 {
            lanes[lane] += a[lane].into() * b[lane].into();
        }
    }
    lanes.iter().sum::<f64>() + tail
}
