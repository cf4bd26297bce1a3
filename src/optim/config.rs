//! The list of methods, and a method with its settings as text and as JSON.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::method::{Descent, Method};
use super::{AdamW, Asam, Fsgld, OptimError, RmsProp, Rwp, Sam, SettingError, Sgd, Sgld, Temperature};

/// Declares the enums over all methods and over those that others can step with, from one list of both.
macro_rules! methods {
    (bases: $($base_name:literal $base:ident),*; others: $($name:literal $other:ident),* $(,)?) => {
        /// The methods by name.
        pub const OPTIMIZERS: [&str; [$($base_name,)* $($name),*].len()] = [$($base_name,)* $($name),*];

        /// Which method, with its own settings; learning rate and weight decay belong to every method and stand
        /// elsewhere.
        ///
        /// As text: the name, and settings after a colon, such as `sam:rho=0.1,base=adamw` or
        /// `fsgld:beta_inverse=1e-6,antithetic=true`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        #[allow(missing_docs)] // each is documented at its type
        pub enum OptimizerConfig {
            $(#[serde(rename = $base_name)] $base($base),)*
            $(#[serde(rename = $name)] $other($other),)*
        }

        impl OptimizerConfig {
            /// Every method with its default settings.
            fn defaults() -> [Self; OPTIMIZERS.len()] {
                [$(Self::$base($base::default()),)* $(Self::$other($other::default())),*]
            }

            /// The method's name, as in [`OPTIMIZERS`].
            pub fn name(&self) -> &'static str {
                match self { $(Self::$base(_) => $base_name,)* $(Self::$other(_) => $name,)* }
            }

            pub(super) fn method(&self) -> &dyn Method {
                match self { $(Self::$base(method) => method,)* $(Self::$other(method) => method,)* }
            }

            fn method_mut(&mut self) -> &mut dyn Method {
                match self { $(Self::$base(method) => method,)* $(Self::$other(method) => method,)* }
            }
        }

        /// What turns a gradient into a step, under `sgd`, `adamw`, `rmsprop`, `sam`, `asam` and `rwp`
        /// alike.
        ///
        /// In text and JSON its settings stand beside those of the method: `sam:rho=0.05,base=adamw,beta1=0.9`. Without
        /// `base` it is `sgd`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "base")]
        #[allow(missing_docs)] // each is documented at its type
        pub enum Base {
            $(#[serde(rename = $base_name)] $base($base),)*
        }

        impl Base {
            pub(super) fn descent(&self) -> &dyn Descent {
                match self { $(Self::$base(descent) => descent,)* }
            }

            pub(super) fn descent_mut(&mut self) -> &mut dyn Descent {
                match self { $(Self::$base(descent) => descent,)* }
            }
        }
    };
}

methods! {
    bases: "sgd" Sgd, "adamw" AdamW, "rmsprop" RmsProp;
    others: "sgld" Sgld, "fsgld" Fsgld, "sam" Sam, "asam" Asam, "rwp" Rwp,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Sgd(Sgd::default())
    }
}

impl Default for Base {
    fn default() -> Self {
        Self::Sgd(Sgd::default())
    }
}

impl Base {
    /// What remains of `fields` once a method has taken `own`, its own settings.
    pub(super) fn from_fields(mut fields: Fields, own: &str) -> Result<Self, String> {
        let base: String = fields.take_or("base", "sgd".to_owned())?;
        let fields = fields.with("base", base.as_str());
        fields.rest().map_err(|error| format!("{error} for base {base}; the method's own settings: {own}"))
    }
}

impl OptimizerConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`SettingError`] for the first one out of its range.
    pub fn check(&self) -> Result<(), SettingError> {
        self.method().check()
    }

    /// Settings that are allowed although nothing is known about them, in words for the user.
    pub fn warnings(&self) -> Vec<String> {
        self.method().warnings()
    }

    /// The momentum `μ`, to be set; `None` where the method, or its base, has none.
    pub fn momentum_mut(&mut self) -> Option<&mut f64> {
        self.method_mut().momentum_mut()
    }

    /// The temperature; `None` where the method has none.
    pub fn temperature(&self) -> Option<Temperature> {
        self.clone().method_mut().temperature_mut().copied()
    }

    /// The same method for the posterior of so many rows, where its temperature is that of one.
    pub fn for_rows(&self, rows: usize) -> Self {
        let mut config = self.clone();
        if let Some(temperature) = config.method_mut().temperature_mut() {
            *temperature = temperature.for_rows(rows);
        }
        config
    }
}

/// Every method in two lines: its name with the formula of a step, and its settings with their defaults.
pub fn help() -> String {
    let width = OPTIMIZERS.iter().map(|name| name.len()).max().unwrap_or_default() + 2;
    let lines = OptimizerConfig::defaults().map(|config| {
        let settings = Fields::default().with_all(&config).written();
        format!("{:width$}{}\n{:width$}{settings}\n", config.name(), config.method().formula(), "")
    });
    format!(
        "The methods, where g = ∇U(θ) is the gradient of the batch's mean loss U, λ the learning rate and wd the weight \
         decay; d is the step of the base:\n{}",
        lines.concat()
    )
}

impl FromStr for OptimizerConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let (kind, settings) = text.split_once(':').unwrap_or((text, ""));
        if !OPTIMIZERS.contains(&kind) {
            let nearest = crate::nearest(kind, OPTIMIZERS);
            return Err(OptimError::UnknownMethod { name: kind.into(), nearest, known: &OPTIMIZERS });
        }
        let config = Fields::parse(kind, settings).and_then(Fields::rest);
        config.map_err(|reason| OptimError::MethodSetting { text: text.into(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Perturbation, PerturbationScale};

    fn parse(text: &str) -> Result<OptimizerConfig, OptimError> {
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
        assert!(error.hint().contains("did you mean `fsgld`?"));
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
        let more = ["sam:base=adamw", "asam:base=adamw,eps=0.1", "rwp:base=rmsprop,antithetic=true", "fsgld:sigma=0.1"];
        let more =
            more.into_iter().chain(["sgld:preconditioner=rmsprop", "fsgld:temperature=1,preconditioner=rmsprop"]);
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
    fn the_help_has_the_formula_and_the_settings_of_every_method() {
        let help = help();
        for config in OptimizerConfig::defaults() {
            assert!(help.contains(&format!("\n{:9}{}\n", config.name(), config.method().formula())), "{help}");
        }
        assert!(help.contains("\n         beta1=0.9, beta2=0.999, eps=1e-8\n"), "{help}");
        let rwp = "sigma=0.01, num_perturbations=1, antithetic=false, perturbation=gaussian, base=sgd, momentum=0.9";
        assert!(help.ends_with(&format!("\n         {rwp}, nesterov=false\n")), "{help}");
    }

    #[test]
    fn the_page_on_training_has_a_row_for_every_method() {
        let page = include_str!("../../docs/training.md");
        assert!(OPTIMIZERS.iter().all(|name| page.contains(&format!("\n| `{name}` |"))));
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
            ("rmsprop", false),
            ("sgld", false),
        ] {
            assert_eq!(parse(text).unwrap().momentum_mut().is_some(), has, "{text}");
        }
    }
}
