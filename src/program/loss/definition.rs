//! The losses and their settings.

use serde::{Deserialize, Serialize};

use crate::data::Targets;
use crate::program::ProgramError;

/// The loss of one row; the objective is its mean, as with PyTorch's `reduction="mean"`: `Σ s_n / Σ w_n` with the sums `s_n`
/// that [`super::per_sample_loss`] gives and the weights `w_n` of [`super::row_weights`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// `−Σ_c q_c log softmax(f)_c` at each place.
    CrossEntropy(CrossEntropy),
    /// `(f − y)²`
    Mse {},
    /// `|f − y|`, slope 0 at 0.
    L1 {},
    /// `d²/2` where `|d| < δ`, else `δ (|d| − δ/2)`; `d = f − y` (Huber 1964).
    Huber {
        /// `δ`.
        #[serde(default = "one")]
        delta: f64,
    },
    /// `d²/(2β)` where `|d| < β`, else `|d| − β/2`; `d = f − y`.
    SmoothL1 {
        /// `β`; 0 makes it `|d|`.
        #[serde(default = "one")]
        beta: f64,
    },
    /// `−p y log σ(f) − (1 − y) log σ(−f)`, targets in 0..=1.
    BceWithLogits {
        /// `p`: one number, or one for each entry of the outputs' last axis; 1 where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pos_weight: Option<Vec<f64>>,
    },
    /// The loss per row that the program itself brings.
    Program {},
}

/// `−Σ_c q_c log softmax(f)_c` at each place of a row. For a class `y`, `q_c = w_c ((1 − s) [c = y] + s/C)`, and the place
/// has the weight `w_y` in the mean; for probabilities `p`, `q_c = w_c ((1 − s) p_c + s/C)` and the weight 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropy {
    /// `w`, one for each class; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Vec<f64>>,
    /// The label of a place that does not count.
    #[serde(default = "ignore_index", skip_serializing_if = "is_ignore_index")]
    pub ignore_index: i64,
    /// `s` in 0..1.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Axis of the classes in the outputs: 1 as in PyTorch, or −1, the last; found by the shapes where only one fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_axis: Option<i64>,
}

fn one() -> f64 {
    1.0
}

/// PyTorch's.
fn ignore_index() -> i64 {
    -100
}

fn is_ignore_index(label: &i64) -> bool {
    *label == ignore_index()
}

impl Loss {
    /// Cross-entropy without further settings.
    pub const fn cross_entropy() -> Self {
        Self::smoothed(0.0)
    }

    /// Cross-entropy with label smoothing.
    pub const fn smoothed(label_smoothing: f64) -> Self {
        Self::CrossEntropy(CrossEntropy { weight: None, ignore_index: -100, label_smoothing, class_axis: None })
    }

    /// Binary cross-entropy without further settings.
    pub const fn bce_with_logits() -> Self {
        Self::BceWithLogits { pos_weight: None }
    }

    /// The loss for targets of this kind where nothing names one: `None` for real targets.
    pub(crate) fn for_labels(targets: &Targets) -> Option<Self> {
        (!matches!(targets, Targets::Values { .. })).then(Self::cross_entropy)
    }

    /// In words, for tables and captions.
    pub fn describe(&self) -> String {
        match self {
            Self::CrossEntropy(cross_entropy) => cross_entropy.describe(),
            Self::Mse {} => "mean squared error".into(),
            Self::L1 {} => "mean absolute error".into(),
            Self::Huber { delta } => format!("Huber loss, delta {delta}"),
            Self::SmoothL1 { beta } => format!("smooth L1 loss, beta {beta}"),
            Self::BceWithLogits { pos_weight: None } => "binary cross-entropy with logits".into(),
            Self::BceWithLogits { pos_weight: Some(_) } => "binary cross-entropy with logits, positive weights".into(),
            Self::Program {} => "loss of the program".into(),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ProgramError::LossSetting`] for the first one out of its range.
    pub fn check(&self) -> Result<(), ProgramError> {
        let unless = |usable: bool, name: &'static str, value: String, expected: &'static str| match usable {
            true => Ok(()),
            false => Err(ProgramError::LossSetting { name, value, expected }),
        };
        let above = |value: f64, least: f64| value.is_finite() && value >= least;
        let weights = |name, weights: &Option<Vec<f64>>| {
            let weights = weights.as_deref().unwrap_or(&[1.0]);
            let usable = weights.iter().all(|&weight| above(weight, 0.0)) && weights.iter().any(|&weight| weight > 0.0);
            unless(usable, name, format!("{weights:?}"), "numbers from 0 up, one of them above 0")
        };
        match self {
            Self::CrossEntropy(CrossEntropy { weight, label_smoothing, class_axis, .. }) => {
                weights("weight", weight)?;
                let usable = (0.0..1.0).contains(label_smoothing);
                unless(usable, "label_smoothing", label_smoothing.to_string(), "at least 0 and below 1")?;
                let axis = class_axis.unwrap_or(1);
                unless(axis == 1 || axis == -1, "class_axis", axis.to_string(), "1 or -1, the last")
            }
            Self::Huber { delta } => {
                unless(above(*delta, 0.0) && *delta > 0.0, "delta", delta.to_string(), "a number above 0")
            }
            Self::SmoothL1 { beta } => unless(above(*beta, 0.0), "beta", beta.to_string(), "a number from 0 up"),
            Self::BceWithLogits { pos_weight } => weights("pos_weight", pos_weight),
            Self::Mse {} | Self::L1 {} | Self::Program {} => Ok(()),
        }
    }
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { weight: None, ignore_index: ignore_index(), label_smoothing: 0.0, class_axis: None }
    }
}

impl CrossEntropy {
    fn describe(&self) -> String {
        let mut words = "cross-entropy".to_owned();
        if self.weight.is_some() {
            words += ", class weights";
        }
        if self.label_smoothing != 0.0 {
            words += &format!(", label smoothing {}", self.label_smoothing);
        }
        if self.ignore_index != ignore_index() {
            words += &format!(", label {} ignored", self.ignore_index);
        }
        words
    }
}

/// Which statistics batch normalisation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// The stored running statistics.
    #[default]
    Eval,
    /// Those of the whole batch, differentiated through.
    Train,
}
