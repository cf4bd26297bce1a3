//! Layer and root-mean-square normalisation along rows, with scale and shift.

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor};

use super::sums::{row_dot, row_dot_of_three, row_sum};
use super::{Held, OwnParts, Parts, Piece, in_pieces, row};
use crate::kernels::access::with_float;
use crate::kernels::element::{Element, filled};
use crate::kernels::simd::{Simd, SimdTask};

/// `z ⊙ weight + bias` with `z = r (x − mean)` along the last axis, `r = 1/√(var + eps)`; without the mean, `r` is that of the
/// mean square (Ba et al. 2016; Zhang and Sennrich 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Whether the mean is subtracted.
    pub centred: bool,
    /// Added to the variance.
    pub eps: f64,
}

/// What a cotangent of the value gives to the operands.
#[derive(Debug, Default)]
pub struct NormCotangents {
    /// Of `x`.
    pub x: OwnParts,
    /// Of the weight, `[K?, len]`.
    pub weight: OwnParts,
    /// Of the bias, `[K?, len]`.
    pub bias: OwnParts,
}

impl Norm {
    /// The value, and its tangents where there are any: with `ż = r (ẋ − mean ẋ − z mean(z ẋ))`, `ż w + z ẇ + ḃ`.
    ///
    /// # Errors
    /// A value without primal, or not of floats.
    pub fn forward(self, x: &Parts<'_>, weight: &Parts<'_>, bias: &Parts<'_>) -> Result<OwnParts> {
        let Some(primal) = x.primal else { candle_core::bail!("a normalisation of a value without primal") };
        with_float!(primal.dtype(), T => {
            let y = self.pass::<T>(primal, &[Some(primal), None, weight.primal, None, bias.primal], None)?;
            let all = [x.tangents, weight.tangents, bias.tangents];
            let directions = all.iter().flatten().next().map(|tensor| tensor.dims()[0]);
            let operands = [Some(primal), x.tangents, weight.primal, weight.tangents, bias.tangents];
            let tangents = directions.map(|k| self.pass::<T>(primal, &operands, Some(k))).transpose()?;
            Ok(OwnParts { primal: Some(y), tangents })
        })
    }

    /// The value in the shape of `like`, or its tangents in so many directions.
    fn pass<T: Element>(self, like: &Tensor, operands: &[Option<&Tensor>; 5], k: Option<usize>) -> Result<Tensor> {
        let (len, numbers) = (like.dims().last().copied().unwrap_or(1), like.elem_count());
        let held = Held::<T, _>::of(*operands)?;
        let slices = held.slices()?;
        let [x, x_tangents, weight, weight_tangents, shift] = std::array::from_fn(|index| slices[index].as_deref());
        let x = x.unwrap_or_default();
        let fill = |out: &mut [MaybeUninit<T>]| {
            let rows = ForwardRows { x, x_tangents, weight, weight_tangents, shift };
            in_pieces(out, numbers, len, |piece| ForwardTask { norm: self, len, moves: k.is_some(), rows, piece });
        };
        // SAFETY: the task writes each row of its piece, and the pieces cover the buffer.
        let out = unsafe { filled(numbers * k.unwrap_or(1), fill) };
        Tensor::from_vec(out, k.into_iter().chain(like.dims().iter().copied()).collect::<Vec<_>>(), like.device())
    }

    /// The cotangents of the operands. With `z̄ = c w`: `x̄ = r (z̄ − mean z̄ − z mean(z z̄))`, `w̄ = Σ z c`, `b̄ = Σ c`; and their
    /// tangents.
    ///
    /// # Errors
    /// A value without primal, or not of floats.
    pub fn adjoint(self, x: &Parts<'_>, weight: &Parts<'_>, cotangent: &Parts<'_>) -> Result<NormCotangents> {
        let Some(primal) = x.primal else { candle_core::bail!("a normalisation of a value without primal") };
        let mut given = NormCotangents::default();
        with_float!(primal.dtype(), T => {
            if let Some(c) = cotangent.primal {
                let operands = [Some(primal), None, weight.primal, None, Some(c), None];
                let [of_x, of_weight, of_bias] = self.adjoint_pass::<T>(&operands, None)?;
                (given.x.primal, given.weight.primal, given.bias.primal) = (Some(of_x), Some(of_weight), Some(of_bias));
            }
            // A constant cotangent of moving operands still moves.
            let other = cotangent.primal.filter(|_| x.tangents.is_some() || weight.tangents.is_some());
            let moving = [cotangent.tangents, other.and(x.tangents), other.and(weight.tangents)];
            if let Some(k) = moving.iter().flatten().next().map(|tensor| tensor.dims()[0]) {
                let [main, x_tangents, weight_tangents] = moving;
                let operands = [Some(primal), x_tangents, weight.primal, weight_tangents, main, other];
                let [of_x, of_weight, of_bias] = self.adjoint_pass::<T>(&operands, Some(k))?;
                given.x.tangents = Some(of_x);
                (given.weight.tangents, given.bias.tangents) = (Some(of_weight), Some(of_bias));
            }
            Ok(given)
        })
    }

