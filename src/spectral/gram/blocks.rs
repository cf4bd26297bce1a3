//! The Gram matrix of the rows of `F`, block by block, and sums over these rows.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::kernels::{Slice, add, matrix_product, row_dots};
use crate::observer::{Observer, Step};
use crate::operator::OuterProducts;
use crate::spectral::SpectralError;
use crate::spectral::state::{Store, SurveyState, damaged};
use crate::team::{Team, team};
use crate::{Error, Result};

/// The name in errors and tables.
pub(super) const METHOD: &str = crate::vocabulary::Method::Gram.name();

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
    /// Whether the rows stay, all of them, until the eigenvectors are made.
    pub kept: bool,
    /// What everything takes together.
    pub memory_bytes: usize,
}

impl RowBlocks {
    /// The largest blocks that fit beside a Gram matrix in f64, where this fits twice, and beside the eigenvectors of so many
    /// pairs; `None` where not even single rows do.
    pub fn fit(rows: usize, dim: usize, dtype: DType, pairs: usize, memory_bytes: usize) -> Option<Self> {
        let matrix = rows.saturating_mul(rows).saturating_mul(size_of::<f64>());
        let vectors = 2 * pairs * dim * size_of::<f64>();
        let row = dim * dtype.size_in_bytes() + COLUMNS.min(dim) * size_of::<f64>();
        let decomposed = matrix.saturating_mul(2).saturating_add(vectors);
        let left = memory_bytes.checked_sub(decomposed)?;
        let (fitting, passing) = ((memory_bytes - matrix) / row.max(1), (left + matrix) / row.max(1));
        let piece = (fitting / 8).min(passing).clamp(1, STRIP).min(rows);
        let count = rows.div_ceil(fitting.checked_sub(piece).filter(|&held| held > 0 && passing > 0)?);
        let held = rows.div_ceil(count.max(1));
        let kept = count == 1 && rows * row <= left;
        let at_the_end = decomposed + if kept { rows * row } else { 0 };
        let memory_bytes = at_the_end.max(matrix + (held + piece) * row);
        Some(Self { count, held, piece, kept, memory_bytes })
    }

    /// How many of `rows` rows are computed for the matrix: each again for every earlier block.
    pub fn passing(&self, rows: usize) -> usize {
        (0..rows).step_by(self.held.max(1)).map(|start| rows - start).sum()
    }
}

/// The rows of `F`, and those that are in memory already. Each rank of a team computes some, and has them all.
pub(super) struct Rows<'a> {
    factor: &'a dyn OuterProducts,
    blocks: RowBlocks,
    /// The block at hand, and its first row.
    held: Option<(usize, Tensor)>,
    pub(super) team: &'static dyn Team,
}

impl<'a> Rows<'a> {
    pub(super) fn new(factor: &'a dyn OuterProducts, blocks: RowBlocks) -> Self {
        Self { factor, blocks, held: None, team: team() }
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
            _ if range.len() < self.team.size() || self.team.size() == 1 => self.factor.rows(range, observer),
            _ => {
                let own = self.team.own(range.len());
                let part = self.factor.rows(range.start + own.start..range.start + own.end, observer);
                self.team.joined(part, 0, (self.factor.dtype(), &[range.len(), self.dim()]))
            }
        }
    }

    /// Those of `count` rows, whole strips, whose products this rank computes where it does not compute all.
    fn own_strips(&self, count: usize) -> Option<Range<usize>> {
        let strips = count.div_ceil(STRIP);
        let own = self.team.own(strips);
        (1 < self.team.size() && self.team.size() <= strips).then(|| own.start * STRIP..count.min(own.end * STRIP))
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
    /// Of consecutive blocks of rows what stands on the diagonal of `G` and right of it, with zeros below: `[rows, columns]`.
    strips: Vec<Tensor>,
    /// The squares of each row that is done, summed over spans of columns.
    pub(super) squares: Vec<Vec<f64>>,
}

impl Gram {
    /// The whole matrix; what `store` has of it comes from there.
    pub(super) fn of(
        rows: &mut Rows<'_>,
        spans: &[usize],
        store: &mut dyn Store,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let count = rows.count();
        let mut gram = match store.load()? {
            Some(state) => Self::restore(&state, count, spans.len())?,
            None => Self { strips: Vec::new(), squares: Vec::new() },
        };
        while gram.squares.len() < count {
            let stopped = match gram.extend(rows, spans, observer) {
                Err(Error::Interrupted) => true,
                added => {
                    added?;
                    rows.team.hear()?;
                    let done = gram.squares.len();
                    observer.on_step(&Step { task: METHOD, done, total: count, message: String::new() }).is_break()
                }
            };
            let numbers = gram.strips.iter().map(Tensor::elem_count).sum::<usize>() + gram.squares.len() * spans.len();
            // The last time is before the decomposition, which takes a while and saves nothing.
            if numbers > 0 && store.wants(8 * numbers, stopped || gram.squares.len() == count) {
                store.save(&gram.state()?);
            }
            if stopped {
                return Err(Error::Interrupted);
            }
        }
        if !rows.blocks.kept {
            rows.held = None;
        }
        Ok(gram)
    }

