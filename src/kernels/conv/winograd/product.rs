//! Matrix products of transformed tiles, in register tiles of rows times vectors.

use crate::kernels::element::Element;
use crate::kernels::gemm::{GRAIN, accumulate, grains_per_tile};
use crate::kernels::simd::Simd;
use crate::kernels::tiles::tiles;

/// The two operands of a product, row-major.
pub(super) type Pair<'a, T> = (&'a [T], &'a [T]);

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
    /// A multiple of [`GRAIN`].
    pub rows: usize,
    pub len: usize,
    /// A multiple of the lanes.
    pub columns: usize,
}

/// Vectors of a register tile.
const VECTORS: usize = 2;

/// Multiplies; `TRANSPOSED` says how `a` lies.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd<Scalar: Element>, const TRANSPOSED: bool>(
    pairs: &[Pair<'_, S::Scalar>],
    shape: Shape,
    store: Store,
    out: &mut [S::Scalar],
) {
    let Shape { rows, len, columns } = shape;
    assert!(rows.is_multiple_of(GRAIN) && columns.is_multiple_of(S::LANES), "shape of a product of tiles");
    assert!(out.len() >= rows * columns, "output of a product of tiles");
    for (a, b) in pairs {
        assert!(a.len() >= rows * len && b.len() >= len * columns, "operand of a product of tiles");
    }
    for (vector, vectors) in tiles(columns / S::LANES, VECTORS) {
        for (grain, grains) in tiles(rows / GRAIN, grains_per_tile(S::REGISTERS)) {
            let start = (grain * GRAIN, vector * S::LANES);
            macro_rules! tile_of {
                ($($g:literal: $($v:literal)*,)*) => {
                    match (grains, vectors) {
                        // SAFETY: the asserts above bound every tile of the product.
                        $($(($g, $v) => unsafe {
                            tile::<S, { $g * GRAIN }, $v, TRANSPOSED>(pairs, shape, start, store, out)
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
    pairs: &[Pair<'_, S::Scalar>],
    shape: Shape,
    (row, column): (usize, usize),
    store: Store,
    out: &mut [S::Scalar],
) {
    if R > grains_per_tile(S::REGISTERS) * GRAIN {
        unreachable!("no tile of this instruction set is so large"); // known when compiled: no code is made
    }
    let Shape { rows, len, columns } = shape;
    let (step, row_step) = if TRANSPOSED { (rows, 1) } else { (1, len) };
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(S::Scalar::ZERO); V]; R];
        for (a, b) in pairs {
            let (a, b) = (a.as_ptr().add(row * row_step), b.as_ptr().add(column));
            sums = accumulate::<S, R, V>(a, [step, row_step], b, columns, len, sums);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let target = out.as_mut_ptr().add((row + r) * columns + column + v * S::LANES);
                S::store(target, if store == Store::Add { S::add(S::load(target), sum) } else { sum });
            }
        }
    }
}
