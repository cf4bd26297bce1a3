//! Convolutions with many channels as matrix products: their columns are vectors of output pixels, each (channel, tap) a row
//! that lies in the packed source at a constant offset (im2col of a panel at a time; Chellapilla et al. 2006).
//!
//! With `P` the columns of a panel: the convolution is `W · col(x)`, its input gradient the adjoint of `col` applied to
//! `Wᵀ · y`, the weight gradient `y · col(x)ᵀ`. Weights are read where they lie.

mod forward;
mod input_gradient;
mod weight_gradient;

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::geometry::ConvGeometry;
use super::operand::Operand;
use super::pack::{interleave, pack_samples};
use super::plan::{Plan, Position};
use crate::kernels::element::Element;
use crate::kernels::gemm::GRAIN;
use crate::kernels::parallel;
use crate::kernels::simd::{Simd, SimdTask};
pub(super) use forward::correlate;
pub(super) use input_gradient::input_gradient;
pub(super) use weight_gradient::weight_gradient;

/// Vectors of a panel.
const VECTORS: usize = 2;
/// Panels that meet a tile of rows while it stays in a core's first cache.
const PANELS: usize = 4;
/// Length of sums that stay in registers: a group of panels of this many rows fits a core's second cache.
const LONGEST: usize = 512;

/// Channels of a group, and rows of its weights, from which on a product pays for its panels.
const FEWEST: usize = 16;

/// The fewest weights of a group for which a product is faster than direct tiles: with 32 registers these hold twice as many
/// sums, and win as long as the weights stay in a core's first cache.
const fn fewest_weights(registers: usize) -> usize {
    if registers >= 32 { 1 << 13 } else { 0 }
}

/// Whether a convolution and its adjoints go as products: rows of register tiles are whole, and enough.
pub(super) fn suits(geometry: &ConvGeometry, plan: &Plan) -> bool {
    let ConvGeometry { in_channels, out_channels, groups, kernel, .. } = *geometry;
    let (outputs, rows) = (out_channels / groups, in_channels / groups * kernel[0] * kernel[1]);
    let whole = |count: usize| count.is_multiple_of(GRAIN) && count >= FEWEST;
    let enough = outputs * rows >= fewest_weights(plan.registers);
    enough && whole(outputs) && whole(rows) && !geometry.output().contains(&0)
}

/// Calls `$run` with the rows of a register tile as a constant.
macro_rules! with_rows {
    ($grains:expr, $R:ident => $run:expr) => {
        match $grains {
            3 => {
                const $R: usize = 3 * GRAIN;
                $run
            }
            2 => {
                const $R: usize = 2 * GRAIN;
                $run
            }
            _ => {
                const $R: usize = GRAIN;
                $run
            }
        }
    };
}
use with_rows;

/// A vector of output pixels: of a block of interleaved samples, the position in it.
#[derive(Clone, Copy)]
struct Pixels {
    block: usize,
    position: Position,
}

/// What a task works on: blocks of interleaved samples, one after the other.
struct Blocks<'a> {
    plan: &'a Plan,
    pixels: Vec<Pixels>,
}

impl<'a> Blocks<'a> {
    fn new(plan: &'a Plan, samples: usize) -> Self {
        let blocks = samples.div_ceil(plan.samples);
        let positions = &plan.sweeps[0].positions;
        let pixels = (0..blocks).flat_map(|block| positions.iter().map(move |&position| Pixels { block, position }));
        Self { plan, pixels: pixels.collect() }
    }

    /// Where a vector of pixels begins in the packed source of a group of channels.
    fn start(&self, group: usize, pixels: Pixels) -> usize {
        let Plan { sources, channel_len, .. } = *self.plan;
        pixels.block * self.plan.packed_len() + group * sources * channel_len + pixels.position.start
    }

