//! Loss and accuracy at many points of a frame, in parallel over the points.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};
use rand::seq::SliceRandom;
use serde::Serialize;

use super::directions::slope;
use super::frame::{Buffers, DirectionFacts, Frame};
use crate::objective::{Evaluation, Objective};
use crate::program::Network;
use crate::program::ProgramError;
use crate::random::{Purpose, stream};
use crate::team::team;
use crate::{Error, Observer, Result, Step};

/// Statistics of batch normalisation at the points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistics {
    /// The stored ones: fixed, and between minima interpolated like the parameters
    #[default]
    Eval,
    /// Estimated anew at each point from the chosen rows
    Reestimate,
}

/// Where finished points are kept, so that a killed run can go on. `()` keeps nothing.
pub trait PointStore: Send {
    /// What an earlier run left, in order of the points.
    ///
    /// # Errors
    /// Points of other inputs, or a damaged file.
    fn load(&mut self) -> Result<Vec<Evaluation>> {
        Ok(Vec::new())
    }

    /// After each point, with all finished ones; `last` where the run ends here.
    fn keep(&mut self, _finished: &[Evaluation], _last: bool) {}
}

impl PointStore for () {}

/// Who follows the evaluation of points.
pub struct Watch<'a> {
    /// Keeps what is finished.
    pub store: &'a mut dyn PointStore,
    /// Hears of each point.
    pub observer: &'a mut dyn Observer,
}

/// The evaluation of a point where the loss is not finite.
pub(crate) const LOST: Evaluation =
    Evaluation { loss: f64::INFINITY, loss_std_err: f64::NAN, accuracy: f64::NAN, accuracy_std_err: f64::NAN };

/// Rows of a batch that statistics are estimated from, at most.
const BATCH: usize = 256;

/// Micro-batches from which on a point is long: some seconds for a large network.
const LONG: usize = 2_000;

/// The word of the progress bar.
const TASK: &str = "loss slices";

/// A loss surface: a frame, and how the loss is found at its points.
pub struct Surface<'a> {
    objective: &'a Objective<'a>,
    frame: &'a Frame,
    /// Batches of rows for new statistics; empty: the stored ones.
    batches: Vec<Vec<usize>>,
}

impl<'a> Surface<'a> {
    /// Batches for new statistics are even pieces of at most 256 rows in one random order.
    pub fn new(objective: &'a Objective<'a>, frame: &'a Frame, statistics: Statistics) -> Self {
        let mut batches = Vec::new();
        if statistics == Statistics::Reestimate && objective.network().program().has_batch_norm() {
            let mut rows: Vec<usize> = (0..objective.num_rows()).collect();
            // Rows may be sorted by class, and so would be the batches.
            rows.shuffle(&mut stream(0, Purpose::LandscapeStatistics));
            let size = rows.len().div_ceil(rows.len().div_ceil(BATCH)).max(1);
            batches = rows.chunks(size).map(<[usize]>::to_vec).collect();
        }
        Self { objective, frame, batches }
    }

    /// Mean loss and accuracy at each of `points`: those that the store has, then the others.
    ///
    /// Each worker takes a point of its own through all rows; where a point is long, all share its rows, so that an
    /// interruption need not wait for it. A point is the same computation either way and whoever does it, so the numbers
    /// do not depend on the number of threads.
    ///
    /// A loss that overflows is infinite there. Cost: a forward pass over the rows for each point; two where
    /// statistics are estimated anew.
    ///
    /// # Errors
    /// A store of other inputs; an interruption, after the store has got what is finished.
    pub fn evaluate(&self, points: &[(f64, f64)], mut watch: Watch<'_>) -> Result<Vec<Evaluation>> {
        let mut finished = watch.store.load()?;
        finished.truncate(points.len());
        let workers = self.objective.point_workers();
        let left = points.len() - finished.len();
        let parts = self.objective.num_rows().div_ceil(self.objective.micro_batch(0));
        // Ranks share the rows of a point.
        let outcome = if left < workers || parts > LONG || team().size() > 1 {
            self.by_rows(points, &mut finished, &mut watch)
        } else {
            self.by_points(points, &mut finished, &mut watch)
        };
        watch.store.keep(&finished, true);
        outcome.map(|()| finished)
    }

    /// Fills in the slope of the loss at the origin along each axis with an eigenvalue, with the statistics stored there.
    /// Cost: a gradient, if there is such an axis.
    ///
    /// # Errors
    /// A loss that is not finite; an interruption.
    pub(super) fn slopes(&self, facts: &mut [DirectionFacts], observer: &mut dyn Observer) -> Result<()> {
        if facts.iter().all(|facts| facts.eigenvalue.is_nan()) {
            return Ok(());
        }
        let origin = self.objective.place(&self.frame.theta((0.0, 0.0))?)?;
        let gradient = self.objective.gradient(&origin, observer)?.gradient;
        for (facts, axis) in facts.iter_mut().zip(&self.frame.axes).filter(|(facts, _)| !facts.eigenvalue.is_nan()) {
            facts.slope = slope(&gradient, axis)?;
        }
        Ok(())
    }

