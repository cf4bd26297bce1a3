//! Optimisers: SGD, SGLD, fSGLD and SAM, all steps of one pipeline whose parts can be switched off exactly.
//!
//! A step takes a gradient somewhere (at `θ`, at `θ + ε` for fSGLD and SAM), adds the weight decay of `θ` itself,
//! descends, and adds Langevin noise. A part whose scale is 0 is skipped, so that fSGLD with `σ = 0` is SGLD, SGLD with
//! `β⁻¹ = 0` is SGD without momentum, and SAM with `ρ = 0` is SGD: bit for bit.

mod fsgld;
mod noise;
mod sam;
mod schedule;
mod sgd;
mod sgld;

use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use fsgld::{Fsgld, Perturbation};
pub use sam::Sam;
pub use schedule::Schedule;
pub use sgd::Sgd;
pub use sgld::Sgld;

use crate::Result;
use crate::curvature::GradientReport;
use crate::train::TrainError;
use noise::Noise;
use sgd::Descent;

/// The methods by name.
pub const OPTIMIZERS: [&str; 4] = ["sgd", "sgld", "fsgld", "sam"];

/// Which method, with its own settings; learning rate and weight decay belong to every method and stand elsewhere.
///
/// As text: the name, and settings after a colon, such as `sam:rho=0.1` or `fsgld:beta_inverse=1e-6,antithetic=true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Stochastic gradient Langevin dynamics.
    Sgld(Sgld),
    /// Flatness-aware SGLD: SGLD with gradients at randomly perturbed parameters.
    Fsgld(Fsgld),
    /// Sharpness-aware minimisation over SGD.
    Sam(Sam),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Sgd(Sgd::default())
    }
}

impl OptimizerConfig {
    /// The method's name, as in [`OPTIMIZERS`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "sgd",
            Self::Sgld(_) => "sgld",
            Self::Fsgld(_) => "fsgld",
            Self::Sam(_) => "sam",
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for the first one out of its range.
    pub fn check(&self) -> Result<(), TrainError> {
        match self {
            Self::Sgd(sgd) => sgd.check(),
            Self::Sgld(sgld) => sgld.check(),
            Self::Fsgld(fsgld) => fsgld.check(),
            Self::Sam(sam) => sam.check(),
        }
    }
}

impl FromStr for OptimizerConfig {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        let (kind, settings) = text.split_once(':').unwrap_or((text, ""));
        if !OPTIMIZERS.contains(&kind) {
            return Err(TrainError::UnknownOptimizer { name: kind.into(), nearest: crate::nearest(kind, OPTIMIZERS) });
        }
        let bad = |reason: String| TrainError::OptimizerSetting { text: text.into(), reason };
        let mut fields = Map::new();
        fields.insert("kind".into(), kind.into());
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| bad(format!("`{setting}` is not `name=value`")))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            fields.insert(key.trim().into(), value);
        }
        serde_json::from_value(Value::Object(fields)).map_err(|error| bad(error.to_string()))
    }
}

/// TEMPORARY
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// All.
    #[default]
    All,
    /// Weights.
    Weights,
}

impl FromStr for Decay {
    type Err = TrainError;
    fn from_str(_: &str) -> Result<Self, TrainError> {
        Ok(Self::All)
    }
}

/// TEMPORARY
#[derive(Debug, Clone)]
pub struct Setup {
    /// x
    pub weight_decay: f64,
    /// x
    pub decay: Decay,
    /// x
    pub clip_norm: Option<f64>,
    /// x
    pub seed: u64,
    /// x
    pub threads: usize,
}

/// TEMPORARY
#[derive(Debug, Clone, Default)]
pub struct OptimizerState {
    /// x
    pub steps: u64,
    /// x
    pub tensors: Vec<(String, Tensor)>,
}

impl OptimizerConfig {
    /// x
    pub fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// x
    pub fn momentum_mut(&mut self) -> Option<&mut f64> {
        match self {
            Self::Sgd(sgd) => Some(&mut sgd.momentum),
            Self::Sam(sam) => Some(&mut sam.momentum),
            _ => None,
        }
    }
}

/// A batch's mean loss and gradient at any parameters; what a step may ask for, as often as it likes.
pub type BatchGradient<'a> = dyn FnMut(&Tensor) -> Result<GradientReport> + 'a;

/// What one step did.
#[derive(Debug, Clone)]
pub struct Update {
    /// The new parameters `[n]`.
    pub theta: Tensor,
    /// The pass that describes the step: at `θ` for SGD, SGLD and SAM, at `θ + ε` (mean over the passes) for fSGLD.
    /// Its `gradient` is the one descended along, without weight decay; its `statistics` are those that belong in the
    /// running averages of batch normalisation.
    pub pass: GradientReport,
    /// x
    pub gradient_norm: f64,
}

/// A method with its state: the momentum buffer and the number of the step, which keys the noise.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    descent: Descent,
    noise: Noise,
    steps: u64,
}

