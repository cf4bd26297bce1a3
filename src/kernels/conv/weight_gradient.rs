//! The weight gradient: dot products of output pixels with shifted input pixels, several of each per register tile.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::operand::Operand;
use super::pack::{interleave, pack_samples};
use super::plan::{Plan, Sweep};
use crate::kernels::element::Element;
use crate::kernels::parallel;
use crate::kernels::simd::{Simd, SimdTask};
use crate::kernels::tiles::tiles;

/// Samples whose sum is one addend of the result; these are added in double precision.
const SAMPLES_PER_CHUNK: usize = 8;
/// Directions of one parallel task: enough to share the packing of shared operands.
const DIRECTIONS_PER_TASK: usize = 2;
/// Sums over chunks of samples that a thread adds up at a time: they stay in a core's first cache.
const TOTALS: usize = 1 << 11;
/// Vectors that are summed in a register before it is added to memory; this bounds the rounding of long sums.
const VECTORS_PER_BLOCK: usize = 128;
/// Output channels and (input channel, tap) pairs of a register tile: their sums fill three quarters of the registers.
const fn tile_sizes(registers: usize) -> (usize, usize) {
    if registers >= 32 { (6, 4) } else { (4, 3) }
}

/// Sums `terms` of (input, output) into `out [K, weights]`; `plan` is that of the convolution.
pub(super) fn weight_gradient<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    let job = Job::new(plan, batch, terms);
    if job.layout.pixels == 0 {
        zeroed(out);
        return;
    }
    let extent = Extent { weight_len: plan.weight_len, batch, directions, directions_per_task: directions };
    sum_chunks(&extent, out, |task, sums| job.add(task, zeroed(sums)));
}

/// What a weight gradient is summed over.
pub(super) struct Extent {
    pub weight_len: usize,
    pub batch: usize,
    pub directions: usize,
    /// At most.
    pub directions_per_task: usize,
}

/// Cuts samples and directions into tasks, lets `write` write the sums of each, and adds those over chunks of samples in
/// order, in double precision.
pub(super) fn sum_chunks<T: Element>(
    &Extent { weight_len, batch, directions, directions_per_task }: &Extent,
    out: &mut [MaybeUninit<T>],
    write: impl Fn(&Task, &mut [MaybeUninit<T>]) + Sync,
) {
    assert_eq!(out.len(), directions * weight_len, "length of the weight gradient of a convolution");
    if batch == 0 || out.is_empty() {
        zeroed(out);
        return;
    }
    let pooled = parallel::in_pool();
    let per_task = if pooled { DIRECTIONS_PER_TASK.min(directions_per_task) } else { directions_per_task };
    let tasks: Vec<Task> = (0..batch)
        .step_by(SAMPLES_PER_CHUNK)
        .flat_map(|first| (0..directions).step_by(per_task).map(move |direction| (first, direction)))
        .map(|(first, direction)| Task {
            samples: first..batch.min(first + SAMPLES_PER_CHUNK),
            directions: direction..directions.min(direction + per_task),
        })
        .collect();
    let write = |(task, sums): (&Task, &mut [MaybeUninit<T>])| write(task, sums);
    let task_len = per_task * weight_len;
    if batch <= SAMPLES_PER_CHUNK {
        if pooled {
            tasks.par_iter().zip(out.par_chunks_mut(task_len)).for_each(write);
        } else {
            tasks.iter().zip(out.chunks_mut(task_len)).for_each(write);
        }
        return;
    }
    // One wave's partial sums are in memory together; its length does not change the order of additions.
    let wave = if pooled { 2 * rayon::current_num_threads() } else { 2 };
    let mut totals = vec![0.0; if tasks.len() > wave { out.len() } else { 0 }];
    let mut partials = vec![MaybeUninit::new(T::ZERO); wave.min(tasks.len()) * task_len];
    let last = tasks.chunks(wave).len() - 1;
    for (index, tasks) in tasks.chunks(wave).enumerate() {
        if pooled {
            tasks.par_iter().zip(partials.par_chunks_mut(task_len)).for_each(write);
        } else {
            tasks.iter().zip(partials.chunks_mut(task_len)).for_each(write);
        }
        let add = |first: usize, totals: &mut [f64]| {
            for (task, partial) in tasks.iter().zip(partials.chunks(task_len)) {
                let place = task.directions.start * weight_len;
                let end = (place + task.directions.len() * weight_len).min(first + totals.len());
                let Some(len) = end.checked_sub(place.max(first)) else { continue };
                let partial = &partial[first.saturating_sub(place)..][..len];
                for (total, partial) in totals[place.saturating_sub(first)..].iter_mut().zip(partial) {
                    // SAFETY: the buffer began as zeros.
                    *total += unsafe { partial.assume_init() }.to_f64();
                }
            }
        };
        if index < last {
            parallel::for_chunks(&mut totals, TOTALS, |chunk, totals| add(chunk * TOTALS, totals));
            continue;
        }
        parallel::for_chunks(out, TOTALS, |chunk, out| {
            let first = chunk * TOTALS;
            let mut sums = [0.0; TOTALS];
            if last > 0 {
                sums[..out.len()].copy_from_slice(&totals[first..][..out.len()]);
            }
            add(first, &mut sums[..out.len()]);
            out.iter_mut().zip(sums).for_each(|(out, sum)| _ = out.write(T::from_f64(sum)));
        });
    }
}

