//! Batched matrix products with either operand transposed.

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor};

use super::access::{Slice, with_float};
use super::conv::Operand;
use super::element::{Element, filled};
use super::gemm::Gemm;
use super::parallel;
use super::stacked::directions;

/// `op(a) op(b)` per batch item, `op` the identity or the transpose; row-major `[batch, rows, columns]` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatMul {
    /// Independent products.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Length of the sum.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// `a` is stored as `[batch, k, m]`.
    pub transpose_a: bool,
    /// `b` is stored as `[batch, n, k]`.
    pub transpose_b: bool,
}

impl MatMul {
    /// The stored shape of `a`.
    pub fn a_shape(&self) -> [usize; 3] {
        if self.transpose_a { [self.batch, self.k, self.m] } else { [self.batch, self.m, self.k] }
    }

    /// The stored shape of `b`.
    pub fn b_shape(&self) -> [usize; 3] {
        if self.transpose_b { [self.batch, self.n, self.k] } else { [self.batch, self.k, self.n] }
    }

    /// The shape of the result.
    pub fn out_shape(&self) -> [usize; 3] {
        [self.batch, self.m, self.n]
    }

    /// The product that is the adjoint in `a`: takes the cotangent and `b`, in this order where `.1` is true.
    pub(super) fn adjoint_a(&self) -> (Self, bool) {
        let Self { batch, m, k, n, transpose_a, transpose_b } = *self;
        if transpose_a {
            (Self { batch, m: k, k: n, n: m, transpose_a: transpose_b, transpose_b: true }, false)
        } else {
            (Self { batch, m, k: n, n: k, transpose_a: false, transpose_b: !transpose_b }, true)
        }
    }

    /// The adjoint in `b`: takes the cotangent and `a`, in this order where `.1` is true.
    pub(super) fn adjoint_b(&self) -> (Self, bool) {
        let Self { batch, m, k, n, transpose_a, transpose_b } = *self;
        if transpose_b {
            (Self { batch, m: n, k: m, n: k, transpose_a: true, transpose_b: transpose_a }, true)
        } else {
            (Self { batch, m: k, k: m, n, transpose_a: !transpose_a, transpose_b: false }, false)
        }
    }

    /// `Σ_terms op(a) op(b)`; stacked operands carry `K` in front.
    pub(super) fn apply(&self, terms: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
        let stacked = terms.iter().find_map(|(a, b)| directions(&[(a, 3), (b, 3)]));
        let mut shape = self.out_shape().to_vec();
        if let Some(k) = stacked {
            shape.insert(0, k);
        }
        let (dtype, device) = (terms[0].0.dtype(), terms[0].0.device());
        with_float!(dtype, T => {
            let held: Vec<(Tensor, Tensor)> =
                terms.iter().map(|(a, b)| Ok((a.contiguous()?, b.contiguous()?))).collect::<Result<_>>()?;
            let slices: Vec<(Slice<'_, T>, Slice<'_, T>)> =
                held.iter().map(|(a, b)| Ok((Slice::of(a)?, Slice::of(b)?))).collect::<Result<_>>()?;
            let fill = |out: &mut [MaybeUninit<T>]| {
                for (index, ((a, b), (a_tensor, b_tensor))) in slices.iter().zip(&held).enumerate() {
                    let a = Operand { data: a, stacked: a_tensor.rank() > 3 };
                    let b = Operand { data: b, stacked: b_tensor.rank() > 3 };
                    // SAFETY: the first term writes all of what later ones add to.
                    unsafe { self.accumulate(a, b, index > 0, out) };
                }
            };
            // SAFETY: the first term writes all of it.
            let out = unsafe { filled(shape.iter().product(), fill) };
            Tensor::from_vec(out, shape, device)
        })
    }

    /// Writes or adds the products of `a` and `b`.
    ///
    /// # Safety
    /// What is added to has been written before.
    unsafe fn accumulate<T: Element>(&self, a: Operand<T>, b: Operand<T>, add: bool, out: &mut [MaybeUninit<T>]) {
        let (Operand { data: a, stacked: a_stacked }, Operand { data: b, stacked: b_stacked }) = (a, b);
        let (a_len, b_len, out_len) = (self.m * self.k, self.k * self.n, self.m * self.n);
        if out_len == 0 {
            return;
        }
        // One tall product where only `a` differs between directions and nothing is batched.
        if a_stacked && !b_stacked && self.batch == 1 && !self.transpose_a {
            let rows = out.len() / self.n;
            let tall = Self { m: rows, ..*self };
            // In chunks that a pool may share; alone, a pack of `b` should serve all rows.
            let chunk_rows = if parallel::in_pool() { ROWS_PER_CHUNK } else { rows };
            parallel::for_chunks(out, chunk_rows * self.n, |chunk, out| {
                let rows = out.len() / self.n;
                // SAFETY: the caller's promise.
                unsafe { tall.gemm(&a[chunk * chunk_rows * self.k..], b, add, rows, out) };
            });
            return;
        }
        let offset = |stacked: bool, item: usize, len: usize| (if stacked { item } else { item % self.batch }) * len;
        if self.m <= ROWS_PER_CHUNK || out.len() >= MANY_ITEMS * out_len || !parallel::in_pool() {
            parallel::for_chunks(out, out_len, |item, out| {
                let (a, b) = (&a[offset(a_stacked, item, a_len)..], &b[offset(b_stacked, item, b_len)..]);
                // SAFETY: the caller's promise.
                unsafe { self.gemm(a, b, add, self.m, out) };
            });
            return;
        }
        let row_step = if self.transpose_a { 1 } else { self.k };
        for (item, out) in out.chunks_mut(out_len).enumerate() {
            let (a, b) = (&a[offset(a_stacked, item, a_len)..], &b[offset(b_stacked, item, b_len)..]);
            parallel::for_chunks(out, ROWS_PER_CHUNK * self.n, |chunk, out| {
                // SAFETY: the caller's promise.
                unsafe { self.gemm(&a[chunk * ROWS_PER_CHUNK * row_step..], b, add, out.len() / self.n, out) };
            });
        }
    }

    /// One product of `rows` rows of the result, whose first is that of `a`, on the calling thread.
    ///
    /// # Safety
    /// What is added to has been written before.
    unsafe fn gemm<T: Element>(&self, a: &[T], b: &[T], add: bool, rows: usize, out: &mut [MaybeUninit<T>]) {
        let Self { m, k, n, transpose_a, transpose_b, .. } = *self;
        // SAFETY: the caller's promise.
        unsafe { Gemm { rows, k, n, a, a_step: m, transpose_a, b, transpose_b, add, out }.run() };
    }
}

/// Rows of one parallel chunk; the cut does not change an entry.
const ROWS_PER_CHUNK: usize = 64;
/// Independent products that are work enough for all threads.
const MANY_ITEMS: usize = 32;
