//! Steps divided by the root of a running mean square of the gradient.

use candle_core::{Tensor, WithDType};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::method::{Descent, Method, Stride};
use super::{Base, CHUNK, SettingError};
use crate::Result;
use crate::kernels::{Slice, with_float};

/// RMSprop (Tieleman and Hinton 2012) in PyTorch's form: `s ← α s + (1 − α) d²`, `d = g + wd θ`, and
/// `θ ← θ − λ d/(√s + ε)`, elementwise, with `s = 0` before the first step.
///
/// As the preconditioner of SGLD and fSGLD it also scales their noise: see [`Sgld`](super::Sgld). Cost: one gradient a
/// step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsProp {
    /// `α` in 0..1, of the mean square.
    pub alpha: f64,
    /// `ε` in the denominator, outside the root.
    pub eps: f64,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8 }
    }
}

impl RmsProp {
    /// Takes `preconditioner`, and where it is `rmsprop` its settings, out of `fields`; by default those of Li et al.
    pub(super) fn take_preconditioner(fields: &mut Fields) -> Result<Option<Self>, String> {
        match fields.take::<String>("preconditioner")?.as_deref() {
            None | Some("none") => Ok(None),
            Some("rmsprop") => {
                Ok(Some(Self { alpha: fields.take_or("alpha", 0.99)?, eps: fields.take_or("eps", 1e-5)? }))
            }
            Some(other) => Err(format!("unknown preconditioner `{other}`, expected rmsprop or none")),
        }
    }

    /// Adds the same to `fields`.
    pub(super) fn put_preconditioner(this: Option<&Self>, fields: Fields) -> Fields {
        match this {
            None => fields,
            Some(own) => fields.with("preconditioner", "rmsprop").with("alpha", own.alpha).with("eps", own.eps),
        }
    }
}

impl Method for RmsProp {
    fn formula(&self) -> &'static str {
        "s ← α s + (1 − α) d² with d = g + wd θ, θ ← θ − λ d/(√s + ε)"
    }

    fn check(&self) -> Result<(), SettingError> {
        let alpha = self.alpha;
        SettingError::unless((0.0..1.0).contains(&alpha), "alpha", alpha, "at least 0 and below 1")?;
        SettingError::unless(self.eps > 0.0 && self.eps.is_finite(), "eps", self.eps, "a number above 0")
    }

    fn base(&self) -> Base {
        Base::RmsProp(self.clone())
    }
}

impl Descent for RmsProp {
    fn buffers(&self) -> &'static [&'static str] {
        &["mean_square"]
    }

    fn descend(&self, stride: &Stride<'_>, buffers: &mut [Tensor]) -> Result<Tensor> {
        let (shape, device) = (stride.theta.dims(), stride.theta.device());
        let moved = with_float!(stride.theta.dtype(), T => {
            let mut theta = Slice::<T>::of(stride.theta)?.to_vec();
            if let [buffer] = buffers {
                let mut squares = Slice::<T>::of(buffer)?.to_vec();
                descend(self, stride, &mut theta, &mut squares)?;
                *buffer = Tensor::from_vec(squares, shape, device)?;
            }
            Tensor::from_vec(theta, shape, device)
        })?;
        Ok(moved)
    }

    fn preconditioner(&self, buffers: &[Tensor]) -> Result<Option<Tensor>> {
        Ok(buffers.first().map(|squares| (squares.sqrt()? + self.eps)?.recip()).transpose()?)
    }
}

