//! Flatness-aware stochastic gradient Langevin dynamics.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::BatchGradient;
use super::noise::{Noise, normals, signs};
use super::sgld::check_beta_inverse;
use crate::Result;
use crate::curvature::GradientReport;
use crate::random::Purpose;
use crate::train::TrainError;

/// The law of one entry of `ε/σ`: mean 0, variance 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Perturbation {
    /// Standard normal.
    #[default]
    Gaussian,
    /// ±1 with equal probability.
    Rademacher,
}

/// fSGLD (arXiv 2510.02174): `θ ← θ − λ(∇U(θ + ε, X) + wd θ) + sqrt(2 λ β⁻¹) ξ`, `ε ~ N(0, σ² I)`, `ξ ~ N(0, I)`,
/// both fresh in each step and independent, with the coupling `σ = β^{−(1+η)/4}` unless `sigma` is set by hand.
///
/// The stationary law approaches `exp(−β v)`, `v(θ) = u(θ) + σ²/2 · tr ∇²u(θ)`: flat minima have more mass. `U` is the
/// mean loss of a sample, so `β` and `σ` do not know the number of rows. Weight decay acts at `θ`, not at `θ + ε`.
/// No momentum. The perturbed parameters are a copy; `θ` itself is never changed and changed back. Batch statistics of
/// every perturbed pass enter the running averages, and the loss reported is that at `θ + ε`. `σ = 0` draws no `ε`,
/// takes one gradient and is SGLD, bit for bit. Cost: `num_perturbations` gradients a step, twice that with antithetic pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fsgld {
    /// `β⁻¹`, the temperature in units of the mean loss.
    pub beta_inverse: f64,
    /// `η` of the coupling, in 0..1, both ends excluded.
    pub eta: f64,
    /// `σ` set by hand; `None` couples it to `β`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Independent `ε` per step, whose gradients are averaged.
    pub num_perturbations: usize,
    /// Whether each `ε` comes with `−ε`.
    pub antithetic: bool,
    /// Law of `ε`.
    pub perturbation: Perturbation,
}

impl Default for Fsgld {
    fn default() -> Self {
        let perturbation = Perturbation::Gaussian;
        Self { beta_inverse: 1e-8, eta: 0.1, sigma: None, num_perturbations: 1, antithetic: false, perturbation }
    }
}

impl Fsgld {
    /// The perturbation scale: as set by hand, or `(β⁻¹)^{(1+η)/4}`.
    pub fn sigma(&self) -> f64 {
        self.sigma.unwrap_or_else(|| self.beta_inverse.powf((1.0 + self.eta) / 4.0))
    }

    pub(super) fn check(&self) -> Result<(), TrainError> {
        check_beta_inverse(self.beta_inverse)?;
        TrainError::unless(self.eta > 0.0 && self.eta < 1.0, "eta", self.eta, "above 0 and below 1")?;
        let sigma = self.sigma();
        TrainError::unless(sigma >= 0.0 && sigma.is_finite(), "sigma", sigma, "a number from 0 up")?;
        let count = self.num_perturbations;
        TrainError::unless(count > 0, "num_perturbations", count as f64, "1 or more")
    }

    /// Mean of `∇U(θ + ε)` over this step's perturbations.
    pub(super) fn gradient(
        &self,
        theta: &Tensor,
        noise: &Noise,
        step: u64,
        gradient: &mut BatchGradient<'_>,
    ) -> Result<GradientReport> {
        let sigma = self.sigma();
        if sigma == 0.0 {
            return gradient(theta);
        }
        let mut mean: Option<GradientReport> = None;
        let signs: &[f64] = if self.antithetic { &[1.0, -1.0] } else { &[1.0] };
        for index in 0..self.num_perturbations {
            let draw = step * self.num_perturbations as u64 + index as u64;
            let epsilon = noise.draw(Purpose::Perturbation, draw, theta.elem_count(), self.entries());
            let epsilon = noise.scaled(epsilon, sigma, theta)?;
            for &sign in signs {
                let pass = gradient(&if sign > 0.0 { (theta + &epsilon)? } else { (theta - &epsilon)? })?;
                mean = Some(match mean {
                    None => pass,
                    Some(sum) => add(sum, pass)?,
                });
            }
        }
        match mean {
            Some(sum) => scale(sum, 1.0 / (self.num_perturbations * signs.len()) as f64),
            None => gradient(theta),
        }
    }

