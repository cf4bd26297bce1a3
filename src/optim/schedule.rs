//! How the learning rate changes over a run.

use std::f64::consts::PI;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::{OptimError, SettingError};

/// The curves by name.
const CURVES: [&str; 4] = ["constant", "multi_step", "cosine", "cyclical"];

/// A factor on the learning rate, step by step: a curve after an optional linear rise.
///
/// As text: `constant`, `multi_step:30-60,gamma=0.1`, `cosine` or `cyclical:cycles=4`, each with `warmup=2` for a rise
/// over two epochs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Schedule {
    /// Its form after the rise.
    pub curve: Curve,
    /// Epochs `w` of the rise (Goyal et al. 2017): a factor `(s + 1)/S` in step `s` of its `S` steps.
    pub warmup_epochs: usize,
}

/// The form of a schedule; steps `s` of `S` count from the end of the warm-up, epochs from the start of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Curve {
    /// 1 throughout.
    Constant {},
    /// `gamma^k` after `k` of the milestones, those within the warm-up included.
    MultiStep {
        /// Epochs after which the learning rate changes.
        milestones: Vec<usize>,
        /// Factor at each milestone.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// `(1 + cos(π s/S))/2` (Loshchilov and Hutter 2017, without restarts).
    Cosine {},
    /// `(1 + cos(π (s mod P)/P))/2`, `P = ⌈S/M⌉`: `M` cosines one after another, each from the full learning rate, so
    /// that a sampler leaves one mode for the next (Zhang et al. 2020).
    Cyclical {
        /// `M`.
        cycles: usize,
    },
}

fn tenth() -> f64 {
    0.1
}

impl Default for Curve {
    fn default() -> Self {
        Self::Constant {}
    }
}

impl From<Curve> for Schedule {
    fn from(curve: Curve) -> Self {
        Self { curve, warmup_epochs: 0 }
    }
}

impl Schedule {
    /// 1 throughout.
    pub fn constant() -> Self {
        Curve::Constant {}.into()
    }

    /// From 1 to 0 along a cosine.
    pub fn cosine() -> Self {
        Curve::Cosine {}.into()
    }

    /// The factor in step `step` (from 0) of a run of `epochs` epochs of `steps_per_epoch` steps.
    ///
    /// The rise reaches 1 in the last step of the warm-up and is above 0 in the first; a cosine is still above 0 in its
    /// last step, and would be 0 in the one after it.
    pub fn factor(&self, step: usize, steps_per_epoch: usize, epochs: usize) -> f64 {
        let warmup = self.warmup_epochs * steps_per_epoch;
        let rise = if step < warmup { (step + 1) as f64 / warmup as f64 } else { 1.0 };
        let (after, rest) = (step.saturating_sub(warmup), (epochs * steps_per_epoch).saturating_sub(warmup).max(1));
        let cosine = |step: usize, steps: usize| 0.5 * (1.0 + (PI * step as f64 / steps as f64).cos());
        rise * match &self.curve {
            Curve::Constant {} => 1.0,
            Curve::MultiStep { milestones, gamma } => {
                let epoch = step / steps_per_epoch.max(1);
                gamma.powi(milestones.iter().filter(|&&milestone| milestone <= epoch).count() as i32)
            }
            Curve::Cosine {} => cosine(after, rest),
            Curve::Cyclical { cycles } => {
                let period = rest.div_ceil((*cycles).max(1));
                cosine(after % period, period)
            }
        }
    }

    /// Checks the settings against the number of epochs.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn check(&self, epochs: usize) -> Result<(), SettingError> {
        let warmup = self.warmup_epochs;
        let fits = warmup == 0 || warmup < epochs;
        SettingError::unless(fits, "warmup_epochs", warmup as f64, "less than the number of epochs")?;
        match self.curve {
            Curve::Constant {} | Curve::Cosine {} => Ok(()),
            Curve::MultiStep { gamma, .. } => {
                SettingError::unless(gamma > 0.0 && gamma.is_finite(), "gamma", gamma, "a number above 0")
            }
            Curve::Cyclical { cycles } => {
                let fits = cycles > 0 && (epochs == 0 || cycles <= epochs - warmup);
                let expected = "1 or more, and at most the number of epochs after the warm-up";
                SettingError::unless(fits, "cycles", cycles as f64, expected)
            }
        }
    }
}

impl TryFrom<Fields> for Schedule {
    type Error = String;

    fn try_from(mut fields: Fields) -> Result<Self, String> {
        let warmup_epochs = fields.take_or("warmup_epochs", 0)?;
        let schedule = Self { curve: fields.rest()?, warmup_epochs };
        Ok(schedule)
    }
}

impl From<Schedule> for Fields {
    fn from(schedule: Schedule) -> Self {
        Self::default().with_all(&schedule.curve).with("warmup_epochs", schedule.warmup_epochs)
    }
}

