//! One step of any method: a gradient, clipping, the base's descent, Langevin noise.

use candle_core::{Device, Tensor};

use super::groups::{Decay, Groups};
use super::method::{BatchGradient, Point, Stride};
use super::noise::{Draw, Noise, Perturbation};
use super::{AdamW, Base, OptimizerConfig, SettingError};
use crate::autodiff::ParamSpace;
use crate::kernels::norm;
use crate::objective::GradientReport;
use crate::random::Purpose;
use crate::vocabulary::ParamKind;
use crate::{Error, Result, Workers};

/// What belongs to every method.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// `wd`: of `wd/2 ‖θ‖²` under SGD, of `θ ← θ(1 − λ wd)` under AdamW.
    pub weight_decay: f64,
    /// Which parameters it acts on.
    pub decay: Decay,
    /// Largest norm of the gradient; longer ones are scaled down to it. `None` does not clip.
    pub clip_norm: Option<f64>,
    /// Seed of all noise.
    pub seed: u64,
    /// Threads that share vector work and draw noise; any number gives the same bits.
    pub threads: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { weight_decay: 0.0, decay: Decay::All, clip_norm: None, seed: 0, threads: 1 }
    }
}

/// What one step did.
#[derive(Debug, Clone)]
pub struct Update {
    /// The new parameters `[n]`.
    pub theta: Tensor,
    /// The pass that describes the step: at `θ` for SGD, AdamW, RMSprop, SGLD, SAM and ASAM, at `θ + ε` (mean over the passes)
    /// for fSGLD and RWP. Its `gradient` is the one descended along, before clipping and without weight decay; its
    /// `statistics` are those that enter the running averages of batch normalisation; its `scores` are those of the
    /// first pass.
    pub pass: GradientReport,
    /// `‖g‖` of that gradient.
    pub gradient_norm: f64,
}

/// A method with its state: the base's buffers and the number of the step, which keys the noise.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    pub(super) base: Base,
    /// Of the base, on the host; none before the first step.
    pub(super) buffers: Vec<Tensor>,
    weight_decay: Groups<f64>,
    weights: Groups<bool>,
    clip_norm: f64,
    noise: Noise,
    pub(super) dim: usize,
    pub(super) steps: u64,
    /// Whether the next steps leave out the Langevin noise.
    cold: bool,
}

impl Optimizer {
    /// An optimiser for the parameters of `space`, before its first step.
    ///
    /// # Errors
    /// [`SettingError`] for a setting out of its range; [`Error::Threads`].
    pub fn new(config: &OptimizerConfig, setup: Setup, space: &ParamSpace) -> Result<Self> {
        config.check()?;
        let wd = setup.weight_decay;
        SettingError::unless(wd >= 0.0 && wd.is_finite(), "weight_decay", wd, "0 or more")?;
        let clip_norm = setup.clip_norm.unwrap_or(f64::INFINITY);
        SettingError::unless(clip_norm > 0.0, "clip_norm", clip_norm, "a number above 0")?;
        Ok(Self {
            config: config.clone(),
            base: config.method().base(),
            buffers: Vec::new(),
            weight_decay: Groups::new(space, |kind| if setup.decay.acts_on(kind) { wd } else { 0.0 }),
            weights: Groups::new(space, |kind| kind == ParamKind::Weight),
            clip_norm,
            noise: Noise { seed: setup.seed, workers: Workers::new(setup.threads)? },
            dim: space.dim(),
            steps: 0,
            cold: false,
        })
    }

    /// Leaves the Langevin noise out of the next steps, or puts it back; the numbers of other steps do not change.
    pub fn set_cold(&mut self, cold: bool) {
        self.cold = cold;
    }

    /// AdamW with its settings, where it takes the steps.
    pub fn adamw(&self) -> Option<&AdamW> {
        if let Base::AdamW(adamw) = &self.base { Some(adamw) } else { None }
    }

