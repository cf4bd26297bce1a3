//! Matrix products on the calling thread, in register tiles of rows times vectors.
//!
//! Columns of `b` are packed into panels two vectors wide; rows of `a` are read where they lie and broadcast, or are packed
//! into tiles too where they are transposed and several panels meet them. A panel is read from the second-level cache once
//! for each tile of rows, which takes a fifth of that cache's speed.
//!
//! Ours, since 768 x 768 x 768 in f32 runs at 231 GFLOP/s on one core with AVX-512, and at 124 in the crate `gemm`
//! (`cargo bench --bench kernels`), and since sums do not depend on how the rows are cut into calls.

// Loops over indices are what the compiler unrolls into registers, whatever the target features around them.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;

use super::element::Element;
use super::scratch::Scratch;
use super::simd::{Isa, MAX_LANES, Simd, SimdTask, prefetch};

/// Rows of the smallest register tile, and the unit of larger ones.
pub(super) const GRAIN: usize = 4;
/// Vectors in a register tile.
const VECTORS: usize = 2;
/// Length of sums that stay in registers: a panel of this many rows fits a core's second-level cache.
const LONGEST: usize = 1024;
/// Of a line of the caches.
const LINE_BYTES: usize = 64;
/// Panels that pay for packing a transposed `a`, whose columns lie a cache line or more apart.
const MANY_PANELS: usize = 4;

/// Grains of rows in a register tile: their sums fill at most three quarters of the registers.
pub(super) const fn grains_per_tile(registers: usize) -> usize {
    if registers >= 32 { 3 } else { 1 }
}

/// `out [rows, n] = op(a) op(b)`, or added to `out`.
pub(super) struct Gemm<'a, T> {
    pub rows: usize,
    /// Length of the sums.
    pub k: usize,
    pub n: usize,
    /// `[rows, k]`, or where transposed `[k, a_step]`, of which each row begins with the `rows` numbers that are used.
    pub a: &'a [T],
    pub a_step: usize,
    pub transpose_a: bool,
    /// `[k, n]`, or `[n, k]` where transposed.
    pub b: &'a [T],
    pub transpose_b: bool,
    /// Whether `out` is added to; otherwise all of it is written.
    pub add: bool,
    pub out: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Gemm<'_, T> {
    /// Multiplies. Entries do not depend on how the rows are cut into calls.
    ///
    /// # Safety
    /// What is added to has been written before.
    ///
    /// # Panics
    /// Where an operand or `out` is shorter than its shape says.
    pub unsafe fn run(self) {
        let Self { rows, k, n, a_step, .. } = self;
        let a_len = if self.transpose_a { k.saturating_sub(1) * a_step + rows.min(a_step * k) } else { rows * k };
        assert!(
            self.a.len() >= a_len && self.b.len() >= k * n && self.out.len() >= rows * n,
            "operands of a matrix product"
        );
        if k == 0 && !self.add {
            self.out.fill(MaybeUninit::new(T::ZERO));
        }
        T::dispatch(Isa::best(), self);
    }
}