impl FromStr for Schedule {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let (kind, arguments) = text.split_once(':').unwrap_or((text, ""));
        let bad = || OptimError::Schedule {
            text: text.into(),
            nearest: crate::nearest(kind, CURVES).filter(|nearest| nearest != kind),
        };
        let mut curve = match kind {
            "constant" => Curve::Constant {},
            "multi_step" => Curve::MultiStep { milestones: Vec::new(), gamma: tenth() },
            "cosine" => Curve::Cosine {},
            "cyclical" => Curve::Cyclical { cycles: 0 },
            _ => return Err(bad()),
        };
        let mut warmup_epochs = 0;
        for argument in arguments.split(',').filter(|argument| !argument.is_empty()) {
            match (&mut curve, argument.split_once('=')) {
                (_, Some(("warmup", value))) => warmup_epochs = value.parse().map_err(|_| bad())?,
                (Curve::MultiStep { gamma, .. }, Some(("gamma", value))) => {
                    *gamma = value.parse().map_err(|_| bad())?
                }
                (Curve::Cyclical { cycles }, Some(("cycles", value))) => *cycles = value.parse().map_err(|_| bad())?,
                (Curve::MultiStep { milestones, .. }, None) => {
                    *milestones = argument.split('-').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
                }
                _ => return Err(bad()),
            }
        }
        match &curve {
            Curve::MultiStep { milestones, .. } if milestones.is_empty() => Err(bad()),
            Curve::Cyclical { cycles: 0 } => Err(bad()),
            _ => Ok(Self { curve, warmup_epochs }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    #[test]
    fn milestones_are_counted_in_epochs() {
        let schedule = parse("multi_step:2-4,gamma=0.5");
        let factors: Vec<f64> = (0..18).step_by(3).map(|step| schedule.factor(step, 3, 6)).collect();
        assert_eq!(factors, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
        // The last step of an epoch still has its epoch's rate.
        assert_eq!((schedule.factor(5, 3, 6), schedule.factor(6, 3, 6)), (1.0, 0.5));
        assert_eq!(Schedule::constant().factor(17, 3, 6), 1.0);
    }

    #[test]
    fn cosine_rises_then_falls_to_zero() {
        let plain = parse("cosine");
        assert_eq!((plain.factor(0, 5, 4), plain.factor(10, 5, 4)), (1.0, 0.5));
        assert!((plain.factor(15, 5, 4) - 0.5 * (1.0 - 0.5f64.sqrt())).abs() < 1e-15);
        assert!(plain.factor(19, 5, 4) > 0.0 && plain.factor(20, 5, 4) == 0.0);
        let warm = parse("cosine:warmup=2");
        let rise: Vec<f64> = (0..4).map(|step| warm.factor(step, 2, 6)).collect();
        assert_eq!(rise, [0.25, 0.5, 0.75, 1.0]);
        assert_eq!((warm.factor(4, 2, 6), warm.factor(8, 2, 6)), (1.0, 0.5));
        assert!(warm.check(2).is_err() && warm.check(3).is_ok() && plain.check(0).is_ok());
    }

    #[test]
    fn every_curve_can_rise_first() {
        let factors =
            |text: &str, steps: usize| -> Vec<f64> { (0..steps).map(|step| parse(text).factor(step, 2, 6)).collect() };
        assert_eq!(factors("constant:warmup=2", 6), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(factors("multi_step:1-3,gamma=0.5,warmup=2", 8), [0.25, 0.5, 0.375, 0.5, 0.5, 0.5, 0.25, 0.25]);
        assert_eq!(factors("cyclical:cycles=2,warmup=2", 9)[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    /// 12 steps in 4 cycles of 3: 1, (1 + cos 60°)/2, (1 + cos 120°)/2. The last of 5 cycles of ⌈12/5⌉ = 3 is empty.
    #[test]
    fn cycles_start_from_the_full_rate() {
        for cycles in [4, 5] {
            let schedule = parse(&format!("cyclical:cycles={cycles}"));
            for step in 0..12 {
                let expected = [1.0, 0.75, 0.25][step % 3];
                assert!((schedule.factor(step, 2, 6) - expected).abs() < 1e-15, "step {step}");
            }
        }
        let one = parse("cyclical:cycles=1");
        assert!((0..12).all(|step| one.factor(step, 2, 6) == Schedule::cosine().factor(step, 2, 6)));
        for (epochs, usable) in [(0, true), (3, false), (4, true)] {
            assert_eq!(parse("cyclical:cycles=4").check(epochs).is_ok(), usable, "{epochs}");
        }
        assert!(parse("cyclical:cycles=4,warmup=2").check(5).is_err());
    }

    #[test]
    fn text_and_json_forms_are_checked() {
        for text in [
            "cosinus",
            "multi_step",
            "multi_step:a",
            "cosine:warmup=x",
            "constant:1",
            "cosine:3",
            "cyclical",
            "cyclical:cycles=0",
            "cosine:cycles=2",
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains(text) && error.hint().contains("multi_step:30-60"), "{error}");
        }
        let multi = Curve::MultiStep { milestones: vec![30, 60], gamma: 0.1 };
        assert_eq!(parse("multi_step:30-60"), multi.into());
        for text in ["constant", "constant:warmup=3", "multi_step:30-60", "cosine:warmup=3", "cyclical:cycles=4"] {
            let schedule = parse(text);
            let json = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule, "{json}");
        }
        // As version 0.1 wrote them.
        for (json, text) in [
            (r#"{"kind":"constant"}"#, "constant"),
            (r#"{"kind":"multi_step","milestones":[30,60],"gamma":0.1}"#, "multi_step:30-60"),
            (r#"{"kind":"cosine","warmup_epochs":2}"#, "cosine:warmup=2"),
        ] {
            assert_eq!(serde_json::from_str::<Schedule>(json).unwrap(), parse(text));
        }
        assert!(serde_json::from_str::<Schedule>(r#"{"kind":"cosine","cycles":2}"#).is_err());
    }
}
