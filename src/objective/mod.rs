//! The mean loss of a network on fixed rows, as a function of the flat parameters: rows, shards, micro-batches, pieces.

mod error;
mod execution;
mod parts;
mod pass;
mod portions;
mod probe;
mod row_losses;
mod sum;

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

pub use error::ObjectiveError;
pub use execution::Execution;
pub(crate) use pass::Part;
pub use portions::BLOCK;
pub use probe::Coupling;
use sum::{MicroBatch, Sum, SumShape, cut};

use crate::autodiff::{Pattern, Saved};
use crate::data::{Batch, Dataset};
use crate::program::{BatchNormMode, BatchStatistics, ClassScores, Loss, Mode, Network};
use crate::{Observer, Result, Workers};

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

/// Mean loss `Σ s_n / Σ w_n` over the rows, and how many labels are right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean loss, the L2 term included where the objective has one.
    pub loss: f64,
    /// Its standard error over rows, that of a ratio: `√(N/(N−1) Σ (s_n − L w_n)²) / Σ w_n`, for weights of 1 the losses'
    /// standard deviation over `√N`.
    pub loss_std_err: f64,
    /// Right answers over the labels that count; NaN where the targets are no classes.
    pub accuracy: f64,
    /// Its standard error over rows, that of a ratio; with one label a row `√(a (1 − a) / (N − 1))`.
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

/// What is asked of a pass over the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Vectors of a product; 0 of a loss or gradient.
    pub(crate) directions: usize,
    /// Whether sums by data shard are wanted: micro-batches then stay within a shard.
    pub(crate) by_shard: bool,
    /// Whether there is a gradient, or a product, to sum.
    pub(crate) gradients: bool,
}

impl Asked {
    /// Losses alone.
    pub(crate) const LOSS: Self = Self { directions: 0, by_shard: true, gradients: false };
    /// Losses and their gradient.
    pub(crate) const GRADIENT: Self = Self { directions: 0, by_shard: true, gradients: true };
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
    pub(crate) workers: Workers,
}

impl<'a> Objective<'a> {
    /// Checks that network, data and loss fit together, by running one row.
    ///
    /// # Errors
    /// A layer that does not fit its input, or targets that do not fit the loss; [`Error::Threads`](crate::Error::Threads).
    pub fn new(network: &'a Network, data: &'a Dataset, options: ObjectiveOptions) -> Result<Self> {
        let workers = Workers::new(options.execution.threads)?;
        let (cost, shards, fixed) = (SampleCost::default(), Vec::new(), Vec::new());
        let mut objective = Self { network, data, options, shards, cost, fixed, coupling: None, workers };
        objective.cost = objective.dry_run()?;
        objective.coupling = objective.find_coupling()?;
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
        let places = [(0..batch.rows.len()).collect()];
        let draws = matches!(mode, Mode::Train { draws: Some(_) });
        let whole = self.network.program().has_batch_norm() || draws;
        let (size, mode) = if whole { (batch.rows.len().max(1), mode) } else { (self.micro_batch(0), self.mode()) };
        let plan = cut(&places, size);
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
        // Batch statistics couple all rows: then they stay one micro-batch.
        let size = if self.couples_rows() { self.num_rows() } else { self.micro_batch(0) };
        let plan = cut(&self.shards, size);
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
    pub fn params_without_gradient(&self, theta: &Tensor) -> Result<Vec<String>> {
        let params = self.network.space().split(theta)?;
        let rows: Vec<usize> = (0..self.data.len().min(2)).collect();
        let batch = self.batch(&rows)?;
        let part = self.plain(&batch, &params, Saved::Everything, self.mode(), &mut Pattern::Free)?;
        let tensors = self.network.space().tensors().iter();
        Ok(tensors.zip(&part.gradients).filter(|(_, g)| g.is_none()).map(|(tensor, _)| tensor.name.clone()).collect())
    }

    /// Losses over all rows and, unless nothing is `saved`, their gradient.
    fn plain_sum(&self, params: &[Tensor], saved: Saved, observer: &mut dyn Observer) -> Result<Sum> {
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
    ) -> Result<Sum> {
        let plan = match self.couples_rows() {
            true => vec![MicroBatch { shard: 0, rows: self.shards[0].clone() }],
            false => self.micro_batches(asked),
        };
        let columns = if asked.gradients { self.dim() } else { 0 };
        let work = |index: usize| pass(&self.batch(&plan[index].rows)?);
        self.sum(&plan, SumShape { directions: asked.directions, columns }, work, observer)
    }

    fn gradient_shape(&self) -> SumShape {
        SumShape { directions: 0, columns: self.dim() }
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.options.batch_norm {
            BatchNormMode::Eval => Mode::Eval,
            BatchNormMode::Train => Mode::Train { draws: None },
        }
    }

    fn evaluation(&self, sum: &Sum, theta: &Tensor) -> Result<Evaluation> {
        let mut loss = sum.loss.value();
        if self.options.weight_decay != 0.0 {
            let square = theta.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
            loss += 0.5 * self.options.weight_decay * square;
        }
        let (accuracy, accuracy_std_err) =
            sum.correct.map_or((f64::NAN, f64::NAN), |correct| (correct.value(), correct.std_err()));
        Ok(Evaluation { loss, loss_std_err: sum.loss.std_err(), accuracy, accuracy_std_err })
    }

    fn gradient_report(&self, sum: Sum, theta: &Tensor) -> Result<GradientReport> {
        let evaluation = self.evaluation(&sum, theta)?;
        let gradient = sum.primal.finish(1.0 / sum.weight, theta.dtype(), theta.device())?.squeeze(0)?;
        let gradient = match self.options.weight_decay {
            0.0 => gradient,
            decay => (gradient + (theta * decay)?)?,
        };
        Ok(GradientReport { evaluation, gradient, statistics: sum.statistics, scores: sum.scores })
    }
}