    /// All entries of the matrix, row by row, and the squares.
    pub(super) fn finish(self) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
        let count = self.squares.len();
        let (mut entries, mut start) = (vec![0.0; count * count], 0);
        for strip in self.strips {
            let (rows, width) = strip.dims2()?;
            for (row, own) in Slice::<f64>::of(&strip)?.chunks(width).enumerate() {
                for (column, &entry) in own.iter().enumerate().skip(row) {
                    entries[(start + row) * count + start + column] = entry;
                    entries[(start + column) * count + start + row] = entry;
                }
            }
            start += rows;
        }
        Ok((entries, self.squares))
    }

    /// The rows of one block more.
    fn extend(&mut self, rows: &mut Rows<'_>, spans: &[usize], observer: &mut dyn Observer) -> Result<()> {
        let (start, count) = (self.squares.len(), rows.count());
        let end = (start + rows.blocks.held).min(count);
        rows.held = None;
        let held = rows.get(start..end, observer)?;
        let squares = squares(&held, spans)?;
        if let Some(row) = squares.iter().position(|squares| !squares.iter().sum::<f64>().is_finite()) {
            return Err(SpectralError::NonFinite { method: METHOD, matvec: start + row + 1 }.into());
        }
        let own = rows.own_strips(end - start);
        let part = own.clone().unwrap_or(0..end - start);
        let mut strip = vec![0.0; part.len() * (count - start)];
        add_products(&mut strip, (&held, &part), 0, &held)?;
        for range in rows.pieces(end) {
            let piece = rows.get(range.clone(), observer)?;
            add_products(&mut strip, (&held, &part), range.start - start, &piece)?;
        }
        let strip = Tensor::from_vec(strip, (part.len(), count - start), &Device::Cpu)?;
        self.strips.push(match own {
            Some(_) => rows.team.joined(Ok(strip), 0, (DType::F64, &[end - start, count - start]))?,
            None => strip,
        });
        rows.held = Some((start, held));
        self.squares.extend(squares);
        Ok(())
    }

    fn state(&self) -> Result<SurveyState> {
        let mut state = SurveyState::default();
        for (index, strip) in self.strips.iter().enumerate() {
            state.tensors.insert(format!("gram.{index}"), strip.clone());
        }
        state.put_numbers("squares", &self.squares.concat())?;
        Ok(state)
    }

    fn restore(state: &SurveyState, count: usize, spans: usize) -> Result<Self> {
        let (mut strips, mut done): (Vec<Tensor>, usize) = (Vec::new(), 0);
        while let Some(strip) = state.tensors.get(&format!("gram.{}", strips.len())) {
            match *strip.dims() {
                [rows, columns] if rows <= columns && done + columns == count && strip.dtype() == DType::F64 => {
                    done += rows;
                }
                _ => return Err(damaged(&format!("gram.{}", strips.len()))),
            }
            strips.push(strip.clone());
        }
        let squares = state.numbers("squares")?;
        if squares.len() != done * spans {
            return Err(damaged("squares"));
        }
        Ok(Self { strips, squares: squares.chunks(spans.max(1)).map(<[f64]>::to_vec).collect() })
    }
}

/// Adds to the rows of `strip`, one for each of the rows `part` of `held`, the products with the rows of `others`, which begin
/// at a column; with those of `held` itself one half and little more.
fn add_products(
    strip: &mut [f64],
    (held, part): (&Tensor, &Range<usize>),
    column: usize,
    others: &Tensor,
) -> Result<()> {
    let (width, itself) = (strip.len() / part.len(), column == 0);
    for columns in columns(held.dims()[1]) {
        let held = widened(held, &columns)?;
        let others = if itself { held.clone() } else { widened(others, &columns)? };
        for start in part.clone().step_by(STRIP) {
            let first = if itself { start } else { 0 };
            let own = held.narrow(0, start, STRIP.min(part.end - start))?;
            let others = others.narrow(0, first, others.dims()[0] - first)?;
            for (row, products) in matrix_product(&own, &others, true)?.to_vec2::<f64>()?.iter().enumerate() {
                let entries = &mut strip[(start - part.start + row) * width + column + first..];
                entries.iter_mut().zip(products).for_each(|(entry, product)| *entry += product);
            }
        }
    }
    Ok(())
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
