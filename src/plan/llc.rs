//! How `llc` samples.

use clap::Args;
use serde::Serialize;

use super::{PlanError, number_of};

/// Chains, how they move, and what they are tied to.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "How to sample")]
pub struct LlcOptions {
    /// Number of independent chains, all of which start at the checkpoint
    #[arg(long, value_name = "N", value_parser = number_of(2, Self::MOST_CHAINS), default_value_t = Self::default().chains)]
    pub chains: usize,
    /// Draws of each chain after burn-in, one per step
    #[arg(long, value_name = "N", value_parser = number_of(8, Self::MOST_STEPS), default_value_t = Self::default().draws)]
    pub draws: usize,
    /// Steps of each chain before its draws count [default: until the slowest direction has forgotten its start,
    /// (3 + ln(parameters)/2)/(step size · γ), from 50 to ten times the draws]
    #[arg(long, value_name = "N", value_parser = number_of(0, Self::MOST_STEPS))]
    pub burn_in: Option<usize>,
    /// Step size ε of w ← w − ε/2 ∇U + √ε ξ [default: 0.07/(nβ λ₁ + γ), λ₁ the largest eigenvalue of the Hessian]
    #[arg(long, value_name = "EPS", allow_negative_numbers = true)]
    pub step_size: Option<f64>,
    /// Localisation γ of U = nβ L(w) + γ/2 |w − w*|², w* the checkpoint
    #[arg(long, value_name = "GAMMA", allow_negative_numbers = true, default_value_t = Self::default().gamma)]
    pub gamma: f64,
    /// Inverse temperature β [default: 1/ln n, n the number of rows]
    #[arg(long, value_name = "BETA", allow_negative_numbers = true)]
    pub beta: Option<f64>,
    /// Random rows of each step [default: all]
    #[arg(long, value_name = "M", value_parser = number_of(1, usize::MAX))]
    pub batch: Option<usize>,
    /// Also sample at half and twice the step size and at a tenth and ten times γ, and recommend a setting
    #[arg(long)]
    pub sweep: bool,
    /// Seed of all random numbers
    #[arg(long, value_name = "S", default_value_t = Self::default().seed)]
    pub seed: u64,
}

impl Default for LlcOptions {
    fn default() -> Self {
        Self {
            chains: 4,
            draws: 2000,
            burn_in: None,
            step_size: None,
            gamma: 1000.0,
            beta: None,
            batch: None,
            sweep: false,
            seed: 0,
        }
    }
}

impl LlcOptions {
    /// Chains whose random streams have room.
    pub const MOST_CHAINS: usize = 128;
    /// Steps of burn-in and draws together whose random streams have room.
    pub const MOST_STEPS: usize = 1 << 23;

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PlanError::Option`] for the first one out of its range.
    pub fn check(&self) -> Result<(), PlanError> {
        let numbers = [("--step-size", self.step_size), ("--gamma", Some(self.gamma)), ("--beta", self.beta)];
        for (name, value) in numbers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            if !(value > 0.0 && value.is_finite()) {
                return Err(PlanError::option(name, value, "must be above 0"));
            }
        }
        Ok(())
    }
}
