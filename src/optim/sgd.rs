//! Stochastic gradient descent with heavy-ball or Nesterov momentum.

use candle_core::{Tensor, WithDType};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::CHUNK;
use super::base::Stride;
use crate::Result;
use crate::kernels::{Slice, with_float};
use crate::train::TrainError;

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

    pub(super) fn check(&self) -> Result<(), TrainError> {
        check_momentum(self.momentum)?;
        let usable = !self.nesterov || self.momentum > 0.0;
        TrainError::unless(usable, "momentum", self.momentum, "above 0 for nesterov")
    }
}

pub(super) fn check_momentum(momentum: f64) -> Result<(), TrainError> {
    TrainError::unless((0.0..1.0).contains(&momentum), "momentum", momentum, "at least 0 and below 1")
}

/// SGD with its buffer.
#[derive(Debug, Clone)]
pub(super) struct Momentum {
    sgd: Sgd,
    velocity: Option<Tensor>,
}

const VELOCITY: &str = "velocity";

impl Momentum {
    pub(super) fn new(sgd: &Sgd) -> Self {
        Self { sgd: sgd.clone(), velocity: None }
    }

    /// One step on the host; one pass over the vectors.
    pub(super) fn step(&mut self, stride: &Stride<'_>) -> Result<Tensor> {
        let shape = stride.theta.dims();
        let device = stride.theta.device();
        let moved = with_float!(stride.theta.dtype(), T => {
            let mut theta = Slice::<T>::of(stride.theta)?.to_vec();
            if self.sgd.momentum == 0.0 {
                descend(stride, &mut theta)?;
            } else {
                let mut velocity = match &self.velocity {
                    Some(velocity) => Slice::<T>::of(velocity)?.to_vec(),
                    None => vec![T::from_f64(0.0); theta.len()],
                };
                roll(&self.sgd, stride, &mut theta, &mut velocity)?;
                self.velocity = Some(Tensor::from_vec(velocity, shape, device)?);
            }
            Tensor::from_vec(theta, shape, device)
        })?;
        Ok(moved)
    }

    /// `v ← v − x/λ`: a shift `x` of `θ` beside the step goes on with the buffer.
    pub(super) fn push(&mut self, shift: &Tensor, learning_rate: f64) -> Result<()> {
        if let Some(velocity) = &mut self.velocity {
            *velocity = (&*velocity - (shift / learning_rate)?)?;
        }
        Ok(())
    }

    pub(super) fn fresh(&self) -> Self {
        Self { sgd: self.sgd.clone(), velocity: None }
    }

    pub(super) fn buffers(&self) -> Vec<(&'static str, Tensor)> {
        self.velocity.iter().map(|velocity| (VELOCITY, velocity.clone())).collect()
    }

    pub(super) fn restore(&mut self, find: &mut dyn FnMut(&'static str) -> Result<Tensor>) -> Result<()> {
        if self.sgd.momentum != 0.0 {
            self.velocity = Some(find(VELOCITY)?);
        }
        Ok(())
    }
}

/// `θ ← θ − λ d`
fn descend<T: WithDType>(stride: &Stride<'_>, theta: &mut [T]) -> candle_core::Result<()> {
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
