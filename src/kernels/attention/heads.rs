//! The heads that share keys: scores of a block of queries at a time.

use std::mem::MaybeUninit;

use candle_core::Result;

use super::{Attention, Count, Qkv};
use crate::kernels::element::Element;
use crate::kernels::gemm::Gemm;
use crate::kernels::rows::{softmax_adjoint_rows, softmax_rows};
use crate::kernels::scratch::Scratch;

/// Queries whose scores exist at a time.
const BLOCK: usize = 128;

/// A primal and its tangents as numbers.
#[derive(Clone, Copy)]
struct Data<'a, T> {
    primal: Option<&'a [T]>,
    tangents: Option<&'a [T]>,
}

impl<'a, T> Data<'a, T> {
    /// The rows `start..end` of `len` numbers each: of the primal, or of a direction, which has `total` rows.
    fn rows(&self, direction: Option<usize>, total: usize, [start, end]: [usize; 2], len: usize) -> Option<&'a [T]> {
        let (data, first) = match direction {
            None => (self.primal?, 0),
            Some(k) => (self.tangents?, k * total),
        };
        Some(&data[(first + start) * len..(first + end) * len])
    }
}

/// What one call reads.
pub(super) struct Inputs<'a, T> {
    shape: &'a Attention,
    qkv: Qkv<Data<'a, T>>,
    cotangent: Data<'a, T>,
    mask: Option<&'a [T]>,
}

/// Queries of one head whose scores exist together.
#[derive(Clone, Copy)]
struct Block {
    /// The head, of all.
    head: usize,
    /// The first query of the head.
    start: usize,
    /// How many queries.
    count: usize,
    /// Keys that any of them sees: the first of its group.
    keys: usize,
}

