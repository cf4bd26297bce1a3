//! The transformed tiles of one block.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::strip::Strips;
use super::tiling::{FREQUENCIES, Piece, Tiling, frequency_len};
use super::transform::{self, Transform};
use crate::kernels::element::Element;
use crate::kernels::scratch::Scratch;
use crate::kernels::simd::Simd;

/// Tiles of sources or of targets, `[frequency][tile][channel]`, and the strip through which they come and go.
pub(super) struct Tiles<'a, T: Element> {
    tiling: &'a Tiling,
    strips: &'a Strips,
    /// Made with zeros, which stay beside the image.
    strip: Vec<T>,
    step: usize,
    values: Scratch<T>,
}

impl<'a, T: Element> Tiles<'a, T> {
    /// Room for blocks of `most_rows` rows of tiles.
    pub fn new(tiling: &'a Tiling, strips: &'a Strips, most_rows: usize) -> Self {
        let strip = vec![T::ZERO; strips.strip_len(most_rows.min(tiling.tiles[0]))];
        let step = frequency_len(most_rows * tiling.tiles[1], strips.channels);
        Self { tiling, strips, strip, step, values: Scratch::new(FREQUENCIES * step) }
    }

    /// All tiles, `[tile][channel]`.
    pub fn frequency(&self, frequency: usize) -> &[T] {
        &self.values[frequency * self.step..]
    }

    /// The same, to be written.
    pub fn frequency_mut(&mut self, frequency: usize) -> &mut [T] {
        &mut self.values[frequency * self.step..]
    }

    /// Takes the tiles of a block from `images` and transforms them by `L`.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub unsafe fn read<S: Simd<Scalar = T>, L: Transform<N, 4>, const N: usize>(
        &mut self,
        images: &[T],
        block: &Range<usize>,
    ) {
        let len = self.strips.image_len();
        for piece in self.tiling.pieces(block) {
            let (sizes, first) = self.sizes(&piece);
            let image = &images[piece.sample * len..][..len];
            // SAFETY: the caller's promise.
            unsafe {
                self.strips.pack::<S>(image, &piece.rows, &mut self.strip);
                transform::spread::<S, L, N>(&self.strip, sizes, self.step, &mut self.values[first..]);
            }
        }
    }

    /// Writes the outputs of the tiles of a block to `images`.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub unsafe fn write<S: Simd<Scalar = T>>(&mut self, images: &mut [MaybeUninit<T>], block: &Range<usize>) {
        let len = self.strips.image_len();
        for piece in self.tiling.pieces(block) {
            let (sizes, first) = self.sizes(&piece);
            let image = &mut images[piece.sample * len..][..len];
            // SAFETY: the caller's promise.
            unsafe {
                transform::gather::<S>(&self.values[first..], sizes, self.step, &mut self.strip);
                self.strips.unpack::<S>(&self.strip, &piece.rows, image);
            }
        }
    }

    /// Sizes of a piece for `transform`, and its first number of each frequency.
    fn sizes(&self, piece: &Piece) -> ([usize; 4], usize) {
        let Strips { columns, channels, .. } = *self.strips;
        ([piece.rows.len(), self.tiling.tiles[1], columns, channels], piece.first_tile * channels)
    }
}
