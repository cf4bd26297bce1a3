//! Sharpness beyond curvature: how much the loss rises nearby, at worst and on average, in the units of the weights and
//! relative to them; relative flatness, Fisher-Rao norm, PAC-Bayes perturbation.

mod average;
mod norms;
mod pac_bayes;
mod point;
mod scaling;
mod survey;
#[cfg(test)]
mod tests;
mod worst;

pub use average::AverageParams;
pub use pac_bayes::PacBayesParams;
pub use survey::{SharpnessOptions, SharpnessReport, SharpnessRow, survey};
pub use worst::WorstParams;

pub use crate::vocabulary::{Ball, Scaling};
