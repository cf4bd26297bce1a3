//! The weight gradient: dot products of output pixels with shifted input pixels, several of each per register tile.

use rayon::prelude::*;

use super::Operand;
use super::pack::pack_sample;
use super::plan::{Plan, Sweep, tiles};
use crate::kernels::element::Element;
use crate::kernels::simd::{Simd, SimdTask};

/// Samples whose sum is one addend of the result; these are added in double precision.
const SAMPLES_PER_CHUNK: usize = 8;
/// Directions of one parallel task: enough to share the packing of shared operands.
const DIRECTIONS_PER_TASK: usize = 2;
/// Vectors that are summed in a register before it is added to memory; this bounds the rounding of long sums.
const VECTORS_PER_BLOCK: usize = 128;
/// Output channels and (input channel, tap) pairs of a register tile: 12 of 16 registers.
const OUTPUTS_PER_TILE: usize = 4;
const COLUMNS_PER_TILE: usize = 3;

/// Sums `terms` of (input, output) into `out [K, weights]`; `plan` is that of the convolution.
pub(super) fn weight_gradient<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [T],
) {
    assert_eq!(out.len(), directions * plan.weight_len, "length of the weight gradient of a convolution");
    let job = Job::new(plan, batch, terms);
    if job.layout.pixels == 0 || batch == 0 || out.is_empty() {
        out.fill(T::ZERO);
        return;
    }
    let pooled = rayon::current_thread_index().is_some();
    let per_task = if pooled { DIRECTIONS_PER_TASK } else { directions };
    let tasks: Vec<Task> = (0..batch)
        .step_by(SAMPLES_PER_CHUNK)
        .flat_map(|first| (0..directions).step_by(per_task).map(move |direction| (first, direction)))
        .map(|(first, direction)| Task {
            samples: first..batch.min(first + SAMPLES_PER_CHUNK),
            directions: direction..directions.min(direction + per_task),
        })
        .collect();
    let run = |(task, sums): (&Task, &mut [T])| job.run(task, sums);
    let task_len = per_task * plan.weight_len;
    if batch <= SAMPLES_PER_CHUNK {
        if pooled {
            tasks.par_iter().zip(out.par_chunks_mut(task_len)).for_each(run);
        } else {
            tasks.iter().zip(out.chunks_mut(task_len)).for_each(run);
        }
        return;
    }
    // One wave's partial sums are in memory together; its length does not change the order of additions.
    let wave = if pooled { 2 * rayon::current_num_threads() } else { 1 };
    let mut totals = vec![0.0; out.len()];
    let mut partials = vec![T::ZERO; wave * task_len];
    for tasks in tasks.chunks(wave) {
        if pooled {
            tasks.par_iter().zip(partials.par_chunks_mut(task_len)).for_each(run);
        } else {
            tasks.iter().zip(partials.chunks_mut(task_len)).for_each(run);
        }
        for (task, partial) in tasks.iter().zip(partials.chunks(task_len)) {
            let totals = &mut totals[task.directions.start * plan.weight_len..];
            totals.iter_mut().zip(partial).for_each(|(total, partial)| *total += partial.to_f64());
        }
    }
    out.iter_mut().zip(totals).for_each(|(out, total)| *out = T::from_f64(total));
}

/// A chunk of samples for some directions.
struct Task {
    samples: std::ops::Range<usize>,
    directions: std::ops::Range<usize>,
}

