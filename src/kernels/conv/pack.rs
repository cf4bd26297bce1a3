//! Copies of samples and weights in the order in which the register tiles read them.

use super::Operand;
use super::plan::{Plan, tiles};
use crate::kernels::element::Element;

/// Channels of one register tile over targets; with four vectors of pixels this fills 12 of 16 registers.
pub(super) const TARGETS_PER_TILE: usize = 3;

/// Copies one source sample into `packed`, whose padding is and stays zero.
pub(super) fn pack_sample<T: Element>(plan: &Plan, sample: &[T], packed: &mut [T]) {
    let (rows, columns) = (&plan.rows, &plan.columns);
    let (source_len, pitch) = (rows.source * columns.source, columns.length);
    if source_len == 0 || plan.channel_len == 0 {
        return;
    }
    for (channel, packed) in sample.chunks_exact(source_len).zip(packed.chunks_exact_mut(plan.channel_len)) {
        let mut plane = 0;
        for &row_phase in &rows.phases {
            let (row_range, first_row) = rows.inside(row_phase);
            for &column_phase in &columns.phases {
                let (column_range, first_column) = columns.inside(column_phase);
                let row_range = if column_range.is_empty() { 0..0 } else { row_range.clone() };
                for (i, row) in row_range.enumerate() {
                    let source = (first_row + i * rows.step) * columns.source + first_column;
                    let target = &mut packed[plane + row * pitch..][column_range.clone()];
                    copy_strided(&channel[source..], columns.step, target);
                }
                plane += rows.length * pitch;
            }
        }
    }
}

#[inline(always)]
fn copy_strided<T: Copy>(source: &[T], step: usize, target: &mut [T]) {
    match step {
        1 => target.copy_from_slice(&source[..target.len()]),
        2 => {
            let (pairs, last) = source.as_chunks::<2>();
            target.iter_mut().zip(pairs).for_each(|(target, pair)| *target = pair[0]);
            if let (Some(target), Some(&last)) = (target.get_mut(pairs.len()), last.first()) {
                *target = last;
            }
        }
        _ => target.iter_mut().zip(source.iter().step_by(step)).for_each(|(target, &value)| *target = value),
    }
}

/// All copies of a weight operand: `[K?][sweep][group][tile][source][tap][target of the tile]`.
pub(super) fn pack_weights<T: Element>(plan: &Plan, directions: usize, operand: &Operand<T>) -> Vec<T> {
    let copies = if operand.stacked { directions } else { 1 };
    let mut packed = vec![T::ZERO; copies * plan.weight_len];
    let mut rest = &mut packed[..];
    for k in 0..copies {
        let weights = operand.part(k, 1, 0, plan.weight_len);
        for sweep in &plan.sweeps {
            for group in weights.chunks_exact(plan.weight_len / plan.groups) {
                for (first, count) in tiles(plan.targets, TARGETS_PER_TILE) {
                    let tile;
                    (tile, rest) = rest.split_at_mut(count * sweep.offsets.len());
                    let group = &group[first * plan.target_step..];
                    match count {
                        3 => interleave::<T, 3>(plan, group, &sweep.kernel_indices, tile),
                        2 => interleave::<T, 2>(plan, group, &sweep.kernel_indices, tile),
                        _ => interleave::<T, 1>(plan, group, &sweep.kernel_indices, tile),
                    }
                }
            }
        }
    }
    packed
}

/// `[source][tap][target]` for `N` targets.
fn interleave<T: Copy, const N: usize>(plan: &Plan, weights: &[T], taps: &[usize], packed: &mut [T]) {
    let Some(kernel_len) = taps.iter().max().map(|last| last + 1) else { return };
    for (source, packed) in packed.chunks_exact_mut(N * taps.len()).enumerate() {
        let kernels: [&[T]; N] = std::array::from_fn(|target| {
            &weights[target * plan.target_step + source * plan.source_step..][..kernel_len]
        });
        for (&tap, packed) in taps.iter().zip(packed.chunks_exact_mut(N)) {
            for (packed, kernel) in packed.iter_mut().zip(kernels) {
                *packed = kernel[tap];
            }
        }
    }
}
