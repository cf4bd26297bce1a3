//! The weight gradient: rows of output cotangents times panels of pixels, a column for each (channel, tap).

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;

use super::{Blocks, LONGEST, Pixels, Sources, VECTORS, with_rows};
use crate::kernels::conv::operand::Operand;
use crate::kernels::conv::plan::Plan;
use crate::kernels::conv::weight_gradient::{Extent, Task, sum_chunks};
use crate::kernels::element::Element;
use crate::kernels::gemm::{GRAIN, accumulate, grains_per_tile};
use crate::kernels::scratch::Scratch;
use crate::kernels::simd::{MAX_LANES, Simd, SimdTask};
use crate::kernels::tiles::tiles;

/// Sums `terms` of (input, output cotangent) into `out [K, weights]`; `plan` is that of the convolution.
pub(in crate::kernels::conv) fn weight_gradient<T: Element>(
    plan: &Plan,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    let extent = Extent { weight_len: plan.weight_len, batch, directions, directions_per_task: directions };
    sum_chunks(&extent, out, |task, sums| {
        T::dispatch(plan.isa, ChunkTask { plan, batch, task, terms, sums });
    });
}

/// Writes the sums of one chunk of samples, `[directions of the task, weights]`.
struct ChunkTask<'a, T> {
    plan: &'a Plan,
    batch: usize,
    task: &'a Task,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    sums: &'a mut [MaybeUninit<T>],
}

impl<T: Element> SimdTask<T> for ChunkTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { plan, batch, task: Task { samples, directions }, terms, sums } = self;
        let blocks = Blocks::new(plan, samples.len());
        let mut sources = Sources::new(plan, samples, batch, terms.len());
        let offsets = &plan.sweeps[0].offsets;
        let (rows, width) = (plan.targets, VECTORS * S::LANES);
        // Vectors of pixels of all terms that are summed in registers.
        let most = (LONGEST / S::LANES / terms.len().max(1)).max(1);
        let longest = terms.len() * most.min(blocks.pixels.len()) * S::LANES;
        let mut outputs = Scratch::<T>::new(rows * longest);
        let mut panel = Scratch::<T>::new(longest * width);
        for (k, sums) in directions.clone().zip(sums.chunks_exact_mut(plan.weight_len)) {
            let sources = sources.read(terms.iter().map(|(source, _)| source), k, k == directions.start);
            for group in 0..plan.groups {
                for (index, pixels) in blocks.pixels.chunks(most).enumerate() {
                    let add = index > 0;
                    let len = terms.len() * pixels.len() * S::LANES;
                    for (index, (_, output)) in terms.iter().enumerate() {
                        let output = output.parts(k, batch, samples, plan.targets_len());
                        let from: Vec<&[T]> = pixels.iter().map(|&pixels| blocks.outputs(output, pixels)).collect();
                        for row in 0..rows {
                            let to = &mut outputs[row * len + index * pixels.len() * S::LANES..];
                            for ((to, from), &pixels) in to.chunks_exact_mut(S::LANES).zip(&from).zip(pixels) {
                                blocks.read::<S>(from, group * rows + row, pixels, to);
                            }
                        }
                    }
                    for column in (0..offsets.len()).step_by(width) {
                        let columns = width.min(offsets.len() - column);
                        let offsets = &offsets[column..][..columns];
                        for (index, source) in sources.iter().enumerate() {
                            let panel = &mut panel[index * pixels.len() * S::LANES * width..];
                            let starts = |pixels| blocks.start(group, pixels);
                            // SAFETY: `S` is the instruction set this task was dispatched to.
                            unsafe { transpose::<S>(source, offsets, pixels, starts, panel) };
                        }
                        let target = &mut sums[group * rows * plan.sweeps[0].offsets.len() + column..];
                        let out = Columns { step: plan.sweeps[0].offsets.len(), count: columns, add };
                        // SAFETY: as above.
                        unsafe { out.write::<S>(&outputs[..rows * len], &panel[..len * width], target) };
                    }
                }
            }
        }
    }
}

