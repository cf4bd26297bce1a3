//! The bilinear family: each adjoint of a member is another member.

use candle_core::Result;

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

/// The map that takes a cotangent and one operand to the cotangent of the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Adjoint {
    /// The map.
    pub map: Bilinear,
    /// Where the cotangent goes.
    pub side: Side,
}

impl Adjoint {
    /// The cotangent of one operand from that of the result and the `other` operand; `apply` applies the map.
    ///
    /// # Errors
    /// Those of `apply`.
    pub fn apply<T>(&self, apply: impl FnOnce(&Bilinear, &T, &T) -> Result<T>, cotangent: &T, other: &T) -> Result<T> {
        match self.side {
            Side::Left => apply(&self.map, cotangent, other),
            Side::Right => apply(&self.map, other, cotangent),
        }
    }
}

impl Bilinear {
    /// Whether each number of the result is a sum of many products: a convolution or matrix product.
    pub(crate) fn is_contraction(&self) -> bool {
        !matches!(self, Self::Product { .. } | Self::ProductSum { .. })
    }

    /// From a cotangent and `b` to the cotangent of `a`.
    pub fn adjoint_a(&self) -> Adjoint {
        let (map, side) = match self.clone() {
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
        };
        Adjoint { map, side }
    }

    /// From a cotangent and `a` to the cotangent of `b`.
    pub fn adjoint_b(&self) -> Adjoint {
        let (map, side) = match self.clone() {
            Self::Product { full, small } => (Self::ProductSum { full, small }, Side::Left),
            Self::ProductSum { full, small } => (Self::Product { full, small }, Side::Right),
            Self::MatMul(product) => {
                let (product, first) = product.adjoint_b();
                (Self::MatMul(product), if first { Side::Left } else { Side::Right })
            }
            Self::Conv2d(geometry) => (Self::ConvWeightGradient(geometry), Side::Right),
            Self::ConvInputGradient(geometry) => (Self::ConvWeightGradient(geometry), Side::Left),
            Self::ConvWeightGradient(geometry) => (Self::Conv2d(geometry), Side::Right),
        };
        Adjoint { map, side }
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