impl<'a, T: Element> Inputs<'a, T> {
    pub fn of(shape: &'a Attention, slices: &[Option<&'a [T]>]) -> Result<Self> {
        let &[q, q_dot, k, k_dot, v, v_dot, c, c_dot, mask] = slices else {
            candle_core::bail!("attention without its operands")
        };
        let data = |primal, tangents| Data { primal, tangents };
        let qkv = Qkv { query: data(q, q_dot), key: data(k, k_dot), value: data(v, v_dot) };
        Ok(Self { shape, qkv, cotangent: data(c, c_dot), mask })
    }

    /// The blocks of a group, head after head.
    fn blocks(&self, group: usize) -> impl Iterator<Item = Block> + use<T> {
        let &Attention { served, tokens, keys, is_causal, .. } = self.shape;
        let heads = group * served..(group + 1) * served;
        heads.flat_map(move |head| {
            (0..tokens).step_by(BLOCK).map(move |start| {
                let count = BLOCK.min(tokens - start);
                let keys = if is_causal { keys.min(start + count) } else { keys };
                Block { head, start, count, keys }
            })
        })
    }

    /// Queries of a block, times the factor of the scores.
    fn query(&self, direction: Option<usize>, block: Block) -> Option<Scratch<T>> {
        let &Attention { heads, tokens, depth, scale, .. } = self.shape;
        let first = block.head * tokens + block.start;
        let rows = self.qkv.query.rows(direction, heads * tokens, [first, first + block.count], depth)?;
        let (mut scaled, factor) = (Scratch::new(rows.len()), T::from_f64(scale));
        scaled.iter_mut().zip(rows).for_each(|(out, &x)| *out = x * factor);
        Some(scaled)
    }

    /// Keys that a block sees.
    fn key(&self, direction: Option<usize>, block: Block) -> Option<&'a [T]> {
        let &Attention { heads, served, keys, depth, .. } = self.shape;
        let first = block.head / served * keys;
        self.qkv.key.rows(direction, heads / served * keys, [first, first + block.keys], depth)
    }

    /// Values that a block sees.
    fn value(&self, direction: Option<usize>, block: Block) -> Option<&'a [T]> {
        let &Attention { heads, served, keys, width, .. } = self.shape;
        let first = block.head / served * keys;
        self.qkv.value.rows(direction, heads / served * keys, [first, first + block.keys], width)
    }

    /// Cotangents of a block's results.
    fn cotangent(&self, direction: Option<usize>, block: Block) -> Option<&'a [T]> {
        let &Attention { heads, tokens, width, .. } = self.shape;
        let first = block.head * tokens + block.start;
        self.cotangent.rows(direction, heads * tokens, [first, first + block.count], width)
    }

    /// The weights of a block, `[count, keys]`.
    fn weights(&self, block: Block, query: &[T]) -> Scratch<T> {
        let &Attention { tokens, keys: all_keys, depth, is_causal, .. } = self.shape;
        let Block { head, start, count, keys } = block;
        let mut scores = Scratch::new(count * keys);
        let key = self.key(None, block);
        sum_products(&mut scores, [count, depth, keys], &[key.map(|key| (query, key))], Transposed::B);
        for (row, scores) in scores.chunks_exact_mut(keys.max(1)).enumerate() {
            if let Some(mask) = self.mask {
                let head = if mask.len() > tokens * all_keys { head } else { 0 };
                let mask = &mask[(head * tokens + start + row) * all_keys..][..keys];
                scores.iter_mut().zip(mask).for_each(|(score, &mask)| *score += mask);
            }
            if is_causal {
                scores[(start + row + 1).min(keys)..].fill(T::from_f64(f64::NEG_INFINITY));
            }
        }
        let mut weights = Scratch::new(count * keys);
        softmax_rows(keys, &scores, as_uninit(&mut weights));
        weights
    }

    /// The tangents of the weights in a direction, where queries or keys have any.
    fn moved_weights(
        &self,
        k: usize,
        block: Block,
        query: &[T],
        moved: Option<&[T]>,
        weights: &[T],
    ) -> Option<Scratch<T>> {
        let terms = [moved.zip(self.key(None, block)), self.key(Some(k), block).map(|key| (query, key))];
        if terms.iter().all(Option::is_none) {
            return None;
        }
        let (mut scores, mut moved) = (Scratch::new(weights.len()), Scratch::new(weights.len()));
        sum_products(&mut scores, [block.count, self.shape.depth, block.keys], &terms, Transposed::B);
        softmax_adjoint_rows(block.keys, weights, Some(&scores), None, as_uninit(&mut moved));
        Some(moved)
    }

    /// The results of a group of heads: the primal, then those of each direction.
    pub fn forward(&self, group: usize, mut out: Vec<&mut [MaybeUninit<T>]>) {
        let width = self.shape.width;
        let mut at = 0;
        for block in self.blocks(group) {
            let Some(query) = self.query(None, block) else { return };
            let weights = self.weights(block, &query);
            let value = self.value(None, block);
            let sizes = [block.count, block.keys, width];
            for (part, out) in out.iter_mut().enumerate() {
                let out = as_init(&mut out[at..][..block.count * width]);
                let Some(k) = part.checked_sub(1) else {
                    sum_products(out, sizes, &[value.map(|value| (&weights[..], value))], Transposed::Neither);
                    continue;
                };
                let moved_query = self.query(Some(k), block);
                let moved = self.moved_weights(k, block, &query, moved_query.as_deref(), &weights);
                let terms =
                    [moved.as_deref().zip(value), self.value(Some(k), block).map(|value| (&weights[..], value))];
                sum_products(out, sizes, &terms, Transposed::Neither);
            }
            at += block.count * width;
        }
    }

    /// The cotangents of a group of heads.
    pub fn adjoint(&self, group: usize, out: Qkv<Vec<&mut [MaybeUninit<T>]>>, count: Count) {
        let &Attention { depth, width, .. } = self.shape;
        let Qkv { mut query, mut key, mut value } = out;
        // Sums over the blocks, of which not all see every key.
        key.iter_mut().chain(&mut value).for_each(|out| out.fill(MaybeUninit::new(T::ZERO)));
        let mut at = 0;
        for block in self.blocks(group) {
            let Some(scaled) = self.query(None, block) else { return };
            let weights = self.weights(block, &scaled);
            let (keys, values, c) = (self.key(None, block), self.value(None, block), self.cotangent(None, block));
            let to_weights = [block.count, width, block.keys];
            let (to_queries, to_keys) = ([block.count, block.keys, depth], [block.keys, block.count, depth]);
            let to_values = [block.keys, block.count, width];
            // Cotangents of the weights and of the scores.
            let (mut of_weights, mut of_scores) = (Scratch::new(weights.len()), Scratch::new(weights.len()));
            if c.is_some() {
                sum_products(&mut of_weights, to_weights, &[c.zip(values)], Transposed::B);
                softmax_adjoint_rows(block.keys, &weights, Some(&of_weights), None, as_uninit(&mut of_scores));
            }
            for part in 0..count.parts() {
                let query = as_init(&mut query[part][at..][..block.count * depth]);
                let key = as_init(&mut key[part][..block.keys * depth]);
                let value = as_init(&mut value[part][..block.keys * width]);
                let direction = if count.has_primal { part.checked_sub(1) } else { Some(part) };
                if let Some(k) = direction {
                    let moved_query = self.query(Some(k), block);
                    let moved = self.moved_weights(k, block, &scaled, moved_query.as_deref(), &weights);
                    let (moved, c_dot) = (moved.as_deref(), self.cotangent(Some(k), block));
                    let (mut of_moved, mut of_moved_scores) =
                        (Scratch::new(weights.len()), Scratch::new(weights.len()));
                    let terms = [c_dot.zip(values), c.zip(self.value(Some(k), block))];
                    sum_products(&mut of_moved, to_weights, &terms, Transposed::B);
                    let other = moved.filter(|_| c.is_some()).map(|moved| (moved, &of_weights[..]));
                    let rows = as_uninit(&mut of_moved_scores);
                    softmax_adjoint_rows(block.keys, &weights, Some(&of_moved), other, rows);
                    let of_scores = c.map(|_| &of_scores[..]);
                    let terms =
                        [keys.map(|keys| (&of_moved_scores[..], keys)), of_scores.zip(self.key(Some(k), block))];
                    sum_products(query, to_queries, &terms, Transposed::Neither);
                    let terms = [Some((&of_moved_scores[..], &scaled[..])), of_scores.zip(moved_query.as_deref())];
                    add_products(key, to_keys, &terms);
                    add_products(value, to_values, &[c_dot.map(|c| (&weights[..], c)), moved.zip(c)]);
                } else {
                    let terms = [keys.map(|keys| (&of_scores[..], keys))];
                    sum_products(query, to_queries, &terms, Transposed::Neither);
                    add_products(key, to_keys, &[Some((&of_scores[..], &scaled[..]))]);
                    add_products(value, to_values, &[c.map(|c| (&weights[..], c))]);
                }
                let factor = T::from_f64(self.shape.scale);
                query.iter_mut().for_each(|x| *x *= factor);
            }
            at += block.count * depth;
        }
    }
}

