//! The per-channel affine map `gate ⊙ (x ⊙ s + b + r)` and its adjoint, each in one pass over the activations.
//!
//! Shapes: `x`, `r` and the result `[K?, N, C, L]`, `s` and `b` `[K?, C]`. This is batch normalisation at fixed
//! statistics with the ReLU and the residual sum behind it; one by one, these passes would cost as much as a third of
//! the convolutions. With the batch's statistics, the moments of `x` (`moments`) come before it.

mod adjoint;
mod forward;
mod layout;
mod moments;
mod operands;

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor, WithDType};
use rayon::prelude::*;

use super::access::with_float;
use super::element::{Element, filled};
use super::parallel;
use super::rows::{Held, from};
use super::simd::Isa;
use adjoint::{AdjointRows, AdjointTask};
use forward::{ForwardRows, ForwardTask};
pub use layout::Channels;
pub use operands::{AffineAdjoint, AffineCotangents, AffineOperands};

impl Channels {
    /// The primal of the map; with `relu` the positive numbers (and NaN) pass.
    pub fn primal(&self, operands: &AffineOperands<'_>, relu: bool) -> Result<Tensor> {
        let AffineOperands { x, scale, shift, addend } = operands;
        let Some(primal) = x.primal else { candle_core::bail!("an affine map of a value without primal") };
        with_float!(primal.dtype(), T => {
            let held = Held::<T, _>::of([Some(primal), scale.primal, None, None, shift.primal, addend.primal, None])?;
            self.run(primal, None, &held, relu)
        })
    }

    /// The tangents of the map, passed where `gate` is positive (or NaN); `None` where no operand has any.
    pub fn tangents(&self, operands: &AffineOperands<'_>, gate: Option<&Tensor>) -> Result<Option<Tensor>> {
        let AffineOperands { x, scale, shift, addend } = operands;
        let Some(primal) = x.primal else { candle_core::bail!("an affine map of a value without primal") };
        let all = [x.tangents, scale.tangents, shift.tangents, addend.tangents];
        let Some(directions) = all.iter().flatten().next().map(|tensor| tensor.dims()[0]) else { return Ok(None) };
        // ẋ s + x ṡ + ḃ + ṙ
        let main_scale = x.tangents.and(scale.primal);
        let other = scale.tangents.and(Some(primal));
        with_float!(primal.dtype(), T => {
            let held = Held::<T, _>::of([
                x.tangents, main_scale, other, scale.tangents, shift.tangents, addend.tangents, gate,
            ])?;
            self.run(primal, Some(directions), &held, false).map(Some)
        })
    }

    fn run<T: Element>(
        &self,
        like: &Tensor,
        directions: Option<usize>,
        held: &Held<'_, T, 7>,
        relu: bool,
    ) -> Result<Tensor> {
        let slices = held.slices()?;
        let [main, main_scale, other, other_scale, shift, addend, gate] =
            std::array::from_fn(|index| slices[index].as_deref());
        let numbers = self.numbers();
        let fill = |out: &mut [MaybeUninit<T>]| {
            // Each direction in chunks of whole samples.
            for (k, out) in out.chunks_mut(numbers.max(1)).enumerate() {
                let rows = ForwardRows {
                    main: from(main, k * numbers),
                    main_scale,
                    other,
                    other_scale: from(other_scale, k * self.channels),
                    shift: from(shift, k * self.channels),
                    addend: from(addend, k * numbers),
                    gate,
                    relu,
                };
                let chunk_len = self.samples_per_chunk() * self.channels * self.len;
                parallel::for_chunks(out, chunk_len, |chunk, out| {
                    let task = ForwardTask { channels: self, rows: &rows, start: chunk * chunk_len, out };
                    T::dispatch(Isa::best(), task);
                });
            }
        };
        // SAFETY: `ForwardTask` writes each row of its chunk, and the chunks cover the buffer.
        let out = unsafe { filled(numbers * directions.unwrap_or(1), fill) };
        let shape: Vec<usize> = directions.into_iter().chain(like.dims().iter().copied()).collect();
        Tensor::from_vec(out, shape, like.device())
    }