    /// One step from `theta` `[n]`: the method's gradient `g`, shrunk to `g · min(1, c/(‖g‖ + 1e-6))` where a norm `c`
    /// is set (Pascanu et al. 2013, in PyTorch's form), the base's step along it with weight decay, Langevin noise.
    ///
    /// Not every method has all these parts; see [`Sgd`](super::Sgd), [`AdamW`](super::AdamW), [`RmsProp`](super::RmsProp),
    /// [`Sgld`](super::Sgld), [`Fsgld`](super::Fsgld), [`Sam`](super::Sam), [`Asam`](super::Asam) and [`Rwp`](super::Rwp) for each method's
    /// rule.
    ///
    /// # Errors
    /// What `gradient` returns; [`Error::VectorShape`] for parameters or a gradient of another space.
    pub fn step(&mut self, theta: &Tensor, learning_rate: f64, gradient: &mut BatchGradient<'_>) -> Result<Update> {
        self.check_shape(theta)?;
        let point = Point { theta, weights: &self.weights, noise: &self.noise, step: self.steps };
        let pass = self.config.method().pass(&point, gradient)?;
        self.check_shape(&pass.gradient)?;
        let gradient_norm = norm(&pass.gradient)?;
        let moved = self.descend(theta, &pass.gradient, gradient_norm, learning_rate)?;
        let theta = self.diffuse(moved, learning_rate)?;
        self.steps += 1;
        Ok(Update { theta, pass, gradient_norm })
    }

    fn check_shape(&self, vector: &Tensor) -> Result<()> {
        let (got, dim) = (vector.dims(), self.dim);
        if got == [dim] { Ok(()) } else { Err(Error::VectorShape { got: got.to_vec(), dim }) }
    }

    /// The parameters after the base's step along `gradient` of this norm.
    fn descend(&mut self, theta: &Tensor, gradient: &Tensor, norm: f64, learning_rate: f64) -> Result<Tensor> {
        let host = on_host(theta)?;
        let stride = Stride {
            theta: &host,
            gradient: &on_host(gradient)?,
            gradient_scale: (self.clip_norm / (norm + 1e-6)).min(1.0),
            learning_rate,
            weight_decay: &self.weight_decay,
            steps: self.steps,
            workers: &self.noise.workers,
        };
        let base = self.base.descent();
        if self.buffers.is_empty() {
            self.buffers = base.buffers().iter().map(|_| host.zeros_like()).collect::<candle_core::Result<_>>()?;
        }
        Ok(base.descend(&stride, &mut self.buffers)?.to_device(theta.device())?)
    }

    /// `θ + s ξ` with the `ξ` of this step; `θ` itself where `s` is 0.
    fn diffuse(&mut self, theta: Tensor, learning_rate: f64) -> Result<Tensor> {
        let Some(langevin) = self.config.method().langevin().filter(|_| !self.cold) else { return Ok(theta) };
        let scale = langevin.scale(learning_rate);
        if scale == 0.0 {
            return Ok(theta);
        }
        let draw = Draw { purpose: Purpose::Langevin, index: self.steps, law: Perturbation::Gaussian };
        if let Some(preconditioner) = self.base.descent().preconditioner(&self.buffers)? {
            let shift = self.noise.shifted(&on_host(&theta)?.zeros_like()?, draw, scale)?;
            return Ok((&theta + (shift * preconditioner.sqrt()?)?.to_device(theta.device())?)?);
        }
        if langevin.momentum == 0.0 {
            return self.noise.shifted(&theta, draw, scale);
        }
        let shift = self.noise.shifted(&theta.zeros_like()?, draw, scale)?;
        // The velocity carries the noise on: v ← v − s ξ/λ.
        for velocity in &mut self.buffers {
            *velocity = (&*velocity - (&shift / learning_rate)?)?;
        }
        Ok((theta + shift)?)
    }
}

/// A contiguous copy that kernels can read.
fn on_host(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.contiguous()?)
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