/// A chunk of samples for some directions.
pub(super) struct Task {
    pub samples: Range<usize>,
    pub directions: Range<usize>,
}

/// How packed output pixels meet packed input pixels.
struct Layout {
    /// Packed input offset of each vector of output pixels.
    starts: Vec<usize>,
    /// Numbers of one packed output channel: whole vectors.
    pixels: usize,
    /// Whether output channels are whole vectors where they lie.
    in_place: bool,
    /// Blocks of interleaved samples that are packed and summed together.
    blocks: usize,
}

struct Job<'a, T> {
    plan: &'a Plan,
    sweep: &'a Sweep,
    batch: usize,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    layout: Layout,
}

impl<'a, T: Element> Job<'a, T> {
    fn new(plan: &'a Plan, batch: usize, terms: &'a [(Operand<'a, T>, Operand<'a, T>)]) -> Self {
        let sweep = &plan.sweeps[0];
        let vectors = sweep.positions.len();
        let layout = Layout {
            starts: sweep.positions.iter().map(|position| position.start).collect(),
            pixels: vectors * plan.lanes,
            in_place: sweep.positions.iter().all(|position| position.count == plan.lanes),
            blocks: (VECTORS_PER_BLOCK / vectors.max(1)).clamp(1, SAMPLES_PER_CHUNK / plan.samples),
        };
        Self { plan, sweep, batch, terms, layout }
    }

    /// Adds one task to its sums, `[directions of the task, weights]`.
    fn add(&self, task: &Task, sums: &mut [T]) {
        let (plan, layout) = (self.plan, &self.layout);
        let (source_len, targets_len) = (plan.source_len(), plan.targets_len());
        let input_len = layout.blocks * plan.packed_len();
        let output_len = layout.blocks * self.packed_outputs_len();
        let mut inputs = vec![T::ZERO; self.terms.len() * input_len + plan.lanes];
        let mut outputs = vec![T::ZERO; if layout.in_place { 0 } else { self.terms.len() * output_len }];
        for first in task.samples.clone().step_by(layout.blocks * plan.samples) {
            let samples = first..task.samples.end.min(first + layout.blocks * plan.samples);
            for (k, sums) in task.directions.clone().zip(sums.chunks_exact_mut(plan.weight_len)) {
                let fresh = k == task.directions.start;
                for (index, (input, output)) in self.terms.iter().enumerate() {
                    if !plan.in_place && (input.stacked || fresh) {
                        let samples = input.parts(k, self.batch, &samples, source_len);
                        let packed = inputs[index * input_len..][..input_len].chunks_exact_mut(plan.packed_len());
                        samples
                            .chunks(plan.samples * source_len)
                            .zip(packed)
                            .for_each(|(samples, packed)| pack_samples(plan, samples, packed));
                    }
                    if !layout.in_place && (output.stacked || fresh) {
                        let samples = output.parts(k, self.batch, &samples, targets_len);
                        self.pack_outputs(samples, &mut outputs[index * output_len..][..output_len]);
                    }
                }
                let mut pairs = Vec::with_capacity(self.terms.len());
                for (index, (input, output)) in self.terms.iter().enumerate() {
                    let input = match plan.in_place {
                        true => input.parts(k, self.batch, &samples, source_len),
                        false => &inputs[index * input_len..],
                    };
                    let output = match layout.in_place {
                        true => output.parts(k, self.batch, &samples, targets_len),
                        false => &outputs[index * output_len..][..output_len],
                    };
                    pairs.push((input, output));
                }
                let blocks = samples.len().div_ceil(plan.samples);
                T::dispatch(plan.isa, BlockTask { job: self, pairs: &pairs, blocks, sums });
            }
        }
    }

