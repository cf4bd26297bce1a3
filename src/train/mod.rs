//! Training: initial weights, the loop over epochs, running averages of batch normalisation, and what a run leaves.

mod averages;
mod epoch;
mod error;
mod evaluate;
mod finish;
mod initialise;
mod metrics;
mod moments;
mod page;
mod part;
mod running;
mod samples;
mod save;
mod setup;
mod snapshots;
mod stability;
mod start;
mod state;
mod track;

pub use error::TrainError;
pub use evaluate::EvaluationRow;
pub use initialise::initialise;
pub use metrics::{CleanScores, EpochMetrics, Scores};
pub use moments::SecondMoments;
pub use samples::SampleFolder;
pub use save::save;
pub use snapshots::SnapshotFolder;
pub use state::{EpochSeconds, StateFolder};
pub use track::TrackedRow;

use std::collections::HashMap;

use candle_core::Tensor;
use serde_json::json;

use crate::checkpoint::TensorFile;
use crate::data::Dataset;
use crate::formats::Architecture;
use crate::objective::Objective;
use crate::optim::{Optimizer, Setup};
use crate::plan::TrainConfig;
use crate::program::{BatchNormMode, Network};
use crate::random::{Purpose, stream};
use crate::team::team;
use crate::{Error, Observer, Result};
use averages::Averages;
use epoch::{EpochEnd, Run};
use part::Part;
use state::{State, Weights};

/// What a run needs.
pub struct Training<'a> {
    /// How to train.
    pub config: &'a TrainConfig,
    /// What to train; loss, normalisation, weight decay and input shape are filled in.
    pub architecture: Architecture,
    /// The training rows.
    pub data: &'a Dataset,
    /// Rows that each epoch is evaluated on.
    pub test: Option<&'a Dataset>,
    /// A file of initial weights; its last linear layer may have another number of classes.
    pub init: Option<&'a TensorFile>,
    /// Where states are stored and resumed from; `None` stores none.
    pub states: Option<&'a mut StateFolder>,
    /// Where checkpoints are kept during training, every [`TrainConfig::snapshots`] epochs; `None` keeps none.
    pub snapshots: Option<&'a SnapshotFolder>,
    /// Where samples of the weights go, [`TrainConfig::samples_per_cycle`] in each cycle; `None` takes none.
    pub samples: Option<&'a SampleFolder>,
    /// Called once, when nothing can be refused any more and nothing is written yet; `None` calls nothing.
    pub begins: Option<&'a mut dyn FnMut() -> Result<()>>,
}

