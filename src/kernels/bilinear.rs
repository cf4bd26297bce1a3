//! The bilinear family: each adjoint of a member is another member.

use candle_core::{Result, Tensor};

use super::conv::{self, ConvGeometry, Operand};
use super::element::filled;
use super::elementwise::{combine, contract};
use super::{MatMul, Slice, directions, fallback, with_float};

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

    /// `Σ_terms B(a, b)`, direction by direction where an operand is stacked; a shared operand serves all directions.
    pub fn apply(&self, terms: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
        if !terms[0].0.device().is_cpu() {
            return fallback::bilinear(self, terms);
        }
        match self {
            Self::Product { full, .. } => combine(full, &with_second(terms)),
            Self::ProductSum { full, small } => contract(full, small, &with_second(terms)),
            Self::MatMul(product) => product.apply(terms),
            Self::Conv2d(geometry) => {
                let [height, width] = geometry.output();
                let shape = [terms[0].0.dims()[stacked(terms[0].0)], geometry.out_channels, height, width];
                self.convolve(geometry, terms, shape)
            }
            Self::ConvInputGradient(geometry) => {
                let [height, width] = geometry.input;
                let shape = [terms[0].0.dims()[stacked(terms[0].0)], geometry.in_channels, height, width];
                self.convolve(geometry, terms, shape)
            }
            Self::ConvWeightGradient(geometry) => self.convolve(geometry, terms, weight_shape(geometry)),
        }
    }

    fn convolve(&self, geometry: &ConvGeometry, terms: &[(&Tensor, &Tensor)], shape: [usize; 4]) -> Result<Tensor> {
        let (first, _) = terms[0];
        let batch = first.dims()[stacked(first)];
        let stack = terms.iter().find_map(|(a, b)| directions(&[(a, 4), (b, 4)]));
        let shape: Vec<usize> = stack.into_iter().chain(shape).collect();
        with_float!(first.dtype(), T => {
            let held: Vec<(Tensor, Tensor)> =
                terms.iter().map(|(a, b)| Ok((a.contiguous()?, b.contiguous()?))).collect::<Result<_>>()?;
            let slices: Vec<(Slice<'_, T>, Slice<'_, T>)> =
                held.iter().map(|(a, b)| Ok((Slice::of(a)?, Slice::of(b)?))).collect::<Result<_>>()?;
            let operands: Vec<(Operand<'_, T>, Operand<'_, T>)> = slices
                .iter()
                .zip(&held)
                .map(|((a, b), (a_tensor, b_tensor))| {
                    let (a_stacked, b_stacked) = (stacked(a_tensor) == 1, stacked(b_tensor) == 1);
                    (Operand { data: a, stacked: a_stacked }, Operand { data: b, stacked: b_stacked })
                })
                .collect();
            let kernel = match self {
                Self::Conv2d(_) => conv::conv2d,
                Self::ConvInputGradient(_) => conv::conv2d_input_gradient,
                _ => conv::conv2d_weight_gradient,
            };
            let len = shape.iter().product();
            // SAFETY: the kernels write all of their output.
            let out = unsafe { filled(len, |out| kernel(geometry, batch, stack.unwrap_or(1), &operands, out)) };
            Tensor::from_vec(out, shape, first.device())
        })
    }
}

/// 1 where a convolution operand carries directions, else 0.
fn stacked(tensor: &Tensor) -> usize {
    tensor.rank() - 4
}

fn with_second<'a>(terms: &[(&'a Tensor, &'a Tensor)]) -> Vec<(&'a Tensor, Option<&'a Tensor>)> {
    terms.iter().map(|&(a, b)| (a, Some(b))).collect()
}

/// `a bᵀ` or `a b` of two matrices. No number of threads changes its sums.
///
/// # Errors
/// Operands that are not such matrices.
pub fn matrix_product(a: &Tensor, b: &Tensor, transpose_b: bool) -> Result<Tensor> {
    let ((m, k), (rows, columns)) = (a.dims2()?, b.dims2()?);
    let n = if transpose_b { rows } else { columns };
    let product = MatMul { batch: 1, m, k, n, transpose_a: false, transpose_b };
    Bilinear::MatMul(product).apply(&[(&a.unsqueeze(0)?, &b.unsqueeze(0)?)])?.squeeze(0)
}

/// `a + b`, equal shapes. On the CPU not by candle, whose elementwise operations wake a thread pool of their own.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device().is_cpu() { combine(a.dims(), &[(a, None), (b, None)]) } else { a + b }
}

/// `Σ_products x ⊙ s + Σ_shifts b`, `s` and `b` broadcast to `full`: a per-channel affine map in one pass.
pub fn affine(full: &[usize], products: &[(&Tensor, Option<&Tensor>)], shift: Option<&Tensor>) -> Result<Tensor> {
    let mut terms = products.to_vec();
    terms.extend(shift.map(|shift| (shift, None)));
    if terms[0].0.device().is_cpu() { combine(full, &terms) } else { fallback::combine(full, &terms) }
}

/// `[O, C/groups, h, w]`.
fn weight_shape(geometry: &ConvGeometry) -> [usize; 4] {
    let ConvGeometry { in_channels, out_channels, groups, kernel, .. } = *geometry;
    [out_channels, in_channels / groups, kernel[0], kernel[1]]
}
