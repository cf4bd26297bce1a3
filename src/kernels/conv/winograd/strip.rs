//! Rows of an image with their channels innermost.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::kernels::element::Element;
use crate::kernels::simd::{MAX_LANES, Simd};

/// How images `[C, H, W]` lie in strips `[rows, columns, C]`; `C` is a multiple of the lanes.
#[derive(Debug)]
pub(super) struct Strips {
    pub channels: usize,
    /// `[H, W]`
    pub image: [usize; 2],
    /// Zeros in front of the image.
    pub before: [usize; 2],
    /// Rows of a strip beyond two for each row of tiles.
    pub halo: usize,
    /// Pixels in a row of a strip, those in front of and behind the image included.
    pub columns: usize,
}

impl Strips {
    /// Numbers of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.image[0] * self.image[1]
    }

    /// Numbers of the strip of `tile_rows` rows of tiles.
    pub fn strip_len(&self, tile_rows: usize) -> usize {
        (2 * tile_rows + self.halo) * self.columns * self.channels
    }

    /// The rows of the strip that lie on the image, and the image's row of the first.
    fn inside(&self, tile_rows: &Range<usize>) -> (Range<usize>, usize) {
        let (first, rows) = (2 * tile_rows.start, 2 * tile_rows.len() + self.halo);
        let start = self.before[0].saturating_sub(first).min(rows);
        let end = (self.before[0] + self.image[0]).saturating_sub(first).min(rows).max(start);
        (start..end, (first + start).saturating_sub(self.before[0]))
    }

    /// Copies the rows under `tile_rows` into a strip; columns beside the image keep the zeros they were made with.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub unsafe fn pack<S: Simd<Scalar: Element>>(
        &self,
        image: &[S::Scalar],
        tile_rows: &Range<usize>,
        strip: &mut [S::Scalar],
    ) {
        let ([height, width], channels, lanes) = (self.image, self.channels, S::LANES);
        let (rows, first_row) = self.inside(tile_rows);
        let row_len = self.columns * channels;
        let strip = &mut strip[..self.strip_len(tile_rows.len())];
        strip[..rows.start * row_len].fill(S::Scalar::ZERO);
        strip[rows.end * row_len..].fill(S::Scalar::ZERO);
        let (first, pixels) = (first_row * width, rows.len() * width);
        const { assert!(S::LANES <= MAX_LANES) };
        let whole = pixels / lanes * lanes;
        let place =
            |pixel: usize| ((rows.start + pixel / width) * self.columns + self.before[1] + pixel % width) * channels;
        assert!(image.len() >= self.image_len() && self.before[1] + width <= self.columns, "an image beside its strip");
        assert!(channels.is_multiple_of(lanes), "channels of a strip");
        for channel in (0..channels).step_by(lanes) {
            for pixel in (0..whole).step_by(lanes) {
                // SAFETY: the instruction set is the caller's promise. `lanes` channels of `lanes` pixels lie in the
                // image, since `pixel + lanes <= pixels`; in the strip, each pixel's place has room for all channels.
                unsafe {
                    let source = image.as_ptr().add(channel * height * width + first + pixel);
                    if width.is_multiple_of(lanes) {
                        let target = strip.as_mut_ptr().add(place(pixel) + channel);
                        S::transpose(source, height * width, target, channels);
                        continue;
                    }
                    let mut block = [S::Scalar::ZERO; MAX_LANES * MAX_LANES];
                    S::transpose(source, height * width, block.as_mut_ptr(), lanes);
                    for lane in 0..lanes {
                        let target = strip.as_mut_ptr().add(place(pixel + lane) + channel);
                        S::store(target, S::load(block.as_ptr().add(lane * lanes)));
                    }
                }
            }
            for pixel in whole..pixels {
                let target = &mut strip[place(pixel) + channel..][..lanes];
                let source = image[channel * height * width + first + pixel..].iter().step_by(height * width);
                target.iter_mut().zip(source).for_each(|(target, &value)| *target = value);
            }
        }
    }

    /// Copies a strip of whole pixels (no zeros in front) to the rows of the image under `tile_rows`.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub unsafe fn unpack<S: Simd<Scalar: Element>>(
        &self,
        strip: &[S::Scalar],
        tile_rows: &Range<usize>,
        image: &mut [MaybeUninit<S::Scalar>],
    ) {
        let ([height, width], channels, lanes) = (self.image, self.channels, S::LANES);
        let (rows, first_row) = self.inside(tile_rows);
        let strip = &strip[..self.strip_len(tile_rows.len())];
        let (first, pixels) = (first_row * width, rows.len() * width);
        const { assert!(S::LANES <= MAX_LANES) };
        let whole = pixels / lanes * lanes;
        let place = |pixel: usize| (pixel / width * self.columns + pixel % width) * channels;
        assert!(image.len() >= self.image_len() && width <= self.columns, "an image beside its strip");
        assert!(channels.is_multiple_of(lanes), "channels of a strip");
        for channel in (0..channels).step_by(lanes) {
            for pixel in (0..whole).step_by(lanes) {
                // SAFETY: as in `pack`, with the roles of the two changed.
                unsafe {
                    let target = image.as_mut_ptr().add(channel * height * width + first + pixel).cast();
                    if width.is_multiple_of(lanes) || width == self.columns {
                        // Neighbouring pixels of the image are neighbours in the strip.
                        S::transpose(strip.as_ptr().add(place(pixel) + channel), channels, target, height * width);
                        continue;
                    }
                    let mut block = [S::Scalar::ZERO; MAX_LANES * MAX_LANES];
                    for lane in 0..lanes {
                        let source = strip.as_ptr().add(place(pixel + lane) + channel);
                        S::store(block.as_mut_ptr().add(lane * lanes), S::load(source));
                    }
                    S::transpose(block.as_ptr(), lanes, target, height * width);
                }
            }
            for pixel in whole..pixels {
                let source = &strip[place(pixel) + channel..][..lanes];
                let target = image[channel * height * width + first + pixel..].iter_mut().step_by(height * width);
                target.zip(source).for_each(|(target, &value)| _ = target.write(value));
            }
        }
    }
}
