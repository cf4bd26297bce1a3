//! Broadcast products and their sums: `out = Σ a ⊙ b` and its adjoint, a contraction over the broadcast axes.

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor, WithDType};

use super::access::{Slice, with_float};
use super::element::filled;
use super::parallel;
use super::stacked::directions;

/// One summand: `a ⊙ b`, or `a` alone. Each factor has the full shape, or 1 on the axes along which it is broadcast,
/// and `K` in front where it is stacked.
pub(super) type Term<'a> = (&'a Tensor, Option<&'a Tensor>);

/// Elements of one parallel chunk; a fixed figure, since chunks decide the order of sums.
const CHUNK: usize = 1 << 15;

/// `out = Σ_terms a ⊙ b`, each operand broadcast to `full` (and `K` in front where any is stacked).
pub(super) fn combine(full: &[usize], terms: &[Term<'_>]) -> Result<Tensor> {
    let operands: Vec<&Tensor> = terms.iter().flat_map(|(a, b)| [Some(*a), *b]).flatten().collect();
    let layout = Layout::new(full, &operands);
    let mut shape = full.to_vec();
    if let Some(k) = layout.directions {
        shape.insert(0, k);
    }
    let first = operands[0];
    with_float!(first.dtype(), T => {
        let held: Vec<Tensor> = operands.iter().map(|t| t.contiguous()).collect::<Result<_>>()?;
        let slices: Vec<Slice<'_, T>> = held.iter().map(Slice::of).collect::<Result<_>>()?;
        let data: Vec<&[T]> = slices.iter().map(|slice| &**slice).collect();
        let factors: Vec<bool> = terms.iter().map(|(_, b)| b.is_some()).collect();
        let rows_per_chunk = (CHUNK / layout.inner.max(1)).max(1);
        let fill = |out: &mut [MaybeUninit<T>]| {
            parallel::for_chunks(out, rows_per_chunk * layout.inner, |chunk, out| {
                combine_rows(&layout, &data, &factors, chunk * rows_per_chunk, out);
            });
        };
        // SAFETY: the first term writes each row of its chunk, and the chunks cover the buffer.
        let out = unsafe { filled(layout.len(), fill) };
        Tensor::from_vec(out, shape, first.device())
    })
}

/// `out[small] = Σ_terms Σ_broadcast a ⊙ b`, the adjoint of broadcasting `small` to `full`; stacked operands keep `K`.
/// Sums along rows are taken in the dtype, sums of rows in f64.
pub(super) fn contract(full: &[usize], small: &[usize], terms: &[Term<'_>]) -> Result<Tensor> {
    let mut out: Option<(Vec<f64>, Option<usize>)> = None;
    let stacked = terms
        .iter()
        .find_map(|(a, b)| directions(&[(a, full.len())]).or_else(|| b.and_then(|b| directions(&[(b, full.len())]))));
    for &(a, b) in terms {
        let part = contract_term(full, small, (a, b), stacked)?;
        match &mut out {
            None => out = Some((part, stacked)),
            Some((sum, _)) => sum.iter_mut().zip(part).for_each(|(s, p)| *s += p),
        }
    }
    let first = terms[0].0;
    let mut shape = small.to_vec();
    if let Some(k) = stacked {
        shape.insert(0, k);
    }
    let sum = out.map(|(sum, _)| sum).unwrap_or_default();
    with_float!(first.dtype(), T => {
        Tensor::from_vec(sum.into_iter().map(T::from_f64).collect::<Vec<T>>(), shape, first.device())
    })
}

fn contract_term(full: &[usize], small: &[usize], (a, b): Term<'_>, stacked: Option<usize>) -> Result<Vec<f64>> {
    let small_len: usize = small.iter().product();
    let target = Target { small, stacked };
    let operands: Vec<&Tensor> = [Some(a), b].into_iter().flatten().collect();
    let layout = Layout::with_target(full, &operands, Some(target));
    if layout.len() == 0 {
        return Ok(vec![0.0; small_len * stacked.unwrap_or(1)]);
    }
    with_float!(a.dtype(), T => {
        let held: Vec<Tensor> = operands.iter().map(|t| t.contiguous()).collect::<Result<_>>()?;
        let slices: Vec<Slice<'_, T>> = held.iter().map(Slice::of).collect::<Result<_>>()?;
        let data: Vec<&[T]> = slices.iter().map(|slice| &**slice).collect();
        let rows = layout.rows();
        let rows_per_chunk = (CHUNK / layout.inner.max(1)).max(1);
        let parts = parallel::map(rows.div_ceil(rows_per_chunk), |chunk| {
            let first = chunk * rows_per_chunk;
            contract_rows(&layout, &data, first..rows.min(first + rows_per_chunk), small_len * stacked.unwrap_or(1))
        });
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_else(|| vec![0.0; small_len * stacked.unwrap_or(1)]);
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
        Ok(sum)
    })
}

struct Target<'a> {
    small: &'a [usize],
    stacked: Option<usize>,
}

/// Axes merged where every operand runs through them alike; per axis the size and each operand's stride.
struct Layout {
    directions: Option<usize>,
    sizes: Vec<usize>,
    /// `strides[operand][axis]`, without the innermost axis; the contraction's output is the last operand.
    strides: Vec<Vec<usize>>,
    inner: usize,
    inner_strides: Vec<usize>,
}

impl Layout {
    fn new(full: &[usize], operands: &[&Tensor]) -> Self {
        Self::with_target(full, operands, None)
    }

    fn with_target(full: &[usize], operands: &[&Tensor], target: Option<Target<'_>>) -> Self {
        let pairs: Vec<(&Tensor, usize)> = operands.iter().map(|t| (*t, full.len())).collect();
        let stacked = directions(&pairs).or(target.as_ref().and_then(|target| target.stacked));
        let mut sizes = vec![stacked.unwrap_or(1)];
        sizes.extend_from_slice(full);
        let mut strides: Vec<Vec<usize>> = operands.iter().map(|t| operand_strides(t.dims(), full)).collect();
        if let Some(target) = target {
            let mut dims = target.small.to_vec();
            if let Some(k) = target.stacked {
                dims.insert(0, k);
            }
            strides.push(operand_strides(&dims, full));
        }
        // Merge an axis into its left neighbour where every operand allows it.
        let mut axis = sizes.len() - 1;
        while axis > 0 {
            let mergeable = strides.iter().all(|s| s[axis - 1] == s[axis] * sizes[axis]);
            if sizes[axis - 1] == 1 || mergeable || sizes[axis] == 1 {
                let drop_left = sizes[axis] != 1;
                sizes[axis - 1] *= sizes[axis];
                sizes.remove(axis);
                for s in &mut strides {
                    s.remove(if drop_left { axis - 1 } else { axis });
                }
            }
            axis -= 1;
        }
        let inner = sizes.pop().unwrap_or(1);
        let inner_strides = strides.iter_mut().map(|s| s.pop().unwrap_or(0)).collect();
        Self { directions: stacked, sizes, strides, inner, inner_strides }
    }

    fn rows(&self) -> usize {
        self.sizes.iter().product()
    }

    fn len(&self) -> usize {
        self.rows() * self.inner
    }

    /// Where each operand starts in row `row`.
    fn offsets(&self, mut row: usize, offsets: &mut [usize]) {
        offsets.fill(0);
        for axis in (0..self.sizes.len()).rev() {
            let index = row % self.sizes[axis];
            row /= self.sizes[axis];
            for (offset, strides) in offsets.iter_mut().zip(&self.strides) {
                *offset += index * strides[axis];
            }
        }
    }
}

/// Row-major strides with a leading direction axis; 0 where the operand is broadcast or not stacked.
fn operand_strides(dims: &[usize], full: &[usize]) -> Vec<usize> {
    let stacked = dims.len() > full.len();
    let plain = if stacked { &dims[1..] } else { dims };
    let mut strides = vec![0; full.len() + 1];
    let mut step = 1;
    for axis in (0..full.len()).rev() {
        strides[axis + 1] = if plain[axis] == 1 && full[axis] != 1 { 0 } else { step };
        step *= plain[axis];
    }
    strides[0] = if stacked { step } else { 0 };
    strides
}

fn combine_rows<T: WithDType>(
    layout: &Layout,
    data: &[&[T]],
    factors: &[bool],
    first_row: usize,
    out: &mut [MaybeUninit<T>],
) {
    let mut offsets = vec![0; data.len()];
    for (index, out) in out.chunks_mut(layout.inner).enumerate() {
        layout.offsets(first_row + index, &mut offsets);
        let mut operand = 0;
        for (term, &product) in factors.iter().enumerate() {
            let a = row(data[operand], offsets[operand], layout.inner_strides[operand], layout.inner);
            operand += 1;
            let b = product.then(|| row(data[operand], offsets[operand], layout.inner_strides[operand], layout.inner));
            operand += usize::from(product);
            let b = b.unwrap_or(Row::One(T::one()));
            if term == 0 {
                write(out, a, b);
            } else {
                // SAFETY: the first term has written the whole row.
                add(unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }, a, b);
            }
        }
    }
}

