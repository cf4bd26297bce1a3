//! Softmax and normalisation of each row by itself, with their adjoints: each direction in one pass, where primitives would
//! take a dozen over memory.
//!
//! Shapes: values are `[K?, …, len]`, and a row is a vector along the last axis. Sums along rows are taken in the dtype in
//! sixteen lanes. For the CPU alone.

mod norm;
mod operands;
mod softmax;
mod sums;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::element::Element;
use super::parallel;
use super::simd::{Isa, SimdTask};
pub use norm::{Norm, NormCotangents};
pub(super) use operands::{Held, from};
pub use operands::{OwnParts, Parts};
pub use softmax::Softmax;
pub(super) use softmax::{softmax_adjoint_rows, softmax_rows};
pub(super) use sums::{row_dot, row_sum};

/// Numbers of one parallel chunk; a fixed figure, since chunks decide the order of sums.
const CHUNK: usize = 1 << 15;

/// Some rows, the same of each direction, and where their results go.
pub(super) struct Piece<'a, T> {
    /// Position of the first row within a direction.
    pub start: usize,
    /// By direction.
    pub out: Vec<&'a mut [MaybeUninit<T>]>,
}

/// Runs a task for each piece of `out`, which has `numbers` for each direction, in rows of `len`; gives their results in order.
/// The cut depends on the sizes alone.
pub(super) fn in_pieces<'a, T: Element, K: SimdTask<T> + Send>(
    out: &'a mut [MaybeUninit<T>],
    numbers: usize,
    len: usize,
    task: impl Fn(Piece<'a, T>) -> K + Sync,
) -> Vec<K::Output>
where
    K::Output: Send,
{
    let piece_len = (CHUNK / len.max(1)).max(1) * len.max(1);
    let new = |index| Piece { start: index * piece_len, out: Vec::new() };
    let mut pieces: Vec<Piece<'a, T>> = (0..numbers.div_ceil(piece_len)).map(new).collect();
    for out in out.chunks_mut(numbers.max(1)) {
        pieces.iter_mut().zip(out.chunks_mut(piece_len)).for_each(|(piece, out)| piece.out.push(out));
    }
    let run = |piece| T::dispatch(Isa::best(), task(piece));
    if parallel::in_pool() && pieces.len() > 1 {
        pieces.into_par_iter().map(run).collect()
    } else {
        pieces.into_iter().map(run).collect()
    }
}

/// A row of an operand, where there is one.
pub(super) fn row<T>(data: Option<&[T]>, at: usize, len: usize) -> Option<&[T]> {
    data.map(|data| &data[at..][..len])
}
