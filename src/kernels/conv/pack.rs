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
        2 => target.iter_mut().zip(source.chunks(2)).for_each(|(target, pair)| *target = pair[0]),
        _ => target.iter_mut().zip(source.iter().step_by(step)).for_each(|(target, &value)| *target = value),
    }
}

/// All copies of a weight operand: `[K?][sweep][group][tile][source][tap][target of the tile]`.
pub(super) fn pack_weights<T: Element>(plan: &Plan, directions: usize, operand: &Operand<T>) -> Vec<T> {
    let copies = if operand.stacked { directions } else { 1 };
    let mut packed = Vec::with_capacity(copies * plan.weight_len);
    for k in 0..copies {
        let weights = operand.part(k, 1, 0, plan.weight_len);
        for sweep in &plan.sweeps {
            for group in 0..plan.groups {
                let group = &weights[group * (plan.weight_len / plan.groups)..];
                for (first, count) in tiles(plan.targets, TARGETS_PER_TILE) {
                    for source in 0..plan.sources {
                        let tile = &group[first * plan.target_step + source * plan.source_step..];
                        for &index in &sweep.kernel_indices {
                            packed.extend((0..count).map(|target| tile[target * plan.target_step + index]));
                        }
                    }
                }
            }
        }
    }
    packed
}
