//! The same primitives through candle's own operations: what devices without hand-written kernels use, and what the
//! fast kernels are tested against.
//!
//! Convolutions are sums over filter taps of shifted, strided slices times matrices, since candle's own convolution
//! gradients are slow on every device.

use candle_core::{Device, Result, Tensor};

use super::conv::ConvGeometry;
use super::elementwise::Term;
use super::pointwise::GELU_CUBIC;
use super::stacked::{directions, shape_like, with_plane};
use super::{Bilinear, Linear, MatMul, Pointwise, PoolGeometry};

/// `L x` by candle operations.
pub fn linear(map: &Linear, x: &Tensor) -> Result<Tensor> {
    match map {
        Linear::Reshape { from, to } => x.reshape(shape_like(x, from.len(), to)),
        Linear::Permute { axes } => {
            let lead = x.rank() - axes.len();
            let axes: Vec<usize> = (0..lead).chain(axes.iter().map(|axis| axis + lead)).collect();
            x.permute(axes)?.contiguous()
        }
        Linear::Broadcast { from, to } => x.broadcast_as(shape_like(x, from.len(), to))?.contiguous(),
        Linear::SumTo { from, to } => sum_to(x, from, to),
        Linear::Narrow { axis, start, len, rank, .. } => x.narrow(axis + x.rank() - rank, *start, *len)?.contiguous(),
        Linear::Pad { axis, start, len, size, rank } => {
            x.pad_with_zeros(axis + x.rank() - rank, *start, size - start - len)
        }
        Linear::Subsample { input, step } => {
            strided(x, [0, 0], *step, std::array::from_fn(|axis| input[axis].div_ceil(step[axis])))
        }
        Linear::Spread { output, step } => strided_transposed(x, [0, 0], *step, *output),
        Linear::Scale { factor } => x.affine(*factor, 0.0),
        Linear::Gate { gate } => {
            // A product with 0 or 1 would make NaN of infinities behind a closed gate.
            gate.le(0.0)?.broadcast_as(x.shape())?.where_cond(&x.zeros_like()?, x)
        }
        Linear::Gather { indices, from } => {
            let flat = flatten(x, from.len())?;
            let out = flat.index_select(&indices.flatten_all()?, 1)?;
            out.reshape(shape_like(x, from.len(), indices.dims()))
        }
        Linear::ScatterAdd { indices, to } => {
            let flat = flatten(x, indices.rank())?;
            let zeros = Tensor::zeros((flat.dims()[0], to.iter().product()), x.dtype(), x.device())?;
            let out = zeros.index_add(&indices.flatten_all()?, &flat.contiguous()?, 1)?;
            out.reshape(shape_like(x, indices.rank(), to))
        }
        Linear::AveragePool(geometry) => average_pool(geometry, x),
        Linear::AveragePoolTransposed(geometry) => average_pool_transposed(geometry, x),
    }
}

/// `Σ_terms B(a, b)` by candle operations.
pub fn bilinear(map: &Bilinear, terms: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let (a_rank, b_rank) = map.ranks();
    let stacked = terms.iter().find_map(|(a, b)| directions(&[(a, a_rank), (b, b_rank)]));
    let mut sum: Option<Tensor> = None;
    for (a, b) in terms {
        let term = match stacked {
            None => bilinear_plain(map, a, b)?,
            Some(k) => {
                let one = |tensor: &Tensor, rank: usize, index: usize| {
                    if tensor.rank() > rank { tensor.get(index) } else { Ok(tensor.clone()) }
                };
                let parts: Vec<Tensor> = (0..k)
                    .map(|index| bilinear_plain(map, &one(a, a_rank, index)?, &one(b, b_rank, index)?))
                    .collect::<Result<_>>()?;
                Tensor::stack(&parts, 0)?
            }
        };
        sum = Some(match sum {
            None => term,
            Some(sum) => (sum + term)?,
        });
    }
    sum.ok_or_else(|| candle_core::Error::Msg("a bilinear map without terms".into()))
}