impl<T: Element> SimdTask<T> for Gemm<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(mut self) {
        let Self { rows, k, n, .. } = self;
        let width = VECTORS * S::LANES;
        let most = grains_per_tile(S::REGISTERS);
        let mut panel = Scratch::new(k.min(LONGEST) * width);
        let first_packed = if self.transpose_a && n >= MANY_PANELS * width { 0 } else { rows / GRAIN * GRAIN };
        let mut packed = Scratch::new((rows.next_multiple_of(GRAIN) - first_packed) * k.min(LONGEST));
        for first in (0..k).step_by(LONGEST) {
            let len = LONGEST.min(k - first);
            let add = self.add || first > 0;
            for (row, size) in tiles(rows, most).filter(|&(row, _)| row >= first_packed) {
                self.pack_tile(row, size, first, &mut packed[(row - first_packed) * len..][..size * len]);
            }
            for column in (0..n).step_by(width) {
                // SAFETY: `S` is the instruction set this task was dispatched to.
                unsafe { self.pack_panel::<S>(first, len, column, &mut panel) };
                // The next panel comes from memory while tiles of this one are summed.
                let mut next = self.lines(first, len, column + width, width);
                let lines_per_tile = next.len().div_ceil(rows.div_ceil(most * GRAIN).max(1));
                for (row, size) in tiles(rows, most) {
                    next.by_ref().take(lines_per_tile).for_each(prefetch);
                    let place = Place { row, first, len, column, add };
                    let packed = row.checked_sub(first_packed).map(|row| &packed[row * len..]);
                    // SAFETY: as above; the tile's rows lie inside the operands, whose lengths `Gemm::run` has checked, or
                    // in `packed`. What is added to has been written: by the caller of `Gemm::run`, or by the sums before.
                    unsafe {
                        match size / GRAIN {
                            3 => self.tile::<S, { 3 * GRAIN }>(place, &panel, packed),
                            2 => self.tile::<S, { 2 * GRAIN }>(place, &panel, packed),
                            _ => self.tile::<S, GRAIN>(place, &panel, packed),
                        }
                    }
                }
            }
        }
    }
}

/// First row and size of each register tile: whole grains, at most `most` together, and an incomplete one by itself.
fn tiles(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let whole = rows / GRAIN;
    let incomplete = (whole * GRAIN < rows).then_some((whole, 1));
    super::tiles::tiles(whole, most).chain(incomplete).map(|(grain, grains)| (grain * GRAIN, grains * GRAIN))
}

/// Where a register tile lies.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    first: usize,
    len: usize,
    column: usize,
    add: bool,
}

