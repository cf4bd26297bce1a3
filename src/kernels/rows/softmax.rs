//! Softmax along rows, or its logarithm.

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor};

use super::sums::{row_dot, row_sum};
use super::{Held, OwnParts, Parts, Piece, in_pieces, row};
use crate::kernels::access::with_float;
use crate::kernels::element::{Element, filled};
use crate::kernels::simd::{Isa, Simd, SimdTask};

/// `p = e^x / Σ e^x` along the last axis, or `ln p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax {
    /// Whether the logarithm is taken.
    pub is_log: bool,
}

impl Softmax {
    /// The value, and its tangents where there are any: `p ⊙ (ẋ − Σ p ẋ)`, of the logarithm without the factor.
    ///
    /// # Errors
    /// A value without primal, or not of floats.
    pub fn forward(self, x: &Parts<'_>) -> Result<OwnParts> {
        let Some(primal) = x.primal else { candle_core::bail!("a softmax of a value without primal") };
        let y = with_float!(primal.dtype(), T => self.primal::<T>(primal))?;
        let tangents = match x.tangents {
            None => None,
            Some(tangents) => {
                let terms = Terms { y: Some(&y), main: Some(tangents), ..Terms::default() };
                Some(with_float!(primal.dtype(), T => self.pass::<T>(tangents, &terms, Map::Tangent))?)
            }
        };
        Ok(OwnParts { primal: Some(y), tangents })
    }

    /// The cotangent of `x` from that of the value `y`: `p ⊙ (c − Σ p c)`, of the logarithm `c − p Σ c`; and its tangents.
    ///
    /// # Errors
    /// A value without primal, or not of floats.
    pub fn adjoint(self, y: &Parts<'_>, cotangent: &Parts<'_>) -> Result<OwnParts> {
        let Some(primal) = y.primal else { candle_core::bail!("a softmax of a value without primal") };
        let of_primal = Terms { y: Some(primal), main: cotangent.primal, ..Terms::default() };
        let other = cotangent.primal.filter(|_| y.tangents.is_some());
        let of_tangents = Terms { y: Some(primal), main: cotangent.tangents, y_tangents: other.and(y.tangents), other };
        let run = |like: Option<&Tensor>, terms: &Terms<'_>| {
            let run = |like: &Tensor| with_float!(primal.dtype(), T => self.pass::<T>(like, terms, Map::Adjoint));
            like.map(run).transpose()
        };
        Ok(OwnParts {
            primal: run(cotangent.primal, &of_primal)?,
            tangents: run(cotangent.tangents.or(of_tangents.y_tangents), &of_tangents)?,
        })
    }

    fn primal<T: Element>(self, x: &Tensor) -> Result<Tensor> {
        let len = x.dims().last().copied().unwrap_or(1);
        let held = Held::<T, _>::of([Some(x)])?;
        let slices = held.slices()?;
        let data = slices[0].as_deref().unwrap_or_default();
        let fill = |out: &mut [MaybeUninit<T>]| {
            in_pieces(out, data.len(), len, |piece| PrimalTask { len, is_log: self.is_log, x: data, piece });
        };
        // SAFETY: the task writes each row of its piece, and the pieces cover the buffer.
        Tensor::from_vec(unsafe { filled(data.len(), fill) }, x.dims(), x.device())
    }

    /// One result in the shape of `like`.
    fn pass<T: Element>(self, like: &Tensor, terms: &Terms<'_>, map: Map) -> Result<Tensor> {
        let len = like.dims().last().copied().unwrap_or(1);
        let Terms { y, main, y_tangents, other } = *terms;
        let held = Held::<T, _>::of([y, main, y_tangents, other])?;
        let slices = held.slices()?;
        let [y, main, y_tangents, other] = std::array::from_fn(|index| slices[index].as_deref());
        let y = y.unwrap_or_default();
        let fill = |out: &mut [MaybeUninit<T>]| {
            let rows = Rows { y, main, y_tangents, other };
            in_pieces(out, y.len(), len, |piece| PassTask { len, is_log: self.is_log, map, rows, piece });
        };
        // SAFETY: the task writes each row of its piece, and the pieces cover the buffer.
        Tensor::from_vec(unsafe { filled(like.elem_count(), fill) }, like.dims(), like.device())
    }
}

/// The softmax of each row of `len` numbers.
pub fn softmax_rows<T: Element>(len: usize, x: &[T], out: &mut [MaybeUninit<T>]) {
    T::dispatch(Isa::best(), PrimalTask { len, is_log: false, x, piece: Piece { start: 0, out: vec![out] } });
}

/// The adjoint of the softmax, which is its derivative too: `p ⊙ (c − Σ p c)` for each row of the weights `p`, and of a dual,
/// with `moving` the tangents of the weights and the primal cotangent, its tangents.
pub fn softmax_adjoint_rows<T: Element>(
    len: usize,
    p: &[T],
    c: Option<&[T]>,
    moving: Option<(&[T], &[T])>,
    out: &mut [MaybeUninit<T>],
) {
    let (y_tangents, other) = moving.unzip();
    let rows = Rows { y: p, main: c, y_tangents, other };
    let piece = Piece { start: 0, out: vec![out] };
    T::dispatch(Isa::best(), PassTask { len, is_log: false, map: Map::Adjoint, rows, piece });
}

