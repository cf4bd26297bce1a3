//! The transforms of F(2×2, 3×3): each a small matrix applied along columns, then along rows.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use candle_core::WithDType;

use crate::kernels::element::Element;
use crate::kernels::simd::Simd;

/// A square of vectors.
type Square<S, const N: usize> = [[<S as Simd>::Vector; N]; N];

/// A matrix `L`, `[M, N]`.
///
/// Loops and always-inlined functions throughout: a closure would not be inlined into a function with other target
/// features.
pub(super) trait Transform<const N: usize, const M: usize> {
    /// `L x`
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    unsafe fn line<S: Simd<Scalar: Element>>(x: [S::Vector; N]) -> [S::Vector; M];

    /// `L d Lᵀ`
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn square<S: Simd<Scalar: Element>>(d: Square<S, N>) -> Square<S, M> {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = S::splat(S::Scalar::ZERO);
            let (mut columns, mut out) = ([[zero; M]; N], [[zero; M]; M]);
            for j in 0..N {
                let mut column = [zero; N];
                for i in 0..N {
                    column[i] = d[i][j];
                }
                columns[j] = Self::line::<S>(column);
            }
            for i in 0..M {
                let mut row = [zero; N];
                for j in 0..N {
                    row[j] = columns[j][i];
                }
                out[i] = Self::line::<S>(row);
            }
            out
        }
    }
}

/// `Bᵀ`: tiles of the input.
pub(super) struct Input;
/// `Aᵀ`: outputs of a tile.
pub(super) struct Output;
/// `A`, the adjoint of [`Output`].
pub(super) struct OutputAdjoint;
/// `G`: filters.
pub(super) struct Filter;
/// `Gᵀ`, the adjoint of [`Filter`].
pub(super) struct FilterAdjoint;

impl Transform<4, 4> for Input {
    #[inline(always)]
    unsafe fn line<S: Simd<Scalar: Element>>([a, b, c, d]: [S::Vector; 4]) -> [S::Vector; 4] {
        // SAFETY: the instruction set is the caller's promise.
        unsafe { [S::sub(a, c), S::add(b, c), S::sub(c, b), S::sub(b, d)] }
    }
}

impl Transform<4, 2> for Output {
    #[inline(always)]
    unsafe fn line<S: Simd<Scalar: Element>>([a, b, c, d]: [S::Vector; 4]) -> [S::Vector; 2] {
        // SAFETY: the instruction set is the caller's promise.
        unsafe { [S::add(S::add(a, b), c), S::sub(S::sub(b, c), d)] }
    }
}

impl Transform<2, 4> for OutputAdjoint {
    #[inline(always)]
    unsafe fn line<S: Simd<Scalar: Element>>([a, b]: [S::Vector; 2]) -> [S::Vector; 4] {
        // SAFETY: the instruction set is the caller's promise.
        unsafe { [a, S::add(a, b), S::sub(a, b), S::sub(S::splat(S::Scalar::ZERO), b)] }
    }
}

impl Transform<3, 4> for Filter {
    #[inline(always)]
    unsafe fn line<S: Simd<Scalar: Element>>([a, b, c]: [S::Vector; 3]) -> [S::Vector; 4] {
        // SAFETY: the instruction set is the caller's promise.
        unsafe {
            let half = S::splat(S::Scalar::from_f64(0.5));
            let (ends, middle) = (S::mul(half, S::add(a, c)), S::mul(half, b));
            [a, S::add(ends, middle), S::sub(ends, middle), c]
        }
    }
}

impl Transform<4, 3> for FilterAdjoint {
    #[inline(always)]
    unsafe fn line<S: Simd<Scalar: Element>>([a, b, c, d]: [S::Vector; 4]) -> [S::Vector; 3] {
        // SAFETY: the instruction set is the caller's promise.
        unsafe {
            let half = S::splat(S::Scalar::from_f64(0.5));
            let ends = S::mul(half, S::add(b, c));
            [S::add(a, ends), S::mul(half, S::sub(b, c)), S::add(ends, d)]
        }
    }
}

/// Applies `L` to the `N` by `N` pixels that begin at every second pixel of every second row of a strip
/// `[2 tile_rows + N − 2, columns, channels]`, and writes frequency `f` of tile `t` to `out[f · frequency_len + t ·
/// channels..]`.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn spread<S: Simd<Scalar: Element>, L: Transform<N, 4>, const N: usize>(
    strip: &[S::Scalar],
    [tile_rows, tile_columns, columns, channels]: [usize; 4],
    frequency_len: usize,
    out: &mut [S::Scalar],
) {
    assert!(strip.len() >= (2 * tile_rows + N - 2) * columns * channels && columns >= 2 * tile_columns + N - 2);
    assert!(out.len() >= 15 * frequency_len + tile_rows * tile_columns * channels);
    assert!(channels.is_multiple_of(S::LANES));
    for row in 0..tile_rows {
        for column in 0..tile_columns {
            for channel in (0..channels).step_by(S::LANES) {
                // SAFETY: the instruction set is the caller's promise; the asserts above bound the last vector of the last
                // pixel of the last tile, and that of its last frequency.
                unsafe {
                    let source = strip.as_ptr().add((2 * row * columns + 2 * column) * channels + channel);
                    let mut pixels = [[S::splat(S::Scalar::ZERO); N]; N];
                    for i in 0..N {
                        for j in 0..N {
                            pixels[i][j] = S::load(source.add((i * columns + j) * channels));
                        }
                    }
                    let target = out.as_mut_ptr().add((row * tile_columns + column) * channels + channel);
                    let transformed = L::square::<S>(pixels);
                    for i in 0..4 {
                        for j in 0..4 {
                            S::store(target.add((4 * i + j) * frequency_len), transformed[i][j]);
                        }
                    }
                }
            }
        }
    }
}

/// Reads tiles as `spread` wrote them, and writes the outputs of each to a strip `[2 tile_rows, columns, channels]`.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn gather<S: Simd<Scalar: Element>>(
    tiles: &[S::Scalar],
    [tile_rows, tile_columns, columns, channels]: [usize; 4],
    frequency_len: usize,
    strip: &mut [S::Scalar],
) {
    assert!(strip.len() >= 2 * tile_rows * columns * channels && columns >= 2 * tile_columns);
    assert!(tiles.len() >= 15 * frequency_len + tile_rows * tile_columns * channels);
    assert!(channels.is_multiple_of(S::LANES));
    for row in 0..tile_rows {
        for column in 0..tile_columns {
            for channel in (0..channels).step_by(S::LANES) {
                // SAFETY: as in `spread`.
                unsafe {
                    let source = tiles.as_ptr().add((row * tile_columns + column) * channels + channel);
                    let tile = load_tile::<S>(source, frequency_len);
                    let target = strip.as_mut_ptr().add((2 * row * columns + 2 * column) * channels + channel);
                    let outputs = Output::square::<S>(tile);
                    for i in 0..2 {
                        for j in 0..2 {
                            S::store(target.add((i * columns + j) * channels), outputs[i][j]);
                        }
                    }
                }
            }
        }
    }
}

/// The sixteen vectors of a tile, `step` apart.
///
/// # Safety
/// The processor has the instruction set of `S`, and each is valid for reads.
#[inline(always)]
pub(super) unsafe fn load_tile<S: Simd<Scalar: Element>>(source: *const S::Scalar, step: usize) -> Square<S, 4> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut tile = [[S::splat(S::Scalar::ZERO); 4]; 4];
        for i in 0..4 {
            for j in 0..4 {
                tile[i][j] = S::load(source.add((4 * i + j) * step));
            }
        }
        tile
    }
}
