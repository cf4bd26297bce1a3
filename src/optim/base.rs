//! The step that a method takes along its gradient: SGD or AdamW.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::adamw::{AdamW, Moments};
use super::fields::Fields;
use super::groups::Groups;
use super::sgd::{Momentum, Sgd};
use crate::train::TrainError;
use crate::{Result, Workers};

/// What turns a gradient into a step, under `sgd`, `adamw`, `sam`, `asam` and `rwp` alike.
///
/// In text and JSON its settings stand beside those of the method: `sam:rho=0.05,base=adamw,beta1=0.9`. Without `base`
/// it is `sgd`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "base", rename_all = "lowercase")]
pub enum Base {
    /// With momentum 0.9, unless said otherwise.
    Sgd(Sgd),
    /// With decoupled weight decay.
    AdamW(AdamW),
}

impl Default for Base {
    fn default() -> Self {
        Self::Sgd(Sgd::default())
    }
}

impl Base {
    /// What remains of `fields` once a method has taken `own`, its own settings.
    pub(super) fn from_fields(mut fields: Fields, own: &str) -> Result<Self, String> {
        let base: String = fields.take_or("base", "sgd".to_owned())?;
        let fields = fields.with("base", base.as_str());
        fields.rest().map_err(|error| format!("{error} for base {base}; the method's own settings: {own}"))
    }

    pub(super) fn check(&self) -> Result<(), TrainError> {
        match self {
            Self::Sgd(sgd) => sgd.check(),
            Self::AdamW(adamw) => adamw.check(),
        }
    }

    /// `μ`, where there is one.
    pub(super) fn momentum_mut(&mut self) -> Option<&mut f64> {
        match self {
            Self::Sgd(sgd) => Some(&mut sgd.momentum),
            Self::AdamW(_) => None,
        }
    }
}

/// What a base step takes beside its own state.
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

/// A base with its buffers.
#[derive(Debug, Clone)]
pub(super) enum Descent {
    Sgd(Momentum),
    AdamW(Moments),
}

impl Descent {
    pub(super) fn new(base: &Base) -> Self {
        match base {
            Base::Sgd(sgd) => Self::Sgd(Momentum::new(sgd)),
            Base::AdamW(adamw) => Self::AdamW(Moments::new(adamw)),
        }
    }

    /// The parameters after the step.
    pub(super) fn step(&mut self, stride: &Stride<'_>) -> Result<Tensor> {
        let (theta, gradient) = (on_host(stride.theta)?, on_host(stride.gradient)?);
        let host = Stride { theta: &theta, gradient: &gradient, ..*stride };
        let moved = match self {
            Self::Sgd(momentum) => momentum.step(&host)?,
            Self::AdamW(moments) => moments.step(&host)?,
        };
        Ok(moved.to_device(stride.theta.device())?)
    }

    /// The same base before its first step.
    pub(super) fn fresh(&self) -> Self {
        match self {
            Self::Sgd(momentum) => Self::Sgd(momentum.fresh()),
            Self::AdamW(moments) => Self::AdamW(moments.fresh()),
        }
    }

    /// The buffers by name; none before the first step.
    pub(super) fn buffers(&self) -> Vec<(&'static str, Tensor)> {
        match self {
            Self::Sgd(momentum) => momentum.buffers(),
            Self::AdamW(moments) => moments.buffers(),
        }
    }

    /// Replaces the buffers by what `find` has under their names.
    pub(super) fn restore(&mut self, find: &mut dyn FnMut(&'static str) -> Result<Tensor>) -> Result<()> {
        match self {
            Self::Sgd(momentum) => momentum.restore(find),
            Self::AdamW(moments) => moments.restore(find),
        }
    }
}

/// Where a kernel can read it.
fn on_host(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.contiguous()?)
}
