//! Matrix products of transformed tiles, in register tiles of rows times vectors.

use crate::kernels::element::Element;
use crate::kernels::simd::Simd;

use super::TILE_GRAIN;

/// What a product does with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// Overwrites.
    Set,
    /// Adds.
    Add,
}

/// `out [rows, columns] = Σ_pairs a b`: `b` is `[len, columns]`, `a` is `[rows, len]`, or `[len, rows]` where transposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// A multiple of [`TILE_GRAIN`].
    pub rows: usize,
    pub len: usize,
    /// A multiple of the lanes.
    pub columns: usize,
}

/// Grains of rows, and vectors, of a register tile: their sums fill at most three quarters of the registers.
const fn tile_sizes(registers: usize) -> (usize, usize) {
    if registers >= 32 { (3, 2) } else { (1, 2) }
}

/// Multiplies; `TRANSPOSED` says how `a` lies.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd<Scalar: Element>, const TRANSPOSED: bool>(
    pairs: &[(&[S::Scalar], &[S::Scalar])],
    shape: Shape,
    store: Store,
    out: &mut [S::Scalar],
) {
    let Shape { rows, len, columns } = shape;
    assert!(rows.is_multiple_of(TILE_GRAIN) && columns.is_multiple_of(S::LANES), "shape of a product of tiles");
    assert!(out.len() >= rows * columns, "output of a product of tiles");
    for (a, b) in pairs {
        assert!(a.len() >= rows * len && b.len() >= len * columns, "operand of a product of tiles");
    }
    let (grains_per_tile, vectors_per_tile) = tile_sizes(S::REGISTERS);
    for (vector, vectors) in super::super::plan::tiles(columns / S::LANES, vectors_per_tile) {
        for (grain, grains) in super::super::plan::tiles(rows / TILE_GRAIN, grains_per_tile) {
            let start = (grain * TILE_GRAIN, vector * S::LANES);
            macro_rules! tile_of {
                ($($g:literal: $($v:literal)*,)*) => {
                    match (grains, vectors) {
                        // SAFETY: the asserts above bound every tile of the product.
                        $($(($g, $v) => unsafe {
                            tile::<S, { $g * TILE_GRAIN }, $v, TRANSPOSED>(pairs, shape, start, store, out)
                        },)*)*
                        _ => unreachable!("tiles are at most as large as these"),
                    }
                };
            }
            tile_of!(3: 2 1, 2: 2 1, 1: 2 1,);
        }
    }
}

/// One register tile from row `row` and column `column` on.
///
/// # Safety
/// The processor has the instruction set of `S`, and the tile lies inside the operands and `out`.
#[inline(always)]
unsafe fn tile<S: Simd<Scalar: Element>, const R: usize, const V: usize, const TRANSPOSED: bool>(
    pairs: &[(&[S::Scalar], &[S::Scalar])],
    shape: Shape,
    (row, column): (usize, usize),
    store: Store,
    out: &mut [S::Scalar],
) {
    let (grains, vectors) = tile_sizes(S::REGISTERS);
    if R > grains * TILE_GRAIN || V > vectors {
        unreachable!("no tile of this instruction set is so large"); // known when compiled: no code is made
    }
    let Shape { rows, len, columns } = shape;
    let (step, row_step) = if TRANSPOSED { (rows, 1) } else { (1, len) };
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(S::Scalar::ZERO);
        let mut sums = [[zero; V]; R];
        for (a, b) in pairs {
            let mut a = a.as_ptr().add(row * row_step);
            let mut b = b.as_ptr().add(column);
            for _ in 0..len {
                let mut vectors = [zero; V];
                for v in 0..V {
                    vectors[v] = S::load(b.add(v * S::LANES));
                }
                for r in 0..R {
                    let factor = S::splat(*a.add(r * row_step));
                    for v in 0..V {
                        sums[r][v] = S::mul_add(factor, vectors[v], sums[r][v]);
                    }
                }
                (a, b) = (a.wrapping_add(step), b.wrapping_add(columns));
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let target = out.as_mut_ptr().add((row + r) * columns + column + v * S::LANES);
                S::store(target, if store == Store::Add { S::add(S::load(target), sum) } else { sum });
            }
        }
    }
}