    /// The cotangents of `x`, weight and bias: of `[x, ẋ, w, ẇ, main, c]`, `main` the cotangent or, in so many directions, its
    /// tangents, beside which `c` is the cotangent itself.
    fn adjoint_pass<T: Element>(self, operands: &[Option<&Tensor>; 6], k: Option<usize>) -> Result<[Tensor; 3]> {
        let held = Held::<T, _>::of(*operands)?;
        let slices = held.slices()?;
        let [x, x_tangents, weight, weight_tangents, main, other] =
            std::array::from_fn(|index| slices[index].as_deref());
        let (Some(x), Some(like)) = (x, operands[0]) else { candle_core::bail!("an adjoint without its operand") };
        let (len, numbers, directions) = (like.dims().last().copied().unwrap_or(1), x.len(), k.unwrap_or(1));
        let mut sums = vec![0.0f64; 2 * directions * len];
        let fill = |out: &mut [MaybeUninit<T>]| {
            let rows = AdjointRows { x, x_tangents, weight, weight_tangents, main, other };
            for part in in_pieces(out, numbers, len, |piece| AdjointTask { norm: self, len, rows, piece }) {
                sums.iter_mut().zip(&part).for_each(|(sum, part)| *sum += part);
            }
        };
        // SAFETY: the task writes each row of its piece, and the pieces cover the buffer.
        let out = unsafe { filled(numbers * directions, fill) };
        let lead = |shape: &[usize]| k.into_iter().chain(shape.iter().copied()).collect::<Vec<_>>();
        let of_sum = |which: usize| {
            let sums = (0..directions).flat_map(|k| &sums[(2 * k + which) * len..][..len]);
            Tensor::from_vec(sums.map(|&sum| T::from_f64(sum)).collect::<Vec<T>>(), lead(&[len]), like.device())
        };
        Ok([Tensor::from_vec(out, lead(like.dims()), like.device())?, of_sum(0)?, of_sum(1)?])
    }

    /// `z`, and `r`.
    #[inline(always)]
    fn standardise<T: Element>(self, x: &[T], z: &mut [T]) -> T {
        let count = x.len() as f64;
        if self.centred {
            let mean = T::from_f64(row_sum(x) / count);
            z.iter_mut().zip(x).for_each(|(z, &x)| *z = x - mean);
        } else {
            z.copy_from_slice(x);
        }
        let inverse = T::from_f64(1.0 / (row_dot(z, z) / count + self.eps).sqrt());
        z.iter_mut().for_each(|z| *z *= inverse);
        inverse
    }

    /// `mean v` where it is subtracted, and `mean(z v)`.
    #[inline(always)]
    fn means<T: Element>(self, z: &[T], v: &[T]) -> [f64; 2] {
        let count = z.len() as f64;
        [if self.centred { row_sum(v) / count } else { 0.0 }, row_dot(z, v) / count]
    }

    /// `v ← r (v − mean v − z mean(z v))`, the map that the Jacobian of `z` is; gives `mean(z v)`.
    #[inline(always)]
    fn project<T: Element>(self, z: &[T], inverse: T, v: &mut [T]) -> f64 {
        let [mean, along] = self.means(z, v);
        let [shift, factor] = [mean, along].map(T::from_f64);
        v.iter_mut().zip(z).for_each(|(v, &z)| *v = inverse * (*v - shift - z * factor));
        along
    }
}

/// Operands of the value or its tangents; the tangents, and beside them the shift, are stacked.
#[derive(Clone, Copy)]
struct ForwardRows<'a, T> {
    x: &'a [T],
    x_tangents: Option<&'a [T]>,
    weight: Option<&'a [T]>,
    weight_tangents: Option<&'a [T]>,
    shift: Option<&'a [T]>,
}

struct ForwardTask<'a, T> {
    norm: Norm,
    len: usize,
    /// Whether the tangents are asked for, not the value.
    moves: bool,
    rows: ForwardRows<'a, T>,
    piece: Piece<'a, T>,
}

