//! Matrices of an objective as sums of outer products: the rows of `F` where the matrix is `FᵀF` and an L2 term.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::exact::stacked;
use super::{Curvature, CurvatureOperator};
use crate::autodiff::{Dual, Saved, Tape, Value};
use crate::data::Batch;
use crate::objective::Objective;
use crate::operator::{OuterProducts, restrict};
use crate::program::{Loss, PlaceColumns, ProgramError, counted_outputs, row_weights};
use crate::statistics::Ratio;
use crate::{Observer, Result};

/// The rows of `F`. With `W` the sum of the rows' weights `w_n`:
///
/// - GGN: `J_nᵀ S_n e_c / √W` for each output `c` of a data row `n` that counts, `S_n S_nᵀ` the Hessian of its loss in the
///   outputs; the L2 term is the shift;
/// - empirical Fisher matrix: `√(w_n/W) u_n`, `u_n = ∇s_n / w_n`, for each data row of a weight above 0;
/// - covariance: `√(w_n/W) (u_n − ḡ)`, for the same;
/// - Monte Carlo Fisher matrix: `g̃_n / √W`.
///
/// Each takes a backward pass of its own through a batch of one data row; those of the outputs of one data row share one.
pub struct OuterRows<'a> {
    operator: &'a CurvatureOperator<'a>,
    /// The parameters as values with directions.
    params: Vec<Dual>,
    /// Of the parameters: the columns of `F`.
    ranges: Vec<Range<usize>>,
    /// Data rows in the order of the shards.
    data_rows: Vec<usize>,
    /// Their weights.
    weights: Vec<f64>,
    /// The first row of `F` of each data row, and the end of all.
    starts: Vec<usize>,
    /// `ḡ`, `[1, n]`, of the covariance.
    mean: Option<Tensor>,
}

impl Objective<'_> {
    /// How many rows each data row, in the order of the shards, brings to the sum of outer products that `curvature` is: see
    /// [`OuterRows`]. `None` where it is not, or not known to be, such a sum: Hessian and residual, the GGN of a loss that the
    /// program brings, and where rows are coupled. Cost: a look at the targets.
    ///
    /// # Errors
    /// Placing the targets on the objective's device.
    pub fn outer_rows(&self, curvature: Curvature) -> Result<Option<Vec<usize>>> {
        let loss = &self.options.loss;
        if !curvature.is_positive(loss) || self.couples_rows() {
            return Ok(None);
        }
        let rows = self.shards.concat();
        let targets = self.data.target_batch(&rows, self.options.dtype, &self.options.device)?;
        Ok(Some(match curvature {
            Curvature::Ggn => counted_outputs(loss, self.cost.outputs, rows.len(), &targets),
            Curvature::McFisher => vec![1; rows.len()],
            _ => row_weights(loss, rows.len(), &targets).into_iter().map(|w| usize::from(w > 0.0)).collect(),
        }))
    }
}