impl<T: Element> Gemm<'_, T> {
    /// Copies the rows of a tile, `[len, size]`, with zeros beyond the last.
    fn pack_tile(&self, row: usize, size: usize, first: usize, packed: &mut [T]) {
        let rows = size.min(self.rows - row);
        for (l, packed) in packed.chunks_exact_mut(size).enumerate() {
            let l = first + l;
            if self.transpose_a {
                let from = &self.a[l * self.a_step + row..][..rows];
                // In whole grains, each of which is one load and one store.
                if rows == size {
                    let pairs = packed.as_chunks_mut::<GRAIN>().0.iter_mut().zip(from.as_chunks::<GRAIN>().0);
                    pairs.for_each(|(packed, from)| *packed = *from);
                } else {
                    packed[..rows].copy_from_slice(from);
                }
            } else {
                for (r, packed) in packed[..rows].iter_mut().enumerate() {
                    *packed = self.a[(row + r) * self.k + l];
                }
            }
            packed[rows..].fill(T::ZERO);
        }
    }

    /// Where the cache lines of a panel begin in `b`: none beyond its last column.
    fn lines(
        &self,
        first: usize,
        len: usize,
        column: usize,
        width: usize,
    ) -> impl ExactSizeIterator<Item = *const T> + use<T> {
        let (start, step) = match self.transpose_b {
            false => (first * self.n + column, self.n),
            true => (column * self.k + first, self.k),
        };
        let (rows, row_len) = if self.transpose_b { (width, len) } else { (len, width) };
        let (start, line) = (self.b.as_ptr().wrapping_add(start), LINE_BYTES / size_of::<T>());
        let per_row = row_len.div_ceil(line);
        let count = if column < self.n { rows * per_row } else { 0 };
        (0..count).map(move |index| start.wrapping_add(index / per_row * step + index % per_row * line))
    }

    /// Copies columns `column..` of rows `first..first + len` of `b`, `[len, width]`, with zeros beyond the last.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn pack_panel<S: Simd<Scalar = T>>(&self, first: usize, len: usize, column: usize, panel: &mut [T]) {
        let width = VECTORS * S::LANES;
        let columns = width.min(self.n - column);
        let panel = &mut panel[..len * width];
        if columns < width {
            panel.fill(T::ZERO);
        }
        if !self.transpose_b {
            for (l, packed) in panel.chunks_exact_mut(width).enumerate() {
                let from = &self.b[(first + l) * self.n + column..][..columns];
                if columns < width {
                    packed[..columns].copy_from_slice(from);
                    continue;
                }
                for v in 0..VECTORS {
                    // SAFETY: both have room for the vectors of a panel.
                    unsafe {
                        let vector = S::load(from.as_ptr().add(v * S::LANES));
                        S::store(packed.as_mut_ptr().add(v * S::LANES), vector);
                    }
                }
            }
            return;
        }
        let whole = if columns == width { len / S::LANES * S::LANES } else { 0 };
        for l in (0..whole).step_by(S::LANES) {
            for vector in 0..VECTORS {
                let lane = vector * S::LANES;
                // SAFETY: `LANES` rows of `b` from `column + lane` on have `LANES` numbers from `first + l` on, and so has
                // the panel, transposed.
                unsafe {
                    let source = self.b.as_ptr().add((column + lane) * self.k + first + l);
                    S::transpose(source, self.k, panel.as_mut_ptr().add(l * width + lane), width);
                }
            }
        }
        for l in whole..len {
            for c in 0..columns {
                panel[l * width + c] = self.b[(column + c) * self.k + first + l];
            }
        }
    }

    /// One register tile of `R` rows; `packed` holds them where they are not read from `a` itself.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`; without `packed`, `R` rows from `place.row` on exist; with `place.add`
    /// the tile of `out` has been written.
    #[inline(always)]
    unsafe fn tile<S: Simd<Scalar = T>, const R: usize>(&mut self, place: Place, panel: &[T], packed: Option<&[T]>) {
        if R > grains_per_tile(S::REGISTERS) * GRAIN {
            unreachable!("no tile of this instruction set is so large"); // known when compiled: no code is made
        }
        let Place { row, first, len, column, add } = place;
        let (width, n) = (VECTORS * S::LANES, self.n);
        // SAFETY: the caller's promise; a panel has `len` rows.
        let sums = unsafe {
            let zero = [[S::splat(T::ZERO); VECTORS]; R];
            match packed {
                Some(rows) => accumulate::<S, R, VECTORS>(rows.as_ptr(), [R, 1], panel.as_ptr(), width, len, zero),
                None if self.transpose_a => {
                    let a = self.a.as_ptr().add(first * self.a_step + row);
                    accumulate::<S, R, VECTORS>(a, [self.a_step, 1], panel.as_ptr(), width, len, zero)
                }
                None => {
                    let a = self.a.as_ptr().add(row * self.k + first);
                    accumulate::<S, R, VECTORS>(a, [1, self.k], panel.as_ptr(), width, len, zero)
                }
            }
        };
        let (rows, columns) = (R.min(self.rows - row), width.min(n - column));
        for r in 0..rows {
            let out = &mut self.out[(row + r) * n + column..][..columns];
            // SAFETY: `out` has room for the vectors where it is as wide as a panel, and so has `line`; what is added to has
            // been written.
            unsafe {
                if columns == width {
                    for v in 0..VECTORS {
                        let target = out.as_mut_ptr().cast::<T>().add(v * S::LANES);
                        S::store(target, if add { S::add(S::load(target), sums[r][v]) } else { sums[r][v] });
                    }
                    continue;
                }
                let mut line = [T::ZERO; VECTORS * MAX_LANES];
                for v in 0..VECTORS {
                    S::store(line.as_mut_ptr().add(v * S::LANES), sums[r][v]);
                }
                for (out, sum) in out.iter_mut().zip(line) {
                    out.write(if add { out.assume_init() + sum } else { sum });
                }
            }
        }
    }
}

