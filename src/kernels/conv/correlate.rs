//! The convolution and its input gradient: register tiles of pixels times target channels over packed sources.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::operand::Operand;
use super::pack::pack_samples;
use super::plan::{Plan, Position, Sweep, tile_sizes};
use super::write::{write, write_interleaved};
use crate::kernels::element::Element;
use crate::kernels::parallel;
use crate::kernels::simd::{Simd, SimdTask};
use crate::kernels::tiles::tiles;

/// Vectors of pixels of a tile with a single target (depthwise): enough independent sums to hide the latency of an addition.
const VECTORS_OF_ONE_TARGET: usize = 8;
/// Outputs of one parallel task: enough directions to share the packing of a shared sample.
const ITEMS_PER_TASK: usize = 4;

/// Sums `terms` of (source, weights) into `out [K, N, targets]`.
pub(super) fn correlate<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    let targets_len = plan.targets_len();
    assert_eq!(out.len(), directions * batch * targets_len, "length of the output of a convolution");
    if out.is_empty() {
        return;
    }
    let mut items: Vec<Item<T>> = out
        .chunks_exact_mut(batch * targets_len)
        .enumerate()
        .flat_map(|(direction, out)| {
            let blocks = out.chunks_mut(plan.samples * targets_len).enumerate();
            blocks.map(move |(block, out)| Item { direction, sample: block * plan.samples, out })
        })
        .collect();
    // All directions of a sample together, so that a shared sample is packed once.
    items.sort_by_key(|item| (item.sample, item.direction));

    let run = |workspace: &mut Workspace<T>, items: &mut [Item<T>]| {
        for item in items {
            run_item(plan, batch, terms, workspace, item);
        }
    };
    let workspace = || Workspace::new(plan, terms.len());
    if parallel::in_pool() {
        items.par_chunks_mut(ITEMS_PER_TASK).for_each_init(workspace, run);
    } else {
        run(&mut workspace(), &mut items);
    }
}

/// A block of interleaved samples of one direction of the output.
struct Item<'a, T> {
    direction: usize,
    /// The first.
    sample: usize,
    out: &'a mut [MaybeUninit<T>],
}

/// Packed sources, one after the other, and the sample that the shared ones hold.
struct Workspace<T> {
    packed: Vec<T>,
    shared_sample: Option<usize>,
}

impl<T: Element> Workspace<T> {
    fn new(plan: &Plan, num_terms: usize) -> Self {
        let packed = vec![T::ZERO; num_terms * plan.packed_len() + plan.lanes];
        Self { packed, shared_sample: None }
    }
}

fn run_item<T: Element>(
    plan: &Plan,
    batch: usize,
    terms: &[(Operand<T>, Operand<T>)],
    workspace: &mut Workspace<T>,
    item: &mut Item<T>,
) {
    let packed_len = plan.packed_len();
    let fresh = workspace.shared_sample != Some(item.sample);
    workspace.shared_sample = Some(item.sample);
    let samples = item.sample..batch.min(item.sample + plan.samples);
    let blocks = terms.iter().map(|(source, _)| source.parts(item.direction, batch, &samples, plan.source_len()));
    if !plan.in_place {
        for (index, (block, (source, _))) in blocks.clone().zip(terms).enumerate() {
            if source.stacked || fresh {
                pack_samples(plan, block, &mut workspace.packed[index * packed_len..][..packed_len]);
            }
        }
    }
    let sources: Vec<(&[T], &[T])> = blocks
        .zip(terms)
        .enumerate()
        .map(|(index, (block, (_, weights)))| {
            let source = if plan.in_place { block } else { &workspace.packed[index * packed_len..] };
            (source, weights.parts(item.direction, 1, &(0..1), plan.weight_len))
        })
        .collect();
    for sweep in &plan.sweeps {
        T::dispatch(plan.isa, SweepTask { plan, sweep, sources: &sources, out: item.out });
    }
}

/// One sweep over all targets of one output.
struct SweepTask<'a, T> {
    plan: &'a Plan,
    sweep: &'a Sweep,
    /// (Packed source, weights) of each term.
    sources: &'a [(&'a [T], &'a [T])],
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Element> SweepTask<'_, T> {
    /// Panics unless every tile of this sweep reads inside its sources.
    fn check_bounds(&self, lanes: usize) {
        let Self { plan, sweep, .. } = self;
        let start = sweep.positions.iter().map(|position| position.start).max().unwrap_or(0);
        let (Some(offset), Some(weight)) = (sweep.offsets.iter().max(), sweep.weight_offsets.iter().max()) else {
            return;
        };
        let source_end = (plan.groups - 1) * plan.sources * plan.channel_len + offset + start + lanes;
        let last_group = (plan.groups - 1) * (plan.weight_len / plan.groups);
        let weights_end = last_group + (plan.targets - 1) * plan.target_step + weight + 1;
        for (source, weights) in self.sources {
            assert!(source_end <= source.len() && weights_end <= weights.len(), "operand of a convolution too short");
        }
    }
}

