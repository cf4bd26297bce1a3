//! Depthwise convolutions: each channel by itself, a vector of channels at a time, so that images of any size fill the lanes.
//!
//! Channels of a sample are laid innermost, with zeros around the image; a tap is then a constant offset, and its weights are a
//! vector. The input gradient is the same correlation of the cotangents, spread by the stride, with the taps reversed.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::geometry::ConvGeometry;
use super::operand::Operand;
use super::plan::Lanes;
use super::weight_gradient::{Extent, Task, sum_chunks};
use crate::kernels::element::Element;
use crate::kernels::parallel;
use crate::kernels::simd::{Isa, MAX_LANES, Simd, SimdTask};

/// Pixels whose sums are in registers together, and taps of a row of a weight gradient.
const TOGETHER: usize = 8;
/// Pixels that are summed in a register before it is added to memory; this bounds the rounding of long sums.
const LONGEST: usize = 1024;
/// Channels from which on a vector of them pays.
const FEWEST: usize = 8;

/// Whether a convolution is one of these.
pub(super) fn suits(geometry: &ConvGeometry) -> bool {
    let &ConvGeometry { in_channels, out_channels, groups, .. } = geometry;
    groups == in_channels && groups == out_channels && groups >= FEWEST && !geometry.output().contains(&0)
}

/// One image axis of a correlation `out[t] = Σ_i w[i] x[t s + i d − before]`, for the taps that reach the source at all.
#[derive(Clone, Copy, Debug)]
struct Axis {
    source: usize,
    target: usize,
    /// Taps in all, the first that is used, and how many are.
    kernel: usize,
    first_tap: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    /// Distance of neighbours of the source among zeros.
    spread: usize,
    /// Zeros in front of the source, and the numbers with all zeros.
    front: usize,
    padded: usize,
    /// Where the first tap of the first target lies among these.
    first: usize,
}

impl Axis {
    fn new(source: usize, target: usize, kernel: usize, [stride, dilation, spread]: [usize; 3], before: isize) -> Self {
        let (extent, last) = (((source - 1) * spread + 1) as isize, ((target - 1) * stride) as isize);
        let offset = |tap: usize| (tap * dilation) as isize - before;
        let reaches = |tap: &usize| offset(*tap) + last >= 0 && offset(*tap) < extent;
        let first_tap = (0..kernel).find(reaches).unwrap_or(0);
        let taps = (0..kernel).rev().find(reaches).map_or(0, |tap| tap + 1 - first_tap);
        let low = offset(first_tap);
        let high = offset(first_tap + taps.max(1) - 1) + last + 1;
        let front = (-low).max(0);
        let padded = (front + extent.max(high)) as usize;
        let first = (front + low) as usize;
        Self { source, target, kernel, first_tap, taps, stride, dilation, spread, front: front as usize, padded, first }
    }

    /// Of the convolution.
    fn forward(geometry: &ConvGeometry, axis: usize) -> Self {
        let steps = [geometry.stride[axis], geometry.dilation[axis], 1];
        let (source, target) = (geometry.input[axis], geometry.output()[axis]);
        Self::new(source, target, geometry.kernel[axis], steps, geometry.padding[axis] as isize)
    }

    /// Of its input gradient, with the taps reversed.
    fn input_gradient(geometry: &ConvGeometry, axis: usize) -> Self {
        let (kernel, dilation) = (geometry.kernel[axis], geometry.dilation[axis]);
        let before = ((kernel - 1) * dilation) as isize - geometry.padding[axis] as isize;
        let steps = [1, dilation, geometry.stride[axis]];
        Self::new(geometry.output()[axis], geometry.input[axis], kernel, steps, before)
    }
}

/// A correlation of all channels.
#[derive(Debug)]
pub(super) struct Depthwise {
    isa: Isa,
    lanes: usize,
    channels: usize,
    rows: Axis,
    columns: Axis,
    /// Whether taps run backwards.
    reversed: bool,
}