/// How packed output pixels meet packed input pixels.
struct Layout {
    /// Packed input offset of each vector of output pixels.
    starts: Vec<usize>,
    /// Numbers of one packed output channel: whole vectors.
    pixels: usize,
    /// Whether output channels are whole vectors where they lie.
    in_place: bool,
    /// Samples that are packed and summed together.
    block: usize,
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
            block: (VECTORS_PER_BLOCK / vectors.max(1)).clamp(1, SAMPLES_PER_CHUNK),
        };
        Self { plan, sweep, batch, terms, layout }
    }

    /// Writes the sums of one task, `[directions of the task, weights]`.
    fn run(&self, task: &Task, sums: &mut [T]) {
        let (plan, layout) = (self.plan, &self.layout);
        let input_len = layout.block * plan.packed_len();
        let output_len = layout.block * plan.groups * plan.targets * layout.pixels;
        let mut inputs = vec![T::ZERO; self.terms.len() * input_len + plan.lanes];
        let mut outputs = vec![T::ZERO; if layout.in_place { 0 } else { self.terms.len() * output_len }];
        sums.fill(T::ZERO);
        for first in task.samples.clone().step_by(layout.block) {
            let samples = first..task.samples.end.min(first + layout.block);
            for (k, sums) in task.directions.clone().zip(sums.chunks_exact_mut(plan.weight_len)) {
                let fresh = k == task.directions.start;
                let mut pairs = Vec::with_capacity(self.terms.len());
                for (index, (input, output)) in self.terms.iter().enumerate() {
                    if !plan.in_place && (input.stacked || fresh) {
                        self.pack_inputs(input, k, samples.clone(), &mut inputs[index * input_len..][..input_len]);
                    }
                    if !layout.in_place && (output.stacked || fresh) {
                        self.pack_outputs(output, k, samples.clone(), &mut outputs[index * output_len..][..output_len]);
                    }
                }
                for (index, (input, output)) in self.terms.iter().enumerate() {
                    let input = match plan.in_place {
                        true => self.block(input, k, &samples, plan.source_len()),
                        false => &inputs[index * input_len..],
                    };
                    let output = match layout.in_place {
                        true => self.block(output, k, &samples, plan.groups * plan.targets * plan.target_len),
                        false => &outputs[index * output_len..][..output_len],
                    };
                    pairs.push((input, output));
                }
                let samples = samples.len();
                T::dispatch(plan.isa, BlockTask { job: self, pairs: &pairs, samples, sums });
            }
        }
    }

    /// The values of some samples of direction `k`.
    fn block<'b>(&self, operand: &Operand<'b, T>, k: usize, samples: &std::ops::Range<usize>, len: usize) -> &'b [T] {
        let first = if operand.stacked { k * self.batch + samples.start } else { samples.start };
        &operand.data[first * len..][..samples.len() * len]
    }

    fn pack_inputs(&self, operand: &Operand<T>, k: usize, samples: std::ops::Range<usize>, packed: &mut [T]) {
        for (sample, packed) in samples.zip(packed.chunks_exact_mut(self.plan.packed_len())) {
            pack_sample(self.plan, operand.part(k, self.batch, sample, self.plan.source_len()), packed);
        }
    }

    /// Fills the last vector of each row of output pixels with zeros, which cancel what the input has there.
    fn pack_outputs(&self, operand: &Operand<T>, k: usize, samples: std::ops::Range<usize>, packed: &mut [T]) {
        let len = self.plan.groups * self.plan.targets * self.plan.target_len;
        let source = self.block(operand, k, &samples, len);
        for (channel, packed) in
            source.chunks_exact(self.plan.target_len).zip(packed.chunks_exact_mut(self.layout.pixels))
        {
            for (position, packed) in self.sweep.positions.iter().zip(packed.chunks_exact_mut(self.plan.lanes)) {
                packed[..position.count].copy_from_slice(&channel[position.target..][..position.count]);
            }
        }
    }
}

/// Adds one block of samples of one direction to its sums.
struct BlockTask<'a, T> {
    job: &'a Job<'a, T>,
    /// (Packed input, packed output) of each term.
    pairs: &'a [(&'a [T], &'a [T])],
    samples: usize,
    sums: &'a mut [T],
}

impl<T: Element> BlockTask<'_, T> {
    /// Panics unless every tile reads inside its operands.
    fn check_bounds(&self, lanes: usize) {
        let (plan, layout) = (self.job.plan, &self.job.layout);
        let start = layout.starts.iter().max().unwrap_or(&0);
        let column = self.job.sweep.offsets.iter().max().unwrap_or(&0);
        let last_group = (self.samples * plan.groups - 1) * plan.sources * plan.channel_len;
        let outputs_len = self.samples * plan.groups * plan.targets * layout.pixels;
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
        for first_vector in (0..layout.starts.len()).step_by(VECTORS_PER_BLOCK) {
            for group in 0..plan.groups {
                for (output, outputs) in tiles(plan.targets, OUTPUTS_PER_TILE) {
                    let output = group * plan.targets + output;
                    for (column, columns) in tiles(self.job.sweep.offsets.len(), COLUMNS_PER_TILE) {
                        let tile = Tile { first_vector, group, output, column };
                        macro_rules! tile_of {
                            ($(($o:literal, $c:literal))*) => {
                                match (outputs, columns) {
                                    // SAFETY: `S` is the instruction set this task was dispatched to, and the bounds
                                    // of all tiles were checked above.
                                    $(($o, $c) => unsafe { self.tile::<S, $o, $c>(tile) },)*
                                    _ => unreachable!("tiles are at most as large as these"),
                                }
                            };
                        }
                        tile_of!((4, 3)(4, 2)(4, 1)(3, 3)(3, 2)(3, 1)(2, 3)(2, 2)(2, 1)(1, 3)(1, 2)(1, 1));
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
        let outputs_len = plan.groups * plan.targets * layout.pixels;
        // SAFETY: of each sample, a tile reads `LANES` inputs from `group_start + column + start` on and the vectors
        // of `O` output channels; `check_bounds` has compared the largest of these with the lengths.
        unsafe {
            let mut sums = [[S::splat(T::ZERO); C]; O];
            for (inputs, outputs) in self.pairs {
                for sample in 0..self.samples {
                    let inputs = inputs.as_ptr().add(sample * plan.packed_len() + group_start);
                    let mut outputs = outputs.as_ptr().add(sample * outputs_len + outputs_start);
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
