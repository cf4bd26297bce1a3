//! How the learning rate changes over a run.

use std::f64::consts::PI;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::{OptimError, SettingError};

/// The curves by name.
const CURVES: [&str; 4] = ["constant", "multi_step", "cosine", "cyclical"];

/// A factor on the learning rate in each step: a curve after an optional linear warm-up.
///
/// As text: `constant`, `multi_step:30-60,gamma=0.1`, `cosine` or `cyclical:cycles=4,exploration=0.9`, each with
/// `warmup=2` for a warm-up over two epochs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Schedule {
    /// The curve after the warm-up.
    pub curve: Curve,
    /// Epochs of the warm-up (Goyal et al. 2017): the factor is `(s + 1)/S` in step `s` of its `S` steps.
    pub warmup_epochs: usize,
}

/// The curve of a schedule; steps `s` of `S` count from the end of the warm-up, epochs from the start of the run.
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
        /// Share of each cycle that explores: without Langevin noise, and without samples. What follows samples.
        #[serde(default, skip_serializing_if = "is_zero")]
        exploration: f64,
    },
}

fn is_zero(share: &f64) -> bool {
    *share == 0.0
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
    /// The warm-up is above 0 in its first step and reaches 1 in its last; a cosine is still above 0 in its last step
    /// and would be 0 in the next.
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
            Curve::Cyclical { cycles, .. } => {
                let period = rest.div_ceil((*cycles).max(1));
                cosine(after % period, period)
            }
        }
    }

    /// Cycles of a cyclical schedule; 0 for other curves.
    pub fn num_cycles(&self) -> usize {
        if let Curve::Cyclical { cycles, .. } = self.curve { cycles } else { 0 }
    }

    /// The stages of the cycles that sample, each by its first step and the one after its last; none for other curves.
    pub fn sampling(&self, steps_per_epoch: usize, epochs: usize) -> Vec<Range<usize>> {
        let Curve::Cyclical { cycles, exploration } = self.curve else { return Vec::new() };
        let (start, end) = (self.warmup_epochs * steps_per_epoch, epochs * steps_per_epoch);
        let period = end.saturating_sub(start).div_ceil(cycles.max(1)).max(1);
        let explored = (exploration * period as f64).round() as usize;
        let stage = |first: usize| (first + explored).min(end)..(first + period).min(end);
        (start..end).step_by(period).map(stage).collect()
    }

    /// Whether the step belongs to a cycle's exploration, which has no noise.
    pub fn explores(&self, step: usize, steps_per_epoch: usize, epochs: usize) -> bool {
        let Curve::Cyclical { exploration, .. } = self.curve else { return false };
        exploration > 0.0 && !self.sampling(steps_per_epoch, epochs).iter().any(|stage| stage.contains(&step))
    }

    /// Numbers of steps done at which samples are taken: `count` in each stage, evenly, the last at its end.
    ///
    /// # Errors
    /// [`SettingError`] where a stage has fewer steps, or there is none.
    pub fn sample_steps(
        &self,
        count: usize,
        steps_per_epoch: usize,
        epochs: usize,
    ) -> Result<Vec<usize>, SettingError> {
        let stages = self.sampling(steps_per_epoch, epochs);
        let unless = |usable: bool, expected| SettingError::unless(usable, "samples_per_cycle", count as f64, expected);
        unless(matches!(self.curve, Curve::Cyclical { .. }), "left out unless the schedule is cyclical")?;
        let most = stages.iter().map(|stage| stage.len()).min().unwrap_or(0);
        unless(epochs == 0 || count <= most, "at most the number of steps of the sampling stage of every cycle")?;
        let of_stage = |stage: Range<usize>| (1..=count).map(move |sample| stage.start + sample * stage.len() / count);
        Ok(stages.into_iter().flat_map(of_stage).collect())
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
            Curve::Cyclical { cycles, exploration } => {
                let share = (0.0..1.0).contains(&exploration);
                SettingError::unless(share, "exploration", exploration, "at least 0 and below 1")?;
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
            "cyclical" => Curve::Cyclical { cycles: 0, exploration: 0.0 },
            _ => return Err(bad()),
        };
        let mut warmup_epochs = 0;
        for argument in arguments.split(',').filter(|argument| !argument.is_empty()) {
            match (&mut curve, argument.split_once('=')) {
                (_, Some(("warmup", value))) => warmup_epochs = value.parse().map_err(|_| bad())?,
                (Curve::MultiStep { gamma, .. }, Some(("gamma", value))) => {
                    *gamma = value.parse().map_err(|_| bad())?
                }
                (Curve::Cyclical { cycles, .. }, Some(("cycles", value))) => {
                    *cycles = value.parse().map_err(|_| bad())?
                }
                (Curve::Cyclical { exploration, .. }, Some(("exploration", value))) => {
                    *exploration = value.parse().map_err(|_| bad())?
                }
                (Curve::MultiStep { milestones, .. }, None) => {
                    *milestones = argument.split('-').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
                }
                _ => return Err(bad()),
            }
        }
        match &curve {
            Curve::MultiStep { milestones, .. } if milestones.is_empty() => Err(bad()),
            Curve::Cyclical { cycles: 0, .. } => Err(bad()),
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

    /// 20 steps in 2 cycles of 10, of which 6 explore: 4 sample, 2 samples after the second and the fourth of them.
    #[test]
    fn cycles_explore_and_then_sample() {
        let schedule = parse("cyclical:cycles=2,exploration=0.6");
        assert_eq!(schedule.sampling(5, 4), [6..10, 16..20]);
        let explores: Vec<usize> = (0..20).filter(|step| schedule.explores(*step, 5, 4)).collect();
        assert_eq!(explores, (0..6).chain(10..16).collect::<Vec<_>>());
        assert_eq!(schedule.sample_steps(2, 5, 4).unwrap(), [8, 10, 18, 20]);
        assert_eq!(schedule.sample_steps(3, 5, 4).unwrap(), [7, 8, 10, 17, 18, 20]);
        assert!(schedule.sample_steps(5, 5, 4).unwrap_err().to_string().contains("`samples_per_cycle` is 5"));
        assert!(parse("cosine").sample_steps(1, 5, 4).unwrap_err().to_string().contains("unless the schedule is"));
        // After a warm-up of one epoch; the last of 4 cycles of ⌈15/4⌉ steps is shorter.
        let warm = parse("cyclical:cycles=4,exploration=0.5,warmup=1");
        assert_eq!(warm.sampling(5, 4), [7..9, 11..13, 15..17, 19..20]);
        assert!(!parse("cyclical:cycles=2").explores(0, 5, 4));
        assert!(
            parse("cyclical:cycles=2,exploration=1").check(4).unwrap_err().to_string().contains("`exploration` is 1")
        );
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
            "cosine:exploration=0.5",
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains(text) && error.hint().contains("multi_step:30-60"), "{error}");
        }
        let multi = Curve::MultiStep { milestones: vec![30, 60], gamma: 0.1 };
        assert_eq!(parse("multi_step:30-60"), multi.into());
        for text in [
            "constant",
            "constant:warmup=3",
            "multi_step:30-60",
            "cosine:warmup=3",
            "cyclical:cycles=4",
            "cyclical:cycles=4,exploration=0.5",
        ] {
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