impl Depthwise {
    /// The convolution.
    pub fn forward<T: Element>(isa: Isa, geometry: &ConvGeometry) -> Self {
        Self::new::<T>(isa, geometry, [0, 1].map(|axis| Axis::forward(geometry, axis)), false)
    }

    /// Its adjoint in the input.
    pub fn input_gradient<T: Element>(isa: Isa, geometry: &ConvGeometry) -> Self {
        Self::new::<T>(isa, geometry, [0, 1].map(|axis| Axis::input_gradient(geometry, axis)), true)
    }

    fn new<T: Element>(isa: Isa, geometry: &ConvGeometry, [rows, columns]: [Axis; 2], reversed: bool) -> Self {
        let lanes = T::dispatch(isa, Lanes);
        Self { isa, lanes, channels: geometry.in_channels, rows, columns, reversed }
    }

    fn source_len(&self) -> usize {
        self.channels * self.rows.source * self.columns.source
    }

    fn target_len(&self) -> usize {
        self.channels * self.rows.target * self.columns.target
    }

    fn weight_len(&self) -> usize {
        self.channels * self.rows.kernel * self.columns.kernel
    }

    /// Taps that are used.
    fn taps(&self) -> usize {
        self.rows.taps * self.columns.taps
    }

    /// Of each used tap, its place among the weights of a channel.
    fn tap_places(&self) -> impl Iterator<Item = usize> {
        let (rows, columns, reversed) = (self.rows, self.columns, self.reversed);
        let place = move |i: usize, j: usize| (rows.first_tap + i) * columns.kernel + columns.first_tap + j;
        let last = rows.kernel * columns.kernel - 1;
        (0..rows.taps)
            .flat_map(move |i| (0..columns.taps).map(move |j| if reversed { last - place(i, j) } else { place(i, j) }))
    }

    /// The weights of one direction, `[vector of channels][tap][lane]`; zeros for lanes without a channel.
    fn by_lane<T: Element>(&self, weights: &[T]) -> Vec<T> {
        let (lanes, kernel) = (self.lanes, self.rows.kernel * self.columns.kernel);
        if self.taps() == 0 {
            return Vec::new();
        }
        let mut out = vec![T::ZERO; self.channels.div_ceil(lanes) * self.taps() * lanes];
        for (channel, weights) in weights.chunks_exact(kernel).enumerate() {
            let out = &mut out[channel / lanes * self.taps() * lanes + channel % lanes..];
            for (tap, place) in self.tap_places().enumerate() {
                out[tap * lanes] = weights[place];
            }
        }
        out
    }

    /// Sums `terms` of (source, weights) into `out [K, N, targets]`.
    pub fn correlate<T: Element>(
        &self,
        batch: usize,
        directions: usize,
        terms: &[(Operand<T>, Operand<T>)],
        out: &mut [MaybeUninit<T>],
    ) {
        let len = self.target_len();
        assert_eq!(out.len(), directions * batch * len, "length of the output of a convolution");
        let weights: Vec<Vec<Vec<T>>> = terms
            .iter()
            .map(|(_, weights)| {
                let count = if weights.stacked { directions } else { 1 };
                (0..count).map(|k| self.by_lane(weights.parts(k, 1, &(0..1), self.weight_len()))).collect()
            })
            .collect();
        let mut outs: Vec<_> = out.chunks_mut((batch * len).max(1)).map(|out| out.chunks_mut(len.max(1))).collect();
        let tasks: Vec<CorrelateTask<'_, T>> = (0..batch)
            .map(|sample| {
                let outs = outs.iter_mut().filter_map(Iterator::next).collect();
                CorrelateTask { map: self, batch, sample, terms, weights: &weights, outs }
            })
            .collect();
        if parallel::in_pool() && tasks.len() > 1 {
            tasks.into_par_iter().for_each(|task| T::dispatch(self.isa, task));
        } else {
            tasks.into_iter().for_each(|task| T::dispatch(self.isa, task));
        }
    }

