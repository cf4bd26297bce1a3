//! Pooling windows: indices of the maxima, averages and their transpose.

use candle_core::{DType, Device, Result, Tensor, WithDType};

use super::access::{Slice, with_float};
use super::parallel;

/// Windows over the last two axes of `[…, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolGeometry {
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zero (average) or minus infinity (maximum) added on each side.
    pub padding: [usize; 2],
    /// Input height and width.
    pub input: [usize; 2],
    /// Whether an average divides by the whole window, padding included.
    pub count_padding: bool,
}

impl PoolGeometry {
    /// Output height and width; incomplete windows are left out.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.input[axis] + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1)
    }

    /// The input rows (`axis` 0) or columns (`axis` 1) that window `position` covers, padding aside.
    pub(super) fn window(&self, axis: usize, position: usize) -> std::ops::Range<usize> {
        let start = position * self.stride[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.padding[axis]).min(self.input[axis]);
        start.saturating_sub(self.padding[axis])..end
    }

    /// What window (`row`, `column`) divides by.
    pub(super) fn divisor(&self, row: usize, column: usize) -> usize {
        if self.count_padding {
            self.kernel[0] * self.kernel[1]
        } else {
            self.window(0, row).len() * self.window(1, column).len()
        }
    }
}

/// For each window the position of its (first) maximum in the flattened input `x` `[…, H, W]`: u32, shape of the output.
pub fn max_pool_indices(geometry: &PoolGeometry, x: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let device = x.device();
    let x = x.to_device(&Device::Cpu)?.contiguous()?;
    let [out_height, out_width] = geometry.output();
    let (height, width) = (geometry.input[0], geometry.input[1]);
    let plane_len = height * width;
    let rank = shape.len();
    shape[rank - 2..].copy_from_slice(&[out_height, out_width]);
    let mut indices = vec![0u32; shape.iter().product()];
    with_float!(x.dtype(), T => {
        let x = Slice::<T>::of(&x)?;
        parallel::for_chunks(&mut indices, out_height * out_width, |plane, indices| {
            let first = plane * plane_len;
            for row in 0..out_height {
                for column in 0..out_width {
                    let mut best: Option<(usize, T)> = None;
                    for y in geometry.window(0, row) {
                        for position in geometry.window(1, column).map(|column| first + y * width + column) {
                            // NaN wins: a maximum that dropped it would hide broken weights from the loss.
                            let nan = x[position].to_f64().is_nan();
                            if nan || best.is_none_or(|(_, value)| x[position] > value) {
                                best = Some((position, x[position]));
                            }
                        }
                    }
                    indices[row * out_width + column] = best.map_or(first, |(position, _)| position) as u32;
                }
            }
        });
        Ok(())
    })?;
    Tensor::from_vec(indices, shape, device)
}

/// Mean of each window.
pub(super) fn average<T: WithDType>(geometry: &PoolGeometry, x: &[T], out: &mut [T]) {
    let [out_height, out_width] = geometry.output();
    let (height, width) = (geometry.input[0], geometry.input[1]);
    parallel::for_chunks(out, out_height * out_width, |plane, out| {
        let x = &x[plane * height * width..];
        for row in 0..out_height {
            for column in 0..out_width {
                let mut sum = T::zero();
                for y in geometry.window(0, row) {
                    geometry.window(1, column).for_each(|column| sum += x[y * width + column]);
                }
                out[row * out_width + column] = sum / T::from_f64(geometry.divisor(row, column) as f64);
            }
        }
    });
}

/// The transpose of [`average`]: spreads each value evenly over its window.
pub(super) fn average_transposed<T: WithDType>(geometry: &PoolGeometry, y: &[T], out: &mut [T]) {
    let [out_height, out_width] = geometry.output();
    let (height, width) = (geometry.input[0], geometry.input[1]);
    parallel::for_chunks(out, height * width, |plane, out| {
        let y = &y[plane * out_height * out_width..];
        for row in 0..out_height {
            for column in 0..out_width {
                let share = y[row * out_width + column] / T::from_f64(geometry.divisor(row, column) as f64);
                for y in geometry.window(0, row) {
                    geometry.window(1, column).for_each(|column| out[y * width + column] += share);
                }
            }
        }
    });
}

/// `out[i] = x[indices[i]]`; with stacked directions once per direction.
pub(super) fn gather<T: WithDType>(indices: &Tensor, x: &[T], x_len: usize, out: &mut [T]) -> Result<()> {
    debug_assert_eq!(indices.dtype(), DType::U32);
    let indices = indices.contiguous()?;
    let indices = Slice::<u32>::of(&indices)?;
    parallel::for_chunks(out, indices.len(), |direction, out| {
        let x = &x[direction * x_len..];
        out.iter_mut().zip(indices.iter()).for_each(|(out, &index)| *out = x[index as usize]);
    });
    Ok(())
}

/// The transpose of [`gather`]: `out[indices[i]] += y[i]`.
pub(super) fn scatter_add<T: WithDType>(indices: &Tensor, y: &[T], out_len: usize, out: &mut [T]) -> Result<()> {
    let indices = indices.contiguous()?;
    let indices = Slice::<u32>::of(&indices)?;
    parallel::for_chunks(out, out_len, |direction, out| {
        let y = &y[direction * indices.len()..];
        indices.iter().zip(y).for_each(|(&index, &y)| out[index as usize] += y);
    });
    Ok(())
}
