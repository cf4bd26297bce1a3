//! Stochastic gradient descent with heavy-ball or Nesterov momentum.

use candle_core::{Tensor, WithDType};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::method::{Descent, Method, Stride};
use super::stability::Threshold;
use super::{Base, CHUNK, SettingError};
use crate::Result;
use crate::kernels::{Slice, with_float};

/// SGD in PyTorch's form: `v ← μ v + d` with `d = ∇U(θ, X) + wd θ`, then `θ ← θ − λ v`, or `θ ← θ − λ (d + μ v)` with
/// Nesterov's momentum (1983, in the form of Sutskever et al. 2013); `v = 0` before the first step.
///
/// No noise of its own: all of it comes from the choice of rows. `λ` scales the whole buffer, so a change of the
/// learning rate acts at once (Sutskever et al. put `λ` inside the buffer instead). Cost: one gradient a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// `μ` in 0..1.
    pub momentum: f64,
    /// Whether the step looks ahead along the buffer; needs a momentum.
    pub nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false }
    }
}

impl Sgd {
    /// Heavy-ball momentum `μ`; 0 is plain descent.
    pub fn with_momentum(momentum: f64) -> Self {
        Self { momentum, nesterov: false }
    }
}

impl Method for Sgd {
    fn formula(&self) -> &'static str {
        "v ← μ v + d with d = g + wd θ, θ ← θ − λ v, with nesterov θ ← θ − λ (d + μ v)"
    }

    fn check(&self) -> Result<(), SettingError> {
        check_momentum(self.momentum)?;
        let usable = !self.nesterov || self.momentum > 0.0;
        SettingError::unless(usable, "momentum", self.momentum, "above 0 for nesterov")
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.momentum)
    }

    fn base(&self) -> Base {
        Base::Sgd(self.clone())
    }

    /// `λ₁(H + wd I) < 2(1 + μ)/η`, with Nesterov's momentum `2(1 + μ)/((1 + 2μ)η)` (Cohen et al. 2021), as bounds on
    /// `λ₁(H)`.
    fn threshold(&self, learning_rate: f64, weight_decay: f64) -> Option<Threshold> {
        let mu = self.momentum;
        let ahead = if self.nesterov { 1.0 + 2.0 * mu } else { 1.0 };
        Some(Threshold::Hessian(2.0 * (1.0 + mu) / (ahead * learning_rate) - weight_decay))
    }
}

impl Descent for Sgd {
    fn buffers(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["velocity"] }
    }

    fn descend(&self, stride: &Stride<'_>, buffers: &mut [Tensor]) -> Result<Tensor> {
        let (shape, device) = (stride.theta.dims(), stride.theta.device());
        let moved = with_float!(stride.theta.dtype(), T => {
            let mut theta = Slice::<T>::of(stride.theta)?.to_vec();
            match buffers.first_mut() {
                None => slide(stride, &mut theta)?,
                Some(buffer) => {
                    let mut velocity = Slice::<T>::of(buffer)?.to_vec();
                    roll(self, stride, &mut theta, &mut velocity)?;
                    *buffer = Tensor::from_vec(velocity, shape, device)?;
                }
            }
            Tensor::from_vec(theta, shape, device)
        })?;
        Ok(moved)
    }
}

pub(super) fn check_momentum(momentum: f64) -> Result<(), SettingError> {
    SettingError::unless((0.0..1.0).contains(&momentum), "momentum", momentum, "at least 0 and below 1")
}

/// `θ ← θ − λ d`
fn slide<T: WithDType>(stride: &Stride<'_>, theta: &mut [T]) -> candle_core::Result<()> {
    let gradient = Slice::<T>::of(stride.gradient)?;
    let gradient: &[T] = &gradient;
    let [scale, rate] = [stride.gradient_scale, stride.learning_rate].map(T::from_f64);
    stride.workers.install(|| {
        let chunks = theta.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).enumerate();
        chunks.for_each(|(index, (theta, gradient))| {
            for (piece, decay) in stride.weight_decay.pieces(index * CHUNK, theta.len()) {
                let decay = T::from_f64(decay);
                for (theta, &g) in theta[piece.clone()].iter_mut().zip(&gradient[piece]) {
                    *theta -= (g * scale + *theta * decay) * rate;
                }
            }
        });
    });
    Ok(())
}

/// `v ← μ v + d`, `θ ← θ − λ v` or `θ ← θ − λ (d + μ v)`
fn roll<T: WithDType>(sgd: &Sgd, stride: &Stride<'_>, theta: &mut [T], velocity: &mut [T]) -> candle_core::Result<()> {
    let gradient = Slice::<T>::of(stride.gradient)?;
    let gradient: &[T] = &gradient;
    let [scale, rate, mu] = [stride.gradient_scale, stride.learning_rate, sgd.momentum].map(T::from_f64);
    stride.workers.install(|| {
        let vectors = theta.par_chunks_mut(CHUNK).zip(velocity.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
        vectors.enumerate().for_each(|(index, ((theta, velocity), gradient))| {
            for (piece, decay) in stride.weight_decay.pieces(index * CHUNK, theta.len()) {
                let decay = T::from_f64(decay);
                let theta = theta[piece.clone()].iter_mut();
                for ((theta, v), &g) in theta.zip(&mut velocity[piece.clone()]).zip(&gradient[piece]) {
                    let direction = g * scale + *theta * decay;
                    *v = *v * mu + direction;
                    *theta -= (if sgd.nesterov { direction + *v * mu } else { *v }) * rate;
                }
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{optimizer, quadratic, values, vector};
    use super::super::{OptimizerConfig, Setup, Sgd};

    /// `U = a θ²/2`: three steps by hand, with a change of the learning rate.
    #[test]
    fn momentum_and_weight_decay_follow_pytorch() {
        let (a, wd, mu) = (2.0, 0.5, 0.75);
        for nesterov in [false, true] {
            let config = OptimizerConfig::Sgd(Sgd { momentum: mu, nesterov });
            let mut optimizer = optimizer(&config, Setup { weight_decay: wd, ..Setup::default() }, 2);
            let mut theta = vector(&[1.0, -3.0]);
            let (mut expected, mut velocity) = ([1.0, -3.0], [0.0, 0.0]);
            for rate in [0.125, 0.125, 0.0625] {
                theta = optimizer.step(&theta, rate, &mut quadratic(a)).unwrap().theta;
                for (value, v) in expected.iter_mut().zip(&mut velocity) {
                    let direction = (a + wd) * *value;
                    *v = mu * *v + direction;
                    *value -= rate * if nesterov { direction + mu * *v } else { *v };
                }
            }
            // Powers of two throughout: no rounding.
            assert_eq!(values(&theta), expected);
        }
    }
}
