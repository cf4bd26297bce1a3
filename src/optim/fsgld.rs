//! Flatness-aware stochastic gradient Langevin dynamics.

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::method::{BatchGradient, Langevin, Method, Point};
use super::noise::Perturbation;
use super::perturbed::Perturbed;
use super::sgd::check_momentum;
use super::{Base, RmsProp, SettingError, Sgd, Temperature};
use crate::Result;
use crate::objective::GradientReport;

/// Where `σ` comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PerturbationScale {
    /// `σ = (β⁻¹)^{(1+η)/4}` with this `η`; the paper's theory covers `0 < η < 1`.
    Coupled(f64),
    /// `σ` itself, whatever `β` is.
    Fixed(f64),
}

/// fSGLD (arXiv 2510.02174): `θ ← θ − λ(∇U(θ + ε, X) + wd θ) + sqrt(2 λ β⁻¹) ξ`, `ε ~ N(0, σ² I)`, `ξ ~ N(0, I)`,
/// both fresh in each step and independent, with the coupling `σ = β^{−(1+η)/4}` unless `sigma` is set by hand.
///
/// The stationary law approaches `exp(−β v)`, `v(θ) = u(θ) + σ²/2 · tr ∇²u(θ)`: flat minima have more mass. `U` is the
/// mean loss of a sample, so `β` and `σ` do not know the number of rows. Weight decay acts at `θ`, not at `θ + ε`. The
/// perturbed parameters are a copy; `θ` itself is never changed and changed back. Batch statistics of every perturbed
/// pass enter the running averages, and the loss reported is that at `θ + ε`. `σ = 0` draws no `ε`, takes one gradient
/// and is SGLD, bit for bit. Cost: `num_perturbations` gradients a step, twice that with antithetic pairs.
///
/// With momentum `μ`, an option that the paper does not study: `v ← μ v + (∇U(θ + ε, X) + wd θ) − s/λ ξ`,
/// `θ ← θ − λ v`, `s = sqrt(2 (1 − μ) λ β⁻¹)` (SGHMC, Chen et al. 2014, with friction `1 − μ`), which keeps the
/// stationary law. The authors' code has `v ← μ(v + sqrt(2 (1 − μ) β⁻¹) ξ) + λ g`: its `λ²` is `λ` here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Fsgld {
    /// In text and JSON either `beta_inverse` or `temperature`.
    pub temperature: Temperature,
    /// `σ`; in text and JSON either `eta` or `sigma`.
    pub scale: PerturbationScale,
    /// Independent `ε` per step, whose gradients are averaged.
    pub num_perturbations: usize,
    /// Whether each `ε` comes with `−ε`.
    pub antithetic: bool,
    /// Law of `ε`.
    pub perturbation: Perturbation,
    /// `μ` in 0..1; 0 is the method of the paper.
    pub momentum: f64,
    /// That of [`Sgld`](super::Sgld), from the gradients at `θ + ε`; without momentum only.
    pub preconditioner: Option<RmsProp>,
}

impl Default for Fsgld {
    fn default() -> Self {
        Self {
            temperature: Temperature::default(),
            scale: PerturbationScale::Coupled(0.1),
            num_perturbations: 1,
            antithetic: false,
            perturbation: Perturbation::Gaussian,
            momentum: 0.0,
            preconditioner: None,
        }
    }
}

/// The coupling of the paper, `σ = (β⁻¹)^{(1+η)/4}`.
pub(crate) fn coupled_sigma(beta_inverse: f64, eta: f64) -> f64 {
    beta_inverse.powf((1.0 + eta) / 4.0)
}

impl Fsgld {
    /// The perturbation scale: as set by hand, or `(β⁻¹)^{(1+η)/4}`.
    pub fn sigma(&self) -> f64 {
        match self.scale {
            PerturbationScale::Coupled(eta) => coupled_sigma(self.temperature.beta_inverse(), eta),
            PerturbationScale::Fixed(sigma) => sigma,
        }
    }

    fn perturbed(&self) -> Perturbed {
        Perturbed {
            sigma: self.sigma(),
            count: self.num_perturbations,
            antithetic: self.antithetic,
            law: self.perturbation,
        }
    }
}