impl Optimizer {
    /// Before the first step. `weight_decay` is `wd` of `wd/2 ‖θ‖²`.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a setting out of its range.
    pub fn new(config: &OptimizerConfig, setup: &Setup, _space: &crate::autodiff::ParamSpace) -> Result<Self> {
        Ok(Self::old(config, setup.weight_decay, setup.seed)?.with_threads(setup.threads))
    }

    /// x
    pub fn state(&self) -> OptimizerState {
        let tensors = self.descent.velocity.iter().map(|v| ("velocity".to_owned(), v.clone()));
        OptimizerState { steps: self.steps, tensors: tensors.collect() }
    }

    /// x
    pub fn restore(&mut self, state: OptimizerState) -> Result<()> {
        self.steps = state.steps;
        self.descent.velocity = state.tensors.into_iter().next().map(|(_, v)| v);
        Ok(())
    }

    fn old(config: &OptimizerConfig, weight_decay: f64, seed: u64) -> Result<Self> {
        config.check()?;
        let momentum = match config {
            OptimizerConfig::Sgd(sgd) => sgd.momentum,
            OptimizerConfig::Sam(sam) => sam.momentum,
            OptimizerConfig::Sgld(_) | OptimizerConfig::Fsgld(_) => 0.0,
        };
        let descent = Descent::new(momentum, weight_decay);
        Ok(Self { config: config.clone(), descent, noise: Noise { seed, threads: 1 }, steps: 0 })
    }

    /// The same with `threads` threads to draw noise; the numbers stay the same.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.noise.threads = threads;
        self
    }

    /// One step from `theta` `[n]`: `θ ← θ − λ v + sqrt(2 λ β⁻¹) ξ` with `v ← μ v + g + wd θ`.
    ///
    /// `g` is the method's gradient, and parts that a method lacks are absent; see [`Sgd`], [`Sgld`], [`Fsgld`] and
    /// [`Sam`] for each method's rule.
    ///
    /// # Errors
    /// What `gradient` returns.
    pub fn step(&mut self, theta: &Tensor, learning_rate: f64, gradient: &mut BatchGradient<'_>) -> Result<Update> {
        let (pass, beta_inverse) = match &self.config {
            OptimizerConfig::Sgd(_) => (gradient(theta)?, 0.0),
            OptimizerConfig::Sgld(sgld) => (gradient(theta)?, sgld.beta_inverse),
            OptimizerConfig::Fsgld(fsgld) => {
                (fsgld.gradient(theta, &self.noise, self.steps, gradient)?, fsgld.beta_inverse)
            }
            OptimizerConfig::Sam(sam) => (sam.gradient(theta, gradient)?, 0.0),
        };
        let theta = self.descent.step(theta, &pass.gradient, learning_rate)?;
        let theta = sgld::diffuse(theta, sgld::noise_scale(learning_rate, beta_inverse), &self.noise, self.steps)?;
        self.steps += 1;
        let row = pass.gradient.unsqueeze(0)?;
        let gradient_norm = crate::kernels::row_dots(&row, &row)?[0].sqrt();
        Ok(Update { theta, pass, gradient_norm })
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_a_method_and_its_settings() {
        let parse = |text: &str| text.parse::<OptimizerConfig>();
        assert_eq!(parse("sgd").unwrap(), OptimizerConfig::default());
        let sam = parse("sam:rho=0.2,momentum=0").unwrap();
        assert_eq!(sam, OptimizerConfig::Sam(Sam { rho: 0.2, momentum: 0.0 }));
        let OptimizerConfig::Fsgld(fsgld) = parse("fsgld:sigma=1e-2,perturbation=rademacher").unwrap() else {
            panic!("fsgld");
        };
        assert_eq!((fsgld.sigma, fsgld.perturbation), (Some(0.01), Perturbation::Rademacher));
        let error = parse("fsgdl").unwrap_err();
        assert_eq!(error.to_string(), "unknown optimizer `fsgdl`");
        assert!(error.hint().unwrap().contains("did you mean `fsgld`?"));
        for text in ["sam:rho", "sam:radius=1", "sgd:momentum=much", "sgld:momentum=0.9"] {
            assert!(parse(text).unwrap_err().to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn json_carries_the_kind_and_only_known_fields() {
        for name in OPTIMIZERS {
            let config: OptimizerConfig = name.parse().unwrap();
            assert_eq!(config.name(), name);
            config.check().unwrap();
            let json = serde_json::to_string(&config).unwrap();
            assert!(json.starts_with(&format!(r#"{{"kind":"{name}""#)), "{json}");
            assert_eq!(serde_json::from_str::<OptimizerConfig>(&json).unwrap(), config);
        }
        assert!(serde_json::from_str::<OptimizerConfig>(r#"{"kind":"sgd","rho":0.1}"#).is_err());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (text, name) in [
            ("sgd:momentum=1", "momentum"),
            ("sam:rho=-0.1", "rho"),
            ("sgld:beta_inverse=-1", "beta_inverse"),
            ("fsgld:eta=1", "eta"),
            ("fsgld:sigma=-1", "sigma"),
            ("fsgld:num_perturbations=0", "num_perturbations"),
        ] {
            let config: OptimizerConfig = text.parse().unwrap();
            let error = Optimizer::new(&config, 0.0, 0).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
