//! Sharpness beyond curvature: how much the loss rises nearby, at worst and on average, in the units of the weights and
//! relative to them; relative flatness, Fisher-Rao norm, PAC-Bayes perturbation, critical sharpness.

mod average;
mod critical;
mod norms;
mod pac_bayes;
mod point;
mod scaling;
mod survey;
#[cfg(test)]
mod tests;
mod worst;

pub use survey::{Minimum, SharpnessReport, SharpnessRow, survey};

pub use crate::vocabulary::{Ball, Scaling};
