//! Convolutions with many channels as matrix products: their columns are vectors of output pixels, each (channel, tap) a row
//! that lies in the packed source at a constant offset (im2col of a panel at a time; Chellapilla et al. 2006).
//!
//! With `P` the columns of a panel: the convolution is `W · col(x)`, its input gradient the adjoint of `col` applied to
//! `Wᵀ · y`, the weight gradient `y · col(x)ᵀ`. Weights are read where they lie.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::geometry::ConvGeometry;
use super::operand::Operand;
use super::pack::{interleave, pack_samples, unpack_samples};
use super::plan::{Plan, Position};
use super::weight_gradient::{Extent, Task, sum_chunks};
use super::write::{write, write_interleaved};
use crate::kernels::element::Element;
use crate::kernels::gemm::{GRAIN, accumulate, grains_per_tile};
use crate::kernels::parallel;
use crate::kernels::scratch::Scratch;
use crate::kernels::simd::{MAX_LANES, Simd, SimdTask};
use crate::kernels::tiles::tiles;

/// Vectors of a panel.
const VECTORS: usize = 2;
/// Panels that meet a tile of rows while it stays in a core's first cache.
const PANELS: usize = 4;
/// Length of sums that stay in registers: a group of panels of this many rows fits a core's second cache.
const LONGEST: usize = 512;
/// Output channels whose weights are read together: as many streams through memory, each in a page of its own.
const CHANNELS: usize = 32;
/// Pixels of several directions that share a reading of the weights.
const MOST_PIXELS: usize = 1024;

/// Channels of a group, and rows of its weights, from which on a product pays for its panels.
const FEWEST: usize = 16;

/// Whether a convolution and its adjoints go as products: rows of register tiles are whole, and enough.
pub(super) fn suits(geometry: &ConvGeometry) -> bool {
    let ConvGeometry { in_channels, out_channels, groups, kernel, .. } = *geometry;
    let (outputs, rows) = (out_channels / groups, in_channels / groups * kernel[0] * kernel[1]);
    let whole = |count: usize| count.is_multiple_of(GRAIN) && count >= FEWEST;
    whole(outputs) && whole(rows) && !geometry.output().contains(&0)
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

    /// Copies the lanes of a vector of outputs of one channel, zeros where it has no pixel.
    #[inline(always)]
    fn read<S: Simd<Scalar: Element>>(
        &self,
        samples: &[S::Scalar],
        channel: usize,
        pixels: Pixels,
        to: &mut [S::Scalar],
    ) {
        let (plan, Position { target, count, .. }) = (self.plan, pixels.position);
        let (len, first) = (plan.targets_len(), pixels.block * plan.samples);
        let place = channel * plan.target_len + target;
        if plan.samples == 1 && count == S::LANES {
            return to.copy_from_slice(&samples[first * len + place..][..S::LANES]);
        }
        to.fill(S::Scalar::ZERO);
        let samples = &samples[first * len..];
        let samples = samples[..samples.len().min(plan.samples * len)].chunks_exact(len);
        let rows = samples.map(|sample| &sample[place..][..count]);
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

/// Sums `terms` of (source, weights) into `out [K, N, targets]`; `plan` is that of the convolution.
pub(super) fn correlate<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    assert_eq!(out.len(), directions * batch * plan.targets_len(), "length of the output of a convolution");
    each_task(plan, batch, plan.targets_len(), out, |samples, outs| CorrelateTask {
        plan,
        batch,
        samples,
        terms,
        outs,
    });
}

/// All outputs of some samples.
struct CorrelateTask<'a, T> {
    plan: &'a Plan,
    batch: usize,
    samples: Range<usize>,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    /// By direction.
    outs: Vec<&'a mut [MaybeUninit<T>]>,
}

