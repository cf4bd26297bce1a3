//! Stochastic gradient descent with heavy-ball momentum, the base step of every method.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::train::TrainError;

/// SGD in PyTorch's form: `v ← μ v + (∇U(θ, X) + wd θ)`, `θ ← θ − λ v`, with `v = 0` before the first step.
///
/// No noise of its own: all of it comes from the choice of rows. `λ` scales the whole buffer, so a change of the
/// learning rate acts at once (Sutskever et al. 2013 put `λ` inside the buffer instead).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// `μ` in 0..1.
    pub momentum: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9 }
    }
}

impl Sgd {
    pub(super) fn check(&self) -> Result<(), TrainError> {
        check_momentum(self.momentum)
    }
}

pub(super) fn check_momentum(momentum: f64) -> Result<(), TrainError> {
    TrainError::unless((0.0..1.0).contains(&momentum), "momentum", momentum, "at least 0 and below 1")
}

/// The base step with its momentum buffer.
#[derive(Debug, Clone)]
pub(super) struct Descent {
    momentum: f64,
    weight_decay: f64,
    pub(super) velocity: Option<Tensor>,
}

impl Descent {
    pub(super) fn new(momentum: f64, weight_decay: f64) -> Self {
        Self { momentum, weight_decay, velocity: None }
    }

    /// `v ← μ v + g + wd θ`; returns `θ − λ v`.
    pub(super) fn step(&mut self, theta: &Tensor, gradient: &Tensor, learning_rate: f64) -> Result<Tensor> {
        let mut direction = gradient.clone();
        if self.weight_decay != 0.0 {
            direction = (direction + (theta * self.weight_decay)?)?;
        }
        if self.momentum != 0.0 {
            if let Some(velocity) = &self.velocity {
                direction = ((velocity * self.momentum)? + direction)?;
            }
            self.velocity = Some(direction.clone());
        }
        Ok((theta - (direction * learning_rate)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{quadratic, values, vector};
    use super::super::{Optimizer, OptimizerConfig, Sgd};

    /// `U = a θ²/2`: three steps by hand, with a change of the learning rate.
    #[test]
    fn momentum_and_weight_decay_follow_pytorch() {
        let (a, wd, mu) = (2.0, 0.5, 0.75);
        let mut optimizer = Optimizer::new(&OptimizerConfig::Sgd(Sgd { momentum: mu }), wd, 0).unwrap();
        let mut theta = vector(&[1.0, -3.0]);
        let (mut expected, mut velocity) = ([1.0, -3.0], [0.0, 0.0]);
        for rate in [0.125, 0.125, 0.0625] {
            theta = optimizer.step(&theta, rate, &mut quadratic(a)).unwrap().theta;
            for (value, v) in expected.iter_mut().zip(&mut velocity) {
                *v = mu * *v + (a + wd) * *value;
                *value -= rate * *v;
            }
        }
        // Powers of two throughout: no rounding.
        assert_eq!(values(&theta), expected);
    }
}
