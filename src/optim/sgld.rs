//! Stochastic gradient Langevin dynamics.

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::method::{Langevin, Method};
use super::{Base, RmsProp, SettingError, Sgd, Temperature};

/// SGLD (Welling and Teh 2011): `θ ← θ − λ(∇U(θ, X) + wd θ) + sqrt(2 λ β⁻¹) ξ`, `ξ ~ N(0, I)`.
///
/// The noise has variance `2 λ β⁻¹` per parameter and step (the convention without a half in front of the gradient), so
/// that for small `λ` the stationary law approaches `exp(−β U)`. `U` is the *mean* loss of a sample plus `wd/2 ‖θ‖²`:
/// the posterior of `N` rows is `β = N`. No momentum. `β⁻¹ = 0` draws nothing and is SGD, bit for bit. Cost: one
/// gradient a step.
///
/// With a preconditioner (pSGLD, Li et al. 2016): `θ ← θ − λ G d + sqrt(2 λ β⁻¹ G) ξ`, `d = ∇U + wd θ`,
/// `G = 1/(√s + ε)`, `s ← α s + (1 − α) d²`. Their term `Γ`, the divergence of `G`, is left out, as in their own
/// experiments: the stationary law is biased by the order of `1 − α`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Sgld {
    /// In text and JSON either `beta_inverse` or `temperature`.
    pub temperature: Temperature,
    /// `G`; 1 where there is none.
    pub preconditioner: Option<RmsProp>,
}

impl Method for Sgld {
    fn formula(&self) -> &'static str {
        "θ ← θ − λ (g + wd θ) + √(2 λ β⁻¹) ξ with ξ ~ N(0, I); temperature=T in place of beta_inverse = T/N"
    }

    fn check(&self) -> Result<(), SettingError> {
        self.temperature.check()?;
        self.preconditioner.as_ref().map_or(Ok(()), RmsProp::check)
    }

    fn base(&self) -> Base {
        self.preconditioner.clone().map_or(Base::Sgd(Sgd::with_momentum(0.0)), Base::RmsProp)
    }

    fn langevin(&self) -> Option<Langevin> {
        Some(Langevin { beta_inverse: self.temperature.beta_inverse(), momentum: 0.0 })
    }

    fn temperature_mut(&mut self) -> Option<&mut Temperature> {
        Some(&mut self.temperature)
    }
}

impl TryFrom<Fields> for Sgld {
    type Error = String;

    fn try_from(mut fields: Fields) -> Result<Self, String> {
        let temperature = Temperature::take(&mut fields)?;
        let preconditioner = RmsProp::take_preconditioner(&mut fields)?;
        fields.end("beta_inverse, temperature, preconditioner, and with one alpha, eps")?;
        Ok(Self { temperature, preconditioner })
    }
}

impl From<Sgld> for Fields {
    fn from(sgld: Sgld) -> Self {
        RmsProp::put_preconditioner(sgld.preconditioner.as_ref(), sgld.temperature.put(Self::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_moments, quadratic, stationary, values};
    use super::super::{OptimizerConfig, Sgld, Temperature};

    /// `θ' = (1 − λa)θ + sqrt(2λβ⁻¹) ξ` is a first-order autoregression: variance `2β⁻¹ / (a(2 − λa))`, and
    /// covariance of neighbours `1 − λa` times that.
    #[test]
    fn a_quadratic_has_the_exact_discrete_time_covariance() {
        let beta_inverse = 0.3;
        for (a, rate) in [(1.0, 0.5), (4.0, 0.3), (0.8, 2.0)] {
            let config =
                OptimizerConfig::Sgld(Sgld { temperature: Temperature::MeanLoss(beta_inverse), preconditioner: None });
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
