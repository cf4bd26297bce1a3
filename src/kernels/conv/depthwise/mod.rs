//! Depthwise convolutions: each channel by itself, a vector of channels at a time, so that images of any size fill the lanes.
//!
//! Channels of a sample are laid innermost, with zeros around the image; a tap is then a constant offset, and its weights are a
//! vector. The input gradient is the same correlation of the cotangents, spread by the stride, with the taps reversed.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

mod pack;
mod weight_gradient;

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::geometry::ConvGeometry;
use super::operand::Operand;
use super::plan::Lanes;
use super::weight_gradient::{Extent, sum_chunks};
use crate::kernels::element::Element;
use crate::kernels::parallel;
use crate::kernels::simd::{Isa, Simd, SimdTask};
use pack::{pack, unpack};
use weight_gradient::GradientTask;

/// Pixels whose sums are in registers together, and taps of a row of a weight gradient.
const TOGETHER: usize = 8;
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
        let [lanes, _] = T::dispatch(isa, Lanes);
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