impl<T: Element> SimdTask<T> for CorrelateTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { plan, batch, samples, terms, outs } = self;
        let blocks = Blocks::new(plan, samples.len());
        let mut sources = Sources::new(plan, &samples, batch, terms.len());
        let offsets = &plan.sweeps[0].offsets;
        let (rows, width) = (plan.targets, VECTORS * S::LANES);
        let mut panels = Scratch::<T>::new(PANELS * LONGEST.min(offsets.len()) * width);
        let mut sums = Scratch::<T>::new(PANELS * rows * width);
        for (k, out) in outs.into_iter().enumerate() {
            let sources = sources.read(terms.iter().map(|(source, _)| source), k, k == 0);
            for group in 0..plan.groups {
                for pixels in blocks.pixels.chunks(PANELS * VECTORS) {
                    let mut add = false;
                    for (source, (_, weights)) in sources.iter().zip(terms) {
                        let weights = &weights.parts(k, 1, &(0..1), plan.weight_len)[group * rows * offsets.len()..];
                        for first in (0..offsets.len()).step_by(LONGEST) {
                            let offsets = &offsets[first..][..LONGEST.min(offsets.len() - first)];
                            let starts = |pixels| blocks.start(group, pixels);
                            // SAFETY: `S` is the instruction set this task was dispatched to.
                            unsafe { gather::<S>(source, offsets, pixels, starts, &mut panels) };
                            let product = Product { len: offsets.len(), row_step: plan.sweeps[0].offsets.len(), add };
                            // SAFETY: as above.
                            unsafe { product.run::<S>(&weights[first..], rows, &panels, pixels.len(), &mut sums) };
                            add = true;
                        }
                    }
                    for (v, &pixels) in pixels.iter().enumerate() {
                        let sums = &sums[v / VECTORS * rows * width + v % VECTORS * S::LANES..];
                        // SAFETY: as above.
                        unsafe { scatter::<S>(plan, group, pixels, sums, width, out) };
                    }
                }
            }
        }
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

/// Copies rows of pixels at `offsets` into panels `[panel][offset][vector]`, with zeros beyond the last vector.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn gather<S: Simd<Scalar: Element>>(
    source: &[S::Scalar],
    offsets: &[usize],
    pixels: &[Pixels],
    start: impl Fn(Pixels) -> usize,
    panels: &mut [S::Scalar],
) {
    let width = VECTORS * S::LANES;
    let furthest = offsets.iter().max().unwrap_or(&0);
    for (pixels, panel) in pixels.chunks(VECTORS).zip(panels.chunks_exact_mut(offsets.len() * width)) {
        let last = pixels[pixels.len() - 1];
        let starts: [usize; VECTORS] = std::array::from_fn(|v| start(*pixels.get(v).unwrap_or(&last)));
        assert!(starts.iter().all(|start| start + furthest + S::LANES <= source.len()), "packed source too short");
        for (&offset, panel) in offsets.iter().zip(panel.chunks_exact_mut(width)) {
            for v in 0..VECTORS {
                // SAFETY: the assert bounds the reads; a row of a panel has room for the vectors.
                unsafe {
                    let vector = S::load(source.as_ptr().add(starts[v] + offset));
                    S::store(panel.as_mut_ptr().add(v * S::LANES), vector);
                }
            }
        }
    }
}

/// Writes the rows of one vector of pixels, `step` apart in `sums`, to the channels of a group.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn scatter<S: Simd<Scalar: Element>>(
    plan: &Plan,
    group: usize,
    pixels: Pixels,
    sums: &[S::Scalar],
    step: usize,
    out: &mut [MaybeUninit<S::Scalar>],
) {
    let Position { target, count, .. } = pixels.position;
    let out = &mut out[pixels.block * plan.samples * plan.targets_len()..];
    for row in 0..plan.targets {
        let sums = &sums[row * step..][..S::LANES];
        let place = (group * plan.targets + row) * plan.target_len + target;
        // SAFETY: the caller's promise; `sums` has the lanes.
        unsafe {
            let vector = S::load(sums.as_ptr());
            if plan.samples == 1 {
                write::<S>(vector, count, 1, &mut out[place..]);
            } else {
                let len = out.len().min(plan.samples * plan.targets_len());
                let samples = out[..len].chunks_exact_mut(plan.targets_len()).map(|out| &mut out[place..]);
                write_interleaved::<S>(vector, count, plan.samples, 1, samples);
            }
        }
    }
}

/// A product of rows, each contiguous, with panels.
#[derive(Clone, Copy)]
struct Product {
    /// Length of the sums.
    len: usize,
    /// From one row to the next.
    row_step: usize,
    /// Whether sums are added to.
    add: bool,
}

