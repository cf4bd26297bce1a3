//! Stochastic gradient Langevin dynamics.

use serde::{Deserialize, Serialize};

use super::method::{Langevin, Method};
use super::{Base, SettingError, Sgd};

/// SGLD (Welling and Teh 2011): `θ ← θ − λ(∇U(θ, X) + wd θ) + sqrt(2 λ β⁻¹) ξ`, `ξ ~ N(0, I)`.
///
/// The noise has variance `2 λ β⁻¹` per parameter and step (the convention without a half in front of the gradient), so
/// that for small `λ` the stationary law approaches `exp(−β U)`. `U` is the *mean* loss of a sample plus `wd/2 ‖θ‖²`:
/// the posterior of `N` rows is `β = N`. No momentum. `β⁻¹ = 0` draws nothing and is SGD, bit for bit. Cost: one
/// gradient a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgld {
    /// `β⁻¹`, the temperature in units of the mean loss.
    pub beta_inverse: f64,
}

impl Default for Sgld {
    fn default() -> Self {
        Self { beta_inverse: 1e-8 }
    }
}

impl Method for Sgld {
    fn formula(&self) -> &'static str {
        "θ ← θ − λ (g + wd θ) + √(2 λ β⁻¹) ξ with ξ ~ N(0, I)"
    }

    fn check(&self) -> Result<(), SettingError> {
        check_beta_inverse(self.beta_inverse)
    }

    fn base(&self) -> Base {
        Base::Sgd(Sgd::with_momentum(0.0))
    }

    fn langevin(&self) -> Option<Langevin> {
        Some(Langevin { beta_inverse: self.beta_inverse, momentum: 0.0 })
    }
}

pub(super) fn check_beta_inverse(beta_inverse: f64) -> Result<(), SettingError> {
    let usable = beta_inverse >= 0.0 && beta_inverse.is_finite();
    SettingError::unless(usable, "beta_inverse", beta_inverse, "0 or more")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_moments, quadratic, stationary, values};
    use super::super::{OptimizerConfig, Sgld};

    /// `θ' = (1 − λa)θ + sqrt(2λβ⁻¹) ξ` is a first-order autoregression: variance `2β⁻¹ / (a(2 − λa))`, and
    /// covariance of neighbours `1 − λa` times that.
    #[test]
    fn a_quadratic_has_the_exact_discrete_time_covariance() {
        let beta_inverse = 0.3;
        for (a, rate) in [(1.0, 0.5), (4.0, 0.3), (0.8, 2.0)] {
            let config = OptimizerConfig::Sgld(Sgld { beta_inverse });
            let (mut optimizer, theta) = stationary(&config, a, rate);
            let variance = 2.0 * beta_inverse / (a * (2.0 - rate * a));
            assert_moments(&values(&theta), variance);
            let next = values(&optimizer.step(&theta, rate, &mut quadratic(a)).unwrap().theta);
            let n = next.len() as f64;
            let lagged = values(&theta).iter().zip(&next).map(|(x, y)| x * y).sum::<f64>() / n;
            // Var(xy) = Var(x) Var(y) (1 + ρ²) for Gaussians of correlation ρ.
            let correlation = 1.0 - rate * a;
            let std_err = variance * ((1.0 + correlation * correlation) / n).sqrt();
            assert!((lagged - correlation * variance).abs() < 4.0 * std_err, "{lagged} at a = {a}");
        }
    }
}
