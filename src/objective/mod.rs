//! The mean loss of a network on fixed rows, as a function of the flat parameters: rows, shards, micro-batches, workers.

mod error;
mod execution;
mod factor;
mod parts;
mod pass;
mod portions;
mod probe;
mod row_losses;
mod sum;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

pub use error::ObjectiveError;
pub use execution::Execution;
pub(crate) use execution::in_order;
pub(crate) use factor::Factor;
pub(crate) use pass::{Direction, Pass};
pub use portions::BLOCK;
pub use probe::Coupling;
use sum::{Sum, cut};

use crate::autodiff::Pattern;
use crate::data::{Batch, Dataset};
use crate::program::{BatchNormMode, Loss, Network};
use crate::program::{BatchStatistics, ClassScores, Mode};
use crate::{Error, Observer, Result};

/// How the loss is defined and computed.
#[derive(Debug, Clone)]
pub struct ObjectiveOptions {
    /// Loss of one sample.
    pub loss: Loss,
    /// f32 or f64.
    pub dtype: DType,
    /// Where the network runs.
    pub device: Device,
    /// `wd` of an added `wd/2 ‖θ‖²`; 0 leaves it out.
    pub weight_decay: f64,
    /// Statistics of batch normalisation.
    pub batch_norm: BatchNormMode,
    /// Threads and memory.
    pub execution: Execution,
    /// Data shards for the data error, at most.
    pub num_shards: usize,
    /// Seed of the assignment of rows to shards.
    pub seed: u64,
}

impl ObjectiveOptions {
    /// Mean of `loss` in f32 on the CPU, stored batch-norm statistics, no L2 term, 16 shards.
    pub fn new(loss: Loss) -> Self {
        Self {
            loss,
            dtype: DType::F32,
            device: Device::Cpu,
            weight_decay: 0.0,
            batch_norm: BatchNormMode::Eval,
            execution: Execution::default(),
            num_shards: 16,
            seed: 0,
        }
    }
}

/// Mean loss over the rows, and how many are classified correctly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean loss, the L2 term included where the objective has one.
    pub loss: f64,
    /// Standard error of the mean loss over rows: their standard deviation over `√N`.
    pub loss_std_err: f64,
    /// Correct rows over rows; NaN where the targets are no classes.
    pub accuracy: f64,
    /// Standard error of the accuracy over rows: `√(a (1 − a) / (N − 1))`.
    pub accuracy_std_err: f64,
}

/// Mean loss, its gradient `[n]`, and the batch statistics of a training pass.
#[derive(Debug, Clone)]
pub struct GradientReport {
    /// Loss and accuracy.
    pub evaluation: Evaluation,
    /// Gradient of the loss, `[n]`.
    pub gradient: Tensor,
    /// For the running averages; empty in eval mode.
    pub statistics: Vec<BatchStatistics>,
    /// What the outputs say about classes; `None` where the targets are none.
    pub scores: Option<ClassScores>,
}

/// What one sample costs, found by a dry run.
#[derive(Debug, Clone, Copy, Default)]
pub struct SampleCost {
    /// Multiply-adds of one forward pass, counted as direct products.
    pub multiply_adds: usize,
    /// Elements of all activations.
    pub activations: usize,
    /// Elements of the largest.
    pub largest_activation: usize,
    /// Outputs of the network.
    pub outputs: usize,
}

/// A network, data, and how the loss is defined.
#[derive(Clone)]
pub struct Objective<'a> {
    pub(crate) network: &'a Network,
    pub(crate) data: &'a Dataset,
    pub(crate) options: ObjectiveOptions,
    pub(crate) shards: Vec<Vec<usize>>,
    pub(crate) cost: SampleCost,
    /// Tensors of the parameter space that get no gradient, by their place; empty: none.
    pub(crate) fixed: Vec<bool>,
    /// How rows touch one another, where they do.
    pub(crate) coupling: Option<Coupling>,
    /// Only where rows are coupled.
    pub(crate) pool: Option<Arc<rayon::ThreadPool>>,
}

impl<'a> Objective<'a> {
    /// Checks that network, data and loss fit together, by running one row.
    ///
    /// # Errors
    /// A layer that does not fit its input, or targets that do not fit the loss.
    pub fn new(network: &'a Network, data: &'a Dataset, options: ObjectiveOptions) -> Result<Self> {
        let (shards, cost, fixed) = (Vec::new(), SampleCost::default(), Vec::new());
        let mut objective = Self { network, data, options, shards, cost, fixed, coupling: None, pool: None };
        objective.cost = objective.dry_run()?;
        objective.coupling = objective.find_coupling()?;
        objective.pool = objective.coupling.is_some().then(|| Self::new_pool(&objective.options)).transpose()?;
        objective.shards = objective.cut_rows(objective.shuffled_rows());
        Ok(objective)
    }

