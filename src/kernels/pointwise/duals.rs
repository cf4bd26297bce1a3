//! A pointwise function of a dual, and its adjoint: slopes are computed piece by piece and never stored.

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor};

use super::Pointwise;
use crate::kernels::access::with_float;
use crate::kernels::element::{Element, filled};
use crate::kernels::rows::{Held, OwnParts, Parts, Piece, in_pieces, row};
use crate::kernels::simd::{Simd, SimdTask};
use crate::kernels::{Bilinear, add};

impl Pointwise {
    /// `f(x)`, and its tangents `f′(x) ⊙ ẋ` where there are any.
    ///
    /// # Errors
    /// A value without primal, or not of floats.
    pub fn forward(self, x: &Parts<'_>) -> Result<OwnParts> {
        let Some(primal) = x.primal else { candle_core::bail!("a pointwise function of a value without primal") };
        let tangents = x.tangents.map(|tangents| self.scaled(primal, [Some((1, tangents)), None], None)).transpose()?;
        Ok(OwnParts { primal: Some(self.apply(0, primal)?), tangents })
    }

    /// The cotangent `f′(x) ⊙ c` of `x` from that of the result, and its tangents `f′(x) ⊙ ċ + f″(x) ⊙ ẋ ⊙ c`.
    ///
    /// # Errors
    /// A value without primal, or not of floats.
    pub fn adjoint(self, x: &Parts<'_>, cotangent: &Parts<'_>) -> Result<OwnParts> {
        let Some(primal) = x.primal else { candle_core::bail!("a pointwise function of a value without primal") };
        let of_primal = cotangent.primal.map(|c| self.scaled(primal, [Some((1, c)), None], None)).transpose()?;
        let moving = cotangent.primal.and(x.tangents).map(|tangents| (2, tangents));
        let tangents = match (cotangent.tangents.map(|tangents| (1, tangents)), moving) {
            (None, None) => None,
            (main, moving) => Some(self.scaled(primal, [main, moving], cotangent.primal)?),
        };
        Ok(OwnParts { primal: of_primal, tangents })
    }

    /// `Σ f⁽ⁿ⁾(x) ⊙ t` over the terms `(n, t)`, each in as many directions; the second is multiplied by `factor` too.
    fn scaled(self, x: &Tensor, terms: [Option<(usize, &Tensor)>; 2], factor: Option<&Tensor>) -> Result<Tensor> {
        let Some((_, like)) = terms.iter().flatten().next() else { candle_core::bail!("a sum without terms") };
        if !x.device().is_cpu() {
            return self.scaled_by_candle(x, terms, factor);
        }
        let numbers = x.elem_count();
        with_float!(x.dtype(), T => {
            let [first, second] = terms.map(|term| term.map(|(_, tensor)| tensor));
            let held = Held::<T, _>::of([Some(x), first, second, factor])?;
            let slices = held.slices()?;
            let [x, first, second, factor] = std::array::from_fn(|index| slices[index].as_deref());
            let x = x.unwrap_or_default();
            let orders = terms.map(|term| term.map_or(0, |(order, _)| order));
            let fill = |out: &mut [MaybeUninit<T>]| {
                in_pieces(out, numbers, PIECE, |piece| {
                    Task { function: self, x, terms: [first, second], orders, factor, piece }
                });
            };
            // SAFETY: the task writes all of its piece, and the pieces cover the buffer.
            Tensor::from_vec(unsafe { filled(like.elem_count(), fill) }, like.dims(), like.device())
        })
    }

    fn scaled_by_candle(
        self,
        x: &Tensor,
        terms: [Option<(usize, &Tensor)>; 2],
        factor: Option<&Tensor>,
    ) -> Result<Tensor> {
        let product = Bilinear::Product { full: x.dims().to_vec(), small: x.dims().to_vec() };
        let mut sum: Option<Tensor> = None;
        for (index, (order, tensor)) in terms.into_iter().enumerate().filter_map(|(index, term)| Some((index, term?))) {
            let mut slope = self.apply(order, x)?;
            if let (1, Some(factor)) = (index, factor) {
                slope = product.apply(&[(&slope, factor)])?;
            }
            let part = product.apply(&[(tensor, &slope)])?;
            sum = Some(sum.map_or(Ok(part.clone()), |sum| add(&sum, &part))?);
        }
        sum.ok_or_else(|| candle_core::Error::Msg("a sum without terms".into()))
    }
}

/// Numbers whose slopes are computed at a time.
const PIECE: usize = 1 << 10;

struct Task<'a, T> {
    function: Pointwise,
    x: &'a [T],
    terms: [Option<&'a [T]>; 2],
    orders: [usize; 2],
    factor: Option<&'a [T]>,
    piece: Piece<'a, T>,
}

impl<T: Element> SimdTask<T> for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { function, x, terms, orders, factor, piece: Piece { start, mut out } } = self;
        let numbers = x.len();
        let len = out.first().map_or(0, |out| out.len());
        let mut slopes = [vec![T::ZERO; PIECE], vec![T::ZERO; PIECE]];
        for at in (0..len).step_by(PIECE) {
            let count = PIECE.min(len - at);
            let first = start + at;
            for ((slope, term), order) in slopes.iter_mut().zip(&terms).zip(orders) {
                if term.is_some() {
                    T::pointwise(function, order, &x[first..][..count], &mut slope[..count]);
                }
            }
            if let (Some(factor), Some(_)) = (factor, terms[1]) {
                slopes[1].iter_mut().zip(&factor[first..][..count]).for_each(|(slope, &factor)| *slope *= factor);
            }
            for (k, out) in out.iter_mut().enumerate() {
                let out = &mut out[at..][..count];
                let [a, b] = terms.map(|term| row(term, k * numbers + first, count));
                let [f, g] = [&slopes[0][..count], &slopes[1][..count]];
                match (a, b) {
                    (Some(a), Some(b)) => {
                        let rows = a.iter().zip(f).zip(b.iter().zip(g));
                        out.iter_mut().zip(rows).for_each(|(out, ((&a, &f), (&b, &g)))| _ = out.write(a * f + b * g));
                    }
                    (Some(a), None) => {
                        out.iter_mut().zip(a.iter().zip(f)).for_each(|(out, (&a, &f))| _ = out.write(a * f));
                    }
                    (_, Some(b)) => {
                        out.iter_mut().zip(b.iter().zip(g)).for_each(|(out, (&b, &g))| _ = out.write(b * g));
                    }
                    (None, None) => out.fill(MaybeUninit::new(T::ZERO)),
                }
            }
        }
    }
}
