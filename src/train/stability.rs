//! Where the curvature of a run stands to the largest at which its steps are stable.

use super::{TrackedRow, TrainOutcome};
use crate::optim::Threshold;
use crate::plan::TrainConfig;
use crate::report::figures::TrackedCurve;
use crate::vocabulary::{Curvature, Method, Quantity};

/// Places along the run at which the threshold is drawn, about.
const POINTS: usize = 240;

impl TrainConfig {
    /// The learning rate of step `step` (from 0) on `rows` rows.
    pub(super) fn rate(&self, step: usize, rows: usize) -> f64 {
        self.learning_rate * self.schedule.factor(step, self.steps_per_epoch(rows), self.epochs)
    }

    pub(super) fn steps_per_epoch(&self, rows: usize) -> usize {
        rows.div_ceil(self.batch_size)
    }

    /// The largest curvature at which steps of this length settle on a quadratic; `None` where none is known, and where
    /// some parameters stay fixed, since the tracked curvature is that of all.
    pub(super) fn threshold(&self, learning_rate: f64) -> Option<Threshold> {
        self.optimizer.threshold(learning_rate, self.weight_decay).filter(|_| self.train_only.is_empty())
    }
}

/// The matrix that a threshold is for.
fn matrix(threshold: Threshold) -> Curvature {
    match threshold {
        Threshold::Hessian(_) => Curvature::Hessian,
        Threshold::Preconditioned(_) => Curvature::PreconditionedHessian,
    }
}

/// A threshold among the tracked numbers, epoch and step not yet filled in.
pub(super) fn tracked(threshold: Threshold) -> TrackedRow {
    TrackedRow {
        epoch: 0,
        step: 0,
        operator: matrix(threshold),
        quantity: Quantity::StabilityThreshold,
        method: Method::Exact,
        converged: true,
        num_matvecs: 0,
        value: threshold.value(),
        std_err_numeric: f64::NAN,
        std_err_data: f64::NAN,
    }
}

impl TrainOutcome {
    /// The threshold over the steps that were made, as the learning rate went.
    pub(super) fn threshold_curve(&self) -> Option<TrackedCurve> {
        let (config, per_epoch) = (&self.config, self.config.steps_per_epoch(self.num_rows));
        let row = self.tracked.iter().find(|row| row.quantity == Quantity::StabilityThreshold)?;
        let steps = self.epochs.len() * per_epoch;
        let places = (1..steps).step_by(steps.div_ceil(POINTS).max(1)).chain([steps]);
        // Where a step ends; the first also where it begins.
        let point = |place: usize| {
            let threshold = config.threshold(config.rate(place.saturating_sub(1), self.num_rows))?;
            Some((place as f64 / per_epoch as f64, threshold.value(), f64::NAN))
        };
        let points = [0].into_iter().chain(places.filter(|place| *place > 0)).filter_map(point).collect();
        Some(TrackedCurve { operator: row.operator, quantity: row.quantity.clone(), points })
    }

    /// How the tracked `λ₁` stood to its threshold, in a line; `None` where there is none.
    pub fn stability(&self) -> Option<String> {
        let thresholds = self.tracked.iter().filter(|row| row.quantity == Quantity::StabilityThreshold);
        let stands = |threshold: &TrackedRow| {
            let is_its_own = |row: &&TrackedRow| {
                row.quantity == Quantity::LambdaMax && row.operator == threshold.operator && row.step == threshold.step
            };
            let largest = self.tracked.iter().find(is_its_own).filter(|_| threshold.value > 0.0)?;
            Some(Standing { row: largest.clone(), threshold: threshold.value })
        };
        let all: Vec<Standing> = thresholds.filter_map(stands).collect();
        let (last, highest) = (all.last()?, all.iter().max_by(|a, b| a.share().total_cmp(&b.share()))?);
        let above = all.iter().filter(|standing| standing.share() > 1.0).count();
        Some(format!(
            "stability: λ₁ of the {} was at most {} times its threshold ({}, epoch {}) and is {} times at the end ({}); above it \
             at {above} of {} measurements",
            last.row.operator.title(),
            short(highest.share()),
            highest.words(),
            highest.row.epoch,
            short(last.share()),
            last.words(),
            all.len()
        ))
    }
}

/// An eigenvalue and the threshold at the same step.
struct Standing {
    row: TrackedRow,
    threshold: f64,
}

impl Standing {
    fn share(&self) -> f64 {
        self.row.value / self.threshold
    }

    fn words(&self) -> String {
        format!("{} of {}", short(self.row.value), short(self.threshold))
    }
}

/// With three digits, or all before the point.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [(3178.6838, "3179"), (0.0946, "0.0946"), (37.999, "38.0"), (0.0, "0"), (-0.5, "-0.500")] {
            assert_eq!(short(value), text);
        }
        assert_eq!(short(f64::INFINITY), "inf");
    }
}
