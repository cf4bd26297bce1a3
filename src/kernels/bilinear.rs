//! The bilinear family: each adjoint of a member is another member.

use super::MatMul;
use super::conv::ConvGeometry;

/// A bilinear map `B(a, b)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Bilinear {
    /// `a ⊙ b`, `b` broadcast from `small` to `full`; equal rank.
    Product {
        /// Shape of `a` and of the result.
        full: Vec<usize>,
        /// Shape of `b`.
        small: Vec<usize>,
    },
    /// `Σ a ⊙ b` over the axes where `small` has 1.
    ProductSum {
        /// Shape of `a` and `b`.
        full: Vec<usize>,
        /// Shape of the result.
        small: Vec<usize>,
    },
    /// Batched matrix product.
    MatMul(MatMul),
    /// Cross-correlation of `a` `[N, C, H, W]` with filters `b` `[O, C/groups, h, w]`.
    Conv2d(ConvGeometry),
    /// The adjoint in the input: `a` `[N, O, …]` is a cotangent of the output, `b` the filters.
    ConvInputGradient(ConvGeometry),
    /// The adjoint in the filters: `a` is the input, `b` a cotangent of the output.
    ConvWeightGradient(ConvGeometry),
}

/// Which operand of an adjoint the cotangent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// First.
    Left,
    /// Second.
    Right,
}

impl Bilinear {
    /// The map that takes a cotangent and `b` to the cotangent of `a`, and where the cotangent goes.
    pub fn adjoint_a(&self) -> (Self, Side) {
        match self.clone() {
            itself @ Self::Product { .. } => (itself, Side::Left),
            // a enters as full ⊙ full: its cotangent is b ⊙ broadcast(c).
            Self::ProductSum { full, small } => (Self::Product { full, small }, Side::Right),
            Self::MatMul(product) => {
                let (product, first) = product.adjoint_a();
                (Self::MatMul(product), if first { Side::Left } else { Side::Right })
            }
            Self::Conv2d(geometry) => (Self::ConvInputGradient(geometry), Side::Left),
            Self::ConvInputGradient(geometry) => (Self::Conv2d(geometry), Side::Left),
            Self::ConvWeightGradient(geometry) => (Self::ConvInputGradient(geometry), Side::Right),
        }
    }

    /// The map that takes a cotangent and `a` to the cotangent of `b`, and where the cotangent goes.
    pub fn adjoint_b(&self) -> (Self, Side) {
        match self.clone() {
            Self::Product { full, small } => (Self::ProductSum { full, small }, Side::Left),
            Self::ProductSum { full, small } => (Self::Product { full, small }, Side::Right),
            Self::MatMul(product) => {
                let (product, first) = product.adjoint_b();
                (Self::MatMul(product), if first { Side::Left } else { Side::Right })
            }
            Self::Conv2d(geometry) => (Self::ConvWeightGradient(geometry), Side::Right),
            Self::ConvInputGradient(geometry) => (Self::ConvWeightGradient(geometry), Side::Left),
            Self::ConvWeightGradient(geometry) => (Self::Conv2d(geometry), Side::Right),
        }
    }

    /// Ranks of `a` and `b` without directions.
    pub(super) fn ranks(&self) -> (usize, usize) {
        match self {
            Self::Product { full, .. } | Self::ProductSum { full, .. } => (full.len(), full.len()),
            Self::MatMul(_) => (3, 3),
            Self::Conv2d(_) | Self::ConvInputGradient(_) | Self::ConvWeightGradient(_) => (4, 4),
        }
    }
}
