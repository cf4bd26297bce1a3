//! Cuts work into pieces that fill the registers.

/// Cuts `0..count` into `(first, length)` pieces of at most `most`, as even as they can be: a piece that leaves
/// registers idle costs about as much as a full one.
pub(super) fn tiles(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let pieces = count.div_ceil(most);
    (0..pieces).map(move |piece| {
        let (first, end) = (piece * count / pieces, (piece + 1) * count / pieces);
        (first, end - first)
    })
}
