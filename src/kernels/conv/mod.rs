//! Two-dimensional convolution and its two adjoints on the CPU: one bilinear family, closed under differentiation.
//!
//! Shapes: `x [K?, N, C, H, W]`, `w [K?, O, C/groups, kh, kw]`, `y [K?, N, O, OH, OW]`, where `K?` is the number of
//! directions or absent (see [`Operand`]). Each function sums any number of terms, one per direction `k`, so that the
//! two halves of a product rule, `ẋ w + x ẇ`, are added in registers and written once.
//!
//! Four methods. Convolutions 3×3 with stride 1 in f32 go by minimal filtering where their shape suits it (`winograd`);
//! depthwise ones in vectors of channels (`depthwise`); others with many channels as matrix products (`lowered`). What is left
//! is direct: register tiles of pixels and channels (`correlate` for the convolution and its input gradient, `weight_gradient`
//! for the sum over pixels).
//!
//! For the last two, each sample is packed once into a zero-padded copy, split by the stride's phases, in which every kernel tap
//! is a constant offset (`plan`, `pack`); narrow images are packed several samples side by side, so that no lane is idle.

mod correlate;
mod depthwise;
mod geometry;
mod lowered;
mod operand;
mod pack;
mod plan;
#[cfg(test)]
mod tests;
mod weight_gradient;
mod winograd;
mod write;

pub use geometry::ConvGeometry;
pub use operand::Operand;

use super::element::Element;
use super::simd::Isa;
use depthwise::Depthwise;
use plan::Plan;
use std::mem::MaybeUninit;
use winograd::Tiling;

/// `out[k] = Σ conv(x_k, w_k)` over `terms` of `(x, w)`; `out [K, N, O, OH, OW]` is overwritten.
///
/// # Panics
/// Where an operand or `out` is shorter than its shape says.
pub fn conv2d<T: Element>(
    geometry: &ConvGeometry,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    if depthwise::suits(geometry) {
        return Depthwise::forward::<T>(Isa::best(), geometry).correlate(batch, directions, terms, out);
    }
    if let Some(tiling) = Tiling::forward::<T>(Isa::best(), geometry, batch) {
        return winograd::correlate(&tiling, batch, directions, terms, out);
    }
    let plan = Plan::forward::<T>(Isa::best(), geometry, batch);
    if lowered::suits(geometry, &plan) {
        return lowered::correlate(&plan, batch, directions, terms, out);
    }
    correlate::correlate(&plan, batch, directions, terms, out);
}

/// The adjoint of [`conv2d`] in `x`: `out[k] = Σ conv_wᵀ(y_k)` over `terms` of `(y, w)`; `out [K, N, C, H, W]` is
/// overwritten.
///
/// # Panics
/// Where an operand or `out` is shorter than its shape says.
pub fn conv2d_input_gradient<T: Element>(
    geometry: &ConvGeometry,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    if depthwise::suits(geometry) {
        return Depthwise::input_gradient::<T>(Isa::best(), geometry).correlate(batch, directions, terms, out);
    }
    if let Some(tiling) = Tiling::input_gradient::<T>(Isa::best(), geometry, batch) {
        return winograd::correlate(&tiling, batch, directions, terms, out);
    }
    let plan = Plan::forward::<T>(Isa::best(), geometry, batch);
    if lowered::suits(geometry, &plan) {
        return lowered::input_gradient(&plan, batch, directions, terms, out);
    }
    let plan = Plan::input_gradient::<T>(Isa::best(), geometry, batch);
    correlate::correlate(&plan, batch, directions, terms, out);
}

/// The adjoint of [`conv2d`] in `w`, summed over the batch: `terms` of `(x, y)`; `out [K, O, C/groups, kh, kw]` is
/// overwritten.
///
/// Pixels or tiles are summed in the dtype over eight samples at most, and those sums in double precision, in a fixed
/// order.
///
/// # Panics
/// Where an operand or `out` is shorter than its shape says.
pub fn conv2d_weight_gradient<T: Element>(
    geometry: &ConvGeometry,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    if depthwise::suits(geometry) {
        return Depthwise::forward::<T>(Isa::best(), geometry).weight_gradient(batch, directions, terms, out);
    }
    if let Some(tiling) = Tiling::forward::<T>(Isa::best(), geometry, batch) {
        return winograd::weight_gradient(&tiling, batch, directions, terms, out);
    }
    let plan = Plan::forward::<T>(Isa::best(), geometry, batch);
    if lowered::suits(geometry, &plan) {
        return lowered::weight_gradient(&plan, batch, directions, terms, out);
    }
    weight_gradient::weight_gradient(&plan, batch, directions, terms, out);
}