    /// Sums `terms` of (input, output cotangent) into `out [K, weights]`; the map is the convolution.
    pub fn weight_gradient<T: Element>(
        &self,
        batch: usize,
        directions: usize,
        terms: &[(Operand<T>, Operand<T>)],
        out: &mut [MaybeUninit<T>],
    ) {
        let extent = Extent { weight_len: self.weight_len(), batch, directions, directions_per_task: directions };
        sum_chunks(&extent, out, |task, sums| {
            T::dispatch(self.isa, GradientTask { map: self, batch, task, terms, sums });
        });
    }
}

/// Channels innermost: copies those of one vector to every `spread`-th place of a padded image.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn pack<S: Simd<Scalar: Element>>(
    [rows, columns]: [&Axis; 2],
    channels: Range<usize>,
    sample: &[S::Scalar],
    tile: &mut [S::Scalar],
) {
    let plane = rows.source * columns.source;
    let mut square = [S::Scalar::ZERO; MAX_LANES * MAX_LANES];
    for row in 0..rows.source {
        let place = (rows.front + row * rows.spread) * columns.padded + columns.front;
        for column in (0..columns.source).step_by(S::LANES) {
            let count = S::LANES.min(columns.source - column);
            let from = channels.start * plane + row * columns.source + column;
            let tile = &mut tile[(place + column * columns.spread) * S::LANES..];
            if count == S::LANES && channels.len() == S::LANES && columns.spread == 1 {
                assert!(sample.len() >= from + (S::LANES - 1) * plane + S::LANES, "sample of a convolution");
                assert!(tile.len() >= S::LANES * S::LANES, "tile of a convolution");
                // SAFETY: the asserts bound the squares.
                unsafe { S::transpose(sample.as_ptr().add(from), plane, tile.as_mut_ptr(), S::LANES) };
                continue;
            }
            for lane in 0..channels.len() {
                let from = &sample[from + lane * plane..][..count];
                from.iter().enumerate().for_each(|(i, &x)| square[i * S::LANES + lane] = x);
            }
            for i in 0..count {
                tile[i * columns.spread * S::LANES..][..S::LANES].copy_from_slice(&square[i * S::LANES..][..S::LANES]);
            }
        }
    }
}

/// All outputs of one sample.
struct CorrelateTask<'a, T> {
    map: &'a Depthwise,
    batch: usize,
    sample: usize,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    /// By term and direction, or for all of them.
    weights: &'a [Vec<Vec<T>>],
    /// By direction.
    outs: Vec<&'a mut [MaybeUninit<T>]>,
}

impl<T: Element> SimdTask<T> for CorrelateTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { map, batch, sample, terms, weights, mut outs } = self;
        let (rows, columns) = (&map.rows, &map.columns);
        let tile_len = rows.padded * columns.padded * S::LANES;
        let mut tiles = vec![T::ZERO; terms.len() * tile_len];
        let pixels = rows.target * columns.target;
        // Whole squares of pixels.
        let mut result = vec![T::ZERO; pixels.next_multiple_of(S::LANES) * S::LANES];
        let taps_len = map.taps() * S::LANES;
        for vector in 0..map.channels.div_ceil(S::LANES) {
            let channels = vector * S::LANES..map.channels.min((vector + 1) * S::LANES);
            for (k, out) in outs.iter_mut().enumerate() {
                for ((source, _), tile) in terms.iter().zip(tiles.chunks_exact_mut(tile_len)) {
                    if source.stacked || k == 0 {
                        let data = source.parts(k, batch, &(sample..sample + 1), map.source_len());
                        // SAFETY: `S` is the instruction set this task was dispatched to.
                        unsafe { pack::<S>([rows, columns], channels.clone(), data, tile) };
                    }
                }
                let pairs: Vec<Pair<'_, T>> = tiles
                    .chunks_exact(tile_len)
                    .zip(weights)
                    .map(|(tile, weights)| {
                        (tile, &weights[if weights.len() > 1 { k } else { 0 }][vector * taps_len..][..taps_len])
                    })
                    .collect();
                for row in 0..rows.target {
                    let mut column = 0;
                    while column < columns.target {
                        let rest = columns.target - column;
                        let place =
                            (rows.first + row * rows.stride) * columns.padded + columns.first + column * columns.stride;
                        let out = &mut result[(row * columns.target + column) * S::LANES..];
                        // SAFETY: as above; the last tap of the last pixel lies in the padded image.
                        column += unsafe {
                            match rest {
                                TOGETHER.. => pixels_of::<S, TOGETHER>(map, &pairs, place, out),
                                4.. => pixels_of::<S, 4>(map, &pairs, place, out),
                                2.. => pixels_of::<S, 2>(map, &pairs, place, out),
                                _ => pixels_of::<S, 1>(map, &pairs, place, out),
                            }
                        };
                    }
                }
                let out = &mut out[channels.start * pixels..channels.end * pixels];
                // SAFETY: as above.
                unsafe { unpack::<S>(channels.len(), pixels, &result, out) };
            }
        }
    }
}

