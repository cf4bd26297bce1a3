//! The largest curvature at which a method settles on a quadratic.
//!
//! On `U(θ) = θᵀHθ/2` a step is linear in `θ` and in what the method keeps; along each eigenvector it has a characteristic
//! polynomial, and all its roots lie in the unit circle while the eigenvalue is below a threshold, at which one of them passes
//! through −1. Gradient descent on a network hovers there (Cohen et al. 2021; with adaptive methods Cohen et al. 2022).
//! Steps on random batches, and clipped ones, are not described by it.

use super::OptimizerConfig;

/// A bound on the largest eigenvalue of one matrix or the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// Of the Hessian `H` of the loss without weight decay.
    Hessian(f64),
    /// Of `P⁻¹H`, with the same `H`, and `P` that of [`AdamW::preconditioner`](super::AdamW::preconditioner).
    Preconditioned(f64),
}

impl Threshold {
    /// The bound itself.
    pub fn value(self) -> f64 {
        match self {
            Self::Hessian(value) | Self::Preconditioned(value) => value,
        }
    }
}

impl OptimizerConfig {
    /// The largest curvature at which steps of size `η` with weight decay `wd` settle on a quadratic; `None` where no bound
    /// is known, as for methods that add noise or take their gradient elsewhere.
    ///
    /// - `sgd`: `λ₁(H + wd I) < 2/η`, with heavy-ball momentum `2(1 + μ)/η`, with Nesterov's `2(1 + μ)/((1 + 2μ)η)`
    ///   (Cohen et al. 2021), given as a bound on `λ₁(H)`;
    /// - `adamw`: `λ₁(P⁻¹H) < (2 − η wd)(1 + β₁)/((1 − β₁)η)` for a fixed `P` (Cohen et al. 2022).
    ///
    /// Where only part of the parameters decay, the bound lies between this one and that without decay.
    pub fn threshold(&self, learning_rate: f64, weight_decay: f64) -> Option<Threshold> {
        self.method().threshold(learning_rate, weight_decay)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;
    use nalgebra::{DMatrix, DVector};

    use super::super::testing::{optimizer, values, vector};
    use super::super::{AdamW, OPTIMIZERS, Optimizer, OptimizerState, Setup};
    use super::*;
    use crate::Result;
    use crate::objective::{Evaluation, GradientReport};

    const RATE: f64 = 0.03;
    const DECAY: f64 = 0.4;

    /// A symmetric matrix that mixes all coordinates, of eigenvalues 1, 0.6 and 0.3.
    fn shape() -> DMatrix<f64> {
        let mixed = DMatrix::from_row_slice(3, 3, &[1.0, 0.4, -0.7, 0.2, -1.0, 0.5, 0.9, 0.3, 0.6]);
        let q = mixed.qr().q();
        &q * DMatrix::from_diagonal(&DVector::from_vec(vec![1.0, 0.6, 0.3])) * q.transpose()
    }

    /// Loss and gradient of `U = θᵀHθ/2`.
    fn quadratic(hessian: &DMatrix<f64>) -> impl FnMut(&Tensor) -> Result<GradientReport> {
        move |theta| {
            let theta = DVector::from_vec(values(theta));
            let gradient = hessian * &theta;
            let (loss, nan) = (0.5 * theta.dot(&gradient), f64::NAN);
            let evaluation = Evaluation { loss, loss_std_err: nan, accuracy: nan, accuracy_std_err: nan };
            let gradient = vector(gradient.as_slice());
            Ok(GradientReport { evaluation, gradient, statistics: Vec::new(), scores: None })
        }
    }

    /// Whether `θ` has left for good: a thousand times its first length, against less than a hundredth of it.
    ///
    /// At 0.1 % off the threshold the slowest factor per step is `|1 − 2·1.001|` = 1.002 (and 0.998 below), that of descent
    /// without momentum: 6000 steps multiply by 1.6e5 or more, and by 6e-6 or less.
    fn diverges(optimizer: &mut Optimizer, hessian: &DMatrix<f64>) -> bool {
        let start = vector(&[1e-3, -2e-3, 1.5e-3]);
        let norm = |theta: &Tensor| DVector::from_vec(values(theta)).norm();
        let mut theta = start.clone();
        for _ in 0..6000 {
            theta = optimizer.step(&theta, RATE, &mut quadratic(hessian)).unwrap().theta;
            if norm(&theta) > 1e3 * norm(&start) {
                return true;
            }
        }
        assert!(norm(&theta) < 1e-2 * norm(&start), "{}", norm(&theta));
        false
    }

    fn setup() -> Setup {
        Setup { weight_decay: DECAY, ..Setup::default() }
    }

    #[test]
    fn descent_with_and_without_momentum_turns_at_its_threshold() {
        for text in ["sgd:momentum=0", "sgd:momentum=0.9", "sgd:momentum=0.5", "sgd:momentum=0.9,nesterov=true"] {
            let config: OptimizerConfig = text.parse().unwrap();
            let Some(Threshold::Hessian(threshold)) = config.threshold(RATE, DECAY) else { panic!("{text}") };
            for (factor, expected) in [(0.999, false), (1.001, true)] {
                // The eigenvalue that counts is that of H + wd I: scaled, it is this far from its bound.
                let hessian = shape() * ((threshold + DECAY) * factor - DECAY);
                assert_eq!(diverges(&mut optimizer(&config, setup(), 3), &hessian), expected, "{text} {factor}");
            }
        }
    }

    /// The bound is for a fixed `P`. A real optimiser has one where `v` stands still: `β₂` is the largest number below 1, so
    /// that a step adds 1e-16 of the squared gradient, and the count of steps is so large that `β₁ᵗ` and `β₂ᵗ` are 0 and the
    /// corrections of bias are 1. `v` differs between the coordinates, so that `P⁻¹H` has other eigenvectors than `H`.
    #[test]
    fn adamw_with_frozen_second_moments_turns_at_its_threshold() {
        let second_moment = vector(&[4.0, 0.25, 1.0]);
        for (beta1, decay) in [(0.9, 0.0), (0.9, DECAY), (0.5, DECAY), (0.0, DECAY)] {
            let adamw = AdamW { beta1, beta2: 1.0 - f64::EPSILON / 2.0, eps: 0.1 };
            let config = OptimizerConfig::AdamW(adamw.clone());
            let Some(Threshold::Preconditioned(threshold)) = config.threshold(RATE, decay) else { panic!("{beta1}") };
            let steps = 1 << 60;
            let p = values(&adamw.preconditioner(&second_moment, steps as f64).unwrap());
            assert_eq!(p, [2.1, 0.6, 1.1]);
            let scale = DMatrix::from_diagonal(&DVector::from_iterator(3, p.iter().map(|p| p.sqrt().recip())));
            let largest = (&scale * shape() * &scale).symmetric_eigenvalues().max();
            for (factor, expected) in [(0.999, false), (1.001, true)] {
                let mut optimizer = optimizer(&config, Setup { weight_decay: decay, ..Setup::default() }, 3);
                let tensors = [("first_moment", vector(&[0.0; 3])), ("second_moment", second_moment.clone())];
                let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor)).to_vec();
                optimizer.restore(OptimizerState { steps, tensors }).unwrap();
                let hessian = shape() * (threshold * factor / largest);
                assert_eq!(diverges(&mut optimizer, &hessian), expected, "{beta1} {decay} {factor}");
            }
        }
    }

    /// With the corrections of bias: a step is `θ(1 − λ wd) − λ P⁻¹ m`, with `P` and `m` as they are after it.
    #[test]
    fn the_preconditioner_is_that_of_the_step() {
        let adamw = AdamW { beta1: 0.8, beta2: 0.95, eps: 1e-3 };
        let config = OptimizerConfig::AdamW(adamw.clone());
        let mut optimizer = optimizer(&config, setup(), 3);
        let hessian = shape();
        let mut theta = vector(&[1.0, -2.0, 0.3]);
        for steps in 1..8 {
            let before = values(&theta);
            theta = optimizer.step(&theta, RATE, &mut quadratic(&hessian)).unwrap().theta;
            let state = optimizer.state();
            let buffer = |name: &str| state.tensors.iter().find(|(own, _)| own == name).unwrap().1.clone();
            let p = values(&adamw.preconditioner(&buffer("second_moment"), f64::from(steps)).unwrap());
            let first = values(&buffer("first_moment"));
            for (i, after) in values(&theta).into_iter().enumerate() {
                let expected = before[i] * (1.0 - RATE * DECAY) - RATE * first[i] / p[i];
                // A dozen roundings of numbers below 4.
                assert!((after - expected).abs() < 32.0 * f64::EPSILON, "{after} {expected}");
            }
        }
    }

    #[test]
    fn other_methods_have_no_threshold() {
        for text in OPTIMIZERS {
            let known = text.parse::<OptimizerConfig>().unwrap().threshold(RATE, DECAY).is_some();
            assert_eq!(known, ["sgd", "adamw"].contains(&text), "{text}");
        }
        assert_eq!(Threshold::Hessian(2.0).value(), 2.0);
        let heavy_ball: OptimizerConfig = "sgd:momentum=0.5".parse().unwrap();
        assert_eq!(heavy_ball.threshold(0.25, 1.0), Some(Threshold::Hessian(11.0)));
    }
}