/// One operand along the innermost axis: one value, or as many as the axis is long.
#[derive(Clone, Copy)]
enum Row<'a, T> {
    One(T),
    Many(&'a [T]),
}

fn row<T: Copy>(data: &[T], offset: usize, stride: usize, len: usize) -> Row<'_, T> {
    if stride == 0 { Row::One(data[offset]) } else { Row::Many(&data[offset..offset + len]) }
}

fn write<T: WithDType>(out: &mut [MaybeUninit<T>], a: Row<'_, T>, b: Row<'_, T>) {
    match (a, b) {
        (Row::One(a), Row::One(b)) => out.fill(MaybeUninit::new(a * b)),
        (Row::One(a), Row::Many(b)) | (Row::Many(b), Row::One(a)) => {
            out.iter_mut().zip(b).for_each(|(o, &b)| _ = o.write(a * b));
        }
        (Row::Many(a), Row::Many(b)) => out.iter_mut().zip(a).zip(b).for_each(|((o, &a), &b)| _ = o.write(a * b)),
    }
}

fn add<T: WithDType>(out: &mut [T], a: Row<'_, T>, b: Row<'_, T>) {
    match (a, b) {
        (Row::One(a), Row::One(b)) => out.iter_mut().for_each(|o| *o += a * b),
        (Row::One(a), Row::Many(b)) | (Row::Many(b), Row::One(a)) => {
            out.iter_mut().zip(b).for_each(|(o, &b)| *o += a * b);
        }
        (Row::Many(a), Row::Many(b)) => out.iter_mut().zip(a).zip(b).for_each(|((o, &a), &b)| *o += a * b),
    }
}

