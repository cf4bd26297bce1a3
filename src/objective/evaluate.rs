//! Loss, accuracy and gradient: sums over all rows, or of a batch.

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Tensor};

use super::pass::Part;
use super::portions::Asked;
use super::sum::{MicroBatch, Sum, SumShape};
use super::{Evaluation, GradientReport, Objective};
use crate::autodiff::{Pattern, Saved};
use crate::data::Batch;
use crate::program::{BatchStatistics, ClassScores, Mode};
use crate::{Observer, Result};

impl Objective<'_> {
    /// Mean loss and accuracy at `theta`.
    ///
    /// # Errors
    /// A loss that is not finite; an interruption.
    pub fn evaluate(&self, theta: &Tensor, observer: &mut dyn Observer) -> Result<Evaluation> {
        let params = self.network.space().split(theta)?;
        let sum = self.plain_sum(&params, Saved::Nothing, observer)?;
        self.evaluation(&sum, theta)
    }

    /// As [`Objective::evaluate`], with what the outputs say about classes; `None` where the targets are none.
    ///
    /// # Errors
    /// As [`Objective::evaluate`].
    pub fn evaluate_scores(
        &self,
        theta: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<(Evaluation, Option<ClassScores>)> {
        let params = self.network.space().split(theta)?;
        let sum = self.plain_sum(&params, Saved::Nothing, observer)?;
        Ok((self.evaluation(&sum, theta)?, sum.scores))
    }

    /// Mean loss and its gradient at `theta`.
    ///
    /// # Errors
    /// A loss that is not finite; an interruption.
    pub fn gradient(&self, theta: &Tensor, observer: &mut dyn Observer) -> Result<GradientReport> {
        let params = self.network.space().split(theta)?;
        let sum = self.plain_sum(&params, Saved::Everything, observer)?;
        self.gradient_report(sum, theta)
    }

    /// The gradient on `batch` in training mode: batch statistics, and random numbers where `mode` draws them.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn training_gradient(&self, theta: &Tensor, batch: &Batch, mode: Mode) -> Result<GradientReport> {
        let params = self.network.space().split(theta)?;
        let places: Vec<usize> = (0..batch.rows.len()).collect();
        let draws = matches!(mode, Mode::Train { draws: Some(_) });
        let whole = self.network.program().has_batch_norm() || draws;
        let (plan, mode) = match whole {
            true => (vec![MicroBatch { shard: 0, rows: places }], mode),
            false => (self.even_micro_batches(places, 0), self.mode()),
        };
        let work = |index: usize| {
            let places = &plan[index].rows;
            let part = batch.part(places[0], places[0] + places.len())?;
            self.plain(&part, &params, Saved::Everything, mode.clone(), &mut Pattern::Free)
        };
        let sum = self.sum(&plan, self.gradient_shape(), work, &mut ())?;
        self.gradient_report(sum, theta)
    }

    /// Mean and variance of `batch` at every batch normalisation, from a forward pass in training mode.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn batch_statistics(&self, theta: &Tensor, batch: &Batch) -> Result<Vec<BatchStatistics>> {
        let params = self.network.space().split(theta)?;
        let mode = Mode::Train { draws: None };
        let run = || self.plain(batch, &params, Saved::Nothing, mode, &mut Pattern::Free);
        Ok(self.workers.install(run)?.statistics)
    }

    /// The gradient, with the activation pattern of each micro-batch recorded (where `patterns` is empty) or replayed.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn gradient_with_patterns(&self, theta: &Tensor, patterns: &mut Vec<Pattern>) -> Result<Tensor> {
        let params = self.network.space().split(theta)?;
        let plan = self.micro_batches(Asked::GRADIENT);
        if patterns.is_empty() {
            patterns.resize_with(plan.len(), || Pattern::Record(Vec::new()));
        }
        let cells: Vec<Mutex<&mut Pattern>> = patterns.iter_mut().map(Mutex::new).collect();
        let work = |index: usize| {
            let batch = self.batch(&plan[index].rows)?;
            // Each is locked once.
            let mut pattern = cells[index].lock().unwrap_or_else(PoisonError::into_inner);
            self.plain(&batch, &params, Saved::Everything, self.mode(), &mut pattern)
        };
        let sum = self.sum(&plan, self.gradient_shape(), work, &mut ())?;
        Ok(self.gradient_report(sum, theta)?.gradient)
    }

    /// Names of the parameter tensors that the loss of the first rows does not depend on.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub(crate) fn params_without_gradient(&self, theta: &Tensor) -> Result<Vec<String>> {
        let params = self.network.space().split(theta)?;
        let rows: Vec<usize> = (0..self.data.len().min(2)).collect();
        let batch = self.batch(&rows)?;
        let part = self.plain(&batch, &params, Saved::Everything, self.mode(), &mut Pattern::Free)?;
        let tensors = self.network.space().tensors().iter();
        Ok(tensors.zip(&part.gradients).filter(|(_, g)| g.is_none()).map(|(tensor, _)| tensor.name.clone()).collect())
    }

    /// Losses over all rows and, unless nothing is `saved`, their gradient.
    fn plain_sum(&self, params: &[Tensor], saved: Saved, observer: &mut dyn Observer) -> Result<Sum<Tensor>> {
        let asked = if saved == Saved::Nothing { Asked::LOSS } else { Asked::GRADIENT };
        let pass = |batch: &Batch| self.plain(batch, params, saved, self.mode(), &mut Pattern::Free);
        self.sum_over_rows(asked, pass, observer)
    }

    /// Sums what `pass` makes of micro-batches over all rows.
    ///
    /// Sample-parallel: a worker takes a micro-batch through the whole network. Where rows are coupled, one tape takes them at
    /// once, and kernels share its work: layer-parallel.
    pub(crate) fn sum_over_rows(
        &self,
        asked: Asked,
        pass: impl Fn(&Batch) -> Result<Part> + Sync,
        observer: &mut dyn Observer,
    ) -> Result<Sum<Tensor>> {
        let plan = self.micro_batches(asked);
        let columns = if asked.gradients { self.dim() } else { 0 };
        let work = |index: usize| pass(&self.batch(&plan[index].rows)?);
        self.sum(&plan, SumShape { directions: asked.directions, columns }, work, observer)
    }

    fn gradient_shape(&self) -> SumShape {
        SumShape { directions: 0, columns: self.dim() }
    }

    fn evaluation(&self, sum: &Sum<Tensor>, theta: &Tensor) -> Result<Evaluation> {
        let mut loss = sum.loss.value();
        if self.options.weight_decay != 0.0 {
            let square = theta.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
            loss += 0.5 * self.options.weight_decay * square;
        }
        let (accuracy, accuracy_std_err) =
            sum.correct.map_or((f64::NAN, f64::NAN), |correct| (correct.value(), correct.std_err()));
        Ok(Evaluation { loss, loss_std_err: sum.loss.std_err(), accuracy, accuracy_std_err })
    }

    fn gradient_report(&self, sum: Sum<Tensor>, theta: &Tensor) -> Result<GradientReport> {
        let evaluation = self.evaluation(&sum, theta)?;
        let gradient = sum.primal.to_device(theta.device())?.squeeze(0)?;
        let gradient = match self.options.weight_decay {
            0.0 => gradient,
            decay => (gradient + (theta * decay)?)?,
        };
        Ok(GradientReport { evaluation, gradient, statistics: sum.statistics, scores: sum.scores })
    }
}
