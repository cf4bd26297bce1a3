//! Work in fixed chunks: shared by the rayon pool of the caller, or done on the calling thread alone.

use rayon::prelude::*;

/// Whether the caller runs inside a rayon pool of several threads, and kernels may share their work with it.
pub(super) fn in_pool() -> bool {
    crate::workers::may_share()
}

/// Calls `f(index, chunk)` for each chunk of `chunk_len` elements of `out`; the cut depends on `chunk_len` only.
pub(super) fn for_chunks<T: Send>(out: &mut [T], chunk_len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let chunk_len = chunk_len.max(1);
    if in_pool() && out.len() > chunk_len {
        out.par_chunks_mut(chunk_len).enumerate().for_each(|(index, chunk)| f(index, chunk));
    } else {
        out.chunks_mut(chunk_len).enumerate().for_each(|(index, chunk)| f(index, chunk));
    }
}

/// `[f(0), …, f(count − 1)]`, in order.
pub(super) fn map<R: Send>(count: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    if in_pool() && count > 1 { (0..count).into_par_iter().map(&f).collect() } else { (0..count).map(&f).collect() }
}
