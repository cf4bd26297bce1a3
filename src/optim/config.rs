//! Which method, with its settings, as text and as JSON.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::base::Base;
use super::fields;
use super::{AdamW, Asam, Fsgld, Rwp, Sam, Sgd, Sgld};
use crate::Result;
use crate::train::TrainError;

/// The methods by name.
pub const OPTIMIZERS: [&str; 7] = ["sgd", "adamw", "sgld", "fsgld", "sam", "asam", "rwp"];

/// Which method, with its own settings; learning rate and weight decay belong to every method and stand elsewhere.
///
/// As text: the name, and settings after a colon, such as `sam:rho=0.1,base=adamw` or
/// `fsgld:beta_inverse=1e-6,antithetic=true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// Stochastic gradient Langevin dynamics.
    Sgld(Sgld),
    /// Flatness-aware SGLD: SGLD with gradients at randomly perturbed parameters.
    Fsgld(Fsgld),
    /// Sharpness-aware minimisation over a base.
    Sam(Sam),
    /// Sharpness-aware minimisation with a radius relative to the weights.
    Asam(Asam),
    /// Gradients at randomly perturbed parameters, over a base.
    Rwp(Rwp),
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
            Self::AdamW(_) => "adamw",
            Self::Sgld(_) => "sgld",
            Self::Fsgld(_) => "fsgld",
            Self::Sam(_) => "sam",
            Self::Asam(_) => "asam",
            Self::Rwp(_) => "rwp",
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for the first one out of its range.
    pub fn check(&self) -> Result<(), TrainError> {
        match self {
            Self::Sgd(sgd) => sgd.check(),
            Self::AdamW(adamw) => adamw.check(),
            Self::Sgld(sgld) => sgld.check(),
            Self::Fsgld(fsgld) => fsgld.check(),
            Self::Sam(sam) => sam.check(),
            Self::Asam(asam) => asam.check(),
            Self::Rwp(rwp) => rwp.check(),
        }
    }

    /// Settings that are allowed although nothing is known about them, in words for the user.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Self::Fsgld(fsgld) => fsgld.warnings(),
            _ => Vec::new(),
        }
    }

    /// The momentum `μ`, to be set; `None` where the method, or its base, has none.
    pub fn momentum_mut(&mut self) -> Option<&mut f64> {
        match self {
            Self::Sgd(sgd) => Some(&mut sgd.momentum),
            Self::Fsgld(fsgld) => Some(&mut fsgld.momentum),
            Self::Sam(Sam { base, .. }) | Self::Asam(Asam { base, .. }) | Self::Rwp(Rwp { base, .. }) => {
                base.momentum_mut()
            }
            Self::AdamW(_) | Self::Sgld(_) => None,
        }
    }

    /// What steps along the method's gradient.
    pub(super) fn base(&self) -> Base {
        match self {
            Self::Sgd(sgd) => Base::Sgd(sgd.clone()),
            Self::AdamW(adamw) => Base::AdamW(adamw.clone()),
            Self::Sgld(_) => Base::Sgd(Sgd::with_momentum(0.0)),
            Self::Fsgld(fsgld) => Base::Sgd(Sgd::with_momentum(fsgld.momentum)),
            Self::Sam(Sam { base, .. }) | Self::Asam(Asam { base, .. }) | Self::Rwp(Rwp { base, .. }) => base.clone(),
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
        let config = fields::parse(kind, settings).and_then(fields::Fields::rest);
        config.map_err(|reason| TrainError::OptimizerSetting { text: text.into(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Perturbation, PerturbationScale};

    fn parse(text: &str) -> Result<OptimizerConfig, TrainError> {
        text.parse()
    }

    #[test]
    fn text_names_a_method_and_its_settings() {
        assert_eq!(parse("sgd").unwrap(), OptimizerConfig::default());
        let nesterov = OptimizerConfig::Sgd(Sgd { momentum: 0.5, nesterov: true });
        assert_eq!(parse("sgd:momentum=0.5,nesterov=true").unwrap(), nesterov);
        let adamw = AdamW { beta1: 0.8, eps: 1e-6, ..AdamW::default() };
        assert_eq!(parse("adamw:beta1=0.8,eps=1e-6").unwrap(), OptimizerConfig::AdamW(adamw.clone()));
        let sam = |rho, base| OptimizerConfig::Sam(Sam { rho, base });
        assert_eq!(parse("sam:rho=0.2,momentum=0").unwrap(), sam(0.2, Base::Sgd(Sgd::with_momentum(0.0))));
        assert_eq!(parse("sam:base=adamw,beta1=0.8,eps=1e-6").unwrap(), sam(0.05, Base::AdamW(adamw)));
        let OptimizerConfig::Fsgld(fsgld) = parse("fsgld:sigma=1e-2,perturbation=rademacher").unwrap() else {
            panic!("fsgld");
        };
        assert_eq!((fsgld.scale, fsgld.perturbation), (PerturbationScale::Fixed(0.01), Perturbation::Rademacher));
        let error = parse("fsgdl").unwrap_err();
        assert_eq!(error.to_string(), "unknown optimizer `fsgdl`");
        assert!(error.hint().unwrap().contains("did you mean `fsgld`?"));
    }

    #[test]
    fn settings_that_a_method_or_its_base_lacks_are_refused_by_name() {
        for (text, name) in [
            ("sam:rho", "rho"),
            ("sam:radius=1", "radius"),
            ("sam:beta1=0.9", "beta1"),
            ("sam:base=adamw,momentum=0.9", "momentum"),
            ("sam:base=adam", "adam"),
            ("asam:eta=x", "eta"),
            ("rwp:beta_inverse=1", "beta_inverse"),
            ("fsgld:nesterov=true", "nesterov"),
            ("fsgld:perturbation=cauchy", "perturbation"),
            ("sgd:momentum=much", "much"),
            ("adamw:momentum=0.9", "momentum"),
            ("sgld:momentum=0.9", "momentum"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            let reason = error.strip_prefix(&format!("optimizer `{text}`: ")).unwrap();
            assert!(reason.contains(name), "{error}");
        }
    }

    #[test]
    fn json_and_toml_carry_the_kind_and_only_known_fields() {
        let more = ["sam:base=adamw", "asam:base=adamw,eps=0.1", "rwp:base=adamw,antithetic=true", "fsgld:sigma=0.1"];
        for text in OPTIMIZERS.into_iter().chain(more) {
            let config = parse(text).unwrap();
            let name = text.split(':').next().unwrap();
            assert_eq!(config.name(), name);
            config.check().unwrap();
            let json = serde_json::to_string(&config).unwrap();
            assert!(json.starts_with(&format!(r#"{{"kind":"{name}""#)), "{json}");
            assert_eq!(serde_json::from_str::<OptimizerConfig>(&json).unwrap(), config);
            let toml = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<OptimizerConfig>(&toml).unwrap(), config, "{toml}");
        }
        assert!(serde_json::from_str::<OptimizerConfig>(r#"{"kind":"sgd","rho":0.1}"#).is_err());
        // As version 0.1 wrote them.
        for (json, text) in [
            (r#"{"kind":"sgd","momentum":0.5}"#, "sgd:momentum=0.5"),
            (r#"{"kind":"sam","rho":0.1,"momentum":0.0}"#, "sam:rho=0.1,momentum=0"),
            (
                r#"{"kind":"fsgld","beta_inverse":1e-8,"eta":0.2,"num_perturbations":2,"antithetic":false,
                "perturbation":"gaussian"}"#,
                "fsgld:eta=0.2,num_perturbations=2",
            ),
        ] {
            assert_eq!(serde_json::from_str::<OptimizerConfig>(json).unwrap(), parse(text).unwrap());
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (text, name) in [
            ("sgd:momentum=1", "momentum"),
            ("sgd:momentum=0,nesterov=true", "nesterov"),
            ("sam:rho=-0.1", "rho"),
            ("sam:base=adamw,beta2=1", "beta2"),
            ("asam:eta=-1", "eta"),
            ("rwp:sigma=-1", "sigma"),
            ("rwp:momentum=2", "momentum"),
            ("sgld:beta_inverse=-1", "beta_inverse"),
            ("fsgld:eta=-1", "eta"),
            ("fsgld:momentum=1", "momentum"),
            ("fsgld:sigma=-1", "sigma"),
            ("fsgld:num_perturbations=0", "num_perturbations"),
        ] {
            let error = parse(text).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn momentum_can_be_set_where_there_is_one() {
        for (text, has) in [
            ("sgd", true),
            ("sam", true),
            ("asam", true),
            ("rwp", true),
            ("fsgld", true),
            ("sam:base=adamw", false),
            ("adamw", false),
            ("sgld", false),
        ] {
            assert_eq!(parse(text).unwrap().momentum_mut().is_some(), has, "{text}");
        }
    }
}
