//! Shapes of stacked operands: those with directions in front.

use candle_core::Tensor;

/// The largest leading size among `operands`, where each with more axes than its own rank is stacked.
pub(super) fn directions(operands: &[(&Tensor, usize)]) -> Option<usize> {
    operands.iter().find(|(tensor, rank)| tensor.rank() > *rank).map(|(tensor, _)| tensor.dims()[0])
}

/// `plain`, with the directions of `x` in front where it has more than `rank` axes.
pub(super) fn shape_like(x: &Tensor, rank: usize, plain: &[usize]) -> Vec<usize> {
    x.dims()[..x.rank() - rank].iter().chain(plain).copied().collect()
}

/// The shape of `x` with the last two axes replaced.
pub(super) fn with_plane(x: &Tensor, plane: [usize; 2]) -> Vec<usize> {
    x.dims()[..x.rank() - 2].iter().chain(&plane).copied().collect()
}
