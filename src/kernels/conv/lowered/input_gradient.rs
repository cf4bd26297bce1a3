//! The adjoint in the source: columns of weights times panels of cotangents, added to where the taps reach.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{Blocks, VECTORS, each_task, with_rows};
use crate::kernels::conv::operand::Operand;
use crate::kernels::conv::pack::unpack_samples;
use crate::kernels::conv::plan::Plan;
use crate::kernels::element::Element;
use crate::kernels::gemm::{GRAIN, accumulate, grains_per_tile};
use crate::kernels::scratch::Scratch;
use crate::kernels::simd::{Simd, SimdTask};
use crate::kernels::tiles::tiles;

/// Output channels whose weights are read together: as many streams through memory, each in a page of its own.
const CHANNELS: usize = 32;
/// Pixels of several directions that share a reading of the weights.
const MOST_PIXELS: usize = 1024;

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
        // Packed sources of all directions, one after the other.
        let packed_len = samples.len().div_ceil(plan.samples) * plan.packed_len() + plan.lanes;
        let mut packed = Scratch::<T>::new(outs.len() * packed_len);
        packed.fill(T::ZERO);
        let mut panels = Scratch::<T>::new(0);
        for (cotangent, weights) in terms {
            // Directions that share weights go together: one reading of these then serves them all.
            let most = (MOST_PIXELS / (blocks.pixels.len() * S::LANES).max(1)).max(1);
            let step = if weights.stacked { 1 } else { most.min(outs.len()) };
            for directions in (0..outs.len()).step_by(step).map(|k| k..outs.len().min(k + step)) {
                let weights = weights.parts(directions.start, 1, &(0..1), plan.weight_len);
                let count = directions.len() * blocks.pixels.len();
                for group in 0..plan.groups {
                    for first in (0..outputs).step_by(CHANNELS) {
                        let channels = group * outputs + first..group * outputs + outputs.min(first + CHANNELS);
                        let len = channels.len();
                        panels.resize(count.div_ceil(VECTORS) * len * width);
                        let mut starts = Vec::with_capacity(count);
                        for k in directions.clone() {
                            let cotangent = cotangent.parts(k, batch, &samples, plan.targets_len());
                            for &pixels in &blocks.pixels {
                                let (panel, vector) = (starts.len() / VECTORS, starts.len() % VECTORS);
                                let panel = &mut panels[panel * len * width..][..len * width];
                                for (channel, row) in channels.clone().zip(panel.chunks_exact_mut(width)) {
                                    let lanes = &mut row[vector * S::LANES..][..S::LANES];
                                    blocks.read::<S>(cotangent, channel, pixels, lanes);
                                }
                                starts.push(k * packed_len + blocks.start(group, pixels));
                            }
                        }
                        let weights = &weights[channels.start * rows..channels.end * rows];
                        let spread = Spread { offsets: &plan.sweeps[0].offsets, starts: &starts };
                        // SAFETY: `S` is the instruction set this task was dispatched to.
                        unsafe { spread.run::<S>(weights, &panels, &mut packed) };
                    }
                }
            }
        }
        for (out, packed) in outs.into_iter().zip(packed.chunks_exact(packed_len)) {
            let blocks = packed.chunks_exact(plan.packed_len().max(1));
            let samples = out.chunks_mut((plan.samples * plan.source_len()).max(1));
            samples.zip(blocks).for_each(|(samples, packed)| unpack_samples(plan, packed, samples));
        }
    }
}

/// Places in packed sources to which products are added: of each vector of pixels its start, of each row its offset.
struct Spread<'a> {
    offsets: &'a [usize],
    starts: &'a [usize],
}

impl Spread<'_> {
    /// Adds `weightsᵀ · panels`: `weights` is `[channels, (source, tap)]`, `panels [panel][channel][vector]`. A vector that
    /// fills no panel leaves the rest of it as it was.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn run<S: Simd<Scalar: Element>>(
        &self,
        weights: &[S::Scalar],
        panels: &[S::Scalar],
        packed: &mut [S::Scalar],
    ) {
        let Self { offsets, starts } = *self;
        let (rows, width) = (offsets.len(), VECTORS * S::LANES);
        let len = weights.len() / rows;
        let furthest = offsets.iter().max().unwrap_or(&0) + starts.iter().max().unwrap_or(&0);
        assert!(furthest + S::LANES <= packed.len() && rows.is_multiple_of(GRAIN), "packed source too short");
        assert!(panels.len() >= starts.len().div_ceil(VECTORS) * len * width, "panels of a product");
        for (grain, grains) in tiles(rows / GRAIN, grains_per_tile(S::REGISTERS)) {
            for (panel, starts) in starts.chunks(VECTORS).enumerate() {
                with_rows!(grains, R => {
                    if R <= grains_per_tile(S::REGISTERS) * GRAIN {
                        // SAFETY: the asserts bound what the tile reads and adds to.
                        unsafe {
                            let zero = [[S::splat(S::Scalar::ZERO); VECTORS]; R];
                            let (a, b) = (weights.as_ptr().add(grain * GRAIN), panels.as_ptr().add(panel * len * width));
                            let sums = accumulate::<S, R, VECTORS>(a, [rows, 1], b, width, len, zero);
                            for (r, &offset) in offsets[grain * GRAIN..][..R].iter().enumerate() {
                                for (v, &start) in starts.iter().enumerate() {
                                    let target = packed.as_mut_ptr().add(start + offset);
                                    S::store(target, S::add(S::load(target), sums[r][v]));
                                }
                            }
                        }
                    }
                });
            }
        }
    }
}