impl Product {
    /// `sums [panel][row][vector]` of `a [rows, len]` and `panels [panel][len][vector]`, so many vectors in all.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn run<S: Simd<Scalar: Element>>(
        self,
        a: &[S::Scalar],
        rows: usize,
        panels: &[S::Scalar],
        vectors: usize,
        sums: &mut [S::Scalar],
    ) {
        let Self { len, row_step, add } = self;
        let (width, count) = (VECTORS * S::LANES, vectors.div_ceil(VECTORS));
        assert!(rows.is_multiple_of(GRAIN) && rows > 0 && a.len() >= (rows - 1) * row_step + len, "rows of a product");
        assert!(panels.len() >= count * len * width && sums.len() >= count * rows * width, "panels of a product");
        for (grain, grains) in tiles(rows / GRAIN, grains_per_tile(S::REGISTERS)) {
            for panel in 0..count {
                with_rows!(grains, R => {
                    if R <= grains_per_tile(S::REGISTERS) * GRAIN {
                        // SAFETY: the asserts bound what the tile reads and writes.
                        unsafe {
                            let a = a.as_ptr().add(grain * GRAIN * row_step);
                            let panel_start = panels.as_ptr().add(panel * len * width);
                            let sums = sums.as_mut_ptr().add((panel * rows + grain * GRAIN) * width);
                            let start = if add { load::<S, R>(sums) } else { [[S::splat(S::Scalar::ZERO); VECTORS]; R] };
                            let tile = accumulate::<S, R, VECTORS>(a, [1, row_step], panel_start, width, len, start);
                            store::<S, R>(sums, tile);
                        }
                    }
                });
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set of `S`, and the rows lie one after the other from `sums` on.
#[inline(always)]
unsafe fn load<S: Simd, const R: usize>(sums: *const S::Scalar) -> [[S::Vector; VECTORS]; R] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|r| std::array::from_fn(|v| unsafe { S::load(sums.add((r * VECTORS + v) * S::LANES)) }))
}

/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn store<S: Simd, const R: usize>(sums: *mut S::Scalar, tile: [[S::Vector; VECTORS]; R]) {
    for r in 0..R {
        for v in 0..VECTORS {
            // SAFETY: the caller's promise.
            unsafe { S::store(sums.add((r * VECTORS + v) * S::LANES), tile[r][v]) };
        }
    }
}

/// Sums `terms` of (output cotangent, weights) into `out [K, N, sources]`: the adjoint in the source. `plan` is that of the
/// convolution.
pub(super) fn input_gradient<T: Element>(
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

/// Sums `terms` of (input, output cotangent) into `out [K, weights]`; `plan` is that of the convolution.
pub(super) fn weight_gradient<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    let extent = Extent { weight_len: plan.weight_len, batch, directions, directions_per_task: directions };
    sum_chunks(&extent, out, |task, sums| {
        T::dispatch(plan.isa, ChunkTask { plan, batch, task, terms, sums });
    });
}

/// Writes the sums of one chunk of samples, `[directions of the task, weights]`.
struct ChunkTask<'a, T> {
    plan: &'a Plan,
    batch: usize,
    task: &'a Task,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    sums: &'a mut [MaybeUninit<T>],
}

impl<T: Element> SimdTask<T> for ChunkTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { plan, batch, task: Task { samples, directions }, terms, sums } = self;
        let blocks = Blocks::new(plan, samples.len());
        let mut sources = Sources::new(plan, samples, batch, terms.len());
        let offsets = &plan.sweeps[0].offsets;
        let (rows, width) = (plan.targets, VECTORS * S::LANES);
        // Vectors of pixels of all terms that are summed in registers.
        let most = (LONGEST / S::LANES / terms.len().max(1)).max(1);
        let longest = terms.len() * most.min(blocks.pixels.len()) * S::LANES;
        let mut outputs = Scratch::<T>::new(rows * longest);
        let mut panel = Scratch::<T>::new(longest * width);
        for (k, sums) in directions.clone().zip(sums.chunks_exact_mut(plan.weight_len)) {
            let sources = sources.read(terms.iter().map(|(source, _)| source), k, k == directions.start);
            for group in 0..plan.groups {
                for (index, pixels) in blocks.pixels.chunks(most).enumerate() {
                    let add = index > 0;
                    let len = terms.len() * pixels.len() * S::LANES;
                    for (index, (_, output)) in terms.iter().enumerate() {
                        let output = output.parts(k, batch, samples, plan.targets_len());
                        for row in 0..rows {
                            let to = &mut outputs[row * len + index * pixels.len() * S::LANES..];
                            for (to, &pixels) in to.chunks_exact_mut(S::LANES).zip(pixels) {
                                blocks.read::<S>(output, group * rows + row, pixels, to);
                            }
                        }
                    }
                    for column in (0..offsets.len()).step_by(width) {
                        let columns = width.min(offsets.len() - column);
                        let offsets = &offsets[column..][..columns];
                        for (index, source) in sources.iter().enumerate() {
                            let panel = &mut panel[index * pixels.len() * S::LANES * width..];
                            let starts = |pixels| blocks.start(group, pixels);
                            // SAFETY: `S` is the instruction set this task was dispatched to.
                            unsafe { transpose::<S>(source, offsets, pixels, starts, panel) };
                        }
                        let target = &mut sums[group * rows * plan.sweeps[0].offsets.len() + column..];
                        let out = Columns { step: plan.sweeps[0].offsets.len(), count: columns, add };
                        // SAFETY: as above.
                        unsafe { out.write::<S>(&outputs[..rows * len], &panel[..len * width], target) };
                    }
                }
            }
        }
    }
}

