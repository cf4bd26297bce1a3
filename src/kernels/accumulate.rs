//! Sums of gradients over micro-batches, and their dot products with directions, in f64.

use candle_core::{DType, Device, Result, Tensor, WithDType};

use super::access::{Slice, with_float};

/// A sum of blocks `[k, n]` that arrive as one part per parameter tensor, `[k, …shape]` or `[…shape]` for `k` = 1.
pub struct Accumulator {
    rows: usize,
    columns: usize,
    sum: Vec<f64>,
}

impl Accumulator {
    /// Zeros.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, sum: vec![0.0; rows * columns] }
    }

    /// Adds the part of columns `offset..`; each row of `part` is contiguous there.
    ///
    /// # Errors
    /// Reading the part from its device.
    pub fn add(&mut self, offset: usize, part: &Tensor) -> Result<()> {
        let part = part.to_device(&Device::Cpu)?.contiguous()?;
        let (rows, columns) = (self.rows, self.columns);
        with_float!(part.dtype(), T => {
            let part = Slice::<T>::of(&part)?;
            let width = part.len() / rows;
            for (row, part) in part.chunks(width.max(1)).enumerate() {
                let sum = &mut self.sum[row * columns + offset..][..width];
                sum.iter_mut().zip(part).for_each(|(sum, &value)| *sum += value.to_f64());
            }
            Ok(())
        })
    }

    /// `scale · sum`, `[k, n]`.
    ///
    /// # Errors
    /// Making the tensor.
    pub fn finish(self, scale: f64, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = (self.rows, self.columns);
        match dtype {
            DType::F32 => {
                let values: Vec<f32> = self.sum.into_iter().map(|value| (scale * value) as f32).collect();
                Tensor::from_vec(values, shape, device)
            }
            _ => {
                let values: Vec<f64> = self.sum.into_iter().map(|value| scale * value).collect();
                Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
            }
        }
    }
}

/// `Σ a_k b_k` per row `k` of two equally shaped blocks `[k, …]`, in f64.
///
/// # Errors
/// Reading the tensors from their device.
pub fn row_dots(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let (a, b) = (a.to_device(&Device::Cpu)?.contiguous()?, b.to_device(&Device::Cpu)?.contiguous()?);
    let rows = a.dims()[0];
    with_float!(a.dtype(), T => {
        let (a, b) = (Slice::<T>::of(&a)?, Slice::<T>::of(&b)?);
        let width = (a.len() / rows).max(1);
        Ok(a.chunks(width).zip(b.chunks(width)).map(|(a, b)| dot(a, b)).collect())
    })
}

/// `Σ_k b_k²` per column of a block `[k, …]`, in f64.
///
/// # Errors
/// Reading the tensor from its device.
pub fn column_squares(block: &Tensor) -> Result<Vec<f64>> {
    let block = block.to_device(&Device::Cpu)?.contiguous()?;
    let width = block.elem_count() / block.dims()[0].max(1);
    with_float!(block.dtype(), T => {
        let block = Slice::<T>::of(&block)?;
        let mut squares = vec![0.0f64; width];
        for row in block.chunks(width.max(1)) {
            squares.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value.to_f64() * value.to_f64());
        }
        Ok(squares)
    })
}

/// Four running sums, since one chain of f64 additions would wait for itself.
fn dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
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
