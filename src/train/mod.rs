//! Training: initial weights, the loop over epochs, running averages of batch normalisation, and what a run leaves.

mod config;
mod epoch;
mod error;
mod initialise;
mod running;
mod save;

pub use config::{Precision, TrainConfig};
pub use error::TrainError;
pub use initialise::initialise;
pub use save::save;

use std::time::Instant;

use candle_core::Tensor;
use serde::Serialize;

use crate::curvature::Objective;
use crate::data::Dataset;
use crate::models::{Architecture, BatchNormMode, Network};
use crate::optim::{Optimizer, Setup};
use crate::{Error, Observer, Result};
use epoch::{Run, State};

/// Loss and accuracy over one epoch; accuracies in 0..=1, NaN where the targets are no classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: usize,
    /// Steps since the start.
    pub step: usize,
    /// Of the epoch's last step.
    pub learning_rate: f64,
    /// Mean over the epoch's rows of the losses that the steps saw, each at the parameters of its step: in training
    /// mode, and for fSGLD at the perturbed parameters.
    pub train_loss: f64,
    /// As `train_loss`.
    pub train_accuracy: f64,
    /// Mean loss on the test rows after the epoch, in evaluation mode; NaN without test rows.
    pub test_loss: f64,
    /// As `test_loss`.
    pub test_accuracy: f64,
}

/// What a training run leaves.
#[derive(Debug, Clone)]
pub struct TrainOutcome {
    /// The configuration with its loss resolved.
    pub config: TrainConfig,
    /// The architecture, completed with loss, normalisation, weight decay and input shape, and the running statistics.
    pub network: Network,
    /// The parameters after the last finished epoch, `[n]`, in the training dtype.
    pub theta: Tensor,
    /// One entry per finished epoch.
    pub epochs: Vec<EpochMetrics>,
    /// Wall-clock time of each finished epoch in seconds, evaluation included.
    pub epoch_seconds: Vec<f64>,
    /// Whether the observer ended the run before its last epoch.
    pub interrupted: bool,
    /// Hash of the training rows, see [`Dataset::sha256`].
    pub data_sha256: String,
}

/// Trains `architecture` on `data` from fresh weights, and evaluates on `test` after each epoch.
///
/// Rows are shuffled anew in each epoch, and a last, smaller batch is kept; no augmentation. Batch normalisation uses
/// the statistics of the batch. Equal configuration and data give equal bits, for any number of threads. After every
/// step the observer hears `epoch e/E loss … acc …`; when it breaks, the outcome is that of the last finished epoch.
///
/// # Errors
/// [`TrainError::Setting`] before any work; [`TrainError::NonFinite`] with epoch and step; a network that does not fit
/// its data; [`Error::Interrupted`] before the end of the first epoch.
pub fn train(
    config: &TrainConfig,
    architecture: Architecture,
    data: &Dataset,
    test: Option<&Dataset>,
    observer: &mut dyn Observer,
) -> Result<TrainOutcome> {
    config.check()?;
    let loss = config.loss_for(&architecture, data);
    let config = TrainConfig { loss: Some(loss), ..config.clone() };
    let architecture = Architecture {
        loss: Some(loss),
        input_shape: Some(data.sample_shape.clone()),
        normalisation: data.normalisation.clone(),
        weight_decay: config.weight_decay,
        ..architecture
    };
    let buffers = running::fresh(&architecture, config.dtype.dtype())?;
    let network = Network::new(architecture, buffers)?;
    let objective = Objective::new(&network, data, config.objective(loss, BatchNormMode::Train))?;
    let (weight_decay, seed, threads) = (config.weight_decay, config.seed, config.execution.threads);
    let setup = Setup { weight_decay, seed, threads, ..Setup::default() };
    let optimizer = Optimizer::new(&config.optimizer, setup, &network.space)?;
    let theta = initialise(&network, config.dtype.dtype(), config.seed)?;
    let mut finished = State { theta, buffers: network.buffers.clone() };
    let mut run = Run::new(&config, &objective, optimizer, finished.clone());
    let (mut epochs, mut epoch_seconds) = (Vec::new(), Vec::new());
    let mut interrupted = false;
    while epochs.len() < config.epochs && !interrupted {
        let started = Instant::now();
        let Some(pass) = run.epoch(epochs.len() + 1, observer)? else {
            interrupted = true;
            break;
        };
        finished = run.state.clone();
        epochs.push(run.evaluate(pass.metrics, test)?);
        epoch_seconds.push(started.elapsed().as_secs_f64());
        interrupted = pass.interrupted && epochs.len() < config.epochs;
    }
    if interrupted && epochs.is_empty() {
        return Err(Error::Interrupted);
    }
    drop(run);
    let network = Network { buffers: finished.buffers, ..network };
    let data_sha256 = data.sha256.clone();
    Ok(TrainOutcome { config, network, theta: finished.theta, epochs, epoch_seconds, interrupted, data_sha256 })
}
