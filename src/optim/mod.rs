//! Optimisers: SGD, AdamW, RMSprop, SGLD, fSGLD, SAM, ASAM and RWP, all steps of one pipeline whose parts can be switched off
//! exactly.
//!
//! A step takes a gradient somewhere (at `θ`, or at `θ + ε` for fSGLD, RWP, SAM and ASAM), descends with the base (SGD,
//! AdamW or RMSprop), which adds the weight decay of `θ` itself, and adds Langevin noise. A part whose scale is 0 is skipped,
//! so that fSGLD with `σ = 0` is SGLD, SGLD with `β⁻¹ = 0` is SGD without momentum, and SAM or ASAM with `ρ = 0` and
//! RWP with `σ = 0` are their base: bit for bit.

mod adamw;
mod asam;
mod config;
mod error;
mod fields;
mod fsgld;
mod groups;
mod method;
mod noise;
mod optimizer;
mod perturbed;
mod rmsprop;
mod rwp;
mod sam;
mod schedule;
mod sgd;
mod sgld;
mod stability;
mod state;
mod temperature;

pub use adamw::AdamW;
pub use asam::Asam;
pub use config::{Base, OPTIMIZERS, OptimizerConfig, help};
pub use error::{OptimError, SettingError};
pub(crate) use fsgld::coupled_sigma;
pub use fsgld::{Fsgld, PerturbationScale};
pub use groups::Decay;
pub use method::BatchGradient;
pub(crate) use method::Langevin;
pub use noise::Perturbation;
pub(crate) use noise::{Draw, Noise};
pub use optimizer::{Optimizer, Setup, Update};
pub use rmsprop::RmsProp;
pub use rwp::Rwp;
pub use sam::Sam;
pub use schedule::{Curve, Schedule};
pub use sgd::Sgd;
pub use sgld::Sgld;
pub use stability::Threshold;
pub use state::OptimizerState;
pub use temperature::Temperature;

/// Numbers per piece of vector work and per sub-stream of noise; part of every result, so it never changes. Vector work
/// is elementwise or keyed by chunk: any number of threads gives the same bits.
const CHUNK: usize = 4096;

#[cfg(test)]
mod testing;