    fn entries(&self) -> fn(&mut rand_chacha::ChaCha8Rng, &mut [f64]) {
        match self.perturbation {
            Perturbation::Gaussian => normals,
            Perturbation::Rademacher => signs,
        }
    }
}

fn add(mut sum: GradientReport, pass: GradientReport) -> Result<GradientReport> {
    sum.evaluation.loss += pass.evaluation.loss;
    sum.evaluation.accuracy += pass.evaluation.accuracy;
    sum.gradient = (sum.gradient + pass.gradient)?;
    sum.statistics.extend(pass.statistics);
    Ok(sum)
}

fn scale(mut sum: GradientReport, factor: f64) -> Result<GradientReport> {
    sum.evaluation.loss *= factor;
    sum.evaluation.accuracy *= factor;
    if factor != 1.0 {
        sum.gradient = (sum.gradient * factor)?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_variance, quadratic, stationary, values, vector};
    use super::super::{Optimizer, OptimizerConfig, Sgld};
    use super::*;

    const BETA_INVERSE: f64 = 0.2;
    const SIGMA: f64 = 1.5;

    fn fsgld(change: impl Fn(&mut Fsgld)) -> OptimizerConfig {
        let mut fsgld = Fsgld { beta_inverse: BETA_INVERSE, sigma: Some(SIGMA), ..Fsgld::default() };
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
            assert_variance(&values(&theta), variance);
            let rademacher = fsgld(|fsgld| {
                fsgld.num_perturbations = count;
                fsgld.perturbation = Perturbation::Rademacher;
            });
            let (_, theta) = stationary(&rademacher, a, rate);
            // The entries are nearly Gaussian, and their kurtosis is below that of a Gaussian: a smaller error.
            assert_variance(&values(&theta), variance);
        }
    }

    /// The gradient of a quadratic is linear, so that `ε` and `−ε` cancel and SGLD remains, with the same `ξ`.
    #[test]
    fn antithetic_pairs_cancel_on_a_quadratic() {
        let (_, theta) = stationary(&fsgld(|fsgld| fsgld.antithetic = true), 1.0, 0.5);
        let sgld = OptimizerConfig::Sgld(Sgld { beta_inverse: BETA_INVERSE });
        let (_, expected) = stationary(&sgld, 1.0, 0.5);
        let difference = values(&theta).iter().zip(values(&expected)).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        // One rounding of a sum of size 2 σ max|z| per step, damped by half each step.
        assert!(difference < 8.0 * f64::EPSILON * 10.0 * SIGMA, "{difference}");
    }

    #[test]
    fn sigma_follows_beta_unless_set() {
        let coupled = Fsgld { beta_inverse: 1e-8, eta: 0.1, ..Fsgld::default() };
        assert!((coupled.sigma() / 10f64.powf(-2.2) - 1.0).abs() < 1e-14);
        assert_eq!(Fsgld { sigma: Some(0.3), ..coupled }.sigma(), 0.3);
        assert_eq!(Fsgld { beta_inverse: 0.0, ..Fsgld::default() }.sigma(), 0.0);
    }

    /// Weight decay sees `θ`: with `U = 0` a step is a pure shrinkage whatever `ε` was.
    #[test]
    fn weight_decay_acts_at_theta() {
        let config = fsgld(|fsgld| fsgld.beta_inverse = 0.0);
        let mut optimizer = Optimizer::new(&config, 0.5, 3).unwrap();
        let update = optimizer.step(&vector(&[2.0, -4.0]), 0.25, &mut quadratic(0.0)).unwrap();
        assert_eq!(values(&update.theta), [2.0 * 0.875, -4.0 * 0.875]);
    }
}
