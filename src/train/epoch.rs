//! One epoch: batches in random order, a step each, and the measurements afterwards.

use std::time::Instant;

use candle_core::Tensor;
use rand::seq::SliceRandom;

use super::evaluate::{is_not_finite, scores};
use super::metrics::{CleanScores, Scores};
use super::part::Part;
use super::samples::Sampling;
use super::state::{EpochSeconds, State};
use super::track::measure;
use super::{EpochMetrics, SecondMoments, TrainError, running, stability};
use crate::data::{Batch, Batches, Dataset, with_batches};
use crate::kernels::norm;
use crate::objective::{Evaluation, GradientReport, Objective};
use crate::optim::{Optimizer, Threshold};
use crate::plan::TrainConfig;
use crate::program::BatchNormMode;
use crate::program::{ClassScores, Mode};
use crate::random::{Purpose, substream};
use crate::{Observer, Result, Step};

/// The loop's data and state.
pub(super) struct Run<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) objective: &'a Objective<'a>,
    pub(super) data: &'a Dataset,
    pub(super) test: Option<&'a Dataset>,
    /// Rows of the tracked curvature.
    pub(super) tracked: Option<Dataset>,
    pub(super) part: Part,
    pub(super) optimizer: Optimizer,
    pub(super) state: State,
    /// Samples of the weights, where the run takes some.
    pub(super) samples: Option<Sampling>,
}

/// How an epoch ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EpochEnd {
    /// After its last step, in which the observer may have asked to stop.
    Whole { interrupted: bool },
    /// Before its last step, because the observer asked to stop: the state lies in the middle of the epoch.
    Partial,
}

/// Sums over the steps of an epoch.
#[derive(Default)]
struct Sums {
    rows: f64,
    loss: f64,
    accuracy: f64,
    classes: Option<ClassScores>,
    gradient_norm: f64,
    steps: usize,
    /// Of the last step.
    learning_rate: f64,
    /// Seconds spent waiting for rows.
    waiting: f64,
}

impl Sums {
    fn add(&mut self, pass: GradientReport, gradient_norm: f64, rows: usize) {
        let rows = rows as f64;
        self.rows += rows;
        self.loss += pass.evaluation.loss * rows;
        self.accuracy += pass.evaluation.accuracy * rows;
        self.gradient_norm += gradient_norm;
        self.steps += 1;
        match (&mut self.classes, pass.scores) {
            (Some(sum), Some(scores)) => sum.add(scores),
            (classes, scores) => *classes = scores,
        }
    }

    fn scores(&self) -> Scores {
        let nan = f64::NAN;
        let (loss, accuracy) = (self.loss / self.rows, self.accuracy / self.rows);
        let evaluation = Evaluation { loss, accuracy, loss_std_err: nan, accuracy_std_err: nan };
        Scores::new(&evaluation, self.classes.as_ref())
    }
}