/// Copies the pixels at `offsets` into the rows of a panel `[pixel][offset]`, with zeros beyond the last.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn transpose<S: Simd<Scalar: Element>>(
    source: &[S::Scalar],
    offsets: &[usize],
    pixels: &[Pixels],
    start: impl Fn(Pixels) -> usize,
    panel: &mut [S::Scalar],
) {
    let width = VECTORS * S::LANES;
    let furthest = offsets.iter().max().unwrap_or(&0);
    let mut square = [S::Scalar::ZERO; MAX_LANES * MAX_LANES];
    for (&pixels, panel) in pixels.iter().zip(panel.chunks_exact_mut(S::LANES * width)) {
        let start = start(pixels);
        assert!(start + furthest + S::LANES <= source.len(), "packed source too short");
        for v in 0..VECTORS {
            for lane in 0..S::LANES {
                let row = &mut square[lane * S::LANES..][..S::LANES];
                match offsets.get(v * S::LANES + lane) {
                    // SAFETY: the assert bounds the read; the row has room for a vector.
                    Some(&offset) => unsafe {
                        S::store(row.as_mut_ptr(), S::load(source.as_ptr().add(start + offset)))
                    },
                    None => row.fill(S::Scalar::ZERO),
                }
            }
            // SAFETY: the square has `LANES` rows, and so has the panel from `v` vectors on.
            unsafe { S::transpose(square.as_ptr(), S::LANES, panel.as_mut_ptr().add(v * S::LANES), width) };
        }
    }
}

/// Columns of a matrix that products are written to.
struct Columns {
    /// From one row to the next.
    step: usize,
    /// How many, at most those of a panel.
    count: usize,
    /// Whether they are added to what is there.
    add: bool,
}

impl Columns {
    /// `target [rows, …] = a [rows, len] · panel [len, width]`
    ///
    /// # Safety
    /// The processor has the instruction set of `S`; what is added to has been written.
    #[inline(always)]
    unsafe fn write<S: Simd<Scalar: Element>>(
        &self,
        a: &[S::Scalar],
        panel: &[S::Scalar],
        target: &mut [MaybeUninit<S::Scalar>],
    ) {
        let width = VECTORS * S::LANES;
        let len = panel.len() / width;
        let rows = a.len() / len.max(1);
        assert!(rows.is_multiple_of(GRAIN) && rows > 0, "rows of a product");
        assert!(target.len() >= (rows - 1) * self.step + self.count, "sums of a product");
        for (grain, grains) in tiles(rows / GRAIN, grains_per_tile(S::REGISTERS)) {
            with_rows!(grains, R => {
                if R <= grains_per_tile(S::REGISTERS) * GRAIN {
                    // SAFETY: the asserts bound the rows; each row of sums has `width` places where `count` says so.
                    unsafe {
                        let zero = [[S::splat(S::Scalar::ZERO); VECTORS]; R];
                        let a = a.as_ptr().add(grain * GRAIN * len);
                        let sums = accumulate::<S, R, VECTORS>(a, [1, len], panel.as_ptr(), width, len, zero);
                        for (r, sums) in sums.iter().enumerate() {
                            let target = &mut target[(grain * GRAIN + r) * self.step..][..self.count];
                            if self.count == width {
                                for v in 0..VECTORS {
                                    let target = target.as_mut_ptr().cast::<S::Scalar>().add(v * S::LANES);
                                    S::store(target, if self.add { S::add(S::load(target), sums[v]) } else { sums[v] });
                                }
                                continue;
                            }
                            let mut line = [S::Scalar::ZERO; VECTORS * MAX_LANES];
                            for v in 0..VECTORS {
                                S::store(line.as_mut_ptr().add(v * S::LANES), sums[v]);
                            }
                            for (target, sum) in target.iter_mut().zip(line) {
                                target.write(if self.add { target.assume_init() + sum } else { sum });
                            }
                        }
                    }
                }
            });
        }
    }
}
