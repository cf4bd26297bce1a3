//! Sharpness-aware minimisation.

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::method::{BatchGradient, Method, Point};
use super::{Base, SettingError};
use crate::Result;
use crate::kernels::norm;
use crate::objective::GradientReport;

/// SAM (Foret et al. 2021): `ε = ρ g/‖g‖` with `g = ∇U(θ, X)`, then a step of the base along `∇U(θ + ε, X)`. With SGD:
/// `v ← μ v + (∇U(θ + ε, X) + wd θ)`, `θ ← θ − λ v`.
///
/// `U` is the mean loss of the batch; weight decay enters neither `g` nor its norm and acts at `θ`, in the base step
/// only, as in the authors' and the usual PyTorch code. The norm runs over all parameters at once, in f64. Loss and
/// batch statistics are those of the first pass; the second leaves no trace in the running averages. `ρ = 0` takes no
/// second pass and is the base, bit for bit. Cost: two gradients a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Sam {
    /// Radius `ρ`, in units of the parameters.
    pub rho: f64,
    /// What steps along the second gradient.
    pub base: Base,
}

impl Default for Sam {
    fn default() -> Self {
        Self { rho: 0.05, base: Base::default() }
    }
}

impl Method for Sam {
    fn formula(&self) -> &'static str {
        "the base along ∇U(θ + ρ g/‖g‖)"
    }

    fn check(&self) -> Result<(), SettingError> {
        check_rho(self.rho)?;
        self.base.descent().check()
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        self.base.descent_mut().momentum_mut()
    }

    fn base(&self) -> Base {
        self.base.clone()
    }

    /// The pass at `θ`, with the gradient of the pass at `θ + ε` in place of its own.
    fn pass(&self, &Point { theta, .. }: &Point<'_>, gradient: &mut BatchGradient<'_>) -> Result<GradientReport> {
        let first = gradient(theta)?;
        let norm = norm(&first.gradient)?;
        if self.rho == 0.0 || norm == 0.0 {
            return Ok(first); // nowhere to ascend
        }
        let second = gradient(&(theta + (&first.gradient * (self.rho / norm))?)?)?;
        Ok(GradientReport { gradient: second.gradient, ..first })
    }
}

pub(super) fn check_rho(rho: f64) -> Result<(), SettingError> {
    SettingError::unless(rho >= 0.0 && rho.is_finite(), "rho", rho, "0 or more")
}

impl TryFrom<Fields> for Sam {
    type Error = String;

    fn try_from(mut fields: Fields) -> Result<Self, String> {
        let rho = fields.take_or("rho", Self::default().rho)?;
        Ok(Self { rho, base: Base::from_fields(fields, "rho, base")? })
    }
}

impl From<Sam> for Fields {
    fn from(sam: Sam) -> Self {
        Self::default().with("rho", sam.rho).with_all(&sam.base)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{optimizer, quadratic, values, vector};
    use super::super::{OptimizerConfig, Setup, Sgd};
    use super::*;

    /// `U = a‖θ‖²/2`: `g = aθ`, so `ε = ρ θ/‖θ‖` and the second gradient is `a(1 + ρ/‖θ‖)θ`.
    #[test]
    fn two_steps_on_a_quadratic_follow_the_formula() {
        let (a, rho, wd, mu, rate) = (1.5, 0.4, 0.1, 0.9, 0.05);
        let config = OptimizerConfig::Sam(Sam { rho, base: Base::Sgd(Sgd::with_momentum(mu)) });
        let mut optimizer = optimizer(&config, Setup { weight_decay: wd, ..Setup::default() }, 2);
        let mut theta = vector(&[3.0, -4.0]);
        let (mut expected, mut velocity) = ([3.0f64, -4.0], [0.0; 2]);
        for _ in 0..2 {
            let update = optimizer.step(&theta, rate, &mut quadratic(a)).unwrap();
            let norm = (expected[0].powi(2) + expected[1].powi(2)).sqrt();
            // The loss is that of the first pass.
            assert!((update.pass.evaluation.loss - a * norm * norm / 2.0).abs() < 1e-13);
            for (value, v) in expected.iter_mut().zip(&mut velocity) {
                *v = mu * *v + a * (1.0 + rho / norm) * *value + wd * *value;
                *value -= rate * *v;
            }
            theta = update.theta;
        }
        let error = values(&theta).iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(error < 16.0 * f64::EPSILON * 5.0, "{error}");
    }

    #[test]
    fn a_vanishing_gradient_has_no_direction() {
        for text in ["sam", "asam", "sam:base=adamw"] {
            let mut optimizer = optimizer(&text.parse().unwrap(), Setup::default(), 2);
            let update = optimizer.step(&vector(&[0.0, 0.0]), 0.1, &mut quadratic(1.0)).unwrap();
            assert_eq!(values(&update.theta), [0.0, 0.0]);
        }
    }
}