    /// The outputs of the samples that a vector of pixels lies in.
    fn outputs<'b, T>(&self, samples: &'b [T], pixels: Pixels) -> &'b [T] {
        let len = self.plan.samples * self.plan.targets_len();
        let from = &samples[pixels.block * len..];
        &from[..len.min(from.len())]
    }

    /// Copies the lanes of a vector of one channel from its [`outputs`](Self::outputs), zeros where it has no pixel.
    #[inline(always)]
    fn read<S: Simd<Scalar: Element>>(
        &self,
        outputs: &[S::Scalar],
        channel: usize,
        pixels: Pixels,
        to: &mut [S::Scalar],
    ) {
        let (plan, Position { target, count, .. }) = (self.plan, pixels.position);
        let place = channel * plan.target_len + target;
        if plan.samples == 1 && count == S::LANES {
            return to.copy_from_slice(&outputs[place..][..S::LANES]);
        }
        to.fill(S::Scalar::ZERO);
        let rows = outputs.chunks_exact(plan.targets_len()).map(|sample| &sample[place..][..count]);
        interleave(rows, 1, plan.samples, &mut to[..count * plan.samples]);
    }
}

/// Samples of one task: at least a group of panels.
fn samples_per_task(plan: &Plan) -> usize {
    let vectors = plan.sweeps[0].positions.len().max(1);
    (PANELS * VECTORS).div_ceil(vectors) * plan.samples
}

/// Runs a task for some samples of all directions, with their part of `out` in each.
fn each_task<'a, T: Element, K: SimdTask<T, Output = ()> + Send>(
    plan: &Plan,
    batch: usize,
    sample_len: usize,
    out: &'a mut [MaybeUninit<T>],
    task: impl Fn(Range<usize>, Vec<&'a mut [MaybeUninit<T>]>) -> K + Sync,
) {
    let step = samples_per_task(plan);
    let mut outs: Vec<_> =
        out.chunks_mut((batch * sample_len).max(1)).map(|out| out.chunks_mut((step * sample_len).max(1))).collect();
    let jobs: Vec<_> = (0..batch)
        .step_by(step)
        .map(|first| (first..batch.min(first + step), outs.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>()))
        .collect();
    let run = |(samples, outs)| T::dispatch(plan.isa, task(samples, outs));
    if parallel::in_pool() && jobs.len() > 1 {
        jobs.into_par_iter().for_each(run);
    } else {
        jobs.into_iter().for_each(run);
    }
}

/// Source samples of each term, packed unless they are read where they lie.
struct Sources<'a, T> {
    plan: &'a Plan,
    samples: Range<usize>,
    batch: usize,
    packed: Vec<Vec<T>>,
}

impl<'a, T: Element> Sources<'a, T> {
    fn new(plan: &'a Plan, samples: &Range<usize>, batch: usize, terms: usize) -> Self {
        // A vector that begins at the last number reads on.
        let len = samples.len().div_ceil(plan.samples) * plan.packed_len() + plan.lanes;
        let packed = if plan.in_place { Vec::new() } else { vec![vec![T::ZERO; len]; terms] };
        Self { plan, samples: samples.clone(), batch, packed }
    }

    /// The samples of each term for direction `k`; what all directions share is packed the first time.
    fn read<'b>(
        &'b mut self,
        terms: impl Iterator<Item = &'b Operand<'b, T>>,
        k: usize,
        is_first: bool,
    ) -> Vec<&'b [T]> {
        let (plan, len) = (self.plan, self.plan.source_len());
        if plan.in_place {
            return terms.map(|source| source.parts(k, self.batch, &self.samples, len)).collect();
        }
        for (source, packed) in terms.zip(&mut self.packed) {
            if source.stacked || is_first {
                let blocks = packed.chunks_exact_mut(plan.packed_len().max(1));
                let samples = source.parts(k, self.batch, &self.samples, len).chunks((plan.samples * len).max(1));
                samples.zip(blocks).for_each(|(samples, packed)| pack_samples(plan, samples, packed));
            }
        }
        self.packed.iter().map(Vec::as_slice).collect()
    }
}
