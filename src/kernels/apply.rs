//! How each primitive is computed: on the CPU by the kernels here, on other devices by candle's own operations.

use candle_core::{DType, Result, Tensor, WithDType};

use super::access::{Slice, with_float};
use super::bilinear::Bilinear;
use super::conv::{self, ConvGeometry, Operand};
use super::element::{Element, filled};
use super::elementwise::{combine, contract};
use super::linear::Linear;
use super::matmul::MatMul;
use super::permute::permute;
use super::pointwise::Pointwise;
use super::stacked::{directions, shape_like, with_plane};
use super::{fallback, parallel, pool};

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

impl Linear {
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
            Self::Permute { axes } if matches!(x.dtype(), DType::F32 | DType::F64) => permute(axes, x),
            // Views and copies: candle's own operations serve every device.
            _ => fallback::linear(self, x),
        }
    }
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

impl Bilinear {
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

/// `[O, C/groups, h, w]`.
fn weight_shape(geometry: &ConvGeometry) -> [usize; 4] {
    let ConvGeometry { in_channels, out_channels, groups, kernel, .. } = *geometry;
    [out_channels, in_channels / groups, kernel[0], kernel[1]]
}

impl Pointwise {
    /// `f⁽ⁿ⁾(x)` elementwise, `n` = `order` ≤ 2.
    pub fn apply(&self, order: usize, x: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() {
            return fallback::pointwise(*self, order, x);
        }
        const CHUNK: usize = 1 << 12;
        let x = x.contiguous()?;
        with_float!(x.dtype(), T => {
            let values = Slice::<T>::of(&x)?;
            let mut out = vec![T::default(); values.len()];
            parallel::for_chunks(&mut out, CHUNK, |chunk, out| {
                T::pointwise(*self, order, &values[chunk * CHUNK..][..out.len()], out);
            });
            Tensor::from_vec(out, x.dims(), x.device())
        })
    }
}

/// `a bᵀ` or `a b` of two matrices. No number of threads changes its sums.
///
/// # Errors
/// Operands that are not such matrices.
pub(crate) fn matrix_product(a: &Tensor, b: &Tensor, transpose_b: bool) -> Result<Tensor> {
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
