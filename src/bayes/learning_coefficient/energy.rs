//! What chains move on: the loss near a minimum.

use candle_core::{DType, Device, Tensor};
use rand::seq::SliceRandom;

use crate::objective::Objective;
use crate::plan::PlanError;
use crate::program::{Mode, ProgramError};
use crate::random::{Purpose, substream};
use crate::{Error, Observer, Result};

/// A mean loss near a minimum `w*`, as chains see it.
pub trait Energy: Sync {
    /// `w*`, `[d]`.
    fn minimum(&self) -> &[f64];

    /// Loss and gradient at `place`, `[d]`, on the rows of draw `index`; `None` where the loss leaves the finite numbers.
    ///
    /// # Errors
    /// What keeps the loss from being computed.
    fn rise(&self, place: &[f64], index: u64) -> Result<Option<Rise>>;
}

/// A loss beside that of the minimum on the same rows `B`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rise {
    /// `L_B(w) − L_B(w*)`.
    pub loss: f64,
    /// `∇L_B(w)`, `[d]`.
    pub gradient: Vec<f64>,
}

impl Rise {
    /// Whether a step may follow: an infinite slope leads nowhere.
    pub(super) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient.iter().all(|slope| slope.is_finite())
    }
}

/// The mean loss of an objective, on all of its rows or on random ones.
pub struct LossEnergy<'a> {
    objective: &'a Objective<'a>,
    minimum: Vec<f64>,
    seen: Seen,
    /// The L2 term at `w*`, where the objective has one.
    decay: f64,
}

/// Rows of a draw, and what is known of the loss at `w*` on them.
enum Seen {
    /// All, with their mean loss, L2 term included.
    All(f64),
    /// Random ones, without repetition within a draw; losses and weights of all rows.
    Some { count: usize, seed: u64, losses: Vec<f64>, weights: Vec<f64> },
}

impl<'a> LossEnergy<'a> {
    /// The loss of `objective` around `theta`, `[d]`; each draw sees `batch` random rows, or all. Cost: one pass over the rows.
    ///
    /// # Errors
    /// A loss that is not finite at `theta`; [`PlanError::Option`] for minibatches of rows that are coupled; an interruption.
    pub fn new(
        objective: &'a Objective<'a>,
        theta: &Tensor,
        batch: Option<usize>,
        seed: u64,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let theta = theta.to_dtype(DType::F64)?.to_device(&Device::Cpu)?;
        let placed = objective.place(&theta)?;
        let minimum = theta.to_vec1::<f64>()?;
        // Also refuses a loss that is not finite.
        let evaluation = objective.evaluate(&placed, observer)?;
        let decay = 0.5 * objective.options().weight_decay * minimum.iter().map(|w| w * w).sum::<f64>();
        let seen = match batch.filter(|count| *count < objective.num_rows()) {
            None => Seen::All(evaluation.loss),
            Some(count) if objective.couples_rows() => {
                let reason = "the loss of a row depends on the others here: leave it out, or choose --batch-norm eval";
                return Err(PlanError::option("--batch", count, reason).into());
            }
            Some(count) => Seen::Some {
                count,
                seed,
                losses: objective.row_losses(&placed, observer)?,
                weights: objective.row_weights()?,
            },
        };
        Ok(Self { objective, minimum, seen, decay })
    }

    /// Rows of each draw.
    pub fn batch_size(&self) -> usize {
        match self.seen {
            Seen::All(_) => self.objective.num_rows(),
            Seen::Some { count, .. } => count,
        }
    }
}

impl Energy for LossEnergy<'_> {
    fn minimum(&self) -> &[f64] {
        &self.minimum
    }

    fn rise(&self, place: &[f64], index: u64) -> Result<Option<Rise>> {
        let theta = self.objective.place(&Tensor::new(place, &Device::Cpu)?)?;
        let (report, base) = match &self.seen {
            Seen::All(base) => (self.objective.gradient(&theta, &mut ()), *base),
            Seen::Some { count, seed, losses, weights } => {
                let mut rng = substream(*seed, Purpose::LearningCoefficientRows, index);
                let mut rows: Vec<usize> = (0..losses.len()).collect();
                let rows = rows.partial_shuffle(&mut rng, *count).0;
                let mean = |values: &[f64]| rows.iter().map(|row| values[*row]).sum::<f64>();
                let base = mean(losses) / mean(weights) + self.decay;
                (self.objective.training_gradient(&theta, &self.objective.batch(rows)?, Mode::Eval), base)
            }
        };
        match report {
            Err(Error::Program(ProgramError::NonFinite { .. })) => Ok(None),
            Err(error) => Err(error),
            Ok(report) => {
                let gradient = report.gradient.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?;
                Ok(Some(Rise { loss: report.evaluation.loss - base, gradient }))
            }
        }
    }
}
