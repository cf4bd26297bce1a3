//! The linear family: maps `L x` that are closed under transposition.

use candle_core::{Result, Tensor, WithDType};

use super::access::{Slice, with_float};
use super::elementwise::{combine, contract};
use super::pool::{self, PoolGeometry};
use super::{fallback, parallel};

/// Reads `$x` as a slice of its dtype, lets `$body` fill a zeroed output of `$shape`, makes it a tensor.
macro_rules! map_elements {
    ($x:expr, $shape:expr, $T:ident, |$slice:ident, $out:ident| $body:expr) => {{
        let x = $x.contiguous()?;
        let shape: Vec<usize> = $shape.to_vec();
        with_float!(x.dtype(), $T => {
            let $slice = Slice::<$T>::of(&x)?;
            let mut buffer = vec![$T::default(); shape.iter().product()];
            let $out = buffer.as_mut_slice();
            $body;
            Tensor::from_vec(buffer, shape, x.device())
        })
    }};
}

/// A linear map on tensors of a fixed shape; stacked tensors are mapped direction by direction.
#[derive(Debug, Clone)]
pub enum Linear {
    /// The same elements in another shape.
    Reshape {
        /// Input shape.
        from: Vec<usize>,
        /// Output shape, as many elements.
        to: Vec<usize>,
    },
    /// Output axis `i` is input axis `axes[i]`.
    Permute {
        /// A permutation.
        axes: Vec<usize>,
    },
    /// Repeats along axes of size 1; equal rank.
    Broadcast {
        /// Input shape.
        from: Vec<usize>,
        /// Output shape.
        to: Vec<usize>,
    },
    /// Sums to size 1 along the axes where `to` has 1.
    SumTo {
        /// Input shape.
        from: Vec<usize>,
        /// Output shape.
        to: Vec<usize>,
    },
    /// Elements `start..start + len` of an axis of size `size`.
    Narrow {
        /// The axis.
        axis: usize,
        /// First element.
        start: usize,
        /// Number of elements.
        len: usize,
        /// Input size of the axis.
        size: usize,
        /// Rank of the input.
        rank: usize,
    },
    /// The transpose of [`Linear::Narrow`]: zeros around.
    Pad {
        /// The axis.
        axis: usize,
        /// Zeros before.
        start: usize,
        /// Input size of the axis.
        len: usize,
        /// Output size of the axis.
        size: usize,
        /// Rank of the input.
        rank: usize,
    },
    /// Every `step`-th element of each of the last two axes, from the first on.
    Subsample {
        /// Input height and width.
        input: [usize; 2],
        /// The steps.
        step: [usize; 2],
    },
    /// The transpose of [`Linear::Subsample`].
    Spread {
        /// Output height and width.
        output: [usize; 2],
        /// The steps.
        step: [usize; 2],
    },
    /// `factor · x`.
    Scale {
        /// The factor.
        factor: f64,
    },
    /// `x` where `gate > 0`, else 0: ReLU and its derivative at fixed signs. A NaN in the gate is open, since a ReLU
    /// that turned NaN into 0 would hide broken weights from the loss.
    Gate {
        /// Same shape as `x`.
        gate: Tensor,
    },
    /// `out[i] = x[indices[i]]` on flattened tensors: max pooling at fixed winners.
    Gather {
        /// u32 positions in the flattened input, in the shape of the output.
        indices: Tensor,
        /// Input shape.
        from: Vec<usize>,
    },
    /// The transpose of [`Linear::Gather`].
    ScatterAdd {
        /// u32 positions in the flattened output, in the shape of the input.
        indices: Tensor,
        /// Output shape.
        to: Vec<usize>,
    },
    /// Mean over windows of the last two axes.
    AveragePool(PoolGeometry),
    /// The transpose of [`Linear::AveragePool`].
    AveragePoolTransposed(PoolGeometry),
}

