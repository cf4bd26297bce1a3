//! Images with their channels innermost, and back.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::Axis;
use crate::kernels::element::Element;
use crate::kernels::simd::{MAX_LANES, Simd};

/// Channels innermost: copies those of one vector to every `spread`-th place of a padded image.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd<Scalar: Element>>(
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

/// Pixels with their channels innermost, as planes of channels.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn unpack<S: Simd<Scalar: Element>>(
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