    /// Numbers of one packed block of interleaved output samples.
    fn packed_outputs_len(&self) -> usize {
        self.plan.groups * self.plan.targets * self.layout.pixels
    }

    /// Lays out output pixels as the input's are. Lanes without a pixel are zero: they cancel what the input has there.
    fn pack_outputs(&self, samples: &[T], packed: &mut [T]) {
        let plan = self.plan;
        let (targets_len, interleaved) = (plan.targets_len(), plan.samples);
        let packed = packed.chunks_exact_mut(self.packed_outputs_len());
        for (samples, packed) in samples.chunks(interleaved * targets_len).zip(packed) {
            if samples.len() < interleaved * targets_len {
                packed.fill(T::ZERO);
            }
            for (channel, packed) in packed.chunks_exact_mut(self.layout.pixels).enumerate() {
                for (position, packed) in self.sweep.positions.iter().zip(packed.chunks_exact_mut(plan.lanes)) {
                    let rows = samples
                        .chunks_exact(targets_len)
                        .map(|sample| &sample[channel * plan.target_len + position.target..][..position.count]);
                    interleave(rows, 1, interleaved, &mut packed[..position.count * interleaved]);
                }
            }
        }
    }
}

/// Writes zeros.
pub(super) fn zeroed<T: Element>(out: &mut [MaybeUninit<T>]) -> &mut [T] {
    out.fill(MaybeUninit::new(T::ZERO));
    // SAFETY: every element has just been written.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }
}

/// Adds one block of samples of one direction to its sums.
struct BlockTask<'a, T> {
    job: &'a Job<'a, T>,
    /// (Packed input, packed output) of each term.
    pairs: &'a [(&'a [T], &'a [T])],
    /// Blocks of interleaved samples.
    blocks: usize,
    sums: &'a mut [T],
}

impl<T: Element> BlockTask<'_, T> {
    /// Panics unless every tile reads inside its operands.
    fn check_bounds(&self, lanes: usize) {
        let (plan, layout) = (self.job.plan, &self.job.layout);
        let start = layout.starts.iter().max().unwrap_or(&0);
        let column = self.job.sweep.offsets.iter().max().unwrap_or(&0);
        let last_group = (self.blocks * plan.groups - 1) * plan.sources * plan.channel_len;
        let outputs_len = self.blocks * self.job.packed_outputs_len();
        for (input, output) in self.pairs {
            assert!(last_group + column + start + lanes <= input.len(), "packed input too short");
            assert!(outputs_len <= output.len(), "packed output too short");
        }
    }
}

impl<T: Element> SimdTask<T> for BlockTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(mut self) {
        self.check_bounds(S::LANES);
        let (plan, layout) = (self.job.plan, &self.job.layout);
        let (outputs_per_tile, columns_per_tile) = tile_sizes(S::REGISTERS);
        for first_vector in (0..layout.starts.len()).step_by(VECTORS_PER_BLOCK) {
            for group in 0..plan.groups {
                for (output, outputs) in tiles(plan.targets, outputs_per_tile) {
                    let output = group * plan.targets + output;
                    for (column, columns) in tiles(self.job.sweep.offsets.len(), columns_per_tile) {
                        let tile = Tile { first_vector, group, output, column };
                        macro_rules! tile_of {
                            ($($o:literal: $($c:literal)*,)*) => {
                                match (outputs, columns) {
                                    // SAFETY: `S` is the instruction set this task was dispatched to, and the bounds
                                    // of all tiles were checked above.
                                    $($(($o, $c) => unsafe { self.tile::<S, $o, $c>(tile) },)*)*
                                    _ => unreachable!("tiles are at most as large as these"),
                                }
                            };
                        }
                        tile_of!(6: 4 3 2 1, 5: 4 3 2 1, 4: 4 3 2 1, 3: 4 3 2 1, 2: 4 3 2 1, 1: 4 3 2 1,);
                    }
                }
            }
        }
    }
}