impl<'a> OuterRows<'a> {
    /// The rows of the operator's matrix on the parameters in `ranges`; `None` where [`Objective::outer_rows`] says so.
    ///
    /// # Errors
    /// Placing the targets on the objective's device.
    pub fn new(operator: &'a CurvatureOperator<'a>, ranges: Vec<Range<usize>>) -> Result<Option<Self>> {
        let objective = operator.objective;
        let Some(counts) = objective.outer_rows(operator.curvature)? else { return Ok(None) };
        let data_rows = objective.shards.concat();
        let mut starts = vec![0];
        starts.extend(counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }));
        let all = objective.row_weights()?;
        let weights = data_rows.iter().map(|&row| all[row]).collect();
        let params = operator.params.iter().cloned().map(Dual::constant).collect();
        let mean = operator.mean_gradient.as_ref().map(|mean| restrict(mean, &ranges)).transpose()?;
        Ok(Some(Self { operator, params, ranges, data_rows, weights, starts, mean }))
    }

    /// The trace of each group of columns and its standard error from the choice of data rows, that of a ratio, as in
    /// [`Objective::exact_trace`]: from the rows' sums of squares by span of columns, `[rows][spans]`. A group holds the
    /// numbers of its spans, whose lengths are `lens`.
    pub fn traces(&self, squares: &[Vec<f64>], lens: &[usize], groups: &[Vec<usize>]) -> Vec<(f64, f64)> {
        let total = self.total_weight();
        let trace = |group: &Vec<usize>| {
            let of_row = |place: usize| {
                let own = squares[self.starts[place]..self.starts[place + 1]].iter();
                let sum: f64 = own.map(|squares| group.iter().map(|&span| squares[span]).sum::<f64>()).sum();
                Ratio::of(total * sum, self.weights[place])
            };
            let mean = (0..self.data_rows.len()).map(of_row).fold(Ratio::default(), Ratio::merge);
            let len: usize = group.iter().map(|&span| lens[span]).sum();
            (mean.value() + self.shift() * len as f64, mean.std_err())
        };
        groups.iter().map(trace).collect()
    }

    fn total_weight(&self) -> f64 {
        self.weights.iter().sum()
    }

    /// Some of the rows of the data row at `place`, `[range.len(), columns]`.
    fn of(&self, place: usize, range: Range<usize>) -> Result<Tensor> {
        let CurvatureOperator { objective, curvature, .. } = *self.operator;
        let batch = objective.batch(&self.data_rows[place..=place])?;
        let total = self.total_weight();
        match curvature {
            Curvature::Ggn => self.of_outputs(&batch, range, 1.0 / total.sqrt()),
            Curvature::McFisher => self.gradient(&batch, 1.0 / total.sqrt()),
            _ => {
                let weight = self.weights[place];
                let row = self.gradient(&batch, 1.0 / (weight * total).sqrt())?;
                match &self.mean {
                    Some(mean) => Ok((row - (mean * (weight / total).sqrt())?)?),
                    None => Ok(row),
                }
            }
        }
    }

    /// `scale · J_nᵀ S_n e_c` for the columns `c` in `range`.
    fn of_outputs(&self, batch: &Batch, range: Range<usize>, scale: f64) -> Result<Tensor> {
        let objective = self.operator.objective;
        let mut rows = Vec::new();
        for start in range.clone().step_by(objective.columns_at_once(1)) {
            let own = start..range.end.min(start + objective.columns_at_once(1));
            let count = own.len();
            let gradients = objective.pulled_back(&self.params, batch, |primal, outputs| {
                let column: Box<dyn Fn(usize) -> Vec<f64>> = match &objective.options.loss {
                    Loss::CrossEntropy(loss) => {
                        let columns = PlaceColumns::new(loss, outputs, primal.dims(), &batch.targets)?;
                        Box::new(move |index| columns.column(index))
                    }
                    _ => {
                        let roots = self.diagonal_roots(primal, batch)?;
                        Box::new(move |index| {
                            (0..roots.len()).map(|i| if i == index { roots[i] } else { 0.0 }).collect()
                        })
                    }
                };
                stacked(own.map(|index| column(index).into_iter().map(|entry| scale * entry).collect()), primal)
            })?;
            rows.push(self.flat(count, &gradients)?);
        }
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Of a loss that compares each output with a target of its own: the roots of its second derivatives, one for each output.
    fn diagonal_roots(&self, outputs: &Tensor, batch: &Batch) -> Result<Vec<f64>> {
        let ones = outputs.ones_like()?.unsqueeze(0)?;
        let along = Dual::new(Some(outputs.clone()), Some(ones));
        let (_, curved) = self.operator.objective.loss_curvature(&along, batch)?;
        let Some(diagonal) = curved.tangents() else { return Ok(vec![0.0; outputs.elem_count()]) };
        let diagonal = diagonal.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        Ok(diagonal.into_iter().map(|entry| entry.max(0.0).sqrt()).collect())
    }

    /// `scale` times the gradient of the loss whose squares make a Fisher matrix.
    fn gradient(&self, batch: &Batch, scale: f64) -> Result<Tensor> {
        let CurvatureOperator { objective, label_seed, .. } = *self.operator;
        let mut tape = Tape::<Tensor>::new(Saved::Everything);
        let outcome = objective.forward(&mut tape, &self.operator.params, batch, objective.mode())?;
        let loss = objective.fisher_loss(&mut tape, &outcome, batch, label_seed)?;
        if !loss.value().to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?.is_finite() {
            return Err(ProgramError::NonFinite { row: batch.rows[0] }.into());
        }
        let cotangent = (loss.value().ones_like()? * scale)?;
        self.flat(1, &tape.backward(&loss, cotangent)?)
    }

    /// Gradients by parameter tensor as `count` rows of the columns in the ranges, in host memory.
    fn flat(&self, count: usize, gradients: &[Option<Tensor>]) -> Result<Tensor> {
        let (objective, params) = (self.operator.objective, &self.operator.params);
        let part = |(index, param): (usize, &Tensor)| match gradients.get(index) {
            Some(Some(gradient)) => gradient.reshape((count, param.elem_count())),
            // Nothing flows to a tensor that the outputs do not depend on.
            _ => Tensor::zeros((count, param.elem_count()), objective.options.dtype, &objective.options.device),
        };
        let parts = params.iter().enumerate().map(part).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(restrict(&Tensor::cat(&parts, 1)?, &self.ranges)?.to_device(&Device::Cpu)?)
    }
}

impl OuterProducts for OuterRows<'_> {
    fn dim(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    fn dtype(&self) -> DType {
        self.operator.objective.options.dtype
    }

    fn num_rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn shift(&self) -> f64 {
        match self.operator.curvature {
            Curvature::Ggn => self.operator.objective.options.weight_decay,
            _ => 0.0,
        }
    }

    fn rows(&self, range: Range<usize>, observer: &mut dyn Observer) -> Result<Tensor> {
        let objective = self.operator.objective;
        let block = Tensor::zeros((range.len(), self.dim()), self.dtype(), &Device::Cpu)?;
        // Data rows of which some row lies in the range.
        let first = self.starts.partition_point(|&start| start <= range.start) - 1;
        let end = self.starts.partition_point(|&start| start < range.end);
        let own = |place: usize| self.starts[place].max(range.start)..self.starts[place + 1].min(range.end);
        let work = |index: usize| {
            let (place, own) = (first + index, own(first + index));
            let start = self.starts[place];
            if own.is_empty() { Ok(None) } else { self.of(place, own.start - start..own.end - start).map(Some) }
        };
        let commit = |index: usize, rows: Option<Tensor>| match rows {
            Some(rows) => Ok(block.slice_set(&rows, 0, own(first + index).start - range.start)?),
            None => Ok(()),
        };
        let at_once = objective.columns_at_once(1).min(objective.cost.outputs.max(1));
        objective.workers.in_order(end - first, objective.worker_limit(at_once, 1), work, commit, observer)?;
        Ok(block)
    }
}
