//! One step of any method: a gradient, clipping, the base's descent, Langevin noise.

use candle_core::Tensor;

use super::base::{Descent, Stride};
use super::config::OptimizerConfig;
use super::groups::{Decay, Groups};
use super::noise::{Noise, Perturbation};
use super::sgld::noise_scale;
use crate::autodiff::{ParamKind, ParamSpace};
use crate::kernels::norm;
use crate::objective::GradientReport;
use crate::random::Purpose;
use crate::train::TrainError;
use crate::{Error, Result, Workers};

/// What belongs to every method.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// `wd`: of `wd/2 ‖θ‖²` under SGD, of `θ ← θ(1 − λ wd)` under AdamW.
    pub weight_decay: f64,
    /// Which parameters it acts on.
    pub decay: Decay,
    /// Largest norm of the gradient that is descended along; `None`: any.
    pub clip_norm: Option<f64>,
    /// Seed of the noise.
    pub seed: u64,
    /// Threads that share vector work and draw noise; any number gives the same bits.
    pub threads: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { weight_decay: 0.0, decay: Decay::All, clip_norm: None, seed: 0, threads: 1 }
    }
}

/// A batch's mean loss and gradient at any parameters; what a step may ask for, as often as it likes.
pub type BatchGradient<'a> = dyn FnMut(&Tensor) -> Result<GradientReport> + 'a;

/// What one step did.
#[derive(Debug, Clone)]
pub struct Update {
    /// The new parameters `[n]`.
    pub theta: Tensor,
    /// The pass that describes the step: at `θ` for SGD, AdamW, SGLD, SAM and ASAM, at `θ + ε` (mean over the passes)
    /// for fSGLD and RWP. Its `gradient` is the one descended along, before clipping and without weight decay; its
    /// `statistics` are those that belong in the running averages of batch normalisation; its `scores` those of the first
    /// pass.
    pub pass: GradientReport,
    /// `‖g‖` of that gradient.
    pub gradient_norm: f64,
}

/// A method with its state: the base's buffers and the number of the step, which keys the noise.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    pub(super) descent: Descent,
    weight_decay: Groups<f64>,
    weights: Groups<bool>,
    clip_norm: f64,
    noise: Noise,
    pub(super) dim: usize,
    pub(super) steps: u64,
}

impl Optimizer {
    /// Before the first step on the parameters of `space`.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a setting out of its range; [`Error::Threads`].
    pub fn new(config: &OptimizerConfig, setup: Setup, space: &ParamSpace) -> Result<Self> {
        config.check()?;
        let wd = setup.weight_decay;
        TrainError::unless(wd >= 0.0 && wd.is_finite(), "weight_decay", wd, "a number from 0 up")?;
        let clip_norm = setup.clip_norm.unwrap_or(f64::INFINITY);
        TrainError::unless(clip_norm > 0.0, "clip_norm", clip_norm, "a number above 0")?;
        Ok(Self {
            config: config.clone(),
            descent: Descent::new(&config.base()),
            weight_decay: Groups::new(space, |kind| if setup.decay.acts_on(kind) { wd } else { 0.0 }),
            weights: Groups::new(space, |kind| kind == ParamKind::Weight),
            clip_norm,
            noise: Noise { seed: setup.seed, workers: Workers::new(setup.threads)? },
            dim: space.dim(),
            steps: 0,
        })
    }

    /// One step from `theta` `[n]`: the method's gradient `g`, shrunk to `g · min(1, c/(‖g‖ + 1e-6))` where a norm `c` is
    /// set (Pascanu et al. 2013, in PyTorch's form), the base's step along it with weight decay, Langevin noise.
    ///
    /// Parts that a method lacks are absent; see [`Sgd`](super::Sgd), [`AdamW`](super::AdamW), [`Sgld`](super::Sgld),
    /// [`Fsgld`](super::Fsgld), [`Sam`](super::Sam), [`Asam`](super::Asam) and [`Rwp`](super::Rwp) for each method's rule.
    ///
    /// # Errors
    /// What `gradient` returns; [`Error::VectorShape`] for parameters or a gradient of another space.
    pub fn step(&mut self, theta: &Tensor, learning_rate: f64, gradient: &mut BatchGradient<'_>) -> Result<Update> {
        self.check_shape(theta)?;
        let pass = self.pass(theta, gradient)?;
        self.check_shape(&pass.gradient)?;
        let gradient_norm = norm(&pass.gradient)?;
        let stride = Stride {
            theta,
            gradient: &pass.gradient,
            gradient_scale: (self.clip_norm / (gradient_norm + 1e-6)).min(1.0),
            learning_rate,
            weight_decay: &self.weight_decay,
            steps: self.steps,
            workers: &self.noise.workers,
        };
        let theta = self.descent.step(&stride)?;
        let theta = self.diffuse(theta, learning_rate)?;
        self.steps += 1;
        Ok(Update { theta, pass, gradient_norm })
    }

    fn check_shape(&self, vector: &Tensor) -> Result<()> {
        let (got, dim) = (vector.dims(), self.dim);
        if got == [dim] { Ok(()) } else { Err(Error::VectorShape { got: got.to_vec(), dim }) }
    }

