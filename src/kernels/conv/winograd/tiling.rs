//! Which convolutions are computed by minimal filtering, and how they are cut into tiles.

use std::ops::Range;

use candle_core::DType;

use super::strip::Strips;
use crate::kernels::conv::geometry::ConvGeometry;
use crate::kernels::conv::plan::Lanes;
use crate::kernels::element::Element;
use crate::kernels::gemm::GRAIN;
use crate::kernels::simd::{Isa, MAX_LANES};
use crate::kernels::tiles::tiles;

/// Transformed tiles of a block, all operands together, stay in a core's own cache: a fixed figure, not this machine's.
const BLOCK_BYTES: usize = 384 << 10;
/// Transformed weights that exist at a time, where there is more than one direction.
const FILTER_BYTES: usize = 8 << 20;
/// With fewer tiles than this in a batch, transforming the weights costs more than it saves.
const FEWEST_TILES: usize = 48;
/// Entries of a transformed tile.
pub(super) const FREQUENCIES: usize = 16;

/// A convolution or its input gradient in tiles: source channels in, target channels out.
#[derive(Debug)]
pub(in crate::kernels) struct Tiling {
    pub(super) isa: Isa,
    /// Source images.
    pub(super) sources: Strips,
    /// Target images.
    pub(super) targets: Strips,
    /// Tiles along rows and columns of an image.
    pub(super) tiles: [usize; 2],
    /// Weights are `[source, target]` and their taps run backwards.
    pub(super) transposed: bool,
}

impl Tiling {
    /// The tiling of `conv2d`, where the geometry has one.
    pub fn forward<T: Element>(isa: Isa, geometry: &ConvGeometry, batch: usize) -> Option<Self> {
        Self::new::<T>(isa, geometry, batch, false)
    }

    /// The tiling of its adjoint in `x`, which is a correlation with the taps reversed.
    pub fn input_gradient<T: Element>(isa: Isa, geometry: &ConvGeometry, batch: usize) -> Option<Self> {
        Self::new::<T>(isa, geometry, batch, true)
    }

    fn new<T: Element>(isa: Isa, geometry: &ConvGeometry, batch: usize, transposed: bool) -> Option<Self> {
        let ConvGeometry { in_channels, out_channels, groups, kernel, stride, padding, dilation, input } = *geometry;
        let ([lanes, _], output) = (T::dispatch(isa, Lanes), geometry.output());
        let plain = kernel == [3; 2] && stride == [1; 2] && dilation == [1; 2] && groups == 1;
        let whole = in_channels.is_multiple_of(lanes) && out_channels.is_multiple_of(lanes);
        let some = in_channels > 0 && out_channels > 0 && !output.contains(&0);
        if T::DTYPE != DType::F32 || !plain || !whole || !some || padding.iter().any(|&padding| padding > 2) {
            return None;
        }
        let (sources, targets) = if transposed {
            ((out_channels, output), (in_channels, input))
        } else {
            ((in_channels, input), (out_channels, output))
        };
        let before = if transposed { padding.map(|padding| 2 - padding) } else { padding };
        let tiles = targets.1.map(|size: usize| size.div_ceil(2));
        if batch * tiles[0] * tiles[1] < FEWEST_TILES {
            return None;
        }
        Some(Self {
            isa,
            sources: Strips { channels: sources.0, image: sources.1, before, halo: 2, columns: 2 * tiles[1] + 2 },
            targets: Strips { channels: targets.0, image: targets.1, before: [0; 2], halo: 0, columns: 2 * tiles[1] },
            tiles,
            transposed,
        })
    }

    /// Numbers in `w`.
    pub fn weight_len(&self) -> usize {
        9 * self.sources.channels * self.targets.channels
    }

    /// Rows of tiles of one block, where each tile has `channels` numbers of each frequency.
    pub(super) fn rows_per_block<T>(&self, channels: usize) -> usize {
        (BLOCK_BYTES / (FREQUENCIES * size_of::<T>() * channels * self.tiles[1])).max(1)
    }

    /// The rows of tiles of `samples` samples, one after the other, in blocks of at most `most`, as even as can be.
    pub(super) fn blocks(&self, samples: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
        tiles(samples * self.tiles[0], most).map(|(first, count)| first..first + count)
    }

    /// The samples of a block, with the rows of tiles of each and the first tile's index in the block.
    pub(super) fn pieces(&self, block: &Range<usize>) -> impl Iterator<Item = Piece> {
        let (per_sample, columns, block) = (self.tiles[0], self.tiles[1], block.clone());
        (block.start / per_sample..block.end.div_ceil(per_sample)).map(move |sample| {
            let first = sample * per_sample;
            let (start, end) = (block.start.max(first), block.end.min(first + per_sample));
            Piece { sample, rows: start - first..end - first, first_tile: (start - block.start) * columns }
        })
    }
}

/// Directions whose transformed weights exist at a time.
pub(super) fn directions_per_group<T>(tiling: &Tiling, directions: usize) -> usize {
    let filter = FREQUENCIES * size_of::<T>() * tiling.sources.channels * tiling.targets.channels;
    (FILTER_BYTES / filter).clamp(1, directions)
}

/// Rows of tiles of one sample.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) sample: usize,
    pub(super) rows: Range<usize>,
    pub(super) first_tile: usize,
}

/// Numbers from one frequency to the next, for `rows` rows of `columns` numbers: the odd cache line keeps the sixteen
/// frequencies of an entry from falling into one set of the cache.
pub(super) fn frequency_len(rows: usize, columns: usize) -> usize {
    rows.next_multiple_of(GRAIN) * columns + MAX_LANES
}
