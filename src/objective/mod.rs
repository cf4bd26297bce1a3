//! The mean loss of a network on fixed rows, as a function of the flat parameters: rows, shards, micro-batches, pieces.

mod class_outputs;
mod error;
mod evaluate;
mod execution;
mod parts;
mod pass;
mod portions;
mod probe;
mod row_losses;
mod sum;

use std::io::{self, Read, Write};

use candle_core::{DType, Device, Tensor};

pub use error::ObjectiveError;
pub use execution::Execution;
pub(crate) use pass::Part;
pub(crate) use portions::Asked;
pub use probe::Coupling;

use crate::data::Dataset;
use crate::program::{BatchNormMode, BatchStatistics, ClassScores, Loss, Mode, Network};
use crate::team::{Wire, put_numbers};
use crate::{Result, Workers};

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
    /// Right answers over the labels that count; NaN where the targets are not classes.
    pub accuracy: f64,
    /// Its standard error over rows, that of a ratio; with one label a row `√(a (1 − a) / (N − 1))`.
    pub accuracy_std_err: f64,
}

impl Wire for Evaluation {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        let Self { loss, loss_std_err, accuracy, accuracy_std_err } = self;
        put_numbers(&[*loss, *loss_std_err, *accuracy, *accuracy_std_err], to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        let mut next = || f64::get(from);
        let (loss, loss_std_err) = (next()?, next()?);
        Ok(Self { loss, loss_std_err, accuracy: next()?, accuracy_std_err: next()? })
    }
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
    pub(crate) fn hold_fixed(&mut self, fixed: Vec<bool>) {
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

    pub(crate) fn mode(&self) -> Mode {
        match self.options.batch_norm {
            BatchNormMode::Eval => Mode::Eval,
            BatchNormMode::Train => Mode::Train { draws: None },
        }
    }
}