/// `sums[r][v] += Σ_l a[l · step + r · row_step] · b[l · b_step + v]`: the loop that everything else is arranged for.
///
/// # Safety
/// The processor has the instruction set of `S`; `a` is valid for reads at each index of `R` rows and `len` columns, `b`
/// for `V` vectors in each of `len` rows.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd, const R: usize, const V: usize>(
    mut a: *const S::Scalar,
    [step, row_step]: [usize; 2],
    mut b: *const S::Scalar,
    b_step: usize,
    len: usize,
    mut sums: [[S::Vector; V]; R],
) -> [[S::Vector; V]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        for _ in 0..len {
            let mut vectors = sums[0];
            for v in 0..V {
                vectors[v] = S::load(b.add(v * S::LANES));
            }
            for r in 0..R {
                let factor = S::splat(*a.add(r * row_step));
                for v in 0..V {
                    sums[r][v] = S::mul_add(factor, vectors[v], sums[r][v]);
                }
            }
            (a, b) = (a.wrapping_add(step), b.wrapping_add(b_step));
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use std::ops::Range;

    use super::*;
    use crate::kernels::element::filled;

    /// A sum of `k` products in any order, and one more addend, is off by at most `(k + 2) ε Σ|a b|` to first order.
    fn random_products<T: Element>(isa: Isa, epsilon: f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for case in 0..150 {
            let mut size = |most: usize| rng.random_range(1..=most);
            let (rows, n) = (size(40), size(150));
            let k = if case % 25 == 0 { LONGEST + size(40) } else { size(60) };
            let mut draw =
                |len: usize| -> Vec<T> { (0..len).map(|_| T::from_f64(rng.random_range(-1.0..1.0))).collect() };
            let (a, b, start) = (draw(rows * k), draw(k * n), draw(rows * n));
            for (transpose_a, transpose_b, add) in
                [(false, false, false), (true, false, true), (false, true, true), (true, true, false)]
            {
                let (a, b) = (&a[..], &b[..]);
                let product = |out: &mut [MaybeUninit<T>]| {
                    out.iter_mut().zip(&start).for_each(|(out, &start)| _ = out.write(start));
                    T::dispatch(isa, Gemm { rows, k, n, a, a_step: rows, transpose_a, b, transpose_b, add, out });
                };
                // SAFETY: the start values fill it.
                let out = unsafe { filled(rows * n, product) };
                for row in 0..rows {
                    for column in 0..n {
                        let (mut sum, mut magnitude) = (0.0, 0.0);
                        for l in 0..k {
                            let a = a[if transpose_a { l * rows + row } else { row * k + l }].to_f64();
                            let b = b[if transpose_b { column * k + l } else { l * n + column }].to_f64();
                            (sum, magnitude) = (sum + a * b, magnitude + (a * b).abs());
                        }
                        if add {
                            let start = start[row * n + column].to_f64();
                            (sum, magnitude) = (sum + start, magnitude + start.abs());
                        }
                        let tolerance = (k + 2) as f64 * (epsilon + f64::EPSILON) * magnitude;
                        let got = out[row * n + column].to_f64();
                        assert!(
                            (got - sum).abs() <= tolerance,
                            "{rows}x{k}x{n}, {transpose_a} {transpose_b}: {got}, {sum}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn random_shapes_match_a_plain_loop_on_every_instruction_set() {
        for &isa in Isa::available() {
            random_products::<f32>(isa, f32::EPSILON.into());
            random_products::<f64>(isa, f64::EPSILON);
        }
    }

    #[test]
    fn rows_do_not_depend_on_the_cut() {
        let (rows, k, n) = (37, 29, 45);
        let values = |len: usize| -> Vec<f32> { (0..len).map(|i| (i as f32 * 0.37).sin()).collect() };
        let (a, b) = (values(rows * k), values(k * n));
        let product = |a: &[f32], rows: usize, a_step: usize, transpose_a: bool| {
            let (b, transpose_b, add) = (&b[..], false, false);
            // SAFETY: a product that is not added writes all of it.
            unsafe {
                filled(rows * n, |out| Gemm { rows, k, n, a, a_step, transpose_a, b, transpose_b, add, out }.run())
            }
        };
        for (transpose_a, row_step) in [(false, k), (true, 1)] {
            let part = |rows: Range<usize>| product(&a[rows.start * row_step..], rows.len(), 37, transpose_a);
            for cut in [1, 5, 36] {
                assert_eq!([part(0..cut), part(cut..rows)].concat(), part(0..rows), "{transpose_a}, {cut}");
            }
        }
    }
}