impl<'a> Training<'a> {
    /// `architecture` on `data` from fresh weights, without test rows, states, snapshots and samples.
    pub fn new(config: &'a TrainConfig, architecture: Architecture, data: &'a Dataset) -> Self {
        let (states, snapshots, samples) = (None, None, None);
        Self { config, architecture, data, test: None, init: None, states, snapshots, samples, begins: None }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainStop {
    /// After its last epoch.
    Finished,
    /// The observer asked to stop.
    Interrupted,
    /// A loss or parameter was no longer finite.
    NonFinite(TrainError),
}

/// What a training run leaves.
#[derive(Debug, Clone)]
pub struct TrainOutcome {
    /// The configuration with its loss resolved.
    pub config: TrainConfig,
    /// The architecture, completed with loss, normalisation, weight decay and input shape, and the statistics of batch
    /// normalisation that belong to `theta`.
    pub network: Network,
    /// The parameters after the last finished epoch, `[n]`, in the training dtype.
    pub theta: Tensor,
    /// Whether the statistics in `network` are the running ones of training, not re-estimated ones.
    pub running_statistics: bool,
    /// Other weights worth keeping, each with its statistics: `best`, `ema`, `swa`.
    pub others: Vec<(&'static str, Network, Tensor)>,
    /// One entry per finished epoch.
    pub epochs: Vec<EpochMetrics>,
    /// Wall-clock time of each finished epoch.
    pub seconds: Vec<EpochSeconds>,
    /// Final numbers of all weights; empty where the run did not finish.
    pub evaluations: Vec<EvaluationRow>,
    /// Curvature during training.
    pub tracked: Vec<TrackedRow>,
    /// What Adam keeps, where it took the steps that led to `theta`.
    pub moments: Option<SecondMoments>,
    /// Tensors that were initialised from scratch because the file of initial weights has none that fit.
    pub fresh: Vec<String>,
    /// How it ended.
    pub stop: TrainStop,
    /// Hash of the training rows, see [`Dataset::sha256`].
    pub data_sha256: String,
    /// Number of the training rows.
    pub num_rows: usize,
}

/// Trains, and evaluates on the test rows after each epoch.
///
/// Rows are shuffled afresh in each epoch, and a smaller last batch is kept. Batch normalisation uses the statistics of
/// the batch. Equal configuration and data give equal bits, for any number of threads and whether or not the run was
/// interrupted and resumed. After every step the observer is told `epoch e/E loss … acc …`; when it asks to stop, or a
/// number is no longer finite, the outcome is that of the last finished epoch.
///
/// # Errors
/// [`SettingError`](crate::optim::SettingError) before any work; [`TrainError::NonFinite`] with epoch and step, and
/// [`Error::Interrupted`], before the end of the first epoch; a network that does not fit its data or its initial
/// weights; a state of another run.
pub fn train(training: Training<'_>, observer: &mut dyn Observer) -> Result<TrainOutcome> {
    let Training { config, architecture, data, test, init, mut states, snapshots, samples: sampled, begins } = training;
    config.check()?;
    samples::steps(config, data)?;
    let loss = config.loss_for(architecture.loss.as_ref(), data);
    let config = TrainConfig { loss: Some(loss.clone()), ..config.clone() };
    let architecture = Architecture {
        loss: Some(loss.clone()),
        input_shape: Some(data.sample_shape.clone()),
        normalisation: data.normalisation.clone(),
        weight_decay: config.weight_decay,
        ..architecture
    };
    let network = architecture.network(HashMap::new())?;
    let mut network = match init {
        Some(_) => network,
        None => network.with_buffers(running::fresh(network.program(), config.dtype.dtype())?)?,
    };
    let mut theta = initialise(&network, config.dtype.dtype(), config.seed)?;
    let mut fresh = Vec::new();
    if let Some(file) = init {
        (theta, fresh) = start::from_file(&mut network, &theta, file)?;
    }
    let configuration = json!({
        "train": config,
        "architecture": architecture,
        "init_sha256": init.map(|file| &file.sha256),
        "data_sha256": data.sha256,
    });
    let is_coupled = network.program().has_batch_norm() || network.draws_in_training();
    let coupling = is_coupled.then_some("batch norm or dropout in training");
    team().shares(coupling, ("networks, data or options", configuration.to_string()))?;
    let part = Part::new(network.space(), &config.train_only, &theta)?;
    let mut objective = Objective::new(&network, data, config.objective(loss, BatchNormMode::Train))?;
    objective.hold_fixed(part.fixed_tensors(network.space()));
    let mut run = begin(&config, &objective, test, part, &theta)?;
    let resumed = states.as_mut().map(|states| states.load(&configuration)).transpose()?.flatten();
    let is_resumed = resumed.is_some();
    if let Some(state) = resumed {
        state::check_length(&state, run.part.space.dim())?;
        run.optimizer.restore(state.optimizer.clone())?;
        run.state = state;
    }
    begins.map_or(Ok(()), |begins| begins())?;
    if !is_resumed {
        snapshots.map_or(Ok(()), |folder| folder.after_epoch(&run))?;
        run.track(0, observer)?;
    }
    run.samples = sampled.map(|folder| folder.open(&run)).transpose()?.flatten();
    let mut finished = run.state.clone();
    let stop = loop {
        if finished.epochs.len() >= config.epochs {
            break TrainStop::Finished;
        }
        let interrupted = match run.epoch(observer) {
            Ok(EpochEnd::Whole { interrupted }) => interrupted && run.state.epochs.len() < config.epochs,
            Ok(EpochEnd::Partial) | Err(Error::Interrupted) => break TrainStop::Interrupted,
            Err(Error::Train(error @ TrainError::NonFinite { .. })) if !finished.epochs.is_empty() => {
                break TrainStop::NonFinite(error);
            }
            Err(error) => return Err(error),
        };
        run.state.optimizer = run.optimizer.state();
        finished = run.state.clone();
        // Before the state: what a state counts as done is on the disk.
        snapshots.map_or(Ok(()), |folder| folder.after_epoch(&run))?;
        if let Some(states) = &mut states {
            let last = interrupted || finished.epochs.len() == config.epochs;
            states.after_epoch(&finished, &configuration, last)?;
        }
        if interrupted {
            break TrainStop::Interrupted;
        }
    };
    if let (Some(states), false) = (&mut states, finished.epochs.is_empty()) {
        states.after_epoch(&finished, &configuration, true)?;
    }
    if finished.epochs.is_empty() && stop == TrainStop::Interrupted {
        return Err(Error::Interrupted);
    }
    if let (TrainStop::Finished, Some(samples)) = (&stop, run.samples.take()) {
        samples.finish()?;
    }
    finish::finish(run, finished, stop, fresh)
}

/// Prepares the loop for its first step.
fn begin<'a>(
    config: &'a TrainConfig,
    objective: &'a Objective<'a>,
    test: Option<&'a Dataset>,
    part: Part,
    theta: &Tensor,
) -> Result<Run<'a>> {
    let (network, data) = (objective.network(), objective.data);
    let setup = Setup {
        weight_decay: config.weight_decay,
        decay: config.decay,
        clip_norm: config.clip_norm,
        seed: config.seed,
        threads: config.execution.threads,
    };
    let optimizer = Optimizer::new(&config.optimizer.for_rows(data.len()), setup, &part.space)?;
    let tracked = config.track.map(|_| {
        let rows = config.track_rows.min(data.len());
        data.select(&crate::data::choose(&mut stream(config.seed, Purpose::Subset), data.len(), rows))
    });
    let state = State {
        weights: Weights { theta: part.of(theta)?, buffers: network.buffers().clone() },
        optimizer: optimizer.state(),
        steps: 0,
        averages: Averages::default(),
        best: None,
        epochs: Vec::new(),
        seconds: Vec::new(),
        tracked: Vec::new(),
    };
    Ok(Run { config, objective, data, test, tracked: tracked.transpose()?, part, optimizer, state, samples: None })
}
