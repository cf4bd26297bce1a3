//! The adjoint in the weights: `Gᵀ[Σ_tiles (A ȳ Aᵀ) ⊙ (Bᵀ d B)]G`.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;

use super::product::{Pair, Shape, Store, multiply};
use super::tiles::Tiles;
use super::tiling::{FREQUENCIES, Tiling, directions_per_group, frequency_len};
use super::transform;
use super::transform::Transform;
use crate::kernels::conv::Operand;
use crate::kernels::conv::weight_gradient::{Extent, Task, sum_chunks};
use crate::kernels::element::Element;
use crate::kernels::scratch::Scratch;
use crate::kernels::simd::{MAX_LANES, Simd, SimdTask};

/// Sums `terms` of (input, output) into `out [K, weights]`; `tiling` is that of the convolution.
pub(in crate::kernels::conv) fn weight_gradient<T: Element>(
    tiling: &Tiling,
    batch: usize,
    directions: usize,
    terms: &[(Operand<T>, Operand<T>)],
    out: &mut [MaybeUninit<T>],
) {
    let most = directions_per_group::<T>(tiling, directions);
    let extent = Extent { weight_len: tiling.weight_len(), batch, directions, directions_per_task: most };
    sum_chunks(&extent, out, |task, sums| {
        T::dispatch(tiling.isa, ChunkTask { tiling, batch, task, terms, sums });
    });
}

/// Writes the sums of one chunk of samples, `[directions of the task, weights]`.
struct ChunkTask<'a, T> {
    tiling: &'a Tiling,
    batch: usize,
    task: &'a Task,
    terms: &'a [(Operand<'a, T>, Operand<'a, T>)],
    sums: &'a mut [MaybeUninit<T>],
}

impl<T: Element> SimdTask<T> for ChunkTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { tiling, batch, task, terms, sums } = self;
        let Task { samples, directions } = task;
        let (inputs, outputs) = (&tiling.sources, &tiling.targets);
        let most_rows = tiling.rows_per_block::<T>(terms.len() * (inputs.channels + outputs.channels));
        let most_rows = most_rows.min(samples.len() * tiling.tiles[0]);
        let room = |strips| -> Vec<Tiles<T>> { terms.iter().map(|_| Tiles::new(tiling, strips, most_rows)).collect() };
        let (mut input_tiles, mut output_tiles) = (room(inputs), room(outputs));
        let sum_step = frequency_len(outputs.channels, inputs.channels);
        let mut products = Scratch::<T>::new(directions.len() * FREQUENCIES * sum_step);
        for block in tiling.blocks(samples.len(), most_rows) {
            let tiles = block.len() * tiling.tiles[1];
            let shape = Shape { rows: outputs.channels, len: tiles, columns: inputs.channels };
            let store = if block.start == 0 { Store::Set } else { Store::Add };
            let sums = products.chunks_exact_mut(FREQUENCIES * sum_step);
            for ((k, direction), sums) in directions.clone().enumerate().zip(sums) {
                for (index, (input, output)) in terms.iter().enumerate() {
                    if input.stacked || k == 0 {
                        let images = input.parts(direction, batch, samples, inputs.image_len());
                        // SAFETY: `S` is the instruction set this task was dispatched to.
                        unsafe { input_tiles[index].read::<S, transform::Input, 4>(images, &block) };
                    }
                    if output.stacked || k == 0 {
                        let images = output.parts(direction, batch, samples, outputs.image_len());
                        // SAFETY: as above.
                        unsafe { output_tiles[index].read::<S, transform::OutputAdjoint, 2>(images, &block) };
                    }
                }
                for frequency in 0..FREQUENCIES {
                    let pairs: Vec<Pair<T>> = output_tiles
                        .iter()
                        .zip(&input_tiles)
                        .map(|(outputs, inputs)| (outputs.frequency(frequency), inputs.frequency(frequency)))
                        .collect();
                    let out = &mut sums[frequency * sum_step..];
                    // SAFETY: as above.
                    unsafe { multiply::<S, true>(&pairs, shape, store, out) };
                }
            }
        }
        let products = products.chunks_exact(FREQUENCIES * sum_step);
        for (products, sums) in products.zip(sums.chunks_exact_mut(tiling.weight_len())) {
            // SAFETY: as above.
            unsafe { write_filters::<S>(products, [outputs.channels, inputs.channels, sum_step], sums) };
        }
    }
}

/// Transforms sums of products back to filters `[O, C, 3, 3]`.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn write_filters<S: Simd<Scalar: Element>>(
    products: &[S::Scalar],
    [outputs, inputs, step]: [usize; 3],
    sums: &mut [MaybeUninit<S::Scalar>],
) {
    let mut taps = [[S::Scalar::ZERO; MAX_LANES]; 9];
    for start in (0..outputs * inputs).step_by(S::LANES) {
        let products = &products[start..];
        assert!(products.len() >= (FREQUENCIES - 1) * step + S::LANES);
        // SAFETY: the instruction set is the caller's promise; the assert bounds the last load.
        unsafe {
            let tile = transform::load_tile::<S>(products.as_ptr(), step);
            let filter = transform::FilterAdjoint::square::<S>(tile);
            for tap in 0..9 {
                S::store(taps[tap].as_mut_ptr(), filter[tap / 3][tap % 3]);
            }
        }
        for (lane, sums) in sums[start * 9..][..S::LANES * 9].chunks_exact_mut(9).enumerate() {
            sums.iter_mut().zip(&taps).for_each(|(sum, taps)| _ = sum.write(taps[lane]));
        }
    }
}
