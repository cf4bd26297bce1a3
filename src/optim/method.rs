//! What a method answers, and what a step hands to it.

use candle_core::Tensor;

use super::groups::Groups;
use super::noise::Noise;
use super::stability::Threshold;
use super::{Base, SettingError, Temperature};
use crate::objective::GradientReport;
use crate::{Result, Workers};

/// A batch's mean loss and gradient at any parameters; what a step may ask for, as often as it likes.
pub type BatchGradient<'a> = dyn FnMut(&Tensor) -> Result<GradientReport> + 'a;

/// An update rule with its settings: where it takes the gradient, what steps along it, and the noise it adds.
pub(super) trait Method {
    /// One step as a formula, for the help.
    fn formula(&self) -> &'static str;

    /// Checks every setting.
    fn check(&self) -> Result<(), SettingError>;

    /// Settings that are allowed although nothing is known about them, in words for the user.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The momentum `μ`, to be set; `None` where there is none.
    fn momentum_mut(&mut self) -> Option<&mut f64> {
        None
    }

    /// The temperature, to be set; `None` where there is none.
    fn temperature_mut(&mut self) -> Option<&mut Temperature> {
        None
    }

    /// What steps along the gradient.
    fn base(&self) -> Base;

    /// The largest curvature at which its steps of size `η` with weight decay `wd` settle on a quadratic; `None` where no
    /// such bound is known.
    fn threshold(&self, _learning_rate: f64, _weight_decay: f64) -> Option<Threshold> {
        None
    }

    /// The pass whose gradient is descended along: the one at `θ`, unless the method looks elsewhere.
    fn pass(&self, point: &Point<'_>, gradient: &mut BatchGradient<'_>) -> Result<GradientReport> {
        gradient(point.theta)
    }

    /// The noise that is added after the step.
    fn langevin(&self) -> Option<Langevin> {
        None
    }
}

/// A method that can be the base of others: it turns any gradient into a step.
pub(super) trait Descent: Method {
    /// Names of the vectors that it keeps from step to step; each is 0 before the first.
    fn buffers(&self) -> &'static [&'static str];

    /// The parameters after a step, with everything on the host; `buffers` has a vector for each name.
    fn descend(&self, stride: &Stride<'_>, buffers: &mut [Tensor]) -> Result<Tensor>;

    /// `G` of the step that left these buffers, where it was `θ ← θ − λ G d`.
    ///
    /// # Errors
    /// A tensor operation.
    fn preconditioner(&self, _buffers: &[Tensor]) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// Where a step begins.
pub(super) struct Point<'a> {
    /// `θ`, `[n]`.
    pub(super) theta: &'a Tensor,
    /// Which parameters are weights.
    pub(super) weights: &'a Groups<bool>,
    /// Where random numbers come from.
    pub(super) noise: &'a Noise,
    /// Steps done, which key them.
    pub(super) step: u64,
}

/// What a base step takes beside its own buffers.
pub(super) struct Stride<'a> {
    /// `θ`, `[n]`.
    pub(super) theta: &'a Tensor,
    /// `g`, `[n]`.
    pub(super) gradient: &'a Tensor,
    /// Factor on `g`, from clipping.
    pub(super) gradient_scale: f64,
    /// `λ`.
    pub(super) learning_rate: f64,
    /// `wd` of each parameter.
    pub(super) weight_decay: &'a Groups<f64>,
    /// Steps done.
    pub(super) steps: u64,
    /// Who shares the work.
    pub(super) workers: &'a Workers,
}

/// Noise `s ξ` of the temperature `β⁻¹` under heavy-ball momentum `μ`.
pub(crate) struct Langevin {
    pub(crate) beta_inverse: f64,
    pub(crate) momentum: f64,
}

impl Langevin {
    /// `s = sqrt(2 (1 − μ) λ β⁻¹)`: with momentum the noise too adds up over `1/(1 − μ)` steps.
    pub(crate) fn scale(&self, learning_rate: f64) -> f64 {
        (2.0 * learning_rate * self.beta_inverse * (1.0 - self.momentum)).sqrt()
    }
}
