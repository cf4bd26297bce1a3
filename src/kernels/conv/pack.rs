//! Copies of samples in the order in which the register tiles read them.

use std::mem::MaybeUninit;

use super::plan::Plan;
use crate::kernels::element::Element;

/// Copies up to `plan.samples` source samples into one packed block, whose padding is and stays zero.
pub(super) fn pack_samples<T: Element>(plan: &Plan, samples: &[T], packed: &mut [T]) {
    let sample_len = plan.source_len();
    if sample_len == 0 || plan.channel_len == 0 {
        return;
    }
    let (rows, columns, interleaved) = (&plan.rows, &plan.columns, plan.samples);
    let (channel_len, pitch) = (rows.source * columns.source, columns.length * interleaved);
    for (channel, packed) in packed.chunks_exact_mut(plan.channel_len).take(sample_len / channel_len).enumerate() {
        let mut plane = 0;
        for &row_phase in &rows.phases {
            let (row_range, first_row) = rows.inside(row_phase);
            for &column_phase in &columns.phases {
                let (column_range, first_column) = columns.inside(column_phase);
                let row_range = if column_range.is_empty() { 0..0 } else { row_range.clone() };
                for (i, row) in row_range.enumerate() {
                    let source = channel * channel_len + (first_row + i * rows.step) * columns.source + first_column;
                    let target = plane + row * pitch;
                    let target =
                        &mut packed[target + column_range.start * interleaved..][..column_range.len() * interleaved];
                    if interleaved == 1 {
                        copy_strided(&samples[source..], columns.step, target);
                        continue;
                    }
                    let rows = samples.chunks_exact(sample_len).map(|sample| &sample[source..]);
                    interleave(rows, columns.step, interleaved, target);
                }
                plane += rows.length * pitch;
            }
        }
    }
}

/// Writes the source samples of one packed block: the adjoint of [`pack_samples`]. Numbers that no tap reads are 0.
pub(super) fn unpack_samples<T: Element>(plan: &Plan, packed: &[T], samples: &mut [MaybeUninit<T>]) {
    let sample_len = plan.source_len();
    if sample_len == 0 || plan.channel_len == 0 {
        return samples.fill(MaybeUninit::new(T::ZERO));
    }
    let (rows, columns, interleaved) = (&plan.rows, &plan.columns, plan.samples);
    let (channel_len, pitch) = (rows.source * columns.source, columns.length * interleaved);
    for (channel, packed) in packed.chunks_exact(plan.channel_len).take(sample_len / channel_len).enumerate() {
        for sample in samples.chunks_exact_mut(sample_len) {
            sample[channel * channel_len..][..channel_len].fill(MaybeUninit::new(T::ZERO));
        }
        let mut plane = 0;
        for &row_phase in &rows.phases {
            let (row_range, first_row) = rows.inside(row_phase);
            for &column_phase in &columns.phases {
                let (column_range, first_column) = columns.inside(column_phase);
                let row_range = if column_range.is_empty() { 0..0 } else { row_range.clone() };
                for (i, row) in row_range.enumerate() {
                    let target = channel * channel_len + (first_row + i * rows.step) * columns.source + first_column;
                    let from = plane + row * pitch + column_range.start * interleaved;
                    let from = &packed[from..][..column_range.len() * interleaved];
                    if interleaved == 1 {
                        write_strided(from, columns.step, &mut samples[target..]);
                        continue;
                    }
                    for (s, sample) in samples.chunks_exact_mut(sample_len).enumerate() {
                        let target = sample[target..].iter_mut().step_by(columns.step);
                        let from = from[s..].iter().step_by(interleaved);
                        target.zip(from).for_each(|(target, &value)| _ = target.write(value));
                    }
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

#[inline(always)]
fn write_strided<T: Copy>(source: &[T], step: usize, target: &mut [MaybeUninit<T>]) {
    match step {
        1 => _ = target[..source.len()].write_copy_of_slice(source),
        _ => target.iter_mut().step_by(step).zip(source).for_each(|(target, &value)| _ = target.write(value)),
    }
}

/// Every `step`-th number of row `s` goes to the places `s, s + interleaved, …`.
#[inline(always)]
pub(super) fn interleave<'a, T: Copy + 'a>(
    mut rows: impl ExactSizeIterator<Item = &'a [T]>,
    step: usize,
    interleaved: usize,
    target: &mut [T],
) {
    if interleaved == 1 {
        return rows.for_each(|row| copy_strided(row, step, target));
    }
    if let (2, 2, 1) = (interleaved, rows.len(), step)
        && let (Some(first), Some(second)) = (rows.next(), rows.next())
    {
        let pairs = target.as_chunks_mut::<2>().0;
        return pairs.iter_mut().zip(first).zip(second).for_each(|((pair, &first), &second)| *pair = [first, second]);
    }
    for (s, row) in rows.enumerate() {
        let target = target[s..].iter_mut().step_by(interleaved);
        target.zip(row.iter().step_by(step)).for_each(|(target, &value)| *target = value);
    }
}
