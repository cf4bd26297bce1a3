//! One epoch: batches in random order, a step each, and the evaluation afterwards.

use std::collections::HashMap;

use candle_core::Tensor;
use rand::seq::SliceRandom;

use super::initialise::visit;
use super::{EpochMetrics, TrainConfig, TrainError, running};
use crate::curvature::{Evaluation, Objective};
use crate::data::Dataset;
use crate::kernels::row_dots;
use crate::models::{BatchNormMode, Layer, Network};
use crate::nn::{Mode, NnError};
use crate::optim::Optimizer;
use crate::random::{Purpose, substream};
use crate::{Error, Observer, Result, Step};

/// Parameters and running statistics after some step.
#[derive(Clone)]
pub(super) struct State {
    pub(super) theta: Tensor,
    pub(super) buffers: HashMap<String, Tensor>,
}

/// What an epoch gives before the evaluation.
pub(super) struct EpochPass {
    pub(super) metrics: EpochMetrics,
    /// Whether the observer broke in the last step.
    pub(super) interrupted: bool,
}

/// The loop's data and state.
pub(super) struct Run<'a> {
    config: &'a TrainConfig,
    objective: &'a Objective<'a>,
    optimizer: Optimizer,
    pub(super) state: State,
    steps: usize,
    drops_out: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        config: &'a TrainConfig,
        objective: &'a Objective<'a>,
        optimizer: Optimizer,
        state: State,
    ) -> Self {
        let mut drops_out = false;
        visit(&objective.network().architecture.layers, &mut |layer| {
            drops_out |= matches!(layer, Layer::Dropout { p } if *p > 0.0);
        });
        Self { config, objective, optimizer, state, steps: 0, drops_out }
    }

    /// All batches of epoch `epoch` (from 1); `None` where the observer broke before the last.
    pub(super) fn epoch(&mut self, epoch: usize, observer: &mut dyn Observer) -> Result<Option<EpochPass>> {
        let mut rows: Vec<usize> = (0..self.objective.num_rows()).collect();
        rows.shuffle(&mut substream(self.config.seed, Purpose::Shuffle, epoch as u64 - 1));
        let steps_per_epoch = rows.len().div_ceil(self.config.batch_size);
        let (mut loss, mut correct, mut seen) = (0.0, 0.0, 0);
        let (mut learning_rate, mut interrupted) = (0.0, false);
        for (index, batch) in rows.chunks(self.config.batch_size).enumerate() {
            let factor = self.config.schedule.factor(self.steps, steps_per_epoch, self.config.epochs);
            learning_rate = self.config.learning_rate * factor;
            let evaluation = self.step(batch, learning_rate, epoch)?;
            loss += evaluation.loss * batch.len() as f64;
            correct += evaluation.accuracy * batch.len() as f64;
            seen += batch.len();
            let message = message((epoch, self.config.epochs), loss / seen as f64, correct / seen as f64);
            let total = steps_per_epoch * self.config.epochs;
            interrupted = observer.on_step(&Step { task: "training", done: self.steps, total, message }).is_break();
            if interrupted && index + 1 < steps_per_epoch {
                return Ok(None);
            }
        }
        let metrics = EpochMetrics {
            epoch,
            step: self.steps,
            learning_rate,
            train_loss: loss / seen as f64,
            train_accuracy: correct / seen as f64,
            test_loss: f64::NAN,
            test_accuracy: f64::NAN,
        };
        Ok(Some(EpochPass { metrics, interrupted }))
    }

    /// One step on `batch`.
    fn step(&mut self, batch: &[usize], learning_rate: f64, epoch: usize) -> Result<Evaluation> {
        let step = self.steps + 1;
        let not_finite = |what| TrainError::NonFinite { what, epoch, step, learning_rate };
        let (objective, seed, drops_out) = (self.objective, self.config.seed, self.drops_out);
        let batch = objective.batch(batch)?;
        let mut gradient = |theta: &Tensor| {
            // One mask per step: the two passes of SAM see the same function.
            let dropout = drops_out.then(|| substream(seed, Purpose::Dropout, step as u64));
            match objective.training_gradient(theta, &batch, Mode::Train { dropout }) {
                Err(Error::Nn(NnError::NonFinite { .. })) => Err(not_finite("the loss is").into()),
                report => report,
            }
        };
        let update = self.optimizer.step(&self.state.theta, learning_rate, &mut gradient)?;
        // The loss would show it one step later, and after the last step there is none.
        let row = update.theta.unsqueeze(0)?;
        if !row_dots(&row, &row)?[0].is_finite() {
            return Err(not_finite("the parameters are").into());
        }
        self.state.theta = update.theta;
        running::update(&mut self.state.buffers, &update.pass.statistics)?;
        self.steps = step;
        Ok(update.pass.evaluation)
    }

    /// `metrics` with loss and accuracy on the test rows, in evaluation mode.
    pub(super) fn evaluate(&self, metrics: EpochMetrics, test: Option<&Dataset>) -> Result<EpochMetrics> {
        let Some(test) = test else { return Ok(metrics) };
        let network = Network { buffers: self.state.buffers.clone(), ..self.objective.network().clone() };
        let options = self.config.objective(self.objective.options().loss, BatchNormMode::Eval);
        let evaluation = match Objective::new(&network, test, options)?.evaluate(&self.state.theta, &mut ()) {
            Err(Error::Nn(NnError::NonFinite { .. })) => {
                let EpochMetrics { epoch, step, learning_rate, .. } = metrics;
                let what = "the loss on the test rows is";
                return Err(TrainError::NonFinite { what, epoch, step, learning_rate }.into());
            }
            evaluation => evaluation?,
        };
        Ok(EpochMetrics { test_loss: evaluation.loss, test_accuracy: evaluation.accuracy, ..metrics })
    }
}

fn message((epoch, epochs): (usize, usize), loss: f64, accuracy: f64) -> String {
    let mut message = format!("epoch {epoch}/{epochs} loss {loss:.4}");
    if accuracy.is_finite() {
        message += &format!(" acc {:.1} %", 100.0 * accuracy);
    }
    message
}