    /// Holds the tensors marked in `fixed`, by their place in the parameter space: gradients are 0 there, and what
    /// comes before the first free tensor costs a forward pass alone.
    pub fn hold_fixed(&mut self, fixed: Vec<bool>) {
        self.fixed = fixed;
    }

    /// Data shards.
    pub fn num_shards(&self) -> usize {
        self.shards.len()
    }

    /// Whether the loss of a row depends on the other rows, as with batch normalisation by the batch's own statistics.
    pub fn couples_rows(&self) -> bool {
        self.coupling.is_some()
    }

    /// The operation through which it does.
    pub fn coupling(&self) -> Option<&Coupling> {
        self.coupling.as_ref()
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.shards.iter().map(Vec::len).sum()
    }

    /// Number of parameters `n`.
    pub fn dim(&self) -> usize {
        self.network.space().dim()
    }

    /// How the loss is defined.
    pub fn options(&self) -> &ObjectiveOptions {
        &self.options
    }

    /// The network.
    pub fn network(&self) -> &Network {
        self.network
    }

    /// What one sample costs.
    pub fn cost(&self) -> SampleCost {
        self.cost
    }

    /// Parameters in the objective's dtype and on its device.
    ///
    /// # Errors
    /// Making the tensor.
    pub fn place(&self, theta: &Tensor) -> Result<Tensor> {
        Ok(theta.to_dtype(self.options.dtype)?.to_device(&self.options.device)?)
    }

    /// Mean loss and accuracy at `theta`.
    ///
    /// # Errors
    /// A loss that is not finite; an interruption.
    pub fn evaluate(&self, theta: &Tensor, observer: &mut dyn Observer) -> Result<Evaluation> {
        let params = self.network.space().split(theta)?;
        let (sum, _) = self.sum_over_shards(&params, &Direction::none(), Pass::Loss, observer)?;
        self.evaluation(&sum, self.num_rows(), theta)
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
        let (sum, _) = self.sum_over_shards(&params, &Direction::none(), Pass::Loss, observer)?;
        Ok((self.evaluation(&sum, self.num_rows(), theta)?, sum.scores))
    }

    /// Mean loss and its gradient at `theta`.
    ///
    /// # Errors
    /// A loss that is not finite; an interruption.
    pub fn gradient(&self, theta: &Tensor, observer: &mut dyn Observer) -> Result<GradientReport> {
        let params = self.network.space().split(theta)?;
        let (sum, _) = self.sum_over_shards(&params, &Direction::none(), Pass::Gradient, observer)?;
        self.gradient_report(sum, self.num_rows(), theta)
    }

