//! The transforms of F(2×2, 3×3): each a small matrix applied along columns, then along rows.

use std::array::from_fn;

use candle_core::WithDType;

use crate::kernels::element::Element;
use crate::kernels::simd::Simd;

/// A square of vectors.
type Square<S, const N: usize> = [[<S as Simd>::Vector; N]; N];

/// `L d Lᵀ` for the matrix `L` that `line` applies.
#[inline(always)]
fn both<S: Simd, const N: usize, const M: usize>(
    d: Square<S, N>,
    line: impl Fn([S::Vector; N]) -> [S::Vector; M],
) -> Square<S, M> {
    let columns: [[S::Vector; M]; N] = from_fn(|j| line(from_fn(|i| d[i][j])));
    from_fn(|i| line(from_fn(|j| columns[j][i])))
}

/// `Bᵀ d B` of a tile of the input.
///
/// # Safety
/// The processor has the instruction set of `S`; so for all functions below.
#[inline(always)]
pub(super) unsafe fn input<S: Simd>(d: Square<S, 4>) -> Square<S, 4> {
    // SAFETY: the caller's promise.
    both::<S, 4, 4>(d, |[a, b, c, d]| unsafe { [S::sub(a, c), S::add(b, c), S::sub(c, b), S::sub(b, d)] })
}

/// `A y Aᵀ`, the adjoint of `output`.
///
/// # Safety
/// See `input`.
#[inline(always)]
pub(super) unsafe fn output_adjoint<S: Simd<Scalar: Element>>(y: Square<S, 2>) -> Square<S, 4> {
    // SAFETY: the caller's promise.
    both::<S, 2, 4>(y, |[a, b]| unsafe {
        [a, S::add(a, b), S::sub(a, b), S::sub(S::splat(S::Scalar::ZERO), b)]
    })
}

/// `Aᵀ m A`: the outputs of a tile.
///
/// # Safety
/// See `input`.
#[inline(always)]
pub(super) unsafe fn output<S: Simd>(m: Square<S, 4>) -> Square<S, 2> {
    // SAFETY: the caller's promise.
    both::<S, 4, 2>(m, |[a, b, c, d]| unsafe { [S::add(S::add(a, b), c), S::sub(S::sub(b, c), d)] })
}

/// `G g Gᵀ` of a filter.
///
/// # Safety
/// See `input`.
#[inline(always)]
pub(super) unsafe fn filter<S: Simd<Scalar: Element>>(g: Square<S, 3>) -> Square<S, 4> {
    // SAFETY: the caller's promise.
    both::<S, 3, 4>(g, |[a, b, c]| unsafe {
        let half = S::splat(S::Scalar::from_f64(0.5));
        let ends = S::mul(half, S::add(a, c));
        let middle = S::mul(half, b);
        [a, S::add(ends, middle), S::sub(ends, middle), c]
    })
}

/// `Gᵀ s G`, the adjoint of `filter`.
///
/// # Safety
/// See `input`.
#[inline(always)]
pub(super) unsafe fn filter_adjoint<S: Simd<Scalar: Element>>(s: Square<S, 4>) -> Square<S, 3> {
    // SAFETY: the caller's promise.
    both::<S, 4, 3>(s, |[a, b, c, d]| unsafe {
        let half = S::splat(S::Scalar::from_f64(0.5));
        let ends = S::mul(half, S::add(b, c));
        [S::add(a, ends), S::mul(half, S::sub(b, c)), S::add(ends, d)]
    })
}

/// Applies `transform` to the `N` by `N` pixels that begin at every second pixel of every second row of a strip
/// `[2 tile_rows + N − 2, columns, channels]`, and writes frequency `f` of tile `t` to `out[f · frequency_len + t ·
/// channels..]`.
///
/// # Safety
/// See `input`.
#[inline(always)]
pub(super) unsafe fn spread<S: Simd, const N: usize>(
    strip: &[S::Scalar],
    [tile_rows, tile_columns, columns, channels]: [usize; 4],
    transform: impl Fn(Square<S, N>) -> Square<S, 4>,
    frequency_len: usize,
    out: &mut [S::Scalar],
) {
    assert!(strip.len() >= (2 * tile_rows + N - 2) * columns * channels && columns >= 2 * tile_columns + N - 2);
    assert!(out.len() >= 15 * frequency_len + tile_rows * tile_columns * channels);
    for row in 0..tile_rows {
        for column in 0..tile_columns {
            for channel in (0..channels).step_by(S::LANES) {
                // SAFETY: the asserts above bound the last pixel of the last tile and the last frequency of it.
                unsafe {
                    let source = strip.as_ptr().add((2 * row * columns + 2 * column) * channels + channel);
                    let pixels = from_fn(|i| from_fn(|j| S::load(source.add((i * columns + j) * channels))));
                    let target = out.as_mut_ptr().add((row * tile_columns + column) * channels + channel);
                    let transformed = transform(pixels);
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
/// See `input`.
#[inline(always)]
pub(super) unsafe fn gather<S: Simd>(
    tiles: &[S::Scalar],
    [tile_rows, tile_columns, columns, channels]: [usize; 4],
    frequency_len: usize,
    strip: &mut [S::Scalar],
) {
    assert!(strip.len() >= 2 * tile_rows * columns * channels && columns >= 2 * tile_columns);
    assert!(tiles.len() >= 15 * frequency_len + tile_rows * tile_columns * channels);
    for row in 0..tile_rows {
        for column in 0..tile_columns {
            for channel in (0..channels).step_by(S::LANES) {
                // SAFETY: as in `spread`.
                unsafe {
                    let source = tiles.as_ptr().add((row * tile_columns + column) * channels + channel);
                    let tile = from_fn(|i| from_fn(|j| S::load(source.add((4 * i + j) * frequency_len))));
                    let target = strip.as_mut_ptr().add((2 * row * columns + 2 * column) * channels + channel);
                    let outputs = output::<S>(tile);
                    for (i, row) in outputs.iter().enumerate() {
                        for (j, &pixel) in row.iter().enumerate() {
                            S::store(target.add((i * columns + j) * channels), pixel);
                        }
                    }
                }
            }
        }
    }
}
