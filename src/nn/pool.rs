//! Pooling geometry and global average pooling.

use super::{Forward, Place};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Linear, PoolGeometry};
use crate::models::Extent;

/// Checks the windows against the input `[N, C, H, W]`.
pub(super) fn geometry(
    dims: &[usize],
    kernel: &Extent,
    stride: &Option<Extent>,
    padding: &Extent,
    count_padding: bool,
    place: &Place<'_>,
) -> Result<PoolGeometry> {
    let [_, _, height, width] = place.image(dims, None)?;
    let stride = stride.unwrap_or(*kernel).0;
    let (kernel, padding, input) = (kernel.0, padding.0, [height, width]);
    for axis in 0..2 {
        if kernel[axis] == 0 || stride[axis] == 0 {
            return Err(place.misfit("kernel and stride must be at least 1".into()));
        }
        if 2 * padding[axis] > kernel[axis] {
            return Err(place.misfit("padding may be at most half of the kernel".into()));
        }
        if input[axis] + 2 * padding[axis] < kernel[axis] {
            return Err(place.misfit(format!("a window of {} does not fit {height}x{width}", kernel[axis])));
        }
    }
    Ok(PoolGeometry { kernel, stride, padding, input, count_padding })
}

impl<V: Value> Forward<'_, V> {
    pub(super) fn global_average_pool(&mut self, x: &Var<V>, place: &Place<'_>) -> Result<Var<V>> {
        let [n, c, h, w] = place.image(x.dims()?, None)?;
        let sum = self.tape.linear(Linear::SumTo { from: vec![n, c, h, w], to: vec![n, c, 1, 1] }, x)?;
        let mean = self.tape.linear(Linear::Scale { factor: 1.0 / (h * w) as f64 }, &sum)?;
        self.reshape(&mean, |_| vec![n, c])
    }
}
