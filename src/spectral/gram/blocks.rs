//! The Gram matrix of the rows of `F`, block by block, and sums over these rows.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::METHOD;
use crate::kernels::{add, matrix_product, row_dots};
use crate::observer::{Observer, Step};
use crate::operator::OuterProducts;
use crate::spectral::SpectralError;
use crate::spectral::state::{Store, SurveyState, damaged};
use crate::{Error, Result};

/// Columns that are multiplied at a time, in f64: part of every sum's rounding, so it never changes with the memory.
const COLUMNS: usize = 1_024;
/// Rows that meet others at a time.
const STRIP: usize = 256;

/// How many rows of `F` are in memory at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowBlocks {
    /// Blocks of rows that are held while all later rows pass by.
    pub count: usize,
    /// Rows of a block.
    pub(super) held: usize,
    /// Rows that pass by at a time.
    pub(super) piece: usize,
    /// What everything takes together.
    pub memory_bytes: usize,
}

impl RowBlocks {
    /// The largest blocks that fit beside two Gram matrices in f64 and the eigenvectors; `None` where not even single rows
    /// do.
    pub fn fit((rows, dim): (usize, usize), dtype: DType, pairs: usize, memory_bytes: usize) -> Option<Self> {
        let matrices = rows.saturating_mul(rows).saturating_mul(2 * size_of::<f64>());
        let vectors = 2 * pairs * dim * size_of::<f64>();
        let row = dim * dtype.size_in_bytes() + COLUMNS.min(dim) * size_of::<f64>();
        let fitting = memory_bytes.checked_sub(matrices)?.checked_sub(vectors)? / row.max(1);
        let piece = (fitting / 8).clamp(1, STRIP).min(rows);
        let count = rows.div_ceil(fitting.checked_sub(piece).filter(|&held| held > 0)?);
        let held = rows.div_ceil(count.max(1));
        Some(Self { count, held, piece, memory_bytes: matrices + vectors + (held + piece) * row })
    }

    /// How many of `rows` rows are computed for the matrix: each again for every earlier block.
    pub fn passing(&self, rows: usize) -> usize {
        (0..rows).step_by(self.held.max(1)).map(|start| rows - start).sum()
    }
}

/// The rows of `F`, and those that are in memory already.
pub(super) struct Rows<'a> {
    factor: &'a dyn OuterProducts,
    blocks: RowBlocks,
    /// The block at hand, and its first row.
    held: Option<(usize, Tensor)>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(factor: &'a dyn OuterProducts, blocks: RowBlocks) -> Self {
        Self { factor, blocks, held: None }
    }

    pub(super) fn count(&self) -> usize {
        self.factor.num_rows()
    }

    pub(super) fn dim(&self) -> usize {
        self.factor.dim()
    }

    fn get(&self, range: Range<usize>, observer: &mut dyn Observer) -> Result<Tensor> {
        match &self.held {
            Some((first, block)) if *first <= range.start && range.end <= first + block.dims()[0] => {
                Ok(block.narrow(0, range.start - first, range.len())?)
            }
            _ => self.factor.rows(range, observer),
        }
    }

    /// `start..count()` in pieces.
    fn pieces(&self, start: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, piece) = (self.count(), self.blocks.piece);
        (start..count).step_by(piece).map(move |start| start..(start + piece).min(count))
    }

    /// `Z Fᵀ`, `[k, rows]`, for `[k, n]` in f64.
    pub(super) fn images(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let mut images = Vec::new();
        for range in self.pieces(0) {
            let rows = self.get(range.clone(), observer)?;
            let mut sum = Tensor::zeros((block.dims()[0], range.len()), DType::F64, &Device::Cpu)?;
            for columns in columns(self.dim()) {
                let own = block.narrow(1, columns.start, columns.len())?.contiguous()?;
                sum = add(&sum, &matrix_product(&own, &widened(&rows, &columns)?, true)?)?;
            }
            images.push(sum);
        }
        Ok(Tensor::cat(&images, 1)?)
    }

    /// `B + C F`, `[k, n]`, for `B` `[k, n]` and `C` `[k, rows]` in f64.
    pub(super) fn combine(&self, base: &Tensor, coefficients: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let of_base = |columns: Range<usize>| base.narrow(1, columns.start, columns.len())?.contiguous();
        let mut sums = columns(self.dim()).map(of_base).collect::<candle_core::Result<Vec<_>>>()?;
        for range in self.pieces(0) {
            let rows = self.get(range.clone(), observer)?;
            let own = coefficients.narrow(1, range.start, range.len())?.contiguous()?;
            for (sum, columns) in sums.iter_mut().zip(columns(self.dim())) {
                *sum = add(sum, &matrix_product(&own, &widened(&rows, &columns)?, false)?)?;
            }
        }
        Ok(Tensor::cat(&sums, 1)?)
    }
}

/// `G = F Fᵀ` so far.
pub(super) struct Gram {
    /// Row-major, `[rows, rows]`; of the rows that are done, what stands on the diagonal and right of it.
    pub(super) entries: Vec<f64>,
    /// The squares of each row that is done, summed over spans of columns.
    pub(super) squares: Vec<Vec<f64>>,
}

