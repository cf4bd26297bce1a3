//! Trace and diagonal of the Gauss-Newton matrix without probes: one backward pass per row and output.

use candle_core::{DType, Device, Tensor};
use rand::Rng;

use super::CurvatureError;
use super::row_sums::{Diagonal, RowMean, RowMeans};
use crate::autodiff::{Dual, ParamTensor, Saved, Tape, Value};
use crate::data::Batch;
use crate::kernels::{Accumulator, column_dots, row_dots};
use crate::objective::Objective;
use crate::program::{Factor, ProgramError};
use crate::random::{Purpose, substream};
use crate::statistics::Ratio;
use crate::workers::{Cut, PieceSum};
use crate::{Observer, Result};

/// How the columns of `S_n` are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactParams {
    /// Up to this many outputs, every column; for more outputs, this many random combinations `S_n z` of all columns (`z` of
    /// signs, fresh in each row): unbiased, with a standard error.
    pub max_columns: usize,
    /// Seed of the signs.
    pub seed: u64,
}

impl Default for ExactParams {
    fn default() -> Self {
        Self { max_columns: 32, seed: 0 }
    }
}

/// Trace of the Gauss-Newton matrix, L2 term included, on groups of parameter tensors and on all of these together.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactTrace {
    /// On all groups together.
    pub total: ExactPart,
    /// One per group, in the order asked for: they add up to the total.
    pub groups: Vec<ExactPart>,
    /// Columns per row, each of them one backward pass.
    pub num_columns: usize,
    /// Whether these are traces of the Hessian too: see [`Objective::diagonal_is_hessian`].
    pub is_hessian: bool,
}

/// The trace of the block of one group of tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExactPart {
    /// The trace.
    pub trace: f64,
    /// Standard error from random columns; 0 where every column was taken.
    pub std_err_numeric: f64,
    /// Standard error from the choice of rows, that of a ratio of sums over rows; for weights of 1 the standard deviation
    /// of the rows' traces over `√N`; NaN for one row.
    /// Random columns add their own spread to it: then it is too large rather than too small. Errors of groups are
    /// correlated.
    pub std_err_data: f64,
}

