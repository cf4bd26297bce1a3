//! How the learning rate changes over a run.

use std::f64::consts::PI;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::train::TrainError;

/// The schedules by name.
const SCHEDULES: [&str; 3] = ["constant", "multi_step", "cosine"];

/// A factor on the learning rate, as a function of the epochs `t` done before the step (a fraction within an epoch).
///
/// As text: `constant`, `multi_step:30-60,gamma=0.1`, `cosine` or `cosine:warmup=2`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// 1 throughout.
    #[default]
    Constant,
    /// `gamma^k` after `k` of the milestones.
    MultiStep {
        /// Epochs after which the learning rate changes.
        milestones: Vec<usize>,
        /// Factor at each milestone.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// `(1 + cos(π (t − w)/(E − w)))/2` over `E` epochs, after a linear rise over the first `w`.
    Cosine {
        /// `w`.
        #[serde(default)]
        warmup_epochs: usize,
    },
}

fn tenth() -> f64 {
    0.1
}

impl Schedule {
    /// The factor in step `step` (from 0) of a run of `epochs` epochs of `steps_per_epoch` steps.
    ///
    /// The rise reaches 1 in the last step of the warm-up and is above 0 in the first; the cosine is still above 0 in
    /// the last step, and would be 0 in the one after it.
    pub fn factor(&self, step: usize, steps_per_epoch: usize, epochs: usize) -> f64 {
        let epoch = step / steps_per_epoch;
        match self {
            Self::Constant => 1.0,
            Self::MultiStep { milestones, gamma } => {
                gamma.powi(milestones.iter().filter(|&&milestone| milestone <= epoch).count() as i32)
            }
            Self::Cosine { warmup_epochs } => {
                let warmup = warmup_epochs * steps_per_epoch;
                if step < warmup {
                    return (step + 1) as f64 / warmup as f64;
                }
                let rest = (epochs * steps_per_epoch - warmup).max(1);
                0.5 * (1.0 + (PI * (step - warmup) as f64 / rest as f64).cos())
            }
        }
    }

    /// Checks the settings against the number of epochs.
    ///
    /// # Errors
    /// [`TrainError::Setting`].
    pub fn check(&self, epochs: usize) -> Result<(), TrainError> {
        match self {
            Self::Constant => Ok(()),
            Self::MultiStep { gamma, .. } => {
                TrainError::unless(*gamma > 0.0 && gamma.is_finite(), "gamma", *gamma, "a number above 0")
            }
            Self::Cosine { warmup_epochs } => {
                let fits = *warmup_epochs == 0 || *warmup_epochs < epochs;
                TrainError::unless(fits, "warmup_epochs", *warmup_epochs as f64, "less than the number of epochs")
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        let (kind, arguments) = text.split_once(':').unwrap_or((text, ""));
        let bad = || TrainError::Schedule { text: text.into(), nearest: crate::nearest(kind, SCHEDULES) };
        let mut schedule = match kind {
            "constant" => Self::Constant,
            "multi_step" => Self::MultiStep { milestones: Vec::new(), gamma: tenth() },
            "cosine" => Self::Cosine { warmup_epochs: 0 },
            _ => return Err(bad()),
        };
        for argument in arguments.split(',').filter(|argument| !argument.is_empty()) {
            match (&mut schedule, argument.split_once('=')) {
                (Self::MultiStep { gamma, .. }, Some(("gamma", value))) => *gamma = value.parse().map_err(|_| bad())?,
                (Self::MultiStep { milestones, .. }, None) => {
                    *milestones = argument.split('-').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
                }
                (Self::Cosine { warmup_epochs }, Some(("warmup", value))) => {
                    *warmup_epochs = value.parse().map_err(|_| bad())?;
                }
                _ => return Err(bad()),
            }
        }
        match schedule {
            Self::MultiStep { ref milestones, .. } if milestones.is_empty() => Err(bad()),
            schedule => Ok(schedule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milestones_are_counted_in_epochs() {
        let schedule: Schedule = "multi_step:2-4,gamma=0.5".parse().unwrap();
        let factors: Vec<f64> = (0..18).step_by(3).map(|step| schedule.factor(step, 3, 6)).collect();
        assert_eq!(factors, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
        // The last step of an epoch still has its epoch's rate.
        assert_eq!((schedule.factor(5, 3, 6), schedule.factor(6, 3, 6)), (1.0, 0.5));
        assert_eq!(Schedule::Constant.factor(17, 3, 6), 1.0);
    }

    #[test]
    fn cosine_rises_then_falls_to_zero() {
        let plain: Schedule = "cosine".parse().unwrap();
        assert_eq!((plain.factor(0, 5, 4), plain.factor(10, 5, 4)), (1.0, 0.5));
        assert!((plain.factor(15, 5, 4) - 0.5 * (1.0 - 0.5f64.sqrt())).abs() < 1e-15);
        assert!(plain.factor(19, 5, 4) > 0.0 && plain.factor(20, 5, 4) == 0.0);
        let warm: Schedule = "cosine:warmup=2".parse().unwrap();
        let rise: Vec<f64> = (0..4).map(|step| warm.factor(step, 2, 6)).collect();
        assert_eq!(rise, [0.25, 0.5, 0.75, 1.0]);
        assert_eq!((warm.factor(4, 2, 6), warm.factor(8, 2, 6)), (1.0, 0.5));
        assert!(warm.check(2).is_err() && warm.check(3).is_ok() && plain.check(0).is_ok());
    }

    #[test]
    fn text_and_json_forms_are_checked() {
        for text in ["cosinus", "multi_step", "multi_step:a", "cosine:warmup=x", "constant:1", "cosine:3"] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains(text) && error.hint().unwrap().contains("multi_step:30-60"), "{error}");
        }
        let multi: Schedule = "multi_step:30-60".parse().unwrap();
        assert_eq!(multi, Schedule::MultiStep { milestones: vec![30, 60], gamma: 0.1 });
        for schedule in [Schedule::Constant, multi, Schedule::Cosine { warmup_epochs: 3 }] {
            let json = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule, "{json}");
        }
    }
}