    /// The gradient on `batch` in training mode: batch statistics, and dropout where `mode` draws it.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn training_gradient(&self, theta: &Tensor, batch: &Batch, mode: Mode) -> Result<GradientReport> {
        let params = self.network.space().split(theta)?;
        let mut sum = Sum::new(1, self.dim());
        let (none, rows) = (Direction::none(), batch.rows.len());
        let drops_out = matches!(mode, Mode::Train { dropout: Some(_) });
        if self.network.program().has_batch_norm() || drops_out {
            let run = || self.pass(batch, &params, &none, Pass::Gradient, mode, &mut Pattern::Free);
            sum.add(self, self.with_pool(run)?)?;
        } else {
            let places: Vec<usize> = (0..rows).collect();
            let parts = cut(&[places], self.micro_batch(0)).into_iter();
            let parts = parts.map(|(_, places)| batch.part(places[0], places[0] + places.len()));
            let parts = parts.collect::<Result<Vec<Batch>>>()?;
            let work = |index: usize| {
                self.pass(&parts[index], &params, &none, Pass::Gradient, self.mode(), &mut Pattern::Free)
            };
            let workers = self.workers(0, self.micro_batch(0));
            in_order(parts.len(), workers, work, |_, part| sum.add(self, part), &mut ())?;
        }
        self.gradient_report(sum, rows, theta)
    }

    /// Mean and variance of `batch` at every batch normalisation, from a forward pass in training mode.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn batch_statistics(&self, theta: &Tensor, batch: &Batch) -> Result<Vec<BatchStatistics>> {
        let (params, none) = (self.network.space().split(theta)?, Direction::none());
        let mode = Mode::Train { dropout: None };
        let run = || self.pass(batch, &params, &none, Pass::Loss, mode, &mut Pattern::Free);
        Ok(self.with_pool(run)?.statistics)
    }

    /// On the pool whose threads share the work inside a layer, where there is one.
    fn with_pool<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// The gradient in one micro-batch after another on this thread, with each one's activation pattern recorded
    /// (where `patterns` is empty) or replayed.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn gradient_with_patterns(&self, theta: &Tensor, patterns: &mut Vec<Pattern>) -> Result<Tensor> {
        let params = self.network.space().split(theta)?;
        // Batch statistics couple all rows: then they stay one micro-batch.
        let size = if self.pool.is_some() { self.num_rows() } else { self.micro_batch(0) };
        let plan = cut(&self.shards, size);
        let record = patterns.is_empty();
        let mut sum = Sum::new(1, self.dim());
        for (index, (_, rows)) in plan.iter().enumerate() {
            if record {
                patterns.push(Pattern::Record(Vec::new()));
            }
            let none = Direction::none();
            let batch = self.batch(rows)?;
            sum.add(self, self.pass(&batch, &params, &none, Pass::Gradient, self.mode(), &mut patterns[index])?)?;
        }
        Ok(self.gradient_report(sum, self.num_rows(), theta)?.gradient)
    }

    /// Names of the parameter tensors that the loss of the first rows does not depend on.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn params_without_gradient(&self, theta: &Tensor) -> Result<Vec<String>> {
        let params = self.network.space().split(theta)?;
        let rows: Vec<usize> = (0..self.data.len().min(2)).collect();
        let none = Direction::none();
        let batch = self.batch(&rows)?;
        let part = self.pass(&batch, &params, &none, Pass::Gradient, self.mode(), &mut Pattern::Free)?;
        let tensors = self.network.space().tensors().iter();
        Ok(tensors.zip(&part.gradients).filter(|(_, g)| g.is_none()).map(|(tensor, _)| tensor.name.clone()).collect())
    }

    /// Sums a pass over all rows; also the forms `vᵀA_s v` and the number of rows per shard.
    pub(crate) fn sum_over_shards(
        &self,
        params: &[Tensor],
        direction: &Direction,
        pass: Pass,
        observer: &mut dyn Observer,
    ) -> Result<(Sum, Vec<usize>)> {
        let columns = if pass == Pass::Loss { 0 } else { self.dim() };
        let mut sum = Sum::new(direction.count.max(1), columns);
        sum.forms = vec![vec![0.0; direction.count]; self.shards.len()];
        if let Some(pool) = &self.pool {
            // Layer-parallel: batch statistics couple all rows, so one tape takes them at once.
            let rows = &self.shards[0];
            let batch = self.batch(rows)?;
            let part = pool.install(|| self.pass(&batch, params, direction, pass, self.mode(), &mut Pattern::Free))?;
            sum.add_to_shard(self, (0, rows), part)?;
        } else {
            self.run(&self.micro_batches(direction), params, direction, pass, &mut sum, observer)?;
        }
        Ok((sum, self.shards.iter().map(Vec::len).collect()))
    }

    /// Sample-parallel: a worker takes a micro-batch through the whole network.
    fn run(
        &self,
        plan: &[(usize, Vec<usize>)],
        params: &[Tensor],
        direction: &Direction,
        pass: Pass,
        sum: &mut Sum,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let workers = self.workers(direction.count, self.micro_batch(direction.count));
        let work = |index: usize| {
            self.pass(&self.batch(&plan[index].1)?, params, direction, pass, self.mode(), &mut Pattern::Free)
        };
        let commit = |index: usize, part| sum.add_to_shard(self, (plan[index].0, plan[index].1.as_slice()), part);
        in_order(plan.len(), workers, work, commit, observer)
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.options.batch_norm {
            BatchNormMode::Eval => Mode::Eval,
            BatchNormMode::Train => Mode::Train { dropout: None },
        }
    }

    fn evaluation(&self, sum: &Sum, rows: usize, theta: &Tensor) -> Result<Evaluation> {
        let count = rows as f64;
        let mut loss = sum.loss / count;
        let variance = (sum.loss_squares / count - loss * loss).max(0.0) * count / (count - 1.0);
        if self.options.weight_decay != 0.0 {
            let square = theta.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
            loss += 0.5 * self.options.weight_decay * square;
        }
        let accuracy = sum.correct.map_or(f64::NAN, |correct| correct as f64 / count);
        let accuracy_std_err = (accuracy * (1.0 - accuracy) / (count - 1.0)).sqrt();
        Ok(Evaluation { loss, loss_std_err: (variance / count).sqrt(), accuracy, accuracy_std_err })
    }

    fn gradient_report(&self, sum: Sum, rows: usize, theta: &Tensor) -> Result<GradientReport> {
        let evaluation = self.evaluation(&sum, rows, theta)?;
        let gradient = sum.primal.finish(1.0 / rows as f64, theta.dtype(), theta.device())?.squeeze(0)?;
        let gradient = match self.options.weight_decay {
            0.0 => gradient,
            decay => (gradient + (theta * decay)?)?,
        };
        Ok(GradientReport { evaluation, gradient, statistics: sum.statistics, scores: sum.scores })
    }

    fn new_pool(options: &ObjectiveOptions) -> Result<Arc<rayon::ThreadPool>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.execution.threads).build();
        pool.map(Arc::new).map_err(|error| Error::Threads { reason: error.to_string() })
    }
}
