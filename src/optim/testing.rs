//! Quadratics `U = a‖θ‖²/2`, on which every method has a closed form.

use candle_core::{Device, Tensor};

use super::{Optimizer, OptimizerConfig, Setup};
use crate::Result;
use crate::autodiff::ParamSpace;
use crate::objective::{Evaluation, GradientReport};
use crate::vocabulary::ParamKind;

/// Independent coordinates of a stationary sample.
const NUM_COORDINATES: usize = 100_000;

pub(super) fn vector(values: &[f64]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

pub(super) fn values(theta: &Tensor) -> Vec<f64> {
    theta.to_vec1().unwrap()
}

/// Loss and gradient of `U = a‖θ‖²/2`.
pub(super) fn quadratic(a: f64) -> impl FnMut(&Tensor) -> Result<GradientReport> {
    move |theta| {
        let loss = a / 2.0 * theta.sqr()?.sum_all()?.to_scalar::<f64>()?;
        let nan = f64::NAN;
        let evaluation = Evaluation { loss, loss_std_err: nan, accuracy: nan, accuracy_std_err: nan };
        Ok(GradientReport { evaluation, gradient: (theta * a)?, statistics: Vec::new(), scores: None })
    }
}

/// On `n` weights.
pub(super) fn optimizer(config: &OptimizerConfig, setup: Setup, n: usize) -> Optimizer {
    Optimizer::new(config, setup, &ParamSpace::new([("w".into(), vec![n], ParamKind::Weight)])).unwrap()
}

/// The optimiser and `θ` after so many steps from 0 that the start is forgotten: `|1 − λa|^(2·60)` is below 1e-25 in
/// the tests, where `|1 − λa| ≤ 0.6`; with momentum `μ ≤ 0.5` the roots are complex and `μ^60` is below 1e-18.
pub(super) fn stationary(config: &OptimizerConfig, a: f64, learning_rate: f64) -> (Optimizer, Tensor) {
    assert!((1.0 - learning_rate * a).abs() < 0.61);
    let mut optimizer = optimizer(config, Setup { seed: 11, threads: 2, ..Setup::default() }, NUM_COORDINATES);
    let mut theta = vector(&vec![0.0; NUM_COORDINATES]);
    for _ in 0..60 {
        theta = optimizer.step(&theta, learning_rate, &mut quadratic(a)).unwrap().theta;
    }
    (optimizer, theta)
}

/// Stationary variance of `x'' = φ₁ x' + φ₂ x + s ξ`: `s² (1 − φ₂) / ((1 + φ₂)((1 − φ₂)² − φ₁²))` (Yule and Walker).
pub(super) fn autoregression((phi1, phi2): (f64, f64), innovation: f64) -> f64 {
    innovation * innovation * (1.0 - phi2) / ((1.0 + phi2) * ((1.0 - phi2).powi(2) - phi1 * phi1))
}

/// Mean 0 and the given variance, within four standard errors: `sqrt(v/n)` and `v sqrt(2/n)` for Gaussians.
pub(super) fn assert_moments(values: &[f64], variance: f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    assert!(mean.abs() < 4.0 * (variance / n).sqrt(), "mean {mean} at variance {variance}");
    let sample = values.iter().map(|value| value * value).sum::<f64>() / n;
    assert!((sample - variance).abs() < 4.0 * variance * (2.0 / n).sqrt(), "variance {sample}, not {variance}");
}