impl<T: Element> SimdTask<T> for ForwardTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { norm, len, moves, rows, piece: Piece { start, mut out } } = self;
        let [mut z, mut moved, ones, zeros] = [T::ZERO, T::ZERO, T::one(), T::ZERO].map(|value| vec![value; len]);
        let weight = row(rows.weight, 0, len).unwrap_or(&ones);
        let count = out.first().map_or(0, |out| out.len() / len);
        for index in 0..count {
            let at = start + index * len;
            let inverse = norm.standardise(&rows.x[at..][..len], &mut z);
            for (k, out) in out.iter_mut().enumerate() {
                let out = &mut out[index * len..][..len];
                let shift = row(rows.shift, k * len, len).unwrap_or(&zeros);
                match row(rows.x_tangents, k * rows.x.len() + at, len) {
                    Some(x_tangent) => {
                        moved.copy_from_slice(x_tangent);
                        norm.project(&z, inverse, &mut moved);
                    }
                    None => moved.fill(T::ZERO),
                }
                let main = if moves { &moved } else { &z };
                for (((out, &main), &weight), &shift) in out.iter_mut().zip(main).zip(weight).zip(shift) {
                    out.write(main * weight + shift);
                }
                if let Some(weight) = row(rows.weight_tangents, k * len, len) {
                    // SAFETY: the loop has written the whole row.
                    let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) };
                    out.iter_mut().zip(&z).zip(weight).for_each(|((out, &z), &weight)| *out += z * weight);
                }
            }
        }
    }
}

/// Operands of the adjoint; tangents are stacked, and beside them `main`.
#[derive(Clone, Copy)]
struct AdjointRows<'a, T> {
    x: &'a [T],
    x_tangents: Option<&'a [T]>,
    weight: Option<&'a [T]>,
    weight_tangents: Option<&'a [T]>,
    main: Option<&'a [T]>,
    other: Option<&'a [T]>,
}

struct AdjointTask<'a, T> {
    norm: Norm,
    len: usize,
    rows: AdjointRows<'a, T>,
    piece: Piece<'a, T>,
}

impl<T: Element> SimdTask<T> for AdjointTask<'_, T> {
    /// The sums for weight and bias, by direction.
    type Output = Vec<f64>;

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) -> Self::Output {
        let Self { norm, len, rows, piece: Piece { start, mut out } } = self;
        let [mut z, mut z_tangent, mut back, mut of_primal, ones, zeros] =
            [T::ZERO, T::ZERO, T::ZERO, T::ZERO, T::one(), T::ZERO].map(|value| vec![value; len]);
        let weight = row(rows.weight, 0, len).unwrap_or(&ones);
        let mut sums = vec![0.0; 2 * out.len() * len];
        let count = out.first().map_or(0, |out| out.len() / len);
        for index in 0..count {
            let at = start + index * len;
            let inverse = norm.standardise(&rows.x[at..][..len], &mut z);
            let c = row(rows.other, at, len);
            // r (c w − mean − z m), m = mean(z c w)
            let mut m = 0.0;
            if let Some(c) = c {
                of_primal.iter_mut().zip(c).zip(weight).for_each(|((out, &c), &weight)| *out = c * weight);
                m = norm.project(&z, inverse, &mut of_primal);
            }
            for ((k, out), sums) in out.iter_mut().enumerate().zip(sums.chunks_exact_mut(2 * len)) {
                let out = &mut out[index * len..][..len];
                let (of_weight, of_bias) = sums.split_at_mut(len);
                let stacked = k * rows.x.len() + at;
                let main = row(rows.main, stacked, len).unwrap_or(&zeros);
                add_products(of_weight, &z, main);
                of_bias.iter_mut().zip(main).for_each(|(sum, main)| *sum += main.to_f64());
                back.iter_mut().zip(main).zip(weight).for_each(|((back, &main), &weight)| *back = main * weight);
                if let (Some(c), Some(weight)) = (c, row(rows.weight_tangents, k * len, len)) {
                    back.iter_mut().zip(c).zip(weight).for_each(|((back, &c), &weight)| *back += c * weight);
                }
                let (Some(c), Some(x_tangent)) = (c, row(rows.x_tangents, stacked, len)) else {
                    norm.project(&z, inverse, &mut back);
                    out.iter_mut().zip(&back).for_each(|(out, &back)| _ = out.write(back));
                    continue;
                };
                // r a, a = z̄ − mean z̄ − z m, has the tangent ṙ a + r (z̄˙ − mean z̄˙ − ż m − z ṁ), ṙ = −r² mean(z ẋ).
                z_tangent.copy_from_slice(x_tangent);
                let along = norm.project(&z, inverse, &mut z_tangent);
                add_products(of_weight, &z_tangent, c);
                let across = row_dot_of_three(&z_tangent, c, weight) / len as f64;
                let [mean, dot] = norm.means(&z, &back);
                let factor = T::from_f64(-along) * inverse;
                let [mean, m, m_tangent] = [mean, m, dot + across].map(T::from_f64);
                let rows = back.iter().zip(&of_primal).zip(&z).zip(&z_tangent);
                for (out, (((&back, &of_primal), &z), &z_tangent)) in out.iter_mut().zip(rows) {
                    out.write(factor * of_primal + inverse * (back - mean - z_tangent * m - z * m_tangent));
                }
            }
        }
        sums
    }
}

/// `sums += a ⊙ b`, in f64.
#[inline(always)]
fn add_products<T: Element>(sums: &mut [f64], a: &[T], b: &[T]) {
    sums.iter_mut().zip(a).zip(b).for_each(|((sum, &a), &b)| *sum += (a * b).to_f64());
}