/// Where a register tile begins: among the vectors of a sample, output channels and (channel, tap) pairs.
#[derive(Clone, Copy)]
struct Tile {
    first_vector: usize,
    group: usize,
    output: usize,
    column: usize,
}

impl<T: Element> BlockTask<'_, T> {
    /// Adds `O` outputs by `C` columns of the gradient.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and `check_bounds` has passed.
    #[inline(always)]
    unsafe fn tile<S: Simd<Scalar = T>, const O: usize, const C: usize>(&mut self, tile: Tile) {
        let (outputs_per_tile, columns_per_tile) = tile_sizes(S::REGISTERS);
        if O > outputs_per_tile || C > columns_per_tile {
            unreachable!("no tile of this instruction set is so large"); // known when compiled: no code is made
        }
        // SAFETY: the caller's promise.
        let sums = unsafe { self.sum::<S, O, C>(tile) };
        let row_len = self.job.sweep.offsets.len();
        for (o, row) in sums.iter().enumerate() {
            let start = (tile.output + o) * row_len + tile.column;
            // SAFETY: the caller's promise of the instruction set.
            let sums = unsafe {
                let zero = S::splat(T::ZERO);
                S::reduce4(std::array::from_fn(|c| if c < C { row[c] } else { zero }))
            };
            // Four at once where there are four: beyond `C` this adds zeros.
            if let Some(totals) = self.sums[start..].first_chunk_mut::<4>() {
                (0..4).for_each(|c| totals[c] += sums[c]);
            } else {
                self.sums[start..].iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
        }
    }

    /// `Σ output · input` over terms, samples and up to `VECTORS_PER_BLOCK` vectors of pixels.
    ///
    /// # Safety
    /// As for `tile`.
    #[inline(always)]
    unsafe fn sum<S: Simd<Scalar = T>, const O: usize, const C: usize>(&self, tile: Tile) -> [[S::Vector; C]; O] {
        let (plan, layout) = (self.job.plan, &self.job.layout);
        let end = layout.starts.len().min(tile.first_vector + VECTORS_PER_BLOCK);
        let starts = &layout.starts[tile.first_vector..end];
        let columns: [usize; C] = std::array::from_fn(|c| self.job.sweep.offsets[tile.column + c]);
        let group_start = tile.group * plan.sources * plan.channel_len;
        let outputs_start = tile.output * layout.pixels + tile.first_vector * S::LANES;
        let outputs_len = self.job.packed_outputs_len();
        // SAFETY: of each block of samples, a tile reads `LANES` inputs from `group_start + column + start` on and the vectors
        // of `O` output channels; `check_bounds` has compared the largest of these with the lengths.
        unsafe {
            let mut sums = [[S::splat(T::ZERO); C]; O];
            for (inputs, outputs) in self.pairs {
                for block in 0..self.blocks {
                    let inputs = inputs.as_ptr().add(block * plan.packed_len() + group_start);
                    let mut outputs = outputs.as_ptr().add(block * outputs_len + outputs_start);
                    for &start in starts {
                        let input = inputs.add(start);
                        let input: [S::Vector; C] = std::array::from_fn(|c| S::load(input.add(columns[c])));
                        for (o, sums) in sums.iter_mut().enumerate() {
                            let output = S::load(outputs.add(o * layout.pixels));
                            for c in 0..C {
                                sums[c] = S::mul_add(output, input[c], sums[c]);
                            }
                        }
                        outputs = outputs.wrapping_add(S::LANES);
                    }
                }
            }
            sums
        }
    }
}