impl Objective<'_> {
    /// Whether Hessian and Gauss-Newton matrix have the same diagonal, by the architecture alone: each output is piecewise
    /// affine in each single parameter. (Almost everywhere: on the piece that the parameters lie on.)
    pub fn diagonal_is_hessian(&self) -> bool {
        !self.couples_rows() && self.network.program().bent_parameters(false).is_empty()
    }

    /// `tr GGN = (1/W) Σ_n Σ_c ‖J_nᵀ S_n e_c‖² + wd·n` at `theta`, `S_n S_nᵀ` the Hessian of row `n`'s loss in its outputs,
    /// `W` the sum of the rows' weights (their number, where each counts once).
    ///
    /// Exact up to rounding where every column is taken, else unbiased. Cost: per row one forward pass and a backward pass
    /// that carries all columns (several pairs of passes where memory holds fewer columns). Sums in f64, equal for any
    /// number of threads.
    ///
    /// # Errors
    /// [`CurvatureError::CoupledRows`] for batch normalisation in training mode; [`CurvatureError::TooFewColumns`];
    /// outputs that are not finite; an interruption.
    pub fn exact_trace(
        &self,
        theta: &Tensor,
        groups: &[Vec<usize>],
        params: &ExactParams,
        observer: &mut dyn Observer,
    ) -> Result<ExactTrace> {
        let columns = self.columns("trace", theta, params)?;
        let tensors = self.network.space().tensors();
        // One for each group, and one for all.
        let work = |row: usize| {
            let mut squares = vec![Vec::with_capacity(columns.count); tensors.len()];
            let weight = self.pull_back(row, &columns, |width, gradients| {
                for (index, squares) in squares.iter_mut().enumerate() {
                    match gradients.get(index) {
                        Some(Some((a, b))) => squares.extend(row_dots(a, b)?),
                        // Nothing flows to a tensor that the outputs do not depend on.
                        _ => squares.resize(squares.len() + width, 0.0),
                    }
                }
                Ok(())
            })?;
            let (mut all, mut traces) = (vec![0.0; columns.count], Vec::with_capacity(groups.len() + 1));
            for group in groups {
                let mut sums = vec![0.0; columns.count];
                for squares in group.iter().filter_map(|&tensor| squares.get(tensor)) {
                    sums.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
                }
                all.iter_mut().zip(&sums).for_each(|(all, sum)| *all += sum);
                traces.push(columns.row_mean(&sums, weight));
            }
            traces.push(columns.row_mean(&all, weight));
            Ok(traces)
        };
        let start = || RowMeans(vec![RowMean::default(); groups.len() + 1]);
        let RowMeans(means) = self.over_rows(&columns, 0, work, start, observer)?;
        let decay = self.options.weight_decay;
        let part = |mean: &RowMean, len: usize| ExactPart {
            trace: mean.ratio.value() + decay * len as f64,
            std_err_numeric: mean.std_err_numeric(),
            std_err_data: mean.ratio.std_err(),
        };
        let len =
            |group: &Vec<usize>| group.iter().filter_map(|&i| tensors.get(i)).map(ParamTensor::len).sum::<usize>();
        Ok(ExactTrace {
            total: part(&means[groups.len()], groups.iter().map(len).sum()),
            groups: means.iter().zip(groups).map(|(mean, group)| part(mean, len(group))).collect(),
            num_columns: columns.count,
            is_hessian: self.diagonal_is_hessian(),
        })
    }

    /// The diagonal of the same matrix, `[n]` in the objective's dtype. Cost and errors: as [`Objective::exact_trace`],
    /// and some numbers per parameter, as memory allows: their sum depends on it in its last digits.
    ///
    /// # Errors
    /// As [`Objective::exact_trace`].
    pub fn exact_diagonal(&self, theta: &Tensor, params: &ExactParams, observer: &mut dyn Observer) -> Result<Tensor> {
        let columns = self.columns("diagonal", theta, params)?;
        let tensors = self.network.space().tensors();
        let work = |row: usize| {
            let mut squares: Vec<Vec<f64>> = vec![Vec::new(); tensors.len()];
            let weight = self.pull_back(row, &columns, |_, gradients| {
                for (sum, gradient) in squares.iter_mut().zip(gradients) {
                    let Some((a, b)) = gradient else { continue };
                    let squares = column_dots(&a, &b)?;
                    sum.resize(squares.len(), 0.0);
                    sum.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
                }
                Ok(())
            })?;
            let filled = tensors.iter().zip(squares).filter(|(_, squares)| !squares.is_empty());
            let block = filled.map(|(tensor, squares)| {
                let len = squares.len();
                Ok((tensor.offset, Tensor::from_vec(squares, len, &Device::Cpu)?))
            });
            Ok((weight, block.collect::<Result<Vec<_>>>()?))
        };
        let start = || Diagonal { weight: 0.0, sum: Accumulator::new(1, self.dim(), self.options.dtype) };
        let Diagonal { weight, sum } = self.over_rows(&columns, 8 * self.dim(), work, start, observer)?;
        let diagonal = sum.finish(columns.scale() / weight)?.to_device(&self.options.device)?.squeeze(0)?;
        match self.options.weight_decay {
            0.0 => Ok(diagonal),
            decay => Ok((diagonal + decay)?),
        }
    }

    /// Sums what `work` makes of every row; a sum occupies `sum_bytes`.
    fn over_rows<R: Send, S: PieceSum<R>>(
        &self,
        columns: &Columns,
        sum_bytes: usize,
        work: impl Fn(usize) -> Result<R> + Sync,
        start: impl Fn() -> S,
        observer: &mut dyn Observer,
    ) -> Result<S::Whole> {
        let rows = self.shards.concat();
        let cut = Cut::new(rows.len(), self.pieces(rows.len(), sum_bytes));
        let limit = self.worker_limit(columns.at_once, 1);
        let sum = self.workers.reduce(cut, limit, |index| work(rows[index]), &start, observer)?;
        sum.map_or_else(|| start().conclude(), Ok)
    }

    /// Pairs of vectors whose elementwise products, summed over the columns `z`, make the diagonal of row `n`: `J_nᵀ S_n z`
    /// twice where the factor `S_n` is known, else `J_nᵀ z` and `J_nᵀ B_n z`, `B_n = ∂²s_n/∂y²`, which may be indefinite.
    ///
    /// Column by column in groups: `visit` gets the size of a group and, per parameter tensor, two blocks `[group, …shape]`.
    /// A batch of one row, so that the sum over its samples is the gradient of one. Gives the row's weight.
    fn pull_back(
        &self,
        row: usize,
        columns: &Columns,
        mut visit: impl FnMut(usize, Vec<Option<(Tensor, Tensor)>>) -> Result<()>,
    ) -> Result<f64> {
        let (batch, mut signs) = (self.batch(&[row])?, columns.signs(row));
        let weight = self.weights(&batch).iter().sum();
        for start in (0..columns.count).step_by(columns.at_once) {
            let width = columns.at_once.min(columns.count - start);
            let mut paired = false;
            let gradients = self.pulled_back(&columns.params, &batch, |primal, outputs| {
                let factor = Factor::new(&self.options.loss, outputs, primal.dims(), &batch.targets)?;
                let columns = (start..start + width).map(|column| {
                    let z = match &mut signs {
                        Some(signs) => signs.next(outputs.len()),
                        None => unit(column, outputs.len()),
                    };
                    factor.as_ref().map_or_else(|| z.clone(), |factor| factor.times(&z))
                });
                let columns = stacked(columns, primal)?;
                if factor.is_some() {
                    return Ok(columns);
                }
                paired = true;
                let along = Dual::new(Some(primal.clone()), Some(columns.clone()));
                let (_, curved) = self.loss_curvature(&along, &batch)?;
                let zeros = || columns.zeros_like();
                Ok(Tensor::cat(&[&columns, &curved.tangents().cloned().map_or_else(zeros, Ok)?], 0)?)
            })?;
            let pairs = gradients.into_iter().map(|gradient| match gradient {
                None => Ok(None),
                Some(block) if paired => Ok(Some((block.narrow(0, 0, width)?, block.narrow(0, width, width)?))),
                Some(block) => Ok(Some((block.clone(), block))),
            });
            visit(width, pairs.collect::<candle_core::Result<_>>()?)?;
        }
        Ok(weight)
    }

    /// `J_nᵀ z` for the cotangents `z`, `[k, 1, …]`, that `cotangents` makes of the outputs of a batch of one row: per
    /// parameter tensor, `[k, …shape]`, or `None` where nothing flows.
    pub(super) fn pulled_back(
        &self,
        params: &[Dual],
        batch: &Batch,
        cotangents: impl FnOnce(&Tensor, &[f64]) -> Result<Tensor>,
    ) -> Result<Vec<Option<Tensor>>> {
        let mut tape = Tape::<Dual>::new(Saved::Primals);
        let output = self.forward(&mut tape, params, batch, self.mode())?.output;
        let Some(primal) = output.value().primal() else { return Ok(Vec::new()) };
        let outputs = primal.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        if outputs.iter().any(|output| !output.is_finite()) {
            let row = batch.rows.first().copied().unwrap_or(0);
            return Err(ProgramError::NonFinite { row }.into());
        }
        let cotangents = cotangents(primal, &outputs)?;
        let gradients = tape.backward(&output, Dual::new(None, Some(cotangents)))?;
        Ok(gradients.into_iter().map(|gradient| gradient.and_then(|dual| dual.tangents().cloned())).collect())
    }

    /// How many columns one backward pass carries at most, where each takes so many cotangents of the outputs.
    pub(super) fn columns_at_once(&self, cotangents: usize) -> usize {
        let each = cotangents * self.options.dtype.size_in_bytes() * (self.dim() + self.cost.activations);
        (self.options.execution.memory_bytes / 4 / each.max(1)).max(1)
    }

    fn columns(&self, what: &'static str, theta: &Tensor, params: &ExactParams) -> Result<Columns> {
        if let Some(coupling) = self.coupling() {
            return Err(CurvatureError::CoupledRows { what, coupling: coupling.to_string() }.into());
        }
        let tensors = self.network.space().split(&self.place(theta)?)?;
        let tensors: Vec<Dual> = tensors.into_iter().map(Dual::constant).collect();
        let mut tape = Tape::<Dual>::new(Saved::Nothing);
        let first = self.batch(&[0])?;
        let output = self.forward(&mut tape, &tensors, &first, self.mode())?.output;
        let outputs: usize = output.dims()?.iter().product();
        let random = outputs > params.max_columns;
        let count = if random { params.max_columns } else { outputs };
        if random && count < 2 {
            return Err(CurvatureError::TooFewColumns { what, got: count, outputs }.into());
        }
        // Where no factor is known, each column is two.
        let zeros = vec![0.0; outputs];
        let factor = Factor::new(&self.options.loss, &zeros, output.dims()?, &first.targets)?;
        let at_once = self.columns_at_once(if factor.is_none() { 2 } else { 1 }).min(count.max(1));
        Ok(Columns { params: tensors, count, at_once, seed: random.then_some(params.seed) })
    }
}

