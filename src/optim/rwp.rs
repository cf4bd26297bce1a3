//! Random weight perturbation.

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::method::{BatchGradient, Method, Point};
use super::noise::Perturbation;
use super::perturbed::Perturbed;
use super::{Base, SettingError};
use crate::Result;
use crate::objective::GradientReport;

/// RWP (Bisla et al. 2022, Li et al. 2024): a step of the base along `∇U(θ + ε, X)`, `ε ~ N(0, σ² I)` fresh in each
/// step. With SGD: `v ← μ v + (∇U(θ + ε, X) + wd θ)`, `θ ← θ − λ v`.
///
/// It is fSGLD without the Langevin noise, with the same `ε` under the same seed, and descends the smoothed loss
/// `u(θ) + σ²/2 · tr ∇²u(θ) + …`. `σ` is one number for all parameters, in their units (both papers also scale it by
/// the norm of each filter). The perturbed parameters are a copy; weight decay acts at `θ`; batch statistics and loss
/// are those at `θ + ε`. `σ = 0` draws nothing and is the base, bit for bit. Cost: `num_perturbations` gradients a step,
/// twice that with antithetic pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Rwp {
    /// `σ`.
    pub sigma: f64,
    /// Independent `ε` per step, whose gradients are averaged.
    pub num_perturbations: usize,
    /// Whether each `ε` comes with `−ε`.
    pub antithetic: bool,
    /// Law of `ε`.
    pub perturbation: Perturbation,
    /// What steps along the gradient.
    pub base: Base,
}

impl Default for Rwp {
    fn default() -> Self {
        let (perturbation, base) = (Perturbation::Gaussian, Base::default());
        Self { sigma: 0.01, num_perturbations: 1, antithetic: false, perturbation, base }
    }
}

impl Rwp {
    fn perturbed(&self) -> Perturbed {
        Perturbed {
            sigma: self.sigma,
            count: self.num_perturbations,
            antithetic: self.antithetic,
            law: self.perturbation,
        }
    }
}

impl Method for Rwp {
    fn formula(&self) -> &'static str {
        "the base along ∇U(θ + ε), ε ~ N(0, σ² I): fsgld without the Langevin noise"
    }

    fn check(&self) -> Result<(), SettingError> {
        self.perturbed().check()?;
        self.base.descent().check()
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        self.base.descent_mut().momentum_mut()
    }

    fn base(&self) -> Base {
        self.base.clone()
    }

    fn pass(&self, point: &Point<'_>, gradient: &mut BatchGradient<'_>) -> Result<GradientReport> {
        self.perturbed().gradient(point, gradient)
    }
}

impl TryFrom<Fields> for Rwp {
    type Error = String;

    fn try_from(mut fields: Fields) -> Result<Self, String> {
        let default = Self::default();
        Ok(Self {
            sigma: fields.take_or("sigma", default.sigma)?,
            num_perturbations: fields.take_or("num_perturbations", default.num_perturbations)?,
            antithetic: fields.take_or("antithetic", default.antithetic)?,
            perturbation: fields.take_or("perturbation", default.perturbation)?,
            base: Base::from_fields(fields, "sigma, num_perturbations, antithetic, perturbation, base")?,
        })
    }
}

impl From<Rwp> for Fields {
    fn from(rwp: Rwp) -> Self {
        Self::default()
            .with("sigma", rwp.sigma)
            .with("num_perturbations", rwp.num_perturbations)
            .with("antithetic", rwp.antithetic)
            .with_word("perturbation", rwp.perturbation)
            .with_all(&rwp.base)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_moments, optimizer, values, vector};
    use super::super::{OptimizerConfig, Setup};
    use super::*;

    /// `U = Σ θ⁴`: `E ∇U(θ + ε) = 4θ³ + 12σ²θ`, the gradient of `θ⁴` plus that of `σ²/2 · 12 θ²`.
    ///
    /// With `x = θ + ε`: `Var x³ = 9θ⁴σ² + 36θ²σ⁴ + 15σ⁶`.
    #[test]
    fn on_a_quartic_the_mean_gradient_is_that_of_the_smoothed_loss() {
        let (n, rate, sigma) = (100_000, 0.01, 0.4f64);
        let mut quartic = |theta: &candle_core::Tensor| -> Result<GradientReport> {
            let report = super::super::testing::quadratic(0.0)(theta)?;
            Ok(GradientReport { gradient: (theta.powf(3.0)? * 4.0)?, ..report })
        };
        for text in ["rwp:sigma=0.4,momentum=0", "fsgld:sigma=0.4,beta_inverse=0"] {
            let config: OptimizerConfig = text.parse().unwrap();
            for theta in [0.0f64, 0.7, -1.5] {
                let mut optimizer = optimizer(&config, Setup::default(), n);
                let moved = optimizer.step(&vector(&vec![theta; n]), rate, &mut quartic).unwrap().theta;
                let gradients: Vec<f64> = values(&moved).iter().map(|moved| (theta - moved) / rate).collect();
                let (t2, s2) = (theta * theta, sigma * sigma);
                let variance = 16.0 * (9.0 * t2 * t2 * s2 + 36.0 * t2 * s2 * s2 + 15.0 * s2 * s2 * s2);
                let mean = gradients.iter().sum::<f64>() / n as f64;
                let expected = 4.0 * theta * t2 + 12.0 * s2 * theta;
                assert!((mean - expected).abs() < 4.0 * (variance / n as f64).sqrt(), "{mean}, not {expected}");
            }
        }
    }

    /// Heavy ball on `a θ²/2` with gradient noise of variance `(aσ)²` is a second-order autoregression with
    /// `φ₁ = 1 + μ − λa`, `φ₂ = −μ` and innovations of variance `(λaσ)²`.
    #[test]
    fn with_momentum_a_quadratic_has_the_variance_of_a_second_order_autoregression() {
        let (a, rate, mu, sigma) = (1.0, 0.5, 0.5, 0.8);
        let config: OptimizerConfig = format!("rwp:sigma={sigma},momentum={mu}").parse().unwrap();
        let (_, theta) = super::super::testing::stationary(&config, a, rate);
        assert_moments(
            &values(&theta),
            super::super::testing::autoregression((1.0 + mu - rate * a, -mu), rate * a * sigma),
        );
    }
}