    /// The pass whose gradient is descended along.
    fn pass(&self, theta: &Tensor, gradient: &mut BatchGradient<'_>) -> Result<GradientReport> {
        match &self.config {
            OptimizerConfig::Sgd(_) | OptimizerConfig::AdamW(_) | OptimizerConfig::Sgld(_) => gradient(theta),
            OptimizerConfig::Fsgld(fsgld) => fsgld.perturbed().gradient(theta, &self.noise, self.steps, gradient),
            OptimizerConfig::Rwp(rwp) => rwp.perturbed().gradient(theta, &self.noise, self.steps, gradient),
            OptimizerConfig::Sam(sam) => sam.gradient(theta, gradient),
            OptimizerConfig::Asam(asam) => asam.gradient(theta, &self.weights, gradient),
        }
    }

    /// `θ + s ξ` with the `ξ` of this step, of which a momentum buffer learns; `θ` itself where the scale is 0.
    fn diffuse(&mut self, theta: Tensor, learning_rate: f64) -> Result<Tensor> {
        let (beta_inverse, momentum) = match &self.config {
            OptimizerConfig::Sgld(sgld) => (sgld.beta_inverse, 0.0),
            OptimizerConfig::Fsgld(fsgld) => (fsgld.beta_inverse, fsgld.momentum),
            _ => return Ok(theta),
        };
        let scale = noise_scale(learning_rate, beta_inverse, momentum);
        if scale == 0.0 {
            return Ok(theta);
        }
        let (key, law) = ((Purpose::Langevin, self.steps), Perturbation::Gaussian);
        match &mut self.descent {
            Descent::Sgd(heavy_ball) if momentum != 0.0 => {
                let shift = self.noise.shifted(&theta.zeros_like()?, key, law, scale)?;
                heavy_ball.push(&shift, learning_rate)?;
                Ok((theta + shift)?)
            }
            _ => self.noise.shifted(&theta, key, law, scale),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{optimizer, quadratic, values, vector};
    use super::*;

    /// PyTorch's `clip_grad_norm_`: the norm is that of the gradient alone, and weight decay is added afterwards.
    #[test]
    fn long_gradients_are_clipped_before_weight_decay() {
        let theta = [3.0, -4.0];
        for (clip, factor) in [(None, 1.0), (Some(20.0), 1.0), (Some(2.5), 2.5 / (10.0 + 1e-6))] {
            let setup = Setup { weight_decay: 0.5, clip_norm: clip, ..Setup::default() };
            let mut optimizer = optimizer(&"sgd:momentum=0".parse().unwrap(), setup, 2);
            let update = optimizer.step(&vector(&theta), 0.25, &mut quadratic(2.0)).unwrap();
            assert_eq!(update.gradient_norm, 10.0);
            assert_eq!(values(&update.pass.gradient), [6.0, -8.0]);
            for (moved, theta) in values(&update.theta).iter().zip(theta) {
                let expected = theta - 0.25 * (2.0 * theta * factor + 0.5 * theta);
                assert!((moved - expected).abs() < 8.0 * f64::EPSILON, "{moved} {expected}");
            }
        }
        for clip in [0.0, -1.0, f64::NAN] {
            let setup = Setup { clip_norm: Some(clip), ..Setup::default() };
            let space = ParamSpace::new([("w".into(), vec![2], ParamKind::Weight)]);
            let error = Optimizer::new(&OptimizerConfig::default(), setup, &space).unwrap_err();
            assert!(error.to_string().contains("clip_norm"), "{error}");
        }
    }

    /// With `U = 0` only the decay moves anything.
    #[test]
    fn decay_of_weights_spares_biases_and_norms() {
        let kinds = [("w", ParamKind::Weight), ("b", ParamKind::Bias), ("n", ParamKind::Norm)];
        let space = ParamSpace::new(kinds.map(|(name, kind)| (name.into(), vec![1], kind)));
        for text in ["sgd", "adamw", "sam:base=adamw"] {
            for (decay, kept) in [(Decay::All, [0.875; 3]), (Decay::Weights, [0.875, 1.0, 1.0])] {
                let setup = Setup { weight_decay: 0.5, decay, ..Setup::default() };
                let mut optimizer = Optimizer::new(&text.parse().unwrap(), setup, &space).unwrap();
                let update = optimizer.step(&vector(&[1.0; 3]), 0.25, &mut quadratic(0.0)).unwrap();
                assert_eq!(values(&update.theta), kept, "{text}");
            }
        }
    }

    #[test]
    fn parameters_of_another_space_are_refused() {
        let mut optimizer = optimizer(&OptimizerConfig::default(), Setup::default(), 2);
        let error = optimizer.step(&vector(&[1.0; 3]), 0.1, &mut quadratic(1.0)).unwrap_err();
        assert!(matches!(error, Error::VectorShape { dim: 2, .. }), "{error}");
    }

    /// More than two chunks of work, so that threads share it.
    #[test]
    fn any_number_of_threads_makes_the_same_steps() {
        let theta: Vec<f64> = (0..10_000).map(|i| (i as f64 * 0.37).sin()).collect();
        for text in ["sgd", "adamw", "fsgld:beta_inverse=0.1,momentum=0.5", "asam"] {
            let run = |threads| {
                let setup = Setup { weight_decay: 0.1, threads, ..Setup::default() };
                let mut optimizer = optimizer(&text.parse().unwrap(), setup, theta.len());
                let mut theta = vector(&theta);
                for _ in 0..3 {
                    theta = optimizer.step(&theta, 0.1, &mut quadratic(1.0)).unwrap().theta;
                }
                values(&theta)
            };
            assert!(run(1) == run(3), "{text}");
        }
    }
}