    /// One part of the adjoint: of `gate ⊙ main` (and, for tangents, of `gate ⊙ other`, the primal cotangent).
    ///
    /// With `c = gate ⊙ main` and `o = gate ⊙ other`: `x̄ = c s + o ṡ`, `s̄ = Σ c x + o ẋ`, `b̄ = Σ c`, `r̄ = c`. Sums
    /// along rows are taken in the dtype in sixteen lanes, sums of rows in f64.
    pub fn adjoint(
        &self,
        map: &AffineAdjoint<'_>,
        main: &Tensor,
        other: Option<&Tensor>,
    ) -> Result<AffineCotangents<Tensor>> {
        let AffineAdjoint { x, scale, gate, small, wants_addend } = *map;
        let stacked = main.rank() > small.len();
        let directions = if stacked { main.dims()[0] } else { 1 };
        let other = other.filter(|_| stacked);
        with_float!(main.dtype(), T => {
            let held = Held::<T, _>::of([
                Some(main), other, x.primal, other.and(x.tangents), scale.primal, other.and(scale.tangents), gate,
            ])?;
            let slices = held.slices()?;
            let [main_data, other, x, x_tangents, scale, scale_tangents, gate] =
                std::array::from_fn(|index| slices[index].as_deref());
            let Some(main_data) = main_data else { candle_core::bail!("an adjoint without cotangent") };
            let numbers = self.numbers();
            let wants_addend = wants_addend && gate.is_some();
            let mut sums = vec![0.0f64; 2 * directions * self.channels];
            let mut addend = Vec::new();
            let fill = |out: &mut [MaybeUninit<T>]| {
                let build_addend = |addend_out: &mut [MaybeUninit<T>]| {
                    let mut addends = addend_out.chunks_mut(numbers.max(1));
                    for (k, out) in out.chunks_mut(numbers.max(1)).enumerate() {
                        let rows = AdjointRows {
                            main: &main_data[k * numbers..],
                            other,
                            x,
                            x_tangents: from(x_tangents, k * numbers),
                            scale,
                            scale_tangents: from(scale_tangents, k * self.channels),
                            gate,
                        };
                        let sums = &mut sums[2 * k * self.channels..][..2 * self.channels];
                        self.adjoint_of_direction(&rows, out, addends.next(), sums);
                    }
                };
                let len = if wants_addend { numbers * directions } else { 0 };
                // SAFETY: `AdjointTask` writes the addend wherever it writes `x̄`.
                addend = unsafe { filled(len, build_addend) };
            };
            // SAFETY: `AdjointTask` writes each row of its chunk, and the chunks cover the buffer.
            let x = unsafe { filled(numbers * directions, fill) };
            let device = main.device();
            let lead = stacked.then_some(directions);
            let of_sum = |which: usize| {
                let values: Vec<T> = (0..directions)
                    .flat_map(|k| &sums[(2 * k + which) * self.channels..][..self.channels])
                    .map(|&sum| T::from_f64(sum))
                    .collect();
                Tensor::from_vec(values, lead.into_iter().chain(small.iter().copied()).collect::<Vec<_>>(), device)
            };
            Ok(AffineCotangents {
                x: Tensor::from_vec(x, main.dims(), device)?,
                scale: of_sum(0)?,
                shift: of_sum(1)?,
                addend: wants_addend.then(|| Tensor::from_vec(addend, main.dims(), device)).transpose()?,
            })
        })
    }

    /// `x̄` and the addend's cotangent of one direction, and its sums `[2, C]`, added over chunks in order.
    fn adjoint_of_direction<T: Element>(
        &self,
        rows: &AdjointRows<'_, T>,
        out: &mut [MaybeUninit<T>],
        addend: Option<&mut [MaybeUninit<T>]>,
        sums: &mut [f64],
    ) {
        let chunk_len = self.samples_per_chunk() * self.channels * self.len;
        let mut addends = addend.map(|addend| addend.chunks_mut(chunk_len));
        let mut tasks: Vec<AdjointTask<'_, T>> = out
            .chunks_mut(chunk_len)
            .enumerate()
            .map(|(chunk, out)| AdjointTask {
                channels: self,
                rows,
                start: chunk * chunk_len,
                out,
                addend: addends.as_mut().and_then(Iterator::next),
            })
            .collect();
        let parts: Vec<Vec<f64>> = if parallel::in_pool() && tasks.len() > 1 {
            tasks.into_par_iter().map(|task| T::dispatch(Isa::best(), task)).collect()
        } else {
            tasks.drain(..).map(|task| T::dispatch(Isa::best(), task)).collect()
        };
        parts.iter().for_each(|part| sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part));
    }
}
