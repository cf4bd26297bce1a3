//! What bilinear kernels are called with.

use std::ops::Range;

/// One operand of a bilinear kernel.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a, T> {
    /// Row-major values.
    pub data: &'a [T],
    /// Whether `data` carries `K` directions in front; otherwise all directions share it.
    pub stacked: bool,
}

impl<'a, T> Operand<'a, T> {
    /// Of direction `k`, which has `parts` parts of `len` values each, those in `range`.
    pub(super) fn parts(&self, k: usize, parts: usize, range: &Range<usize>, len: usize) -> &'a [T] {
        let first = if self.stacked { k * parts } else { 0 };
        &self.data[(first + range.start) * len..(first + range.end) * len]
    }
}