/// Copies the pixels at `offsets` into the rows of a panel `[pixel][offset]`, with zeros beyond the last.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn transpose<S: Simd<Scalar: Element>>(
    source: &[S::Scalar],
    offsets: &[usize],
    pixels: &[Pixels],
    start: impl Fn(Pixels) -> usize,
    panel: &mut [S::Scalar],
) {
    let width = VECTORS * S::LANES;
    let furthest = offsets.iter().max().unwrap_or(&0);
    let mut square = [S::Scalar::ZERO; MAX_LANES * MAX_LANES];
    for (&pixels, panel) in pixels.iter().zip(panel.chunks_exact_mut(S::LANES * width)) {
        let start = start(pixels);
        assert!(start + furthest + S::LANES <= source.len(), "packed source too short");
        for v in 0..VECTORS {
            for lane in 0..S::LANES {
                let row = &mut square[lane * S::LANES..][..S::LANES];
                match offsets.get(v * S::LANES + lane) {
                    // SAFETY: the assert bounds the read; the row has room for a vector.
                    Some(&offset) => unsafe {
                        S::store(row.as_mut_ptr(), S::load(source.as_ptr().add(start + offset)))
                    },
                    None => row.fill(S::Scalar::ZERO),
                }
            }
            // SAFETY: the square has `LANES` rows, and so has the panel from `v` vectors on.
            unsafe { S::transpose(square.as_ptr(), S::LANES, panel.as_mut_ptr().add(v * S::LANES), width) };
        }
    }
}

/// Columns of a matrix that products are written to.
struct Columns {
    /// From one row to the next.
    step: usize,
    /// How many, at most those of a panel.
    count: usize,
    /// Whether they are added to what is there.
    add: bool,
}

impl Columns {
    /// `target [rows, …] = a [rows, len] · panel [len, width]`
    ///
    /// # Safety
    /// The processor has the instruction set of `S`; what is added to has been written.
    #[inline(always)]
    unsafe fn write<S: Simd<Scalar: Element>>(
        &self,
        a: &[S::Scalar],
        panel: &[S::Scalar],
        target: &mut [MaybeUninit<S::Scalar>],
    ) {
        let width = VECTORS * S::LANES;
        let len = panel.len() / width;
        let rows = a.len() / len.max(1);
        assert!(rows.is_multiple_of(GRAIN) && rows > 0, "rows of a product");
        assert!(target.len() >= (rows - 1) * self.step + self.count, "sums of a product");
        for (grain, grains) in tiles(rows / GRAIN, grains_per_tile(S::REGISTERS)) {
            with_rows!(grains, R => {
                if R <= grains_per_tile(S::REGISTERS) * GRAIN {
                    // SAFETY: the asserts bound the rows; each row of sums has `width` places where `count` says so.
                    unsafe {
                        let zero = [[S::splat(S::Scalar::ZERO); VECTORS]; R];
                        let a = a.as_ptr().add(grain * GRAIN * len);
                        let sums = accumulate::<S, R, VECTORS>(a, [1, len], panel.as_ptr(), width, len, zero);
                        for (r, sums) in sums.iter().enumerate() {
                            let target = &mut target[(grain * GRAIN + r) * self.step..][..self.count];
                            if self.count == width {
                                for v in 0..VECTORS {
                                    let target = target.as_mut_ptr().cast::<S::Scalar>().add(v * S::LANES);
                                    S::store(target, if self.add { S::add(S::load(target), sums[v]) } else { sums[v] });
                                }
                                continue;
                            }
                            let mut line = [S::Scalar::ZERO; VECTORS * MAX_LANES];
                            for v in 0..VECTORS {
                                S::store(line.as_mut_ptr().add(v * S::LANES), sums[v]);
                            }
                            for (target, sum) in target.iter_mut().zip(line) {
                                target.write(if self.add { target.assume_init() + sum } else { sum });
                            }
                        }
                    }
                }
            });
        }
    }
}
