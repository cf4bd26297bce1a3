//! The convolution and its input gradient.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::product::{Pair, Shape, Store, multiply};
use super::tiles::Tiles;
use super::tiling::{FREQUENCIES, Tiling, directions_per_group, frequency_len};
use super::transform;
use super::transform::Transform;
use crate::kernels::conv::Operand;
use crate::kernels::element::Element;
use crate::kernels::gemm::GRAIN;
use crate::kernels::parallel;
use crate::kernels::simd::{MAX_LANES, Simd, SimdTask};

/// Sums `terms` of (source, weights) into `out [K, N, targets]`.
pub(in crate::kernels::conv) fn correlate<T: Element>(
    tiling: &Tiling,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    let target_len = tiling.targets.image_len();
    assert_eq!(out.len(), directions * batch * target_len, "length of the output of a convolution");
    if out.is_empty() {
        return;
    }
    let most_rows = tiling.rows_per_block::<T>(terms.len() * tiling.sources.channels + tiling.targets.channels);
    let samples_per_task = (most_rows / tiling.tiles[0]).max(1);
    let group = directions_per_group::<T>(tiling, directions);
    for (index, out) in out.chunks_mut(group * batch * target_len).enumerate() {
        let directions = index * group..index * group + out.len() / (batch * target_len);
        let filters: Vec<Vec<Vec<T>>> = terms
            .iter()
            .map(|(_, weights)| {
                let count = if weights.stacked { directions.len() } else { 1 };
                parallel::map(count, |k| {
                    let weights = weights.parts(directions.start + k, 1, &(0..1), tiling.weight_len());
                    T::dispatch(tiling.isa, FilterTask { tiling, weights })
                })
            })
            .collect();
        let mut outs: Vec<_> =
            out.chunks_mut(batch * target_len).map(|out| out.chunks_mut(samples_per_task * target_len)).collect();
        let mut tasks: Vec<CorrelateTask<'_, T>> = (0..batch)
            .step_by(samples_per_task)
            .map(|first| CorrelateTask {
                tiling,
                most_rows,
                batch,
                samples: first..batch.min(first + samples_per_task),
                directions: directions.clone(),
                terms,
                filters: &filters,
                outs: outs.iter_mut().filter_map(Iterator::next).collect(),
            })
            .collect();
        if parallel::in_pool() {
            tasks.into_par_iter().for_each(|task| T::dispatch(tiling.isa, task));
        } else {
            tasks.drain(..).for_each(|task| T::dispatch(tiling.isa, task));
        }
    }
}

/// Transforms the weights of one direction: `[frequency][source][target]`.
struct FilterTask<'a, T> {
    tiling: &'a Tiling,
    weights: &'a [T],
}

impl<T: Element> SimdTask<T> for FilterTask<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) -> Vec<T> {
        let Self { tiling, weights } = self;
        let (sources, targets) = (tiling.sources.channels, tiling.targets.channels);
        let step = frequency_len(sources, targets);
        let mut out = vec![T::ZERO; FREQUENCIES * step];
        let mut taps = [[T::ZERO; MAX_LANES]; MAX_LANES];
        for target in (0..targets).step_by(S::LANES) {
            for source in 0..sources {
                // The first filter of this vector of targets, and the distance to the next.
                let (first, distance) = match tiling.transposed {
                    true => (9 * (source * targets + target), 9),
                    false => (9 * (target * sources + source), 9 * sources),
                };
                for tap in (0..9).step_by(S::LANES) {
                    let weights = &weights[first + tap..];
                    if (S::LANES - 1) * distance + S::LANES <= weights.len() {
                        // A pointer to row `tap` alone must not reach the rows after it.
                        let rows = &mut taps.as_flattened_mut()[tap * MAX_LANES..];
                        assert!(rows.len() >= S::LANES * MAX_LANES);
                        // SAFETY: `S` is the instruction set this task was dispatched to; the last filter has just been
                        // seen to lie in `weights`, and `rows` to hold `LANES` rows.
                        unsafe { S::transpose(weights.as_ptr(), distance, rows.as_mut_ptr(), MAX_LANES) };
                        continue;
                    }
                    for lane in 0..S::LANES {
                        let filter = &weights[lane * distance..][..S::LANES.min(9 - tap)];
                        filter.iter().zip(&mut taps[tap..]).for_each(|(&weight, taps)| taps[lane] = weight);
                    }
                }
                let out = &mut out[source * targets + target..];
                assert!(out.len() >= (FREQUENCIES - 1) * step + S::LANES);
                // SAFETY: `S` is the instruction set this task was dispatched to; the assert bounds the last store.
                unsafe {
                    let mut filter = [[S::splat(T::ZERO); 3]; 3];
                    for tap in 0..9 {
                        let from = if tiling.transposed { 8 - tap } else { tap };
                        filter[tap / 3][tap % 3] = S::load(taps[from].as_ptr());
                    }
                    let transformed = transform::Filter::square::<S>(filter);
                    for (frequency, &vector) in transformed.as_flattened().iter().enumerate() {
                        S::store(out.as_mut_ptr().add(frequency * step), vector);
                    }
                }
            }
        }
        out
    }
}

/// All outputs of some samples.
struct CorrelateTask<'a, T> {
    tiling: &'a Tiling,
    most_rows: usize,
    batch: usize,
    samples: Range<usize>,
    directions: Range<usize>,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    /// Of each term, for each direction or for all.
    filters: &'a [Vec<Vec<T>>],
    /// Outputs of the samples, for each direction.
    outs: Vec<&'a mut [MaybeUninit<T>]>,
}

impl<T: Element> SimdTask<T> for CorrelateTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { tiling, most_rows, batch, samples, directions, terms, filters, mut outs } = self;
        let most_rows = most_rows.min(samples.len() * tiling.tiles[0]);
        let [sources, targets] = [&tiling.sources, &tiling.targets].map(|strips| strips.channels);
        let mut spread: Vec<Tiles<T>> = terms.iter().map(|_| Tiles::new(tiling, &tiling.sources, most_rows)).collect();
        let mut products = Tiles::new(tiling, &tiling.targets, most_rows);
        let filter_step = frequency_len(sources, targets);
        for block in tiling.blocks(samples.len(), most_rows) {
            let tiles = block.len() * tiling.tiles[1];
            let shape = Shape { rows: tiles.next_multiple_of(GRAIN), len: sources, columns: targets };
            for (k, direction) in directions.clone().enumerate() {
                for ((source, _), spread) in terms.iter().zip(&mut spread) {
                    if source.stacked || k == 0 {
                        let images = source.parts(direction, batch, &samples, tiling.sources.image_len());
                        // SAFETY: `S` is the instruction set this task was dispatched to.
                        unsafe { spread.read::<S, transform::Input, 4>(images, &block) };
                    }
                }
                for frequency in 0..FREQUENCIES {
                    let pairs: Vec<Pair<T>> = spread
                        .iter()
                        .zip(filters)
                        .map(|(spread, filters)| {
                            let filter = &filters[if filters.len() > 1 { k } else { 0 }];
                            (spread.frequency(frequency), &filter[frequency * filter_step..])
                        })
                        .collect();
                    let out = products.frequency_mut(frequency);
                    // SAFETY: as above.
                    unsafe { multiply::<S, false>(&pairs, shape, Store::Set, out) };
                }
                // SAFETY: as above.
                unsafe { products.write::<S>(outs[k], &block) };
            }
        }
    }
}
