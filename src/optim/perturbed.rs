//! Gradients at randomly perturbed parameters, the part that fSGLD and RWP share.

use super::SettingError;
use super::method::{BatchGradient, Point};
use super::noise::{Draw, Perturbation};
use crate::Result;
use crate::objective::GradientReport;
use crate::random::Purpose;

/// How `ε = σ z` is drawn in each step.
pub(super) struct Perturbed {
    pub(super) sigma: f64,
    /// Independent `ε` per step.
    pub(super) count: usize,
    /// Whether each comes with `−ε`.
    pub(super) antithetic: bool,
    pub(super) law: Perturbation,
}

impl Perturbed {
    pub(super) fn check(&self) -> Result<(), SettingError> {
        let sigma = self.sigma;
        SettingError::unless(sigma >= 0.0 && sigma.is_finite(), "sigma", sigma, "0 or more")?;
        SettingError::unless(self.count > 0, "num_perturbations", self.count as f64, "1 or more")
    }

    /// Mean of `∇U(θ + ε)` over this step's perturbations; the gradient at `θ` where `σ = 0`.
    pub(super) fn gradient(&self, point: &Point<'_>, gradient: &mut BatchGradient<'_>) -> Result<GradientReport> {
        let &Point { theta, noise, step, .. } = point;
        let mut mean: Option<GradientReport> = None;
        let signs: &[f64] = if self.antithetic { &[1.0, -1.0] } else { &[1.0] };
        let count = if self.sigma == 0.0 { 0 } else { self.count };
        for index in 0..count {
            let index = step * self.count as u64 + index as u64;
            let draw = Draw { purpose: Purpose::Perturbation, index, law: self.law };
            for &sign in signs {
                // ε is drawn anew for −ε: a few nanoseconds a number, beside a whole gradient, and no memory.
                let pass = gradient(&noise.shifted(theta, draw, sign * self.sigma)?)?;
                mean = Some(match mean {
                    None => pass,
                    Some(sum) => add(sum, pass)?,
                });
            }
        }
        match mean {
            Some(sum) => scale(sum, 1.0 / (count * signs.len()) as f64),
            None => gradient(theta),
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
