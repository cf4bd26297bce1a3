//! The convolution: rows of weights times panels of pixels.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{Blocks, LONGEST, PANELS, Pixels, Sources, VECTORS, each_task, with_rows};
use crate::kernels::conv::operand::Operand;
use crate::kernels::conv::plan::{Plan, Position};
use crate::kernels::conv::write::{write, write_interleaved};
use crate::kernels::element::Element;
use crate::kernels::gemm::{GRAIN, accumulate, grains_per_tile};
use crate::kernels::scratch::Scratch;
use crate::kernels::simd::{Simd, SimdTask};
use crate::kernels::tiles::tiles;

/// Sums `terms` of (source, weights) into `out [K, N, targets]`; `plan` is that of the convolution.
pub(in crate::kernels::conv) fn correlate<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    assert_eq!(out.len(), directions * batch * plan.targets_len(), "length of the output of a convolution");
    each_task(plan, batch, plan.targets_len(), out, |samples, outs| CorrelateTask {
        plan,
        batch,
        samples,
        terms,
        outs,
    });
}

/// All outputs of some samples.
struct CorrelateTask<'a, T> {
    plan: &'a Plan,
    batch: usize,
    samples: Range<usize>,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    /// By direction.
    outs: Vec<&'a mut [MaybeUninit<T>]>,
}

impl<T: Element> SimdTask<T> for CorrelateTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { plan, batch, samples, terms, outs } = self;
        let blocks = Blocks::new(plan, samples.len());
        let mut sources = Sources::new(plan, &samples, batch, terms.len());
        let offsets = &plan.sweeps[0].offsets;
        let (rows, width) = (plan.targets, VECTORS * S::LANES);
        let mut panels = Scratch::<T>::new(PANELS * LONGEST.min(offsets.len()) * width);
        let mut sums = Scratch::<T>::new(PANELS * rows * width);
        for (k, out) in outs.into_iter().enumerate() {
            let sources = sources.read(terms.iter().map(|(source, _)| source), k, k == 0);
            for group in 0..plan.groups {
                for pixels in blocks.pixels.chunks(PANELS * VECTORS) {
                    let mut add = false;
                    for (source, (_, weights)) in sources.iter().zip(terms) {
                        let weights = &weights.parts(k, 1, &(0..1), plan.weight_len)[group * rows * offsets.len()..];
                        for first in (0..offsets.len()).step_by(LONGEST) {
                            let offsets = &offsets[first..][..LONGEST.min(offsets.len() - first)];
                            let starts = |pixels| blocks.start(group, pixels);
                            // SAFETY: `S` is the instruction set this task was dispatched to.
                            unsafe { gather::<S>(source, offsets, pixels, starts, &mut panels) };
                            let product = Product { len: offsets.len(), row_step: plan.sweeps[0].offsets.len(), add };
                            // SAFETY: as above.
                            unsafe { product.run::<S>(&weights[first..], rows, &panels, pixels.len(), &mut sums) };
                            add = true;
                        }
                    }
                    for (v, &pixels) in pixels.iter().enumerate() {
                        let sums = &sums[v / VECTORS * rows * width + v % VECTORS * S::LANES..];
                        // SAFETY: as above.
                        unsafe { scatter::<S>(plan, group, pixels, sums, width, out) };
                    }
                }
            }
        }
    }
}

/// Copies rows of pixels at `offsets` into panels `[panel][offset][vector]`, with zeros beyond the last vector.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn gather<S: Simd<Scalar: Element>>(
    source: &[S::Scalar],
    offsets: &[usize],
    pixels: &[Pixels],
    start: impl Fn(Pixels) -> usize,
    panels: &mut [S::Scalar],
) {
    let width = VECTORS * S::LANES;
    let furthest = offsets.iter().max().unwrap_or(&0);
    for (pixels, panel) in pixels.chunks(VECTORS).zip(panels.chunks_exact_mut(offsets.len() * width)) {
        let last = pixels[pixels.len() - 1];
        let starts: [usize; VECTORS] = std::array::from_fn(|v| start(*pixels.get(v).unwrap_or(&last)));
        assert!(starts.iter().all(|start| start + furthest + S::LANES <= source.len()), "packed source too short");
        for (&offset, panel) in offsets.iter().zip(panel.chunks_exact_mut(width)) {
            for v in 0..VECTORS {
                // SAFETY: the assert bounds the reads; a row of a panel has room for the vectors.
                unsafe {
                    let vector = S::load(source.as_ptr().add(starts[v] + offset));
                    S::store(panel.as_mut_ptr().add(v * S::LANES), vector);
                }
            }
        }
    }
}

