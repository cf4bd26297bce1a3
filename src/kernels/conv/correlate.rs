//! The convolution and its input gradient: register tiles of pixels times target channels over packed sources.

use rayon::prelude::*;

use super::Operand;
use super::pack::{TARGETS_PER_TILE, pack_sample, pack_weights};
use super::plan::{Plan, Position, Sweep, tiles};
use crate::kernels::element::Element;
use crate::kernels::simd::{Simd, SimdTask};

/// Vectors of pixels in one register tile.
const VECTORS_PER_TILE: usize = 4;
/// The same for a single target (depthwise): enough independent sums to hide the latency of an addition.
const VECTORS_OF_ONE_TARGET: usize = 8;
/// Room for the lanes of any vector type.
const MAX_LANES: usize = 16;
/// Outputs of one parallel task: enough directions to share the packing of a shared sample.
const ITEMS_PER_TASK: usize = 4;

/// Sums `terms` of (source, weights) into `out [K, N, targets]`.
pub(super) fn correlate<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [T],
) {
    let item_len = plan.groups * plan.targets * plan.target_len;
    assert_eq!(out.len(), directions * batch * item_len, "length of the output of a convolution");
    if out.is_empty() {
        return;
    }
    let weights: Vec<Vec<T>> = terms.iter().map(|(_, weights)| pack_weights(plan, directions, weights)).collect();
    let mut items: Vec<Item<T>> = out
        .chunks_exact_mut(item_len)
        .enumerate()
        .map(|(index, out)| Item { direction: index / batch, sample: index % batch, out })
        .collect();
    // All directions of a sample together, so that a shared sample is packed once.
    items.sort_by_key(|item| (item.sample, item.direction));

    let run = |workspace: &mut Workspace<T>, items: &mut [Item<T>]| {
        for item in items {
            run_item(plan, batch, terms, &weights, workspace, item);
        }
    };
    let workspace = || Workspace::new(plan, terms.len());
    if rayon::current_thread_index().is_some() {
        items.par_chunks_mut(ITEMS_PER_TASK).for_each_init(workspace, run);
    } else {
        run(&mut workspace(), &mut items);
    }
}

