//! The linear family: maps `L x` that are closed under transposition.

use candle_core::Tensor;

use super::pool::PoolGeometry;

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
}
