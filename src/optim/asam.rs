//! Adaptive sharpness-aware minimisation.

use candle_core::{Device, Tensor, WithDType};
use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::groups::Groups;
use super::method::{BatchGradient, Method, Point};
use super::sam::check_rho;
use super::{Base, SettingError};
use crate::Result;
use crate::kernels::norm;
use crate::kernels::{Slice, with_float};
use crate::objective::GradientReport;

/// ASAM (Kwon et al. 2021): `ε = ρ T² g/‖T g‖` with `g = ∇U(θ, X)` and the diagonal `T = |θ| + η` on weights, then a
/// step of the base along `∇U(θ + ε, X)`. With SGD: `v ← μ v + (∇U(θ + ε, X) + wd θ)`, `θ ← θ − λ v`.
///
/// `T` makes the radius one of relative changes, so that rescaled layers see the same `ε`. `T = 1` on biases and on
/// scale and shift of normalisations, as the paper does with biases; the authors' code goes by names and also
/// normalises the *scale* of a normalisation, called `weight` there. Everything else is as in [`super::Sam`]; `ρ = 0`
/// is the base, bit for bit. Cost: two gradients a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Asam {
    /// Radius `ρ`, in units of `θ/T`: a number without dimension on weights.
    pub rho: f64,
    /// `η`, which lets parameters near 0 move.
    pub eta: f64,
    /// What steps along the second gradient.
    pub base: Base,
}

impl Default for Asam {
    fn default() -> Self {
        Self { rho: 0.5, eta: 0.01, base: Base::default() }
    }
}

impl Method for Asam {
    fn formula(&self) -> &'static str {
        "the base along ∇U(θ + ρ T² g/‖T g‖), T = |θ| + η on weights and 1 on biases and norms"
    }

    fn check(&self) -> Result<(), SettingError> {
        check_rho(self.rho)?;
        SettingError::unless(self.eta >= 0.0 && self.eta.is_finite(), "eta", self.eta, "0 or more")?;
        self.base.descent().check()
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        self.base.descent_mut().momentum_mut()
    }

    fn base(&self) -> Base {
        self.base.clone()
    }

    /// The pass at `θ`, with the gradient of the pass at `θ + ε` in place of its own.
    fn pass(&self, point: &Point<'_>, gradient: &mut BatchGradient<'_>) -> Result<GradientReport> {
        let &Point { theta, weights, .. } = point;
        let first = gradient(theta)?;
        let scaled = self.scaled(theta, &first.gradient, weights)?;
        let norm = norm(&scaled)?;
        if self.rho == 0.0 || norm == 0.0 {
            return Ok(first); // nowhere to ascend
        }
        let epsilon = (self.scaled(theta, &scaled, weights)? * (self.rho / norm))?;
        let second = gradient(&(theta + epsilon)?)?;
        Ok(GradientReport { gradient: second.gradient, ..first })
    }
}

impl Asam {
    /// `T v`, where `weights` says at which parameters `T` is not 1.
    fn scaled(&self, theta: &Tensor, vector: &Tensor, weights: &Groups<bool>) -> Result<Tensor> {
        let host = [theta, vector].map(|tensor| tensor.to_device(&Device::Cpu)?.contiguous());
        let [host_theta, host_vector] = host;
        let (host_theta, host_vector) = (host_theta?, host_vector?);
        let scaled = with_float!(theta.dtype(), T => {
            let theta = Slice::<T>::of(&host_theta)?;
            let mut scaled = Slice::<T>::of(&host_vector)?.to_vec();
            for (piece, is_weight) in weights.pieces(0, theta.len()) {
                if is_weight {
                    let theta = &theta[piece.clone()];
                    scaled[piece].iter_mut().zip(theta).for_each(|(v, &theta)| *v *= radius(theta, self.eta));
                }
            }
            Tensor::from_vec(scaled, host_vector.dims(), &Device::Cpu)
        })?;
        Ok(scaled.to_device(theta.device())?)
    }
}

/// `|θ| + η`
fn radius<T: WithDType>(theta: T, eta: f64) -> T {
    T::from_f64(theta.to_f64().abs() + eta)
}

impl TryFrom<Fields> for Asam {
    type Error = String;

    fn try_from(mut fields: Fields) -> Result<Self, String> {
        let default = Self::default();
        let (rho, eta) = (fields.take_or("rho", default.rho)?, fields.take_or("eta", default.eta)?);
        Ok(Self { rho, eta, base: Base::from_fields(fields, "rho, eta, base")? })
    }
}

impl From<Asam> for Fields {
    fn from(asam: Asam) -> Self {
        Self::default().with("rho", asam.rho).with("eta", asam.eta).with_all(&asam.base)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{quadratic, values, vector};
    use super::super::{Optimizer, OptimizerConfig, Setup};
    use crate::autodiff::ParamSpace;
    use crate::vocabulary::ParamKind;

    /// `U = a‖θ‖²/2` with a weight, a bias and a norm's scale: `T = (|θ₀| + η, 1, 1)`.
    #[test]
    fn only_weights_are_normalised() {
        let (a, rho, eta, rate) = (1.5f64, 0.4, 0.1, 0.25);
        let config: OptimizerConfig = format!("asam:rho={rho},eta={eta},momentum=0").parse().unwrap();
        let kinds = [("w", ParamKind::Weight), ("b", ParamKind::Bias), ("n", ParamKind::Norm)];
        let space = ParamSpace::new(kinds.map(|(name, kind)| (name.into(), vec![1], kind)));
        let theta = [-2.0f64, 0.5, 3.0];
        let mut optimizer = Optimizer::new(&config, Setup::default(), &space).unwrap();
        let moved = values(&optimizer.step(&vector(&theta), rate, &mut quadratic(a)).unwrap().theta);
        let t = [2.0 + eta, 1.0, 1.0];
        let norm = (0..3).map(|i| (t[i] * a * theta[i]).powi(2)).sum::<f64>().sqrt();
        for i in 0..3 {
            let epsilon = rho * t[i] * t[i] * a * theta[i] / norm;
            let expected = theta[i] - rate * a * (theta[i] + epsilon);
            // About ten roundings of numbers below 4.
            assert!((moved[i] - expected).abs() < 10.0 * 4.0 * f64::EPSILON, "{i}: {} {expected}", moved[i]);
        }
    }
}