impl Gram {
    /// The whole matrix; the rows of it that `store` has come from there.
    pub(super) fn of(
        rows: &mut Rows<'_>,
        spans: &[usize],
        store: &mut dyn Store,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let count = rows.count();
        let mut gram = match store.load()? {
            Some(state) => Self::restore(&state, count, spans.len())?,
            None => Self { entries: vec![0.0; count * count], squares: Vec::new() },
        };
        while gram.squares.len() < count {
            let stopped = match gram.extend(rows, spans, observer) {
                Err(Error::Interrupted) => true,
                added => {
                    added?;
                    let done = gram.squares.len();
                    observer.on_step(&Step { task: METHOD, done, total: count, message: String::new() }).is_break()
                }
            };
            let done = gram.squares.len();
            // The last time is before the decomposition, which takes a while and saves nothing.
            if done > 0 && store.wants(8 * done * (count + spans.len()), stopped || done == count) {
                store.save(&gram.state(count)?);
            }
            if stopped {
                return Err(Error::Interrupted);
            }
        }
        for row in 0..count {
            (0..row).for_each(|column| gram.entries[row * count + column] = gram.entries[column * count + row]);
        }
        Ok(gram)
    }

    /// The rows of one block more.
    fn extend(&mut self, rows: &mut Rows<'_>, spans: &[usize], observer: &mut dyn Observer) -> Result<()> {
        let start = self.squares.len();
        let end = (start + rows.blocks.held).min(rows.count());
        rows.held = None;
        let held = rows.get(start..end, observer)?;
        let squares = squares(&held, spans)?;
        if let Some(row) = squares.iter().position(|squares| !squares.iter().sum::<f64>().is_finite()) {
            return Err(SpectralError::NonFinite { method: METHOD, matvec: start + row + 1 }.into());
        }
        self.add((start, &held), (start, &held), rows.count())?;
        for range in rows.pieces(end) {
            let piece = rows.get(range.clone(), observer)?;
            self.add((start, &held), (range.start, &piece), rows.count())?;
        }
        rows.held = Some((start, held));
        self.squares.extend(squares);
        Ok(())
    }

    /// Adds the products of two blocks, each with its first row; of a block with itself, one half and little more.
    fn add(&mut self, (start, a): (usize, &Tensor), (other, b): (usize, &Tensor), count: usize) -> Result<()> {
        let (rows, itself) = (a.dims()[0], start == other);
        for columns in columns(a.dims()[1]) {
            let a = widened(a, &columns)?;
            let b = if itself { a.clone() } else { widened(b, &columns)? };
            for strip in (0..rows).step_by(STRIP) {
                let first = if itself { strip } else { 0 };
                let own = a.narrow(0, strip, STRIP.min(rows - strip))?;
                let others = b.narrow(0, first, b.dims()[0] - first)?;
                for (row, products) in matrix_product(&own, &others, true)?.to_vec2::<f64>()?.iter().enumerate() {
                    let entries = &mut self.entries[(start + strip + row) * count + other + first..];
                    entries.iter_mut().zip(products).for_each(|(entry, product)| *entry += product);
                }
            }
        }
        Ok(())
    }

    fn state(&self, count: usize) -> Result<SurveyState> {
        let done = self.squares.len();
        let mut state = SurveyState::default();
        state.put_numbers("gram", &self.entries[..done * count])?;
        state.put_numbers("squares", &self.squares.concat())?;
        Ok(state)
    }

    fn restore(state: &SurveyState, count: usize, spans: usize) -> Result<Self> {
        let (mut entries, squares) = (state.numbers("gram")?, state.numbers("squares")?);
        let done = entries.len() / count.max(1);
        if entries.len() != done * count || done > count || squares.len() != done * spans {
            return Err(damaged("gram"));
        }
        entries.resize(count * count, 0.0);
        let squares = squares.chunks(spans.max(1)).map(<[f64]>::to_vec).collect();
        Ok(Self { entries, squares })
    }
}

fn columns(dim: usize) -> impl Iterator<Item = Range<usize>> {
    (0..dim).step_by(COLUMNS).map(move |start| start..(start + COLUMNS).min(dim))
}

fn widened(block: &Tensor, columns: &Range<usize>) -> Result<Tensor> {
    Ok(block.narrow(1, columns.start, columns.len())?.to_dtype(DType::F64)?.contiguous()?)
}

/// `Σ f²` of each row over spans of columns that follow one another.
fn squares(block: &Tensor, spans: &[usize]) -> Result<Vec<Vec<f64>>> {
    let rows = block.dims()[0];
    let mut squares = vec![Vec::with_capacity(spans.len()); rows];
    for strip in (0..rows).step_by(STRIP) {
        let own = block.narrow(0, strip, STRIP.min(rows - strip))?;
        let mut start = 0;
        for &span in spans {
            let part = own.narrow(1, start, span)?.contiguous()?;
            squares[strip..].iter_mut().zip(row_dots(&part, &part)?).for_each(|(squares, sum)| squares.push(sum));
            start += span;
        }
    }
    Ok(squares)
}