/// The columns `z` of a row and what they are pulled back through.
struct Columns {
    params: Vec<Dual>,
    /// Per row.
    count: usize,
    /// In one backward pass, as memory allows.
    at_once: usize,
    /// Of random signs; `None` takes every unit vector.
    seed: Option<u64>,
}

impl Columns {
    /// Weight of a column's square in the sum: random columns are averaged.
    fn scale(&self) -> f64 {
        if self.seed.is_some() { 1.0 / self.count as f64 } else { 1.0 }
    }

    /// A row's value from its squares, and the variance of that estimate.
    fn row_mean(&self, squares: &[f64], weight: f64) -> RowMean {
        let value = self.scale() * squares.iter().sum::<f64>();
        let ratio = Ratio::of(value, weight);
        if self.seed.is_none() {
            return RowMean { ratio, variance: 0.0 };
        }
        let count = squares.len() as f64;
        let spread: f64 = squares.iter().map(|square| (square - value).powi(2)).sum();
        RowMean { ratio, variance: spread / (count - 1.0) / count }
    }

    fn signs(&self, row: usize) -> Option<Signs<impl Rng + use<>>> {
        self.seed.map(|seed| Signs(substream(seed, Purpose::OutputSigns, row as u64)))
    }
}

/// Vectors of random signs.
struct Signs<R>(R);

impl<R: Rng> Signs<R> {
    fn next(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| if self.0.next_u32() >> 31 == 0 { 1.0 } else { -1.0 }).collect()
    }
}

/// Columns as cotangents of `outputs` `[1, …]`, `[k, 1, …]`.
pub(super) fn stacked(columns: impl Iterator<Item = Vec<f64>>, outputs: &Tensor) -> Result<Tensor> {
    let columns: Vec<f64> = columns.flatten().collect();
    let count = columns.len() / outputs.elem_count().max(1);
    let shape: Vec<usize> = [count].iter().chain(outputs.dims()).copied().collect();
    Ok(Tensor::from_vec(columns, shape, outputs.device())?.to_dtype(outputs.dtype())?)
}

fn unit(index: usize, len: usize) -> Vec<f64> {
    (0..len).map(|i| f64::from(u8::from(i == index))).collect()
}