fn descend<T: WithDType>(
    rmsprop: &RmsProp,
    stride: &Stride<'_>,
    theta: &mut [T],
    squares: &mut [T],
) -> candle_core::Result<()> {
    let gradient = Slice::<T>::of(stride.gradient)?;
    let gradient: &[T] = &gradient;
    let [scale, rate, keep, fresh, eps] =
        [stride.gradient_scale, stride.learning_rate, rmsprop.alpha, 1.0 - rmsprop.alpha, rmsprop.eps].map(T::from_f64);
    stride.workers.install(|| {
        let vectors = theta.par_chunks_mut(CHUNK).zip(squares.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
        vectors.enumerate().for_each(|(index, ((theta, squares), gradient))| {
            for (piece, decay) in stride.weight_decay.pieces(index * CHUNK, theta.len()) {
                let decay = T::from_f64(decay);
                let vectors = theta[piece.clone()].iter_mut().zip(&mut squares[piece.clone()]).zip(&gradient[piece]);
                for ((theta, s), &g) in vectors {
                    let d = g * scale + decay * *theta;
                    *s = *s * keep + d * d * fresh;
                    // The root of an f32 by way of f64 is the correctly rounded one.
                    let root = T::from_f64(s.to_f64().sqrt());
                    *theta -= d / (root + eps) * rate;
                }
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_moments, optimizer, quadratic, values, vector};
    use super::super::{OptimizerConfig, Setup};

    /// In the first step `s = (1 − α) g²`: with a tiny `ε` a step of `λ/√(1 − α)` against the sign of `g`.
    #[test]
    fn the_first_step_has_a_length_of_its_own() {
        let config: OptimizerConfig = "rmsprop:alpha=0.75,eps=1e-300".parse().unwrap();
        let update = optimizer(&config, Setup::default(), 2).step(&vector(&[2.0, -8e-5]), 0.25, &mut quadratic(3.0));
        for (got, expected) in values(&update.unwrap().theta).into_iter().zip([2.0 - 0.5, -8e-5 + 0.5]) {
            // Five roundings of numbers below 2.
            assert!((got - expected).abs() < 8.0 * f64::EPSILON, "{got} {expected}");
        }
    }

    /// With `ε` far above `√s`, `G = 1/ε` throughout: SGLD whose step size is `λ/ε`, noise included.
    #[test]
    fn a_constant_preconditioner_is_another_step_size() {
        let (a, rate, eps, beta_inverse) = (1.5, 0.4, 1e12, 0.3);
        let text = format!("sgld:beta_inverse={beta_inverse},preconditioner=rmsprop,eps={eps}");
        let setup = Setup { seed: 11, threads: 2, ..Setup::default() };
        let mut optimizer = optimizer(&text.parse().unwrap(), setup, 50_000);
        let mut theta = vector(&[0.0; 50_000]);
        for _ in 0..60 {
            theta = optimizer.step(&theta, rate * eps, &mut quadratic(a)).unwrap().theta;
        }
        assert_moments(&values(&theta), 2.0 * beta_inverse / (a * (2.0 - rate * a)));
    }

    /// With `a = 0` only noise moves: by `√(2 λ β⁻¹ G)`, where `G` is that of the gradients seen so far, none at all.
    #[test]
    fn noise_has_the_scale_of_its_parameter_and_none_while_cold() {
        let text = "sgld:beta_inverse=0.5,preconditioner=rmsprop,eps=0.25";
        let run = |cold: bool| {
            let mut optimizer = optimizer(&text.parse().unwrap(), Setup { seed: 3, ..Setup::default() }, 50_000);
            optimizer.set_cold(cold);
            values(&optimizer.step(&vector(&[0.0; 50_000]), 0.1, &mut quadratic(0.0)).unwrap().theta)
        };
        assert_moments(&run(false), 2.0 * 0.1 * 0.5 / 0.25);
        assert!(run(true).iter().all(|value| *value == 0.0));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (text, name) in [
            ("rmsprop:alpha=1", "alpha"),
            ("rmsprop:eps=0", "eps"),
            ("sgld:preconditioner=rmsprop,eps=0", "eps"),
            ("fsgld:preconditioner=rmsprop,momentum=0.5", "momentum"),
        ] {
            let error = text.parse::<OptimizerConfig>().unwrap().check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        for text in ["sgld:alpha=0.9", "sgld:preconditioner=adam", "fsgld:eps=1"] {
            assert!(text.parse::<OptimizerConfig>().is_err(), "{text}");
        }
    }
}