/// Writes the rows of one vector of pixels, `step` apart in `sums`, to the channels of a group.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn scatter<S: Simd<Scalar: Element>>(
    plan: &Plan,
    group: usize,
    pixels: Pixels,
    sums: &[S::Scalar],
    step: usize,
    out: &mut [MaybeUninit<S::Scalar>],
) {
    let Position { target, count, .. } = pixels.position;
    let out = &mut out[pixels.block * plan.samples * plan.targets_len()..];
    for row in 0..plan.targets {
        let sums = &sums[row * step..][..S::LANES];
        let place = (group * plan.targets + row) * plan.target_len + target;
        // SAFETY: the caller's promise; `sums` has the lanes.
        unsafe {
            let vector = S::load(sums.as_ptr());
            if plan.samples == 1 {
                write::<S>(vector, count, 1, &mut out[place..]);
            } else {
                let len = out.len().min(plan.samples * plan.targets_len());
                let samples = out[..len].chunks_exact_mut(plan.targets_len()).map(|out| &mut out[place..]);
                write_interleaved::<S>(vector, count, plan.samples, 1, samples);
            }
        }
    }
}

/// A product of rows, each contiguous, with panels.
#[derive(Clone, Copy)]
struct Product {
    /// Length of the sums.
    len: usize,
    /// From one row to the next.
    row_step: usize,
    /// Whether sums are added to.
    add: bool,
}

impl Product {
    /// `sums [panel][row][vector]` of `a [rows, len]` and `panels [panel][len][vector]`, so many vectors in all.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn run<S: Simd<Scalar: Element>>(
        self,
        a: &[S::Scalar],
        rows: usize,
        panels: &[S::Scalar],
        vectors: usize,
        sums: &mut [S::Scalar],
    ) {
        let Self { len, row_step, add } = self;
        let (width, count) = (VECTORS * S::LANES, vectors.div_ceil(VECTORS));
        assert!(rows.is_multiple_of(GRAIN) && rows > 0 && a.len() >= (rows - 1) * row_step + len, "rows of a product");
        assert!(panels.len() >= count * len * width && sums.len() >= count * rows * width, "panels of a product");
        for (grain, grains) in tiles(rows / GRAIN, grains_per_tile(S::REGISTERS)) {
            for panel in 0..count {
                with_rows!(grains, R => {
                    if R <= grains_per_tile(S::REGISTERS) * GRAIN {
                        // SAFETY: the asserts bound what the tile reads and writes.
                        unsafe {
                            let a = a.as_ptr().add(grain * GRAIN * row_step);
                            let panel_start = panels.as_ptr().add(panel * len * width);
                            let sums = sums.as_mut_ptr().add((panel * rows + grain * GRAIN) * width);
                            let start = if add { load::<S, R>(sums) } else { [[S::splat(S::Scalar::ZERO); VECTORS]; R] };
                            let tile = accumulate::<S, R, VECTORS>(a, [1, row_step], panel_start, width, len, start);
                            store::<S, R>(sums, tile);
                        }
                    }
                });
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set of `S`, and the rows lie one after the other from `sums` on.
#[inline(always)]
unsafe fn load<S: Simd, const R: usize>(sums: *const S::Scalar) -> [[S::Vector; VECTORS]; R] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|r| std::array::from_fn(|v| unsafe { S::load(sums.add((r * VECTORS + v) * S::LANES)) }))
}

/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn store<S: Simd, const R: usize>(sums: *mut S::Scalar, tile: [[S::Vector; VECTORS]; R]) {
    for r in 0..R {
        for v in 0..VECTORS {
            // SAFETY: the caller's promise.
            unsafe { S::store(sums.add((r * VECTORS + v) * S::LANES), tile[r][v]) };
        }
    }
}