impl Method for Fsgld {
    fn formula(&self) -> &'static str {
        "as sgld with ∇U(θ + ε), ε ~ N(0, σ² I); σ = β^(−(1+eta)/4), or sigma in place of eta"
    }

    fn check(&self) -> Result<(), SettingError> {
        self.temperature.check()?;
        if let PerturbationScale::Coupled(eta) = self.scale {
            SettingError::unless(eta > -1.0 && eta.is_finite(), "eta", eta, "a number above -1")?;
        }
        self.perturbed().check()?;
        check_momentum(self.momentum)?;
        let Some(preconditioner) = &self.preconditioner else { return Ok(()) };
        SettingError::unless(self.momentum == 0.0, "momentum", self.momentum, "0 with a preconditioner")?;
        preconditioner.check()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.scale {
            PerturbationScale::Coupled(eta) if eta <= 0.0 || eta >= 1.0 => {
                warnings.push(format!(
                    "fsgld: eta is {eta}, not between 0 and 1: the theory of the paper does not cover it"
                ));
            }
            _ => {}
        }
        if self.momentum != 0.0 {
            warnings.push(format!("fsgld: momentum is {}: the theory of the paper does not cover it", self.momentum));
        }
        warnings
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.momentum)
    }

    fn base(&self) -> Base {
        self.preconditioner.clone().map_or(Base::Sgd(Sgd::with_momentum(self.momentum)), Base::RmsProp)
    }

    fn pass(&self, point: &Point<'_>, gradient: &mut BatchGradient<'_>) -> Result<GradientReport> {
        self.perturbed().gradient(point, gradient)
    }

    fn langevin(&self) -> Option<Langevin> {
        Some(Langevin { beta_inverse: self.temperature.beta_inverse(), momentum: self.momentum })
    }

    fn temperature_mut(&mut self) -> Option<&mut Temperature> {
        Some(&mut self.temperature)
    }
}

impl TryFrom<Fields> for Fsgld {
    type Error = String;

    fn try_from(mut fields: Fields) -> Result<Self, String> {
        let default = Self::default();
        let scale = match (fields.take("eta")?, fields.take("sigma")?) {
            (None, None) => default.scale,
            (Some(eta), None) => PerturbationScale::Coupled(eta),
            (None, Some(sigma)) => PerturbationScale::Fixed(sigma),
            (Some::<f64>(_), Some::<f64>(_)) => {
                return Err("`sigma` sets σ by hand and `eta` couples it to β: give one of the two".into());
            }
        };
        let fsgld = Self {
            temperature: Temperature::take(&mut fields)?,
            scale,
            num_perturbations: fields.take_or("num_perturbations", default.num_perturbations)?,
            antithetic: fields.take_or("antithetic", default.antithetic)?,
            perturbation: fields.take_or("perturbation", default.perturbation)?,
            momentum: fields.take_or("momentum", default.momentum)?,
            preconditioner: RmsProp::take_preconditioner(&mut fields)?,
        };
        fields.end(
            "beta_inverse, temperature, eta, sigma, num_perturbations, antithetic, perturbation, momentum, preconditioner, \
             and with one alpha, eps",
        )?;
        Ok(fsgld)
    }
}

impl From<Fsgld> for Fields {
    fn from(fsgld: Fsgld) -> Self {
        let fields = fsgld.temperature.put(Self::default());
        let fields = match fsgld.scale {
            PerturbationScale::Coupled(eta) => fields.with("eta", eta),
            PerturbationScale::Fixed(sigma) => fields.with("sigma", sigma),
        };
        let fields = fields
            .with("num_perturbations", fsgld.num_perturbations)
            .with("antithetic", fsgld.antithetic)
            .with_word("perturbation", fsgld.perturbation)
            .with("momentum", fsgld.momentum);
        RmsProp::put_preconditioner(fsgld.preconditioner.as_ref(), fields)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_moments, autoregression, optimizer, quadratic, stationary, values, vector};
    use super::super::{OptimizerConfig, Setup, Sgld};
    use super::*;

    const BETA_INVERSE: f64 = 0.2;
    const SIGMA: f64 = 1.5;

    fn fsgld(change: impl Fn(&mut Fsgld)) -> OptimizerConfig {
        let scale = PerturbationScale::Fixed(SIGMA);
        let mut fsgld = Fsgld { temperature: Temperature::MeanLoss(BETA_INVERSE), scale, ..Fsgld::default() };
        change(&mut fsgld);
        OptimizerConfig::Fsgld(fsgld)
    }

    /// `θ' = (1 − λa)θ − λa ε + sqrt(2λβ⁻¹) ξ`: SGLD with gradient noise of variance `(λaσ)²/M` on top, hence variance
    /// `(λ a² σ²/M + 2β⁻¹) / (a(2 − λa))`. Any law of `ε` with variance `σ²` gives the same.
    #[test]
    fn on_a_quadratic_the_perturbed_gradient_adds_its_variance_to_that_of_sgld() {
        for (a, rate, count) in [(1.0, 0.5, 1), (3.0, 0.4, 1), (1.0, 0.5, 3)] {
            let variance = (rate * (a * SIGMA).powi(2) / count as f64 + 2.0 * BETA_INVERSE) / (a * (2.0 - rate * a));
            let (_, theta) = stationary(&fsgld(|fsgld| fsgld.num_perturbations = count), a, rate);
            assert_moments(&values(&theta), variance);
            let rademacher = fsgld(|fsgld| {
                fsgld.num_perturbations = count;
                fsgld.perturbation = Perturbation::Rademacher;
            });
            let (_, theta) = stationary(&rademacher, a, rate);
            // The entries are nearly Gaussian, and their kurtosis is below that of a Gaussian: a smaller error.
            assert_moments(&values(&theta), variance);
        }
    }