impl Linear {
    /// The transposed map.
    pub fn transpose(&self) -> Self {
        match self.clone() {
            Self::Reshape { from, to } => Self::Reshape { from: to, to: from },
            Self::Permute { axes } => {
                let mut inverse = vec![0; axes.len()];
                axes.iter().enumerate().for_each(|(out, &axis)| inverse[axis] = out);
                Self::Permute { axes: inverse }
            }
            Self::Broadcast { from, to } => Self::SumTo { from: to, to: from },
            Self::SumTo { from, to } => Self::Broadcast { from: to, to: from },
            Self::Narrow { axis, start, len, size, rank } => Self::Pad { axis, start, len, size, rank },
            Self::Pad { axis, start, len, size, rank } => Self::Narrow { axis, start, len, size, rank },
            Self::Subsample { input, step } => Self::Spread { output: input, step },
            Self::Spread { output, step } => Self::Subsample { input: output, step },
            Self::Gather { indices, from } => Self::ScatterAdd { indices, to: from },
            Self::ScatterAdd { indices, to } => Self::Gather { indices, from: to },
            Self::AveragePool(geometry) => Self::AveragePoolTransposed(geometry),
            Self::AveragePoolTransposed(geometry) => Self::AveragePool(geometry),
            itself @ (Self::Scale { .. } | Self::Gate { .. }) => itself,
        }
    }

    /// `L x`, direction by direction where `x` is stacked.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() { self.apply_on_cpu(x) } else { fallback::linear(self, x) }
    }

    fn apply_on_cpu(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Broadcast { to, .. } => combine(to, &[(x, None)]),
            Self::SumTo { from, to } => contract(from, to, &[(x, None)]),
            Self::Scale { factor } => map_elements!(x, x.dims(), T, |x, out| {
                out.iter_mut().zip(x.iter()).for_each(|(out, &x)| *out = x * T::from_f64(*factor));
            }),
            Self::Gate { gate } => {
                let gate = gate.contiguous()?;
                map_elements!(x, x.dims(), T, |x, out| {
                    gated(&x, &Slice::<T>::of(&gate)?, out);
                })
            }
            Self::Gather { indices, from } => {
                map_elements!(x, shape_like(x, from.len(), indices.dims()), T, |x, out| {
                    pool::gather(indices, &x, from.iter().product(), out)?;
                })
            }
            Self::ScatterAdd { indices, to } => {
                map_elements!(x, shape_like(x, indices.rank(), to), T, |x, out| {
                    pool::scatter_add(indices, &x, to.iter().product(), out)?;
                })
            }
            Self::AveragePool(geometry) => {
                map_elements!(x, with_plane(x, geometry.output()), T, |x, out| pool::average(geometry, &x, out))
            }
            Self::AveragePoolTransposed(geometry) => {
                map_elements!(x, with_plane(x, geometry.input), T, |x, out| pool::average_transposed(geometry, &x, out))
            }
            // Views and copies: candle's own operations serve every device.
            _ => fallback::linear(self, x),
        }
    }
}

/// `plain`, with the directions of `x` in front where it has more than `rank` axes.
pub(super) fn shape_like(x: &Tensor, rank: usize, plain: &[usize]) -> Vec<usize> {
    x.dims()[..x.rank() - rank].iter().chain(plain).copied().collect()
}

/// The shape of `x` with the last two axes replaced.
pub(super) fn with_plane(x: &Tensor, plane: [usize; 2]) -> Vec<usize> {
    x.dims()[..x.rank() - 2].iter().chain(&plane).copied().collect()
}

/// 0 where `gate ≤ 0`, else `x`, so that NaN passes; the gate is shared by all directions.
fn gated<T: WithDType>(x: &[T], gate: &[T], out: &mut [T]) {
    const CHUNK: usize = 1 << 14;
    let zero = T::zero();
    if gate.is_empty() {
        return;
    }
    for (x, out) in x.chunks(gate.len()).zip(out.chunks_mut(gate.len())) {
        parallel::for_chunks(out, CHUNK, |chunk, out| {
            let (x, gate) = (&x[chunk * CHUNK..], &gate[chunk * CHUNK..]);
            for ((out, &x), &gate) in out.iter_mut().zip(x).zip(gate) {
                *out = if gate <= zero { zero } else { x };
            }
        });
    }
}
