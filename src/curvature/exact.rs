//! Trace and diagonal of the Gauss-Newton matrix without probes: one backward pass per row and output.

use candle_core::{DType, Device, Tensor};
use rand::Rng;

use super::CurvatureError;
use crate::autodiff::{Dual, ParamTensor, Saved, Tape, Value};
use crate::kernels::{Accumulator, column_squares, row_dots};
use crate::objective::{Factor, Objective, in_order};
use crate::program::ProgramError;
use crate::random::{Purpose, substream};
use crate::{Observer, Result};

/// How the columns of `S_n` are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactParams {
    /// Up to so many outputs, every column; for more outputs, so many random combinations `S_n z` of all columns (`z` of
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
    /// Standard error from the choice of rows: the standard deviation of the rows' traces over `√N`; NaN for one row.
    /// Random columns add their own spread to it: then it is too large rather than too small. Errors of groups are
    /// correlated.
    pub std_err_data: f64,
}

impl Objective<'_> {
    /// Whether Hessian and Gauss-Newton matrix have the same diagonal, by the architecture alone: each output is piecewise
    /// affine in each single parameter. (Almost everywhere: on the piece that the parameters lie on.)
    pub fn diagonal_is_hessian(&self) -> bool {
        self.pool.is_none() && self.network.program().bent_parameters(false).is_empty()
    }

    /// `tr GGN = (1/N) Σ_n Σ_c ‖J_nᵀ S_n e_c‖² + wd·n` at `theta`, `S_n S_nᵀ` the loss Hessian in the outputs of row `n`.
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
        let mut means = vec![RowMean::default(); groups.len() + 1];
        let work = |row: usize| {
            let mut squares = vec![Vec::with_capacity(columns.count); tensors.len()];
            self.pull_back(row, &columns, |width, gradients| {
                for (index, squares) in squares.iter_mut().enumerate() {
                    match gradients.get(index) {
                        Some(Some(gradient)) => squares.extend(row_dots(gradient, gradient)?),
                        // Nothing flows to a tensor that the outputs do not depend on.
                        _ => squares.resize(squares.len() + width, 0.0),
                    }
                }
                Ok(())
            })?;
            Ok(squares)
        };
        let commit = |squares: Vec<Vec<f64>>| {
            let mut all = vec![0.0; columns.count];
            for (mean, group) in means.iter_mut().zip(groups) {
                let mut sums = vec![0.0; columns.count];
                for squares in group.iter().filter_map(|&tensor| squares.get(tensor)) {
                    sums.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
                }
                all.iter_mut().zip(&sums).for_each(|(all, sum)| *all += sum);
                mean.add(columns.estimate(&sums));
            }
            means[groups.len()].add(columns.estimate(&all));
            Ok(())
        };
        self.in_rows(&columns, work, commit, observer)?;
        let decay = self.options.weight_decay;
        let part = |mean: &RowMean, len: usize| ExactPart {
            trace: mean.mean + decay * len as f64,
            std_err_numeric: mean.std_err_numeric(),
            std_err_data: mean.std_err_data(),
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
    /// and one number per parameter and worker.
    ///
    /// # Errors
    /// As [`Objective::exact_trace`].
    pub fn exact_diagonal(&self, theta: &Tensor, params: &ExactParams, observer: &mut dyn Observer) -> Result<Tensor> {
        let columns = self.columns("diagonal", theta, params)?;
        let tensors = self.network.space().tensors();
        let mut sum = Accumulator::new(1, self.dim());
        let work = |row: usize| {
            let mut squares: Vec<Vec<f64>> = vec![Vec::new(); tensors.len()];
            self.pull_back(row, &columns, |_, gradients| {
                for (sum, gradient) in squares.iter_mut().zip(gradients) {
                    let Some(gradient) = gradient else { continue };
                    let squares = column_squares(&gradient)?;
                    sum.resize(squares.len(), 0.0);
                    sum.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
                }
                Ok(())
            })?;
            Ok(squares)
        };
        let commit = |squares: Vec<Vec<f64>>| {
            for (tensor, squares) in tensors.iter().zip(squares) {
                let len = squares.len();
                sum.add(tensor.offset, &Tensor::from_vec(squares, len, &Device::Cpu)?)?;
            }
            Ok(())
        };
        self.in_rows(&columns, work, commit, observer)?;
        let scale = columns.scale() / self.num_rows() as f64;
        let diagonal = sum.finish(scale, self.options.dtype, &self.options.device)?.squeeze(0)?;
        match self.options.weight_decay {
            0.0 => Ok(diagonal),
            decay => Ok((diagonal + decay)?),
        }
    }

    /// Calls `work` on every row and `commit` on its results in order.
    fn in_rows<R>(
        &self,
        columns: &Columns,
        work: impl Fn(usize) -> Result<R> + Sync,
        mut commit: impl FnMut(R) -> Result<()> + Send,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let rows = self.shards.concat();
        let workers = self.workers(columns.at_once, 1);
        let work = |index: usize| rows.get(index).map(|&row| work(row)).transpose();
        in_order(rows.len(), workers, work, |_, result| result.map_or(Ok(()), &mut commit), observer)
    }

    /// `J_nᵀ S_n z` for each column `z`, group by group: `visit` gets the size of a group and, per parameter tensor,
    /// `[group, …shape]`. A batch of one row, so that the sum over its samples is the gradient of one.
    fn pull_back(
        &self,
        row: usize,
        columns: &Columns,
        mut visit: impl FnMut(usize, Vec<Option<Tensor>>) -> Result<()>,
    ) -> Result<()> {
        let mut signs = columns.signs(row);
        for start in (0..columns.count).step_by(columns.at_once) {
            let width = columns.at_once.min(columns.count - start);
            let mut tape = Tape::<Dual>::new(Saved::Primals);
            let (output, _) = self.forward(&mut tape, &columns.params, &self.batch(&[row])?, self.mode())?;
            let Some(primal) = output.value().primal() else { return Ok(()) };
            let outputs = primal.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            if outputs.iter().any(|output| !output.is_finite()) {
                return Err(ProgramError::NonFinite { row }.into());
            }
            let factor = Factor::new(&self.options.loss, &outputs);
            let cotangents: Vec<f64> = (start..start + width)
                .flat_map(|column| match &mut signs {
                    Some(signs) => factor.times(&signs.next(outputs.len())),
                    None => factor.times(&unit(column, outputs.len())),
                })
                .collect();
            let cotangents = Tensor::from_vec(cotangents, (width, 1, outputs.len()), primal.device())?;
            let cotangents = Dual::new(None, Some(cotangents.to_dtype(primal.dtype())?));
            let gradients = tape.backward(&output, cotangents)?;
            let gradients = gradients.into_iter().map(|gradient| gradient.and_then(|dual| dual.tangents().cloned()));
            visit(width, gradients.collect())?;
        }
        Ok(())
    }

    fn columns(&self, what: &'static str, theta: &Tensor, params: &ExactParams) -> Result<Columns> {
        if self.pool.is_some() {
            return Err(CurvatureError::CoupledRows { what }.into());
        }
        let tensors = self.network.space().split(&self.place(theta)?)?;
        let tensors: Vec<Dual> = tensors.into_iter().map(Dual::constant).collect();
        let mut tape = Tape::<Dual>::new(Saved::Nothing);
        let (output, _) = self.forward(&mut tape, &tensors, &self.batch(&[0])?, self.mode())?;
        let outputs: usize = output.dims()?.iter().product();
        let random = outputs > params.max_columns;
        let count = if random { params.max_columns } else { outputs };
        if random && count < 2 {
            return Err(CurvatureError::TooFewColumns { what, got: count, outputs }.into());
        }
        let each = self.options.dtype.size_in_bytes() * (self.dim() + self.cost.activations);
        let at_once = (self.options.execution.memory_bytes / 4 / each.max(1)).clamp(1, count.max(1));
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
    fn estimate(&self, squares: &[f64]) -> (f64, f64) {
        let value = self.scale() * squares.iter().sum::<f64>();
        if self.seed.is_none() {
            return (value, 0.0);
        }
        let count = squares.len() as f64;
        let spread: f64 = squares.iter().map(|square| (square - value).powi(2)).sum();
        (value, spread / (count - 1.0) / count)
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

fn unit(index: usize, len: usize) -> Vec<f64> {
    (0..len).map(|i| f64::from(u8::from(i == index))).collect()
}

/// Mean and spread of one number per row (Welford 1962: no cancellation), and the variance of the mean from estimating it.
#[derive(Debug, Clone, Copy, Default)]
struct RowMean {
    count: f64,
    mean: f64,
    squares: f64,
    variances: f64,
}

impl RowMean {
    fn add(&mut self, (value, variance): (f64, f64)) {
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
        self.variances += variance;
    }

    fn std_err_numeric(&self) -> f64 {
        self.variances.sqrt() / self.count
    }

    fn std_err_data(&self) -> f64 {
        (self.squares / (self.count - 1.0) / self.count).sqrt()
    }
}