impl<T: Element> SimdTask<T> for SweepTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(mut self) {
        let Self { plan, sweep, .. } = self;
        if sweep.positions.is_empty() {
            return;
        }
        self.check_bounds(S::LANES);
        let (vectors_per_tile, targets_per_tile) = tile_sizes(S::REGISTERS);
        for group in 0..plan.groups {
            for (first, count) in tiles(plan.targets, targets_per_tile) {
                let target = group * plan.targets + first;
                let source_start = group * plan.sources * plan.channel_len;
                let weights_start = group * (plan.weight_len / plan.groups) + first * plan.target_step;
                let most = if count == 1 { VECTORS_OF_ONE_TARGET } else { vectors_per_tile };
                for (position, vectors) in tiles(sweep.positions.len(), most) {
                    let tile = Tile { source_start, weights_start, position, target };
                    macro_rules! tile_of {
                        ($($o:literal: $($v:literal)*,)*) => {
                            match (vectors, count) {
                                // SAFETY: `S` is the instruction set this task was dispatched to, and the bounds of
                                // all tiles of this sweep were checked above.
                                $($(($v, $o) => unsafe { self.tile::<S, $v, $o>(tile) },)*)*
                                _ => unreachable!("tiles are at most as large as these"),
                            }
                        };
                    }
                    tile_of!(4: 6 5 4 3 2 1, 3: 6 5 4 3 2 1, 2: 6 5 4 3 2 1, 1: 8 7 6 5 4 3 2 1,);
                }
            }
        }
    }
}

/// Where a register tile begins: in each source, in each weights, among positions and among targets.
#[derive(Clone, Copy)]
struct Tile {
    source_start: usize,
    weights_start: usize,
    position: usize,
    target: usize,
}

impl<T: Element> SweepTask<'_, T> {
    /// Computes and writes `V` vectors of pixels for `O` targets.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and `check_bounds` has passed.
    #[inline(always)]
    unsafe fn tile<S: Simd<Scalar = T>, const V: usize, const O: usize>(&mut self, tile: Tile) {
        let (vectors_per_tile, targets_per_tile) = tile_sizes(S::REGISTERS);
        if O > targets_per_tile || O > 1 && V > vectors_per_tile {
            unreachable!("no tile of this instruction set is so large"); // known when compiled: no code is made
        }
        let (plan, sweep) = (self.plan, self.sweep);
        let positions = &sweep.positions[tile.position..][..V];
        // SAFETY: the caller's promise.
        let sums = unsafe { self.sum::<S, V, O>(tile, std::array::from_fn(|v| positions[v].start)) };
        for (v, &Position { target, count, .. }) in positions.iter().enumerate() {
            for (o, &sum) in sums[v].iter().enumerate() {
                let start = (tile.target + o) * plan.target_len + target;
                // SAFETY: the caller's promise of the instruction set.
                unsafe {
                    if plan.samples == 1 {
                        write::<S>(sum, count, sweep.step, &mut self.out[start..]);
                    } else {
                        let samples = self.out.chunks_exact_mut(plan.targets_len()).map(|out| &mut out[start..]);
                        write_interleaved::<S>(sum, count, plan.samples, sweep.step, samples);
                    }
                }
            }
        }
    }

    /// `Σ weight · pixels` over terms, source channels and taps.
    ///
    /// # Safety
    /// As for `tile`.
    #[inline(always)]
    unsafe fn sum<S: Simd<Scalar = T>, const V: usize, const O: usize>(
        &self,
        tile: Tile,
        starts: [usize; V],
    ) -> [[S::Vector; O]; V] {
        let step = self.plan.target_step;
        // SAFETY: for each offset a tile reads, in the source, `LANES` numbers from `source_start + offset + start` on
        // and, in the weights, one for each target; `check_bounds` has compared the largest of these with the lengths.
        unsafe {
            let mut sums = [[S::splat(T::ZERO); O]; V];
            for (source, weights) in self.sources {
                let source = source.as_ptr().add(tile.source_start);
                let weights = weights.as_ptr().add(tile.weights_start);
                for (&offset, &weight) in self.sweep.offsets.iter().zip(&self.sweep.weight_offsets) {
                    let (pixels, weights) = (source.add(offset), weights.add(weight));
                    let weights: [S::Vector; O] = std::array::from_fn(|o| S::splat(*weights.add(o * step)));
                    for v in 0..V {
                        let pixels = S::load(pixels.add(starts[v]));
                        for o in 0..O {
                            sums[v][o] = S::mul_add(pixels, weights[o], sums[v][o]);
                        }
                    }
                }
            }
            sums
        }
    }
}
