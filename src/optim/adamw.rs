//! Adam with decoupled weight decay.

use candle_core::{DType, Tensor, WithDType};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::method::{Descent, Method, Stride};
use super::stability::Threshold;
use super::{Base, CHUNK, SettingError};
use crate::Result;
use crate::kernels::{Slice, with_float};

/// AdamW (Loshchilov and Hutter 2019) in PyTorch's form: `θ ← θ(1 − λ wd)`, `m ← β₁ m + (1 − β₁) g`,
/// `s ← β₂ s + (1 − β₂) g²`, and in step `t` (from 1)
/// `θ ← θ − λ m/(1 − β₁ᵗ) / (√(s/(1 − β₂ᵗ)) + ε)`, elementwise, with `m = s = 0` before the first step.
///
/// `g` is the gradient without the weight decay, which acts at `θ` before the step and scales with the learning rate
/// of that step. No noise of its own. Cost: one gradient a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// `β₁` in 0..1, of the mean.
    pub beta1: f64,
    /// `β₂` in 0..1, of the mean square.
    pub beta2: f64,
    /// `ε` in the denominator, outside the root.
    pub eps: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl AdamW {
    /// The name of `s`, the second moment, among what it keeps.
    pub(crate) const SECOND_MOMENT: &'static str = "second_moment";

    /// The diagonal of `P = (1 − β₁ᵗ)(diag √(v/(1 − β₂ᵗ)) + ε)` in f64, where `second_moment` is `v` (above `s`) after `t = steps` steps:
    /// the last of them was `θ ← θ(1 − λ wd) − λ P⁻¹ m`.
    ///
    /// # Errors
    /// A tensor operation.
    pub fn preconditioner(&self, second_moment: &Tensor, steps: f64) -> Result<Tensor> {
        let [bias1, bias2] = [self.beta1, self.beta2].map(|beta| bias(beta, steps));
        let root = (second_moment.to_dtype(DType::F64)? / bias2)?.sqrt()?;
        Ok(((root + self.eps)? * bias1)?)
    }
}

/// `1 − βᵗ`: a power of an f64 count is exact enough far beyond the step where it has become 0.
fn bias(beta: f64, steps: f64) -> f64 {
    1.0 - beta.powf(steps)
}

impl Method for AdamW {
    fn formula(&self) -> &'static str {
        "m ← β₁ m + (1 − β₁) g, s ← β₂ s + (1 − β₂) g², θ ← θ (1 − λ wd) − λ m̂/(√ŝ + ε)"
    }

    fn check(&self) -> Result<(), SettingError> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            SettingError::unless((0.0..1.0).contains(&beta), name, beta, "at least 0 and below 1")?;
        }
        SettingError::unless(self.eps >= 0.0 && self.eps.is_finite(), "eps", self.eps, "0 or more")
    }

    fn base(&self) -> Base {
        Base::AdamW(self.clone())
    }

    /// `λ₁(P⁻¹H) < (2 − η wd)(1 + β₁)/((1 − β₁)η)`, `P` as [`AdamW::preconditioner`] gives it (Cohen et al. 2022, who have
    /// it without weight decay).
    fn threshold(&self, learning_rate: f64, weight_decay: f64) -> Option<Threshold> {
        let room = (2.0 - learning_rate * weight_decay) / learning_rate;
        Some(Threshold::Preconditioned(room * (1.0 + self.beta1) / (1.0 - self.beta1)))
    }
}

impl Descent for AdamW {
    fn buffers(&self) -> &'static [&'static str] {
        &["first_moment", Self::SECOND_MOMENT]
    }

    fn descend(&self, stride: &Stride<'_>, buffers: &mut [Tensor]) -> Result<Tensor> {
        let (shape, device) = (stride.theta.dims(), stride.theta.device());
        let moved = with_float!(stride.theta.dtype(), T => {
            let mut theta = Slice::<T>::of(stride.theta)?.to_vec();
            if let [first, second] = buffers {
                let mut moments = [Slice::<T>::of(first)?.to_vec(), Slice::<T>::of(second)?.to_vec()];
                descend(self, stride, &mut theta, &mut moments)?;
                let [m, s] = moments;
                (*first, *second) = (Tensor::from_vec(m, shape, device)?, Tensor::from_vec(s, shape, device)?);
            }
            Tensor::from_vec(theta, shape, device)
        })?;
        Ok(moved)
    }
}

fn descend<T: WithDType>(
    adamw: &AdamW,
    stride: &Stride<'_>,
    theta: &mut [T],
    [first, second]: &mut [Vec<T>; 2],
) -> candle_core::Result<()> {
    let gradient = Slice::<T>::of(stride.gradient)?;
    let gradient: &[T] = &gradient;
    let rate = stride.learning_rate;
    let [bias1, bias2] = [adamw.beta1, adamw.beta2].map(|beta| bias(beta, (stride.steps + 1) as f64));
    let [scale, fresh1, keep2, fresh2] =
        [stride.gradient_scale, 1.0 - adamw.beta1, adamw.beta2, 1.0 - adamw.beta2].map(T::from_f64);
    let [pace, root2, eps] = [rate / bias1, bias2.sqrt(), adamw.eps].map(T::from_f64);
    stride.workers.install(|| {
        let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
        let vectors = theta.par_chunks_mut(CHUNK).zip(moments).zip(gradient.par_chunks(CHUNK));
        vectors.enumerate().for_each(|(index, ((theta, (first, second)), gradient))| {
            for (piece, decay) in stride.weight_decay.pieces(index * CHUNK, theta.len()) {
                let shrink = T::from_f64(1.0 - rate * decay);
                let moments = first[piece.clone()].iter_mut().zip(&mut second[piece.clone()]);
                let theta = theta[piece.clone()].iter_mut();
                for ((theta, (m, s)), &g) in theta.zip(moments).zip(&gradient[piece]) {
                    let g = g * scale;
                    *m += (g - *m) * fresh1;
                    *s = *s * keep2 + g * g * fresh2;
                    // The root of an f32 by way of f64 is the correctly rounded one.
                    let root = T::from_f64(s.to_f64().sqrt());
                    *theta = *theta * shrink - *m / (root / root2 + eps) * pace;
                }
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{optimizer, quadratic, values, vector};
    use super::super::{AdamW, OptimizerConfig, Setup};

    /// In the first step `m/(1 − β₁) = g` and `s/(1 − β₂) = g²`: with `ε = 0` a step of `λ` against the sign of `g`.
    #[test]
    fn the_first_step_has_the_length_of_the_learning_rate() {
        let config = OptimizerConfig::AdamW(AdamW { eps: 0.0, ..AdamW::default() });
        let setup = Setup { weight_decay: 0.5, ..Setup::default() };
        let update = optimizer(&config, setup, 2).step(&vector(&[2.0, -8e-5]), 0.25, &mut quadratic(3.0)).unwrap();
        let expected = [2.0 * (1.0 - 0.125) - 0.25, -8e-5 * (1.0 - 0.125) + 0.25];
        for (got, expected) in values(&update.theta).into_iter().zip(expected) {
            // Five roundings of numbers below 2.
            assert!((got - expected).abs() < 8.0 * f64::EPSILON, "{got} {expected}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (text, name) in [("adamw:beta1=1", "beta1"), ("adamw:beta2=-0.1", "beta2"), ("adamw:eps=-1", "eps")] {
            let error = text.parse::<OptimizerConfig>().unwrap().check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