/// Which operand of a product is read transposed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transposed {
    Neither,
    A,
    B,
}

type Factors<'a, T> = Option<(&'a [T], &'a [T])>;

/// `out [m, n] = Σ a b` over the terms that there are, sums of length `k`.
fn sum_products<T: Element>(out: &mut [T], sizes: [usize; 3], terms: &[Factors<'_, T>], transposed: Transposed) {
    if terms.iter().all(Option::is_none) {
        out.fill(T::ZERO);
    }
    let mut add = false;
    for (a, b) in terms.iter().flatten() {
        product(out, sizes, (a, b), transposed, add);
        add = true;
    }
}

/// `out [m, n] += Σ aᵀ b`, each `a` stored as `[k, m]`.
fn add_products<T: Element>(out: &mut [T], sizes: [usize; 3], terms: &[Factors<'_, T>]) {
    terms.iter().flatten().for_each(|(a, b)| product(out, sizes, (a, b), Transposed::A, true));
}

fn product<T: Element>(
    out: &mut [T],
    [rows, k, n]: [usize; 3],
    (a, b): (&[T], &[T]),
    transposed: Transposed,
    add: bool,
) {
    let (transpose_a, transpose_b) = (transposed == Transposed::A, transposed == Transposed::B);
    // SAFETY: all of `out` is initialised.
    unsafe { Gemm { rows, k, n, a, a_step: rows, transpose_a, b, transpose_b, add, out: as_uninit(out) }.run() };
}

/// Numbers as a place to write numbers to.
fn as_uninit<T: Copy>(values: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: only kernels write to it, and only numbers.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<T>]) }
}

/// A place for numbers as numbers, which it must become before it is read: products write it whole.
fn as_init<T: Element>(values: &mut [MaybeUninit<T>]) -> &mut [T] {
    // SAFETY: any bits are a float; the callers' products write them before they are read.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [T]) }
}