/// A padded image and its weights.
type Pair<'a, T> = (&'a [T], &'a [T]);

/// Sums of `P` neighbouring pixels; gives `P`.
///
/// # Safety
/// The processor has the instruction set of `S`, and every tap of these pixels lies in the tiles.
#[inline(always)]
unsafe fn pixels_of<S: Simd<Scalar: Element>, const P: usize>(
    map: &Depthwise,
    pairs: &[Pair<'_, S::Scalar>],
    place: usize,
    out: &mut [S::Scalar],
) -> usize {
    let (rows, columns) = (&map.rows, &map.columns);
    let (row_step, tap_step, pixel_step) =
        (rows.dilation * columns.padded * S::LANES, columns.dilation * S::LANES, columns.stride * S::LANES);
    assert!(out.len() >= P * S::LANES, "pixels of a convolution");
    // SAFETY: the caller's promise; the assert bounds the stores.
    unsafe {
        let mut sums = [S::splat(S::Scalar::ZERO); P];
        for (tile, weights) in pairs {
            let mut weight = weights.as_ptr();
            let mut row = tile.as_ptr().wrapping_add(place * S::LANES);
            for _ in 0..rows.taps {
                let mut source = row;
                for _ in 0..columns.taps {
                    let factor = S::load(weight);
                    for p in 0..P {
                        sums[p] = S::mul_add(factor, S::load(source.wrapping_add(p * pixel_step)), sums[p]);
                    }
                    weight = weight.wrapping_add(S::LANES);
                    source = source.wrapping_add(tap_step);
                }
                row = row.wrapping_add(row_step);
            }
        }
        for p in 0..P {
            S::store(out.as_mut_ptr().add(p * S::LANES), sums[p]);
        }
    }
    P
}

/// Pixels with their channels innermost, as planes of channels.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn unpack<S: Simd<Scalar: Element>>(
    channels: usize,
    pixels: usize,
    result: &[S::Scalar],
    out: &mut [MaybeUninit<S::Scalar>],
) {
    let mut square = [S::Scalar::ZERO; MAX_LANES * MAX_LANES];
    for (index, result) in result.chunks_exact(S::LANES * S::LANES).enumerate() {
        let first = index * S::LANES;
        // SAFETY: both squares have `LANES` rows of `LANES` numbers.
        unsafe { S::transpose(result.as_ptr(), S::LANES, square.as_mut_ptr(), S::LANES) };
        let count = S::LANES.min(pixels - first);
        for (channel, square) in square.chunks_exact(S::LANES).take(channels).enumerate() {
            let out = &mut out[channel * pixels + first..][..count];
            out.iter_mut().zip(square).for_each(|(out, &x)| _ = out.write(x));
        }
    }
}

/// Writes the sums of one chunk of samples, `[directions of the task, weights]`.
struct GradientTask<'a, T> {
    map: &'a Depthwise,
    batch: usize,
    task: &'a Task,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    sums: &'a mut [MaybeUninit<T>],
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