fn bilinear_plain(map: &Bilinear, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match map {
        Bilinear::Product { .. } => a.broadcast_mul(b),
        Bilinear::ProductSum { full, small } => sum_to(&a.broadcast_mul(b)?, full, small),
        Bilinear::MatMul(MatMul { transpose_a, transpose_b, .. }) => {
            let a = if *transpose_a { a.transpose(1, 2)? } else { a.clone() };
            let b = if *transpose_b { b.transpose(1, 2)? } else { b.clone() };
            a.contiguous()?.matmul(&b.contiguous()?)
        }
        Bilinear::Conv2d(geometry) => conv2d(geometry, a, b),
        Bilinear::ConvInputGradient(geometry) => conv2d_input_gradient(geometry, a, b),
        Bilinear::ConvWeightGradient(geometry) => conv2d_weight_gradient(geometry, a, b),
    }
}

/// `Σ_terms a ⊙ b` broadcast to `full`.
pub(super) fn combine(full: &[usize], terms: &[Term<'_>]) -> Result<Tensor> {
    let rank = full.len();
    let stacked =
        terms.iter().find_map(|(a, b)| directions(&[(a, rank)]).or_else(|| b.and_then(|b| directions(&[(b, rank)]))));
    let shape: Vec<usize> = stacked.into_iter().chain(full.iter().copied()).collect();
    let mut sum: Option<Tensor> = None;
    for (a, b) in terms {
        let term = match b {
            Some(b) => a.broadcast_mul(b)?,
            None => (*a).clone(),
        };
        sum = Some(match sum {
            None => term.broadcast_as(shape.as_slice())?.contiguous()?,
            Some(sum) => sum.broadcast_add(&term)?,
        });
    }
    sum.ok_or_else(|| candle_core::Error::Msg("a combination without terms".into()))
}

/// `f⁽ⁿ⁾(x)` by candle operations, `n` = `order` ≤ 2.
pub fn pointwise(f: Pointwise, order: usize, x: &Tensor) -> Result<Tensor> {
    match (f, order) {
        (Pointwise::Exp, _) => x.exp(),
        (Pointwise::Log, 0) => x.log(),
        (Pointwise::Log, 1) | (Pointwise::Reciprocal, 0) => x.recip(),
        (Pointwise::Log, _) | (Pointwise::Reciprocal, 1) => x.sqr()?.recip()?.neg(),
        (Pointwise::Reciprocal, _) => (x.sqr()? * x)?.recip()? * 2.0,
        (Pointwise::Rsqrt, 0) => x.sqrt()?.recip(),
        (Pointwise::Rsqrt, 1) => (x.sqrt()? * x)?.recip()? * -0.5,
        (Pointwise::Rsqrt, _) => (x.sqrt()? * x.sqr()?)?.recip()? * 0.75,
        (Pointwise::Sqrt, 0) => x.sqrt(),
        (Pointwise::Sqrt, 1) => x.sqrt()?.recip()? * 0.5,
        (Pointwise::Sqrt, _) => (x.sqrt()? * x)?.recip()? * -0.25,
        (Pointwise::Sin, 0) => x.sin(),
        (Pointwise::Sin, 1) | (Pointwise::Cos, 0) => x.cos(),
        (Pointwise::Sin, _) | (Pointwise::Cos, 1) => x.sin()?.neg(),
        (Pointwise::Cos, _) => x.cos()?.neg(),
        (Pointwise::Log1p, 0) => (x + 1.0)?.log(),
        (Pointwise::Log1p, 1) => (x + 1.0)?.recip(),
        (Pointwise::Log1p, _) => (x + 1.0)?.sqr()?.recip()?.neg(),
        (Pointwise::Tanh, 0) => x.tanh(),
        (Pointwise::Tanh, 1) => tanh_slope(x),
        (Pointwise::Tanh, _) => (x.tanh()? * tanh_slope(x)?)? * -2.0,
        (Pointwise::Sigmoid, 0) | (Pointwise::Softplus, 1) => sigmoid(x),
        (Pointwise::Sigmoid, 1) | (Pointwise::Softplus, 2) => sigmoid_slope(x),
        (Pointwise::Sigmoid, _) => sigmoid_slope(x)? * (x * 0.5)?.tanh()?.neg()?,
        (Pointwise::Softplus, _) => x.relu()? + ((x.abs()?.neg()?.exp()? + 1.0)?.log())?,
        (Pointwise::Silu, 0) => x * sigmoid(x)?,
        (Pointwise::Silu, 1) => sigmoid(x)? + (x * sigmoid_slope(x)?)?,
        (Pointwise::Silu, _) => {
            let slope = sigmoid_slope(x)?;
            ((&slope * 2.0)? - (x * (slope * (x * 0.5)?.tanh()?)?)?)?.contiguous()
        }
        // Rare ones by way of the host.
        (Pointwise::Expm1 | Pointwise::Erf | Pointwise::Atan | Pointwise::Power(_), _)
        | (Pointwise::HardSigmoid | Pointwise::HardSwish | Pointwise::Clamp(_), _) => {
            f.apply(order, &x.to_device(&Device::Cpu)?)?.to_device(x.device())
        }
        (Pointwise::GeluErf, _) => {
            let density = ((x.sqr()? * -0.5)?.exp()?
                * (0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2))?;
            let cumulative = (((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?;
            match order {
                0 => x * cumulative,
                1 => cumulative + (x * density)?,
                _ => density * (x.sqr()?.neg()? + 2.0)?,
            }
        }
        (Pointwise::GeluTanh, _) => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            let inner = (((x.sqr()? * x)? * GELU_CUBIC)? + x)?.affine(scale, 0.0)?;
            let slope = x.sqr()?.affine(3.0 * GELU_CUBIC * scale, scale)?;
            let (t, t1) = (inner.tanh()?, tanh_slope(&inner)?);
            match order {
                0 => (x * t.affine(0.5, 0.5)?)?.contiguous(),
                1 => t.affine(0.5, 0.5)? + (((x * &t1)? * slope)? * 0.5)?,
                _ => {
                    let t2 = ((t * &t1)? * -2.0)?;
                    let bend = ((t2 * slope.sqr()?)? + (&t1 * x.affine(6.0 * GELU_CUBIC * scale, 0.0)?)?)?;
                    (t1 * slope)? + ((x * bend)? * 0.5)?
                }
            }
        }
    }
}

fn tanh_slope(x: &Tensor) -> Result<Tensor> {
    let decay = (x.abs()? * -2.0)?.exp()?;
    (&decay * 4.0)? / (decay + 1.0)?.sqr()?
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x * 0.5)?.tanh()?.affine(0.5, 0.5)
}

fn sigmoid_slope(x: &Tensor) -> Result<Tensor> {
    let decay = x.abs()?.neg()?.exp()?;
    &decay / (&decay + 1.0)?.sqr()?
}

fn sum_to(x: &Tensor, from: &[usize], to: &[usize]) -> Result<Tensor> {
    let lead = x.rank() - from.len();
    let axes: Vec<usize> = (0..from.len()).filter(|&axis| to[axis] == 1 && from[axis] != 1).map(|a| a + lead).collect();
    if axes.is_empty() { Ok(x.clone()) } else { x.sum_keepdim(axes) }
}

/// `[K or 1, elements]`.
fn flatten(x: &Tensor, rank: usize) -> Result<Tensor> {
    if x.rank() > rank { x.flatten_from(1) } else { x.flatten_all()?.unsqueeze(0) }
}

/// `out[i, j] = x[offset + i·stride]` on the last two axes, `size` elements each; past the edge there are zeros.
fn strided(x: &Tensor, offset: [usize; 2], stride: [usize; 2], size: [usize; 2]) -> Result<Tensor> {
    let mut x = x.clone();
    for axis in 0..2 {
        let dim = x.rank() - 2 + axis;
        // One output needs no step; a step far past the edge would only allocate zeros.
        let step = if size[axis] == 1 { 1 } else { stride[axis] };
        let reach = size[axis] * step;
        let available = x.dims()[dim].saturating_sub(offset[axis]).min(reach);
        x = x.narrow(dim, offset[axis], available)?.pad_with_zeros(dim, 0, reach - available)?;
        let mut shape = x.dims().to_vec();
        shape.splice(dim..=dim, [size[axis], step]);
        x = x.reshape(shape)?.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)?;
    }
    x.contiguous()
}

/// The transpose of [`strided`]: places `y` into zeros of height and width `size`.
fn strided_transposed(y: &Tensor, offset: [usize; 2], stride: [usize; 2], size: [usize; 2]) -> Result<Tensor> {
    let mut y = y.clone();
    for axis in 0..2 {
        let dim = y.rank() - 2 + axis;
        let count = y.dims()[dim];
        let mut shape = y.dims().to_vec();
        let step = if count == 1 { 1 } else { stride[axis] };
        shape[dim] = count * step;
        y = y.unsqueeze(dim + 1)?.pad_with_zeros(dim + 1, 0, step - 1)?.reshape(shape)?;
        let kept = (count * step).min(size[axis].saturating_sub(offset[axis]));
        y = y.narrow(dim, 0, kept)?.pad_with_zeros(dim, offset[axis], size[axis] - offset[axis] - kept)?;
    }
    y.contiguous()
}

fn pad_plane(x: &Tensor, padding: [usize; 2]) -> Result<Tensor> {
    let rank = x.rank();
    x.pad_with_zeros(rank - 2, padding[0], padding[0])?.pad_with_zeros(rank - 1, padding[1], padding[1])
}

fn unpad_plane(x: &Tensor, padding: [usize; 2], size: [usize; 2]) -> Result<Tensor> {
    let rank = x.rank();
    x.narrow(rank - 2, padding[0], size[0])?.narrow(rank - 1, padding[1], size[1])?.contiguous()
}

/// `1 / divisor` of every window, `[oh, ow]`.
fn window_weights(geometry: &PoolGeometry, like: &Tensor) -> Result<Tensor> {
    let [height, width] = geometry.output();
    let weights: Vec<f64> =
        (0..height * width).map(|index| 1.0 / geometry.divisor(index / width, index % width) as f64).collect();
    Tensor::from_vec(weights, (height, width), like.device())?.to_dtype(like.dtype())
}

fn average_pool(geometry: &PoolGeometry, x: &Tensor) -> Result<Tensor> {
    let padded = pad_plane(x, geometry.padding)?;
    let mut sum = Tensor::zeros(with_plane(x, geometry.output()), x.dtype(), x.device())?;
    for tap in taps(geometry.kernel) {
        sum = (sum + strided(&padded, tap, geometry.stride, geometry.output())?)?;
    }
    sum.broadcast_mul(&window_weights(geometry, x)?)
}

fn average_pool_transposed(geometry: &PoolGeometry, y: &Tensor) -> Result<Tensor> {
    let shares = y.broadcast_mul(&window_weights(geometry, y)?)?;
    let padded = [0, 1].map(|axis| geometry.input[axis] + 2 * geometry.padding[axis]);
    let mut sum = Tensor::zeros(with_plane(y, padded), y.dtype(), y.device())?;
    for tap in taps(geometry.kernel) {
        sum = (sum + strided_transposed(&shares, tap, geometry.stride, padded)?)?;
    }
    unpad_plane(&sum, geometry.padding, geometry.input)
}

fn taps(kernel: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    (0..kernel[0]).flat_map(move |row| (0..kernel[1]).map(move |column| [row, column]))
}

/// The filter entries of one tap and group, `[O/groups, C/groups]`.
fn tap_weights(w: &Tensor, tap: [usize; 2], group: usize, per_group: usize) -> Result<Tensor> {
    w.narrow(0, group * per_group, per_group)?.narrow(2, tap[0], 1)?.narrow(3, tap[1], 1)?.squeeze(3)?.squeeze(2)
}

fn conv2d(geometry: &ConvGeometry, x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ConvGeometry { in_channels, out_channels, groups, .. } = *geometry;
    let ([height, width], batch) = (geometry.output(), x.dims()[0]);
    let padded = pad_plane(x, geometry.padding)?;
    let (c, o) = (in_channels / groups, out_channels / groups);
    let mut sums: Vec<Option<Tensor>> = vec![None; groups];
    for tap in taps(geometry.kernel) {
        let offset = [0, 1].map(|axis| tap[axis] * geometry.dilation[axis]);
        let slice = strided(&padded, offset, geometry.stride, [height, width])?;
        let slice = slice.reshape((batch, in_channels, height * width))?;
        for (group, sum) in sums.iter_mut().enumerate() {
            let weights = tap_weights(w, tap, group, o)?.contiguous()?;
            let part =
                weights.broadcast_left(batch)?.contiguous()?.matmul(&slice.narrow(1, group * c, c)?.contiguous()?)?;
            *sum = Some(match sum.take() {
                None => part,
                Some(sum) => (sum + part)?,
            });
        }
    }
    let sums: Vec<Tensor> = sums.into_iter().flatten().collect();
    Tensor::cat(&sums, 1)?.reshape((batch, out_channels, height, width))
}

fn conv2d_input_gradient(geometry: &ConvGeometry, y: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ConvGeometry { in_channels, out_channels, groups, .. } = *geometry;
    let ([height, width], batch) = (geometry.output(), y.dims()[0]);
    let (c, o) = (in_channels / groups, out_channels / groups);
    let flat = y.reshape((batch, out_channels, height * width))?;
    let padded = [0, 1].map(|axis| geometry.input[axis] + 2 * geometry.padding[axis]);
    let mut sum = Tensor::zeros((batch, in_channels, padded[0], padded[1]), y.dtype(), y.device())?;
    for tap in taps(geometry.kernel) {
        let parts: Vec<Tensor> = (0..groups)
            .map(|group| {
                let weights = tap_weights(w, tap, group, o)?.t()?.contiguous()?;
                weights.broadcast_left(batch)?.contiguous()?.matmul(&flat.narrow(1, group * o, o)?.contiguous()?)
            })
            .collect::<Result<_>>()?;
        let part = Tensor::cat(&parts, 1)?.reshape((batch, groups * c, height, width))?;
        let offset = [0, 1].map(|axis| tap[axis] * geometry.dilation[axis]);
        sum = (sum + strided_transposed(&part, offset, geometry.stride, padded)?)?;
    }
    unpad_plane(&sum, geometry.padding, geometry.input)
}

fn conv2d_weight_gradient(geometry: &ConvGeometry, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let ConvGeometry { in_channels, out_channels, groups, kernel, .. } = *geometry;
    let ([height, width], batch) = (geometry.output(), x.dims()[0]);
    let (c, o) = (in_channels / groups, out_channels / groups);
    let padded = pad_plane(x, geometry.padding)?;
    let y = y.reshape((batch, out_channels, height * width))?;
    let mut columns = Vec::new();
    for tap in taps(kernel) {
        let offset = [0, 1].map(|axis| tap[axis] * geometry.dilation[axis]);
        let slice = strided(&padded, offset, geometry.stride, [height, width])?;
        let slice = slice.reshape((batch, in_channels, height * width))?.transpose(1, 2)?;
        let parts: Vec<Tensor> = (0..groups)
            .map(|group| {
                let y = y.narrow(1, group * o, o)?.contiguous()?;
                y.matmul(&slice.narrow(2, group * c, c)?.contiguous()?)?.sum(0)
            })
            .collect::<Result<_>>()?;
        columns.push(Tensor::cat(&parts, 0)?);
    }
    Tensor::stack(&columns, 2)?.reshape((out_channels, c, kernel[0], kernel[1]))
}