    fn by_points(
        &self,
        points: &[(f64, f64)],
        finished: &mut Vec<Evaluation>,
        Watch { store, observer }: &mut Watch<'_>,
    ) -> Result<()> {
        let start = finished.len();
        let points = points.get(start..).unwrap_or_default();
        let work = |index: usize| self.at(points[index], &mut ());
        let commit = |_: usize, evaluation: Evaluation| {
            finished.push(evaluation);
            store.keep(finished, false);
            Ok(())
        };
        let mut progress = Progress { observer: *observer, start, total: start + points.len() };
        self.objective.workers.in_order(points.len(), self.objective.point_workers(), work, commit, &mut progress)
    }

    fn by_rows(
        &self,
        points: &[(f64, f64)],
        finished: &mut Vec<Evaluation>,
        Watch { store, observer }: &mut Watch<'_>,
    ) -> Result<()> {
        for (index, point) in points.iter().enumerate().skip(finished.len()) {
            finished.push(self.at(*point, *observer)?);
            store.keep(finished, false);
            let step = Step { task: TASK, done: index + 1, total: points.len(), message: String::new() };
            if observer.on_step(&step).is_break() {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }

    /// At one point.
    fn at(&self, point: (f64, f64), observer: &mut dyn Observer) -> Result<Evaluation> {
        let objective = self.objective;
        let network = self.network(objective, point)?;
        let theta = objective.place(&self.frame.theta(point)?)?;
        let lost = |error: &Error| matches!(error, Error::Program(ProgramError::NonFinite { .. }));
        let evaluated = match network {
            Some(network) => self.with_statistics(objective, &network, &theta, observer),
            None => self.with_statistics(objective, objective.network(), &theta, observer),
        };
        match evaluated {
            Err(error) if lost(&error) => Ok(LOST),
            other => other,
        }
    }

    fn with_statistics(
        &self,
        objective: &Objective<'_>,
        network: &Network,
        theta: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation> {
        let objective = objective.on(network);
        if self.batches.is_empty() {
            return objective.evaluate(theta, observer);
        }
        let network = network.with_buffers(self.reestimated(&objective, theta)?)?;
        objective.on(&network).evaluate(theta, observer)
    }

    /// The network with the running statistics of `point`; `None` where they do not change.
    fn network(&self, objective: &Objective<'_>, point: (f64, f64)) -> Result<Option<Network>> {
        let network = objective.network();
        let fixed = self.frame.buffer_axes.iter().all(Buffers::is_empty) || !self.batches.is_empty();
        if fixed {
            return Ok(None);
        }
        let buffers = self.frame.buffers(network.buffers(), point)?;
        Ok(Some(network.with_buffers(buffers)?))
    }

    /// Means of the batch means and unbiased batch variances, weighted by rows, as `train` re-estimates them, but without
    /// augmentation.
    fn reestimated(&self, objective: &Objective<'_>, theta: &Tensor) -> Result<Buffers> {
        let count = objective.num_rows() as f64;
        let mut sums = Buffers::new();
        for rows in &self.batches {
            let weight = rows.len() as f64 / count;
            for layer in objective.batch_statistics(theta, &objective.batch(rows)?)? {
                for (name, values) in [(layer.running_mean, layer.mean), (layer.running_var, layer.var)] {
                    let part = (values.to_dtype(DType::F64)? * weight)?;
                    let sum = match sums.remove(&name) {
                        None => part,
                        Some(sum) => (sum + part)?,
                    };
                    sums.insert(name, sum);
                }
            }
        }
        Ok(sums)
    }

    /// Weights of all rows, as [`Objective::row_weights`].
    ///
    /// # Errors
    /// As there.
    pub fn row_weights(&self) -> Result<Vec<f64>> {
        self.objective.row_weights()
    }

    /// Losses of all rows at `point`, as [`Objective::row_losses`]. Cost: as of a point.
    ///
    /// # Errors
    /// A tensor operation that fails; an interruption.
    pub fn row_losses(&self, point: (f64, f64), observer: &mut dyn Observer) -> Result<Vec<f64>> {
        let theta = self.objective.place(&self.frame.theta(point)?)?;
        let network = self.network(self.objective, point)?;
        let network = network.as_ref().unwrap_or(self.objective.network());
        let objective = self.objective.on(network);
        if self.batches.is_empty() {
            return objective.row_losses(&theta, observer);
        }
        let network = network.with_buffers(self.reestimated(&objective, &theta)?)?;
        objective.on(&network).row_losses(&theta, observer)
    }
}

/// Tells an observer of points where the workers tell of their work.
struct Progress<'a> {
    observer: &'a mut dyn Observer,
    start: usize,
    total: usize,
}

impl Observer for Progress<'_> {
    fn on_step(&mut self, step: &Step) -> ControlFlow<()> {
        let done = self.start + step.done;
        self.observer.on_step(&Step { task: TASK, done, total: self.total, message: String::new() })
    }
}