    /// `θ'' = (1 + μ − λa)θ' − μ θ − λa ε + s ξ`, a second-order autoregression with innovations of variance
    /// `(λaσ)² + 2(1 − μ)λβ⁻¹`. Without `ε` and for small `λ` its variance is `β⁻¹/a`, as without momentum.
    #[test]
    fn with_momentum_a_quadratic_has_the_variance_of_a_second_order_autoregression() {
        let (a, rate) = (1.5, 0.4);
        for (mu, sigma) in [(0.5, SIGMA), (0.3, SIGMA), (0.5, 0.0)] {
            let config = fsgld(|fsgld| {
                fsgld.momentum = mu;
                fsgld.scale = PerturbationScale::Fixed(sigma);
            });
            let innovation = ((rate * a * sigma).powi(2) + 2.0 * (1.0 - mu) * rate * BETA_INVERSE).sqrt();
            let (_, theta) = stationary(&config, a, rate);
            assert_moments(&values(&theta), autoregression((1.0 + mu - rate * a, -mu), innovation));
        }
        let (mu, rate) = (0.9f64, 1e-6);
        let small = autoregression((1.0 + mu - rate * a, -mu), (2.0 * (1.0 - mu) * rate * BETA_INVERSE).sqrt());
        assert!((small * a / BETA_INVERSE - 1.0).abs() < 1e-4, "{small}");
    }

    /// The gradient of a quadratic is linear, so that `ε` and `−ε` cancel and SGLD remains, with the same `ξ`.
    #[test]
    fn antithetic_pairs_cancel_on_a_quadratic() {
        let (_, theta) = stationary(&fsgld(|fsgld| fsgld.antithetic = true), 1.0, 0.5);
        let sgld =
            OptimizerConfig::Sgld(Sgld { temperature: Temperature::MeanLoss(BETA_INVERSE), preconditioner: None });
        let (_, expected) = stationary(&sgld, 1.0, 0.5);
        let difference = values(&theta).iter().zip(values(&expected)).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        // One rounding of a sum of size 2 σ max|z| per step, damped by half each step.
        assert!(difference < 8.0 * f64::EPSILON * 10.0 * SIGMA, "{difference}");
    }

    #[test]
    fn sigma_follows_beta_unless_set() {
        let coupled = Fsgld { scale: PerturbationScale::Coupled(0.1), ..Fsgld::default() };
        assert!((coupled.sigma() / 10f64.powf(-2.2) - 1.0).abs() < 1e-14);
        assert_eq!(Fsgld { scale: PerturbationScale::Fixed(0.3), ..coupled }.sigma(), 0.3);
        assert_eq!(Fsgld { temperature: Temperature::MeanLoss(0.0), ..Fsgld::default() }.sigma(), 0.0);
        let error = "fsgld:sigma=0.3,eta=0.1".parse::<OptimizerConfig>().unwrap_err();
        assert!(error.to_string().contains("give one of the two"), "{error}");
        let json = r#"{"kind":"fsgld","sigma":0.3,"eta":0.1}"#;
        assert!(serde_json::from_str::<OptimizerConfig>(json).is_err());
    }

    #[test]
    fn what_the_theory_does_not_cover_is_allowed_and_said() {
        for (text, words) in [
            ("fsgld:eta=1", &["eta is 1, not between 0 and 1"][..]),
            ("fsgld:eta=-0.5,momentum=0.5", &["eta is -0.5", "momentum is 0.5"]),
            ("fsgld:eta=0.5", &[]),
            ("fsgld:sigma=2", &[]),
            ("sgd", &[]),
        ] {
            let config: OptimizerConfig = text.parse().unwrap();
            config.check().unwrap();
            let warnings = config.warnings();
            assert_eq!(warnings.len(), words.len(), "{warnings:?}");
            for (warning, word) in warnings.iter().zip(words) {
                assert!(warning.contains(word) && warning.contains("the theory of the paper"), "{warning}");
            }
        }
    }

    /// Weight decay sees `θ`: with `U = 0` a step is a pure shrinkage whatever `ε` was.
    #[test]
    fn weight_decay_acts_at_theta() {
        let config = fsgld(|fsgld| fsgld.temperature = Temperature::MeanLoss(0.0));
        let mut optimizer = optimizer(&config, Setup { weight_decay: 0.5, seed: 3, ..Setup::default() }, 2);
        let update = optimizer.step(&vector(&[2.0, -4.0]), 0.25, &mut quadratic(0.0)).unwrap();
        assert_eq!(values(&update.theta), [2.0 * 0.875, -4.0 * 0.875]);
    }
}