fn contract_rows<T: WithDType>(
    layout: &Layout,
    data: &[&[T]],
    rows: std::ops::Range<usize>,
    out_len: usize,
) -> Vec<f64> {
    let mut out = vec![0.0; out_len];
    let mut offsets = vec![0; data.len() + 1];
    let target = data.len();
    for index in rows {
        layout.offsets(index, &mut offsets);
        let a = row(data[0], offsets[0], layout.inner_strides[0], layout.inner);
        let b = match data.get(1) {
            Some(data) => row(data, offsets[1], layout.inner_strides[1], layout.inner),
            None => Row::One(T::one()),
        };
        if layout.inner_strides[target] == 0 {
            out[offsets[target]] += dot(a, b, layout.inner);
        } else {
            add_wide(&mut out[offsets[target]..offsets[target] + layout.inner], a, b);
        }
    }
    out
}

/// `out += a b`, products in the dtype and sums in f64; the cases stand outside of the loops, which so become vector code.
fn add_wide<T: WithDType>(out: &mut [f64], a: Row<'_, T>, b: Row<'_, T>) {
    match (a, b) {
        (Row::One(a), Row::One(b)) => out.iter_mut().for_each(|o| *o += (a * b).to_f64()),
        (Row::One(a), Row::Many(b)) | (Row::Many(b), Row::One(a)) => {
            out.iter_mut().zip(b).for_each(|(o, &b)| *o += (a * b).to_f64());
        }
        (Row::Many(a), Row::Many(b)) => out.iter_mut().zip(a).zip(b).for_each(|((o, &a), &b)| *o += (a * b).to_f64()),
    }
}

/// Eight running sums in the dtype (they fit a vector register), added up in f64.
fn dot<T: WithDType>(a: Row<'_, T>, b: Row<'_, T>, len: usize) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [T::zero(); LANES];
    let mut tail = 0.0;
    match (a, b) {
        (Row::One(a), Row::One(b)) => return (a * b).to_f64() * len as f64,
        (Row::One(scale), Row::Many(values)) | (Row::Many(values), Row::One(scale)) => {
            let chunks = values.chunks_exact(LANES);
            tail += chunks.remainder().iter().map(|v| v.to_f64()).sum::<f64>();
            for chunk in chunks {
                lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane += v);
            }
            return (lanes.iter().map(|lane| lane.to_f64()).sum::<f64>() + tail) * scale.to_f64();
        }
        (Row::Many(a), Row::Many(b)) => {
            let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
            tail += a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| (a * b).to_f64()).sum::<f64>();
            for (a, b) in a.zip(b) {
                for lane in 0..LANES {
                    lanes[lane] += a[lane] * b[lane];
                }
            }
        }
    }
    lanes.iter().map(|lane| lane.to_f64()).sum::<f64>() + tail
}
