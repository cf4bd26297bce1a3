//! The weight gradient: sums over the pixels of each channel.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use super::pack::pack;
use super::{Axis, Depthwise, TOGETHER};
use crate::kernels::conv::operand::Operand;
use crate::kernels::conv::weight_gradient::Task;
use crate::kernels::element::Element;
use crate::kernels::simd::{Simd, SimdTask};

/// Pixels that are summed in a register before it is added to memory; this bounds the rounding of long sums.
const LONGEST: usize = 1024;

/// Writes the sums of one chunk of samples, `[directions of the task, weights]`.
pub(super) struct GradientTask<'a, T> {
    pub map: &'a Depthwise,
    pub batch: usize,
    pub task: &'a Task,
    pub terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    pub sums: &'a mut [MaybeUninit<T>],
}

impl<T: Element> SimdTask<T> for GradientTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { map, batch, task: Task { samples, directions }, terms, sums } = self;
        let (rows, columns) = (&map.rows, &map.columns);
        let mut tile = vec![T::ZERO; rows.padded * columns.padded * S::LANES];
        // The outputs as they are: an image without zeros around it.
        let plain = |axis: &Axis| Axis { source: axis.target, spread: 1, front: 0, padded: axis.target, ..*axis };
        let (output_rows, output_columns) = (plain(rows), plain(columns));
        let mut output = vec![T::ZERO; rows.target * columns.target * S::LANES];
        let mut totals = vec![T::ZERO; map.taps() * S::LANES];
        let kernel = rows.kernel * columns.kernel;
        for (k, sums) in directions.clone().zip(sums.chunks_exact_mut(map.weight_len())) {
            for first in (0..map.channels).step_by(S::LANES) {
                let channels = first..map.channels.min(first + S::LANES);
                totals.fill(T::ZERO);
                for (input, cotangent) in terms {
                    for sample in samples.clone() {
                        let sample = sample..sample + 1;
                        let data = input.parts(k, batch, &sample, map.source_len());
                        let cotangents = cotangent.parts(k, batch, &sample, map.target_len());
                        // SAFETY: `S` is the instruction set this task was dispatched to.
                        unsafe {
                            pack::<S>([rows, columns], channels.clone(), data, &mut tile);
                            let plain = [&output_rows, &output_columns];
                            pack::<S>(plain, channels.clone(), cotangents, &mut output);
                        }
                        let rows_together = (LONGEST / columns.target).max(1);
                        for start in (0..rows.target).step_by(rows_together) {
                            let range = start..rows.target.min(start + rows_together);
                            for (i, totals) in totals.chunks_exact_mut((columns.taps * S::LANES).max(1)).enumerate() {
                                let mut j = 0;
                                while j < columns.taps {
                                    let totals = &mut totals[j * S::LANES..];
                                    // SAFETY: as above; these taps of every pixel lie in the padded image.
                                    j += unsafe {
                                        match columns.taps - j {
                                            TOGETHER.. => {
                                                taps_of::<S, TOGETHER>(map, &tile, &output, [i, j], &range, totals)
                                            }
                                            7 => taps_of::<S, 7>(map, &tile, &output, [i, j], &range, totals),
                                            5.. => taps_of::<S, 5>(map, &tile, &output, [i, j], &range, totals),
                                            3.. => taps_of::<S, 3>(map, &tile, &output, [i, j], &range, totals),
                                            2 => taps_of::<S, 2>(map, &tile, &output, [i, j], &range, totals),
                                            _ => taps_of::<S, 1>(map, &tile, &output, [i, j], &range, totals),
                                        }
                                    };
                                }
                            }
                        }
                    }
                }
                let sums = &mut sums[channels.start * kernel..channels.end * kernel];
                sums.fill(MaybeUninit::new(T::ZERO));
                for (lane, sums) in sums.chunks_exact_mut(kernel).enumerate() {
                    for (tap, place) in map.tap_places().enumerate() {
                        sums[place].write(totals[tap * S::LANES + lane]);
                    }
                }
            }
        }
    }
}

/// Adds the sums over some rows of pixels for `J` neighbouring taps from `[i, j]` on; gives `J`.
///
/// # Safety
/// The processor has the instruction set of `S`, and these taps of every pixel lie in `tile`.
#[inline(always)]
unsafe fn taps_of<S: Simd<Scalar: Element>, const J: usize>(
    map: &Depthwise,
    tile: &[S::Scalar],
    output: &[S::Scalar],
    [i, j]: [usize; 2],
    range: &Range<usize>,
    totals: &mut [S::Scalar],
) -> usize {
    let (rows, columns) = (&map.rows, &map.columns);
    let (tap_step, pixel_step) = (columns.dilation * S::LANES, columns.stride * S::LANES);
    assert!(totals.len() >= J * S::LANES && output.len() >= range.end * columns.target * S::LANES, "taps of a filter");
    // SAFETY: the caller's promise; the assert bounds the rest.
    unsafe {
        let mut sums = [S::splat(S::Scalar::ZERO); J];
        for row in range.clone() {
            let place = (rows.first + row * rows.stride + i * rows.dilation) * columns.padded
                + columns.first
                + j * columns.dilation;
            let mut source = tile.as_ptr().wrapping_add(place * S::LANES);
            let mut factor = output.as_ptr().add(row * columns.target * S::LANES);
            for _ in 0..columns.target {
                let cotangent = S::load(factor);
                for tap in 0..J {
                    sums[tap] = S::mul_add(cotangent, S::load(source.wrapping_add(tap * tap_step)), sums[tap]);
                }
                (source, factor) = (source.wrapping_add(pixel_step), factor.wrapping_add(S::LANES));
            }
        }
        for (tap, &sum) in sums.iter().enumerate() {
            let total = totals.as_mut_ptr().add(tap * S::LANES);
            S::store(total, S::add(S::load(total), sum));
        }
    }
    J
}