/// What a pass computes of `y` and `main`, linear in `main`: the tangents forwards, or the cotangent backwards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Map {
    Tangent,
    Adjoint,
}

/// Operands of a pass: the value, what is mapped, and of a dual the value's tangents and the primal cotangent.
#[derive(Clone, Copy, Default)]
struct Terms<'a> {
    y: Option<&'a Tensor>,
    main: Option<&'a Tensor>,
    y_tangents: Option<&'a Tensor>,
    other: Option<&'a Tensor>,
}

struct PrimalTask<'a, T> {
    len: usize,
    is_log: bool,
    x: &'a [T],
    piece: Piece<'a, T>,
}

impl<T: Element> SimdTask<T> for PrimalTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { len, is_log, x, piece } = self;
        for out in piece.out {
            let rows = x[piece.start..].chunks_exact(len).zip(out.chunks_exact_mut(len));
            rows.for_each(|(x, out)| write_softmax(x, is_log, out));
        }
    }
}

/// The softmax of one row, or its logarithm. The maximum keeps exp from overflowing.
#[inline(always)]
fn write_softmax<T: Element>(x: &[T], is_log: bool, out: &mut [MaybeUninit<T>]) {
    let largest = row_max(x);
    out.iter_mut().zip(x).for_each(|(out, &x)| _ = out.write(Element::exp(x - largest)));
    // SAFETY: the loop has written the whole row.
    let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) };
    let sum = row_sum(out);
    if is_log {
        let shift = largest + T::from_f64(sum.ln());
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = x - shift);
    } else {
        let factor = T::from_f64(1.0 / sum);
        out.iter_mut().for_each(|out| *out *= factor);
    }
}

/// The largest number, in lanes that fill a vector register.
#[inline(always)]
fn row_max<T: Element>(values: &[T]) -> T {
    const LANES: usize = 16;
    let Some(&first) = values.first() else { return T::ZERO };
    let mut lanes = [first; LANES];
    let (chunks, tail) = values.as_chunks::<LANES>();
    for chunk in chunks {
        (0..LANES).for_each(|lane| lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] });
    }
    lanes.iter().chain(tail).fold(first, |largest, &value| if value > largest { value } else { largest })
}

/// Operands of a pass; `main` and the tangents may be stacked.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    y: &'a [T],
    main: Option<&'a [T]>,
    y_tangents: Option<&'a [T]>,
    other: Option<&'a [T]>,
}

struct PassTask<'a, T> {
    len: usize,
    is_log: bool,
    map: Map,
    rows: Rows<'a, T>,
    piece: Piece<'a, T>,
}

impl<T: Element> SimdTask<T> for PassTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { len, is_log, map, rows, piece: Piece { start, mut out } } = self;
        let (mut weights, zeros) = (vec![T::ZERO; len], vec![T::ZERO; len]);
        let count = out.first().map_or(0, |out| out.len() / len);
        for index in 0..count {
            let at = start + index * len;
            let mut p = &rows.y[at..][..len];
            if is_log {
                weights.iter_mut().zip(p).for_each(|(weight, &y)| *weight = Element::exp(y));
                p = &weights;
            }
            let other = row(rows.other, at, len);
            for (k, out) in out.iter_mut().enumerate() {
                let stacked = k * rows.y.len() + at;
                let main = row(rows.main, stacked, len).unwrap_or(&zeros);
                let moving = row(rows.y_tangents, stacked, len).zip(other);
                write_pass(p, is_log, map, main, moving, &mut out[index * len..][..len]);
            }
        }
    }
}

/// One row of a pass; `p` are the weights of the softmax, `moving` the value's tangents and the primal cotangent.
#[inline(always)]
fn write_pass<T: Element>(
    p: &[T],
    is_log: bool,
    map: Map,
    main: &[T],
    moving: Option<(&[T], &[T])>,
    out: &mut [MaybeUninit<T>],
) {
    let zip = || p.iter().zip(main);
    match (is_log, map) {
        (false, _) => {
            let mut mean = row_dot(p, main);
            let Some((p_tangent, c)) = moving else {
                let mean = T::from_f64(mean);
                return out.iter_mut().zip(zip()).for_each(|(out, (&p, &main))| _ = out.write(p * (main - mean)));
            };
            mean += row_dot(p_tangent, c);
            let (mean, of_primal) = (T::from_f64(mean), T::from_f64(row_dot(p, c)));
            let moving = p_tangent.iter().zip(c);
            for ((out, (&p, &main)), (&p_tangent, &c)) in out.iter_mut().zip(zip()).zip(moving) {
                out.write(p * (main - mean) + p_tangent * (c - of_primal));
            }
        }
        (true, Map::Tangent) => {
            let mean = T::from_f64(row_dot(p, main));
            out.iter_mut().zip(main).for_each(|(out, &main)| _ = out.write(main - mean));
        }
        (true, Map::Adjoint) => {
            let sum = T::from_f64(row_sum(main));
            let Some((tangent, c)) = moving else {
                return out.iter_mut().zip(zip()).for_each(|(out, (&p, &main))| _ = out.write(main - p * sum));
            };
            let of_primal = T::from_f64(row_sum(c));
            for ((out, (&p, &main)), &tangent) in out.iter_mut().zip(zip()).zip(tangent) {
                out.write(main - p * (sum + tangent * of_primal));
            }
        }
    }
}
