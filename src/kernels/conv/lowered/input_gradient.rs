//! The adjoint in the source: columns of weights times panels of cotangents, added to where the taps reach.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{Blocks, Pixels, VECTORS, each_task, with_rows};
use crate::kernels::conv::operand::Operand;
use crate::kernels::conv::pack::unpack_samples;
use crate::kernels::conv::plan::Plan;
use crate::kernels::conv::weight_gradient::zeroed;
use crate::kernels::element::Element;
use crate::kernels::gemm::{GRAIN, accumulate, grains_per_tile};
use crate::kernels::scratch::Scratch;
use crate::kernels::simd::{Simd, SimdTask};
use crate::kernels::tiles::tiles;

/// Length of sums that stay in registers, and vectors of pixels that share a reading of the weights: their panels fit a
/// core's second cache.
const CHANNELS: usize = 128;
const MOST_VECTORS: usize = 64;

/// Sums `terms` of (output cotangent, weights) into `out [K, N, sources]`: the adjoint in the source. `plan` is that of the
/// convolution.
pub(in crate::kernels::conv) fn input_gradient<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    assert_eq!(out.len(), directions * batch * plan.source_len(), "length of an input gradient");
    each_task(plan, batch, plan.source_len(), out, |samples, outs| SpreadTask { plan, batch, samples, terms, outs });
}

/// All input cotangents of some samples.
struct SpreadTask<'a, T> {
    plan: &'a Plan,
    batch: usize,
    samples: Range<usize>,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    /// By direction.
    outs: Vec<&'a mut [MaybeUninit<T>]>,
}

impl<T: Element> SimdTask<T> for SpreadTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { plan, batch, samples, terms, outs } = self;
        let blocks = Blocks::new(plan, samples.len());
        let (width, outputs, rows) = (VECTORS * S::LANES, plan.targets, plan.sweeps[0].offsets.len());
        let packed_len = samples.len().div_ceil(plan.samples) * plan.packed_len() + plan.lanes;
        let mut packed = Scratch::<T>::new(if plan.in_place { 0 } else { outs.len() * packed_len });
        packed.fill(T::ZERO);
        // By direction.
        let (mut sums, mut outs): (Vec<&mut [T]>, Vec<_>) = if plan.in_place {
            (outs.into_iter().map(zeroed).collect(), Vec::new())
        } else {
            (packed.chunks_exact_mut(packed_len).collect(), outs)
        };
        let mut panels = Scratch::<T>::new((1 + CHANNELS.min(outputs)) * MOST_VECTORS * S::LANES);
        let mut tile = Scratch::<T>::new(CHANNELS.min(outputs) * grains_per_tile(S::REGISTERS) * GRAIN);
        for (cotangent, weights) in terms {
            // Directions that share weights go together: one reading of these then serves them all.
            let step = if weights.stacked { 1 } else { sums.len() };
            for directions in (0..sums.len()).step_by(step.max(1)).map(|k| k..k + step) {
                let weights = weights.parts(directions.start, 1, &(0..1), plan.weight_len);
                let vectors: Vec<(usize, Pixels)> =
                    directions.flat_map(|k| blocks.pixels.iter().map(move |&pixels| (k, pixels))).collect();
                let groups =
                    (0..plan.groups).flat_map(|group| vectors.chunks(MOST_VECTORS).map(move |part| (group, part)));
                for (group, vectors) in groups {
                    let starts: Vec<(usize, usize)> =
                        vectors.iter().map(|&(k, pixels)| (k, blocks.start(group, pixels))).collect();
                    let cotangents: Vec<&[T]> = vectors
                        .iter()
                        .map(|&(k, pixels)| {
                            blocks.outputs(cotangent.parts(k, batch, &samples, plan.targets_len()), pixels)
                        })
                        .collect();
                    for first in (0..outputs).step_by(CHANNELS) {
                        let channels = group * outputs + first..group * outputs + outputs.min(first + CHANNELS);
                        let len = channels.len();
                        // Vectors of a channel lie side by side in memory.
                        for (row, channel) in channels.clone().enumerate() {
                            for (index, (&cotangent, &(_, pixels))) in cotangents.iter().zip(vectors).enumerate() {
                                let place =
                                    index / VECTORS * (len + 1) * width + row * width + index % VECTORS * S::LANES;
                                blocks.read::<S>(cotangent, channel, pixels, &mut panels[place..][..S::LANES]);
                            }
                        }
                        let weights = &weights[channels.start * rows..channels.end * rows];
                        let spread = Spread { offsets: &plan.sweeps[0].offsets, starts: &starts };
                        // SAFETY: `S` is the instruction set this task was dispatched to.
                        unsafe { spread.run::<S>(weights, &panels, &mut tile, &mut sums) };
                    }
                }
            }
        }
        for (out, packed) in outs.iter_mut().zip(sums) {
            let blocks = packed.chunks_exact(plan.packed_len().max(1));
            let samples = out.chunks_mut((plan.samples * plan.source_len()).max(1));
            samples.zip(blocks).for_each(|(samples, packed)| unpack_samples(plan, packed, samples));
        }
    }
}

/// Places to which products are added: of each vector of pixels its direction and start, of each row its offset.
struct Spread<'a> {
    offsets: &'a [usize],
    starts: &'a [(usize, usize)],
}

impl Spread<'_> {
    /// Adds `weightsᵀ · panels` to `sums`: `weights` is `[channels, (source, tap)]`, `panels [panel][channel][vector]`,
    /// `tile` room for the rows of a register tile. A vector that fills no panel leaves the rest of it as it was.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn run<S: Simd<Scalar: Element>>(
        &self,
        weights: &[S::Scalar],
        panels: &[S::Scalar],
        tile: &mut [S::Scalar],
        sums: &mut [&mut [S::Scalar]],
    ) {
        let Self { offsets, starts } = *self;
        let (rows, width) = (offsets.len(), VECTORS * S::LANES);
        let len = weights.len() / rows;
        let furthest = offsets.iter().max().unwrap_or(&0);
        let inside = |&(k, start): &(usize, usize)| start + furthest + S::LANES <= sums[k].len();
        assert!(starts.iter().all(inside) && rows.is_multiple_of(GRAIN), "packed source too short");
        assert!(panels.len() >= starts.len().div_ceil(VECTORS) * (len + 1) * width, "panels of a product");
        for (grain, grains) in tiles(rows / GRAIN, grains_per_tile(S::REGISTERS)) {
            with_rows!(grains, R => {
                if R <= grains_per_tile(S::REGISTERS) * GRAIN {
                    // The channels of a column of weights lie a row apart.
                    let tile = &mut tile[..len * R];
                    for (tile, weights) in tile.chunks_exact_mut(R).zip(weights.chunks_exact(rows)) {
                        tile.copy_from_slice(&weights[grain * GRAIN..][..R]);
                    }
                    for (panel, starts) in starts.chunks(VECTORS).enumerate() {
                        // SAFETY: the asserts bound what the tile reads and adds to.
                        unsafe {
                            let zero = [[S::splat(S::Scalar::ZERO); VECTORS]; R];
                            let panel = panels.as_ptr().add(panel * (len + 1) * width);
                            let products = accumulate::<S, R, VECTORS>(tile.as_ptr(), [R, 1], panel, width, len, zero);
                            for (r, &offset) in offsets[grain * GRAIN..][..R].iter().enumerate() {
                                for (v, &(k, start)) in starts.iter().enumerate() {
                                    let target = sums[k].as_mut_ptr().add(start + offset);
                                    S::store(target, S::add(S::load(target), products[r][v]));
                                }
                            }
                        }
                    }
                }
            });
        }
    }
}