/// One sample of one direction of the output.
struct Item<'a, T> {
    direction: usize,
    sample: usize,
    out: &'a mut [T],
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
    weights: &[Vec<T>],
    workspace: &mut Workspace<T>,
    item: &mut Item<T>,
) {
    let (packed_len, source_len) = (plan.packed_len(), plan.source_len());
    let fresh = workspace.shared_sample != Some(item.sample);
    workspace.shared_sample = Some(item.sample);
    let samples = terms.iter().map(|(source, _)| source.part(item.direction, batch, item.sample, source_len));
    if !plan.in_place {
        for (index, (sample, (source, _))) in samples.clone().zip(terms).enumerate() {
            if source.stacked || fresh {
                pack_sample(plan, sample, &mut workspace.packed[index * packed_len..][..packed_len]);
            }
        }
    }
    let sources: Vec<(&[T], &[T])> = samples
        .zip(terms.iter().zip(weights))
        .enumerate()
        .map(|(index, (sample, ((_, operand), weights)))| {
            let packed = if plan.in_place { sample } else { &workspace.packed[index * packed_len..] };
            let copy = if operand.stacked { item.direction } else { 0 };
            (packed, &weights[copy * plan.weight_len..][..plan.weight_len])
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
    /// (Packed source, packed weights) of each term.
    sources: &'a [(&'a [T], &'a [T])],
    out: &'a mut [T],
}

impl<T: Element> SweepTask<'_, T> {
    /// Panics unless every tile of this sweep reads inside its sources.
    fn check_bounds(&self, lanes: usize) {
        let Self { plan, sweep, .. } = self;
        let start = sweep.positions.iter().map(|position| position.start).max().unwrap_or(0);
        let Some(offset) = sweep.offsets.iter().max() else { return };
        let source_end = (plan.groups - 1) * plan.sources * plan.channel_len + offset + start + lanes;
        let weights_end = sweep.weights_start + plan.groups * plan.targets * sweep.offsets.len();
        for (source, weights) in self.sources {
            assert!(source_end <= source.len() && weights_end <= weights.len(), "packed operand too short");
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
        for group in 0..plan.groups {
            for (first, count) in tiles(plan.targets, TARGETS_PER_TILE) {
                let target = group * plan.targets + first;
                let source_start = group * plan.sources * plan.channel_len;
                let weights_start = sweep.weights_start + target * sweep.offsets.len();
                let most = if count == 1 { VECTORS_OF_ONE_TARGET } else { VECTORS_PER_TILE };
                for (position, vectors) in tiles(sweep.positions.len(), most) {
                    let tile = Tile { source_start, weights_start, position, target };
                    macro_rules! tile_of {
                        ($(($v:literal, $o:literal))*) => {
                            match (vectors, count) {
                                // SAFETY: `S` is the instruction set this task was dispatched to, and the bounds of
                                // all tiles of this sweep were checked above.
                                $(($v, $o) => unsafe { self.tile::<S, $v, $o>(tile) },)*
                                _ => unreachable!("tiles are at most as large as these"),
                            }
                        };
                    }
                    tile_of!((4, 3)(4, 2)(3, 3)(3, 2)(2, 3)(2, 2)(1, 3)(1, 2)(8, 1)(7, 1)(6, 1)(5, 1)(4, 1)(3, 1)(
                        2, 1
                    )(1, 1));
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
        let positions = &self.sweep.positions[tile.position..][..V];
        // SAFETY: the caller's promise.
        let sums = unsafe { self.sum::<S, V, O>(tile, std::array::from_fn(|v| positions[v].start)) };
        for (v, &Position { target, count, .. }) in positions.iter().enumerate() {
            for (o, &sum) in sums[v].iter().enumerate() {
                let targets = &mut self.out[(tile.target + o) * self.plan.target_len + target..];
                // SAFETY: the caller's promise of the instruction set.
                unsafe { write::<S>(sum, count, self.sweep.step, targets) };
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
        // SAFETY: a tile reads `O` weights per offset from `weights_start` on and, in the source, `LANES` numbers from
        // `source_start + offset + start` on; `check_bounds` has compared the largest of these with the lengths.
        unsafe {
            let mut sums = [[S::splat(T::ZERO); O]; V];
            for (source, weights) in self.sources {
                let source = source.as_ptr().add(tile.source_start);
                let mut weights = weights.as_ptr().add(tile.weights_start);
                for &offset in &self.sweep.offsets {
                    let pixels = source.add(offset);
                    let weight: [S::Vector; O] = std::array::from_fn(|o| S::splat(*weights.add(o)));
                    for v in 0..V {
                        let vector = S::load(pixels.add(starts[v]));
                        for o in 0..O {
                            sums[v][o] = S::mul_add(vector, weight[o], sums[v][o]);
                        }
                    }
                    weights = weights.add(O);
                }
            }
            sums
        }
    }
}

/// Writes the first `count` lanes of `vector` to every `step`-th place of `targets`.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn write<S: Simd<Scalar: Element>>(vector: S::Vector, count: usize, step: usize, targets: &mut [S::Scalar]) {
    const { assert!(S::LANES <= MAX_LANES) };
    if count == S::LANES && step == 1 {
        let targets = &mut targets[..S::LANES];
        // SAFETY: `targets` has `LANES` places.
        unsafe { S::store(targets.as_mut_ptr(), vector) };
        return;
    }
    let mut lanes = [S::Scalar::ZERO; MAX_LANES];
    // SAFETY: `lanes` has at least `LANES` places.
    unsafe { S::store(lanes.as_mut_ptr(), vector) };
    if count == S::LANES && step == 2 {
        // The constant length lets the compiler unroll this.
        let targets = &mut targets[..2 * S::LANES - 1];
        (0..S::LANES).for_each(|lane| targets[2 * lane] = lanes[lane]);
    } else {
        let targets = targets.iter_mut().step_by(step);
        targets.zip(&lanes[..count]).for_each(|(target, &value)| *target = value);
    }
}