impl Run<'_> {
    /// The next epoch, with everything that is measured after it.
    pub(super) fn epoch(&mut self, observer: &mut dyn Observer) -> Result<EpochEnd> {
        let (started, epoch) = (Instant::now(), self.state.epochs.len() + 1);
        let mut sums = Sums::default();
        let end = self.steps(epoch, &mut sums, observer)?;
        if end == EpochEnd::Partial {
            return Ok(end);
        }
        let training = started.elapsed().as_secs_f64();
        let weights = self.state.weights.clone();
        let metrics = EpochMetrics {
            epoch,
            step: self.state.steps,
            learning_rate: sums.learning_rate,
            train: sums.scores(),
            clean: CleanScores::new(self.data, sums.classes.as_ref()),
            test: Scores::NONE,
            gradient_norm: sums.gradient_norm / sums.steps as f64,
            weight_norm: norm(&self.part.whole(&weights.theta)?)?,
        };
        let metrics = EpochMetrics { test: self.test_scores(&metrics)?, ..metrics };
        if metrics.test.loss.is_finite() && self.is_best(&metrics) {
            self.state.best = Some((epoch, weights.clone()));
        }
        if self.config.swa_from.is_some_and(|from| epoch >= from) {
            self.state.averages.after_epoch(&weights.theta)?;
        }
        self.state.epochs.push(metrics);
        if epoch.is_multiple_of(self.config.track_every) || epoch == self.config.epochs {
            self.track(epoch, observer)?;
        }
        let (total, waiting) = (started.elapsed().as_secs_f64(), sums.waiting);
        self.state.seconds.push(EpochSeconds { total, training, waiting });
        Ok(end)
    }

    /// Makes all steps, unless the observer asks to stop before the last.
    fn steps(&mut self, epoch: usize, sums: &mut Sums, observer: &mut dyn Observer) -> Result<EpochEnd> {
        let mut order: Vec<usize> = (0..self.data.len()).collect();
        order.shuffle(&mut substream(self.config.seed, Purpose::Shuffle, epoch as u64 - 1));
        let plan = self.config.plan(order, epoch);
        with_batches(self.data, &plan, |batches| self.steps_on(batches, epoch, sums, observer))
    }

    fn steps_on(
        &mut self,
        batches: &mut Batches<'_>,
        epoch: usize,
        sums: &mut Sums,
        observer: &mut dyn Observer,
    ) -> Result<EpochEnd> {
        let steps_per_epoch = self.config.steps_per_epoch(self.data.len());
        let total = steps_per_epoch * self.config.epochs;
        let mut interrupted = false;
        for index in 0..steps_per_epoch {
            let Some(batch) = batches.next().transpose()? else { break };
            sums.learning_rate = self.config.rate(self.state.steps, self.data.len());
            self.optimizer.set_cold(self.config.schedule.explores(
                self.state.steps,
                steps_per_epoch,
                self.config.epochs,
            ));
            let (pass, gradient_norm) = self.step(&batch, sums.learning_rate, epoch)?;
            self.sample()?;
            sums.add(pass, gradient_norm, batch.rows.len());
            let message = message(epoch, self.config.epochs, sums);
            interrupted =
                observer.on_step(&Step { task: "training", done: self.state.steps, total, message }).is_break();
            if interrupted && index + 1 < steps_per_epoch {
                return Ok(EpochEnd::Partial);
            }
        }
        sums.waiting = batches.waited().as_secs_f64();
        Ok(EpochEnd::Whole { interrupted })
    }

    /// Makes one step on `batch`. Returns its pass and the norm of its gradient.
    fn step(&mut self, batch: &Batch, learning_rate: f64, epoch: usize) -> Result<(GradientReport, f64)> {
        let step = self.state.steps + 1;
        let not_finite = |what| TrainError::NonFinite { what, epoch, step, learning_rate };
        let (objective, part, seed) = (self.objective, &self.part, self.config.seed);
        let draws = objective.network().draws_in_training();
        let mut gradient = |theta: &Tensor| {
            // One mask per step: the two passes of SAM see the same function.
            let draws = draws.then(|| substream(seed, Purpose::Dropout, step as u64));
            let report = objective.training_gradient(&part.whole(theta)?, batch, Mode::Train { draws });
            match report {
                Err(error) if is_not_finite(&error) => Err(not_finite("the loss is").into()),
                Err(error) => Err(error),
                Ok(report) => Ok(GradientReport { gradient: part.of(&report.gradient)?, ..report }),
            }
        };
        let update = self.optimizer.step(&self.state.weights.theta, learning_rate, &mut gradient)?;
        // The loss would show it one step later, and after the last step there is none.
        if !norm(&update.theta)?.is_finite() {
            return Err(not_finite("the parameters are").into());
        }
        self.state.averages.after_step(&update.theta, self.config.ema)?;
        self.state.weights.theta = update.theta;
        running::update(&mut self.state.weights.buffers, &update.pass.statistics)?;
        self.state.steps = step;
        Ok((update.pass, update.gradient_norm))
    }

    /// On the test rows, with the running statistics.
    fn test_scores(&self, metrics: &EpochMetrics) -> Result<Scores> {
        let &EpochMetrics { epoch, .. } = metrics;
        let due = epoch.is_multiple_of(self.config.evaluate_every) || epoch == self.config.epochs;
        let Some(test) = self.test.filter(|_| due) else { return Ok(Scores::NONE) };
        let weights = &self.state.weights;
        let weights =
            super::state::Weights { theta: self.part.whole(&weights.theta)?, buffers: weights.buffers.clone() };
        match scores(self.config, self.objective.network(), &weights, test, &mut ()) {
            Err(error) if is_not_finite(&error) => {
                let &EpochMetrics { epoch, step, learning_rate, .. } = metrics;
                let what = "the loss on the test rows is";
                Err(TrainError::NonFinite { what, epoch, step, learning_rate }.into())
            }
            scores => Ok(scores?.0),
        }
    }

    /// Whether the test accuracy (without classes: the test loss) is better than at any epoch before.
    fn is_best(&self, metrics: &EpochMetrics) -> bool {
        let merit = |test: &Scores| {
            let accuracy = if test.accuracy.is_finite() { test.accuracy } else { 0.0 };
            (accuracy, -test.loss)
        };
        let evaluated = self.state.epochs.iter().filter(|before| before.test.loss.is_finite());
        evaluated.map(|before| merit(&before.test)).all(|before| merit(&metrics.test) > before)
    }

    /// Appends the tracked numbers at the end of `epoch`; 0 is before the first step.
    pub(super) fn track(&mut self, epoch: usize, observer: &mut dyn Observer) -> Result<()> {
        let (Some(track), Some(rows)) = (self.config.track, &self.tracked) else { return Ok(()) };
        let network = self.objective.network().with_buffers(self.state.weights.buffers.clone())?;
        let mut options = self.config.objective(self.objective.options().loss.clone(), BatchNormMode::Eval);
        options.num_shards = crate::objective::ObjectiveOptions::new(options.loss.clone()).num_shards;
        let objective = Objective::new(&network, rows, options)?;
        let theta = self.part.whole(&self.state.weights.theta)?;
        // Of the step that led here; before the first, of that one.
        let rate = self.config.rate(self.state.steps.saturating_sub(1), self.data.len());
        let threshold = self.config.threshold(rate).filter(|_| track.top > 0);
        let preconditioner = match threshold {
            Some(Threshold::Preconditioned(_)) => {
                SecondMoments::of(&self.optimizer, &self.optimizer.state(), &self.part)
            }
            _ => None,
        };
        let preconditioner = preconditioner.map(|moments| moments.preconditioner()).transpose()?;
        let mut rows = measure(&objective, &theta, track, preconditioner.as_ref(), observer)?;
        rows.extend(threshold.map(stability::tracked));
        for mut row in rows {
            (row.epoch, row.step) = (epoch, self.state.steps);
            self.state.tracked.push(row);
        }
        Ok(())
    }
}

fn message(epoch: usize, epochs: usize, sums: &Sums) -> String {
    let mut message = format!("epoch {epoch}/{epochs} loss {:.4}", sums.loss / sums.rows);
    let accuracy = sums.accuracy / sums.rows;
    if accuracy.is_finite() {
        message += &format!(" acc {:.1} %", 100.0 * accuracy);
    }
    message
}
