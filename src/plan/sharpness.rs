//! What `sharpness` measures.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{PlanError, number_of, parsed_by};

/// What to measure and how well.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "What to measure")]
pub struct SharpnessOptions {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub average: AverageParams,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub worst: WorstParams,
    /// Rows per worst-case perturbation (m-sharpness, Foret et al. 2021) [default: one perturbation for all rows]
    #[arg(long, value_name = "M", value_parser = number_of(1, usize::MAX))]
    pub batch: Option<usize>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pac_bayes: PacBayesParams,
    /// State of Adam: also measure critical sharpness along its steps
    ///
    /// The folder of a training with adamw, or what torch.save wrote of the state_dict() of Adam or AdamW, alone or in a
    /// checkpoint
    #[arg(long, value_name = "PATH")]
    #[serde(skip)]
    pub optimizer_state: Option<PathBuf>,
    /// Products of relative flatness
    #[arg(skip = Self::default().probes)]
    pub probes: usize,
    /// Seed of all random numbers
    #[arg(long, value_name = "S", default_value_t = Self::default().seed)]
    pub seed: u64,
}

impl Default for SharpnessOptions {
    fn default() -> Self {
        Self {
            average: AverageParams::default(),
            worst: WorstParams::default(),
            batch: None,
            pac_bayes: PacBayesParams::default(),
            optimizer_state: None,
            probes: 16,
            seed: 0,
        }
    }
}

/// `E L(θ + σ s ⊙ z) − L(θ)`, `z ~ N(0, I)`.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
pub struct AverageParams {
    /// Perturbation scales σ of the average rise, without scaling by the weights
    #[arg(hide_short_help = true, long = "sigma", value_name = "SIGMAS", value_delimiter = ',', default_values_t = Self::default().sigmas)]
    pub sigmas: Vec<f64>,
    /// The same relative to the weights
    #[arg(hide_short_help = true, long = "relative-sigma", value_name = "SIGMAS", value_delimiter = ',')]
    #[arg(default_values_t = Self::default().relative_sigmas)]
    pub relative_sigmas: Vec<f64>,
    /// Antithetic pairs ±z of draws for each average: the odd part of the loss cancels within a pair
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = number_of(2, 10_000), default_value_t = Self::default().pairs)]
    pub pairs: usize,
}

impl Default for AverageParams {
    fn default() -> Self {
        Self { sigmas: vec![0.001, 0.003, 0.01, 0.03], relative_sigmas: vec![0.01, 0.03, 0.1], pairs: 12 }
    }
}

/// `max L(θ + s ⊙ δ) − L(θ)` over `‖δ‖ ≤ ρ` (Foret et al. 2021; scaled Kwon et al. 2021, Andriushchenko et al. 2023).
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
pub struct WorstParams {
    /// Radii of the Euclidean ball: without scaling, relative to |θ|, relative to filters
    #[arg(hide_short_help = true, id = "rho", long = "rho", value_name = "RHOS", value_parser = parsed_by(radii), default_value = "0.1,0.5,0.05")]
    pub l2: [f64; 3],
    /// Radii of the ball of the largest entry: without scaling, relative to |θ|, relative to filters
    #[arg(hide_short_help = true, id = "rho-linf", long = "rho-linf", value_name = "RHOS", value_parser = parsed_by(radii), default_value = "0.001,0.01,0.002")]
    pub linf: [f64; 3],
    /// Gradient steps of each ascent
    #[arg(hide_short_help = true, long = "ascent-steps", value_name = "N", value_parser = number_of(2, 10_000))]
    #[arg(default_value_t = Self::default().steps)]
    pub steps: usize,
    /// Ascents per worst case, each from another random start
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = number_of(1, 10_000), default_value_t = Self::default().restarts)]
    pub restarts: usize,
}

impl Default for WorstParams {
    fn default() -> Self {
        Self { l2: [0.1, 0.5, 0.05], linf: [0.001, 0.01, 0.002], steps: 12, restarts: 2 }
    }
}

/// Three radii with commas between.
fn radii(text: &str) -> Result<[f64; 3], String> {
    let radii: Vec<f64> = text.split(',').filter_map(|radius| radius.trim().parse().ok()).collect();
    radii.try_into().map_err(|_| "must be three radii: without scaling, relative to |θ|, relative to filters".into())
}

/// The largest `σ` at which the mean loss under `θ + σ s ⊙ z` rises by no more than `target` (Neyshabur et al. 2017, Jiang
/// et al. 2020): the width of a posterior in a PAC-Bayes bound. Its sharpness is `1/σ²`.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
pub struct PacBayesParams {
    /// Rise of the loss that the PAC-Bayes perturbation may cause
    #[arg(long, value_name = "RISE", allow_negative_numbers = true, default_value_t = Self::default().target)]
    pub target: f64,
    /// Pairs `±z`, the same at every `σ`
    #[arg(skip = Self::default().pairs)]
    pub pairs: usize,
}

impl Default for PacBayesParams {
    fn default() -> Self {
        Self { target: 0.1, pairs: 6 }
    }
}

/// Passes over rows that a measurement takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passes {
    /// Gradients.
    pub gradients: usize,
    /// Forward passes.
    pub evaluations: usize,
    /// Products with the Hessian.
    pub products: usize,
}

impl SharpnessOptions {
    /// What the measures take, with the worst cases of all three scalings in both balls and two with normalised logits, and the
    /// bisections as long as on a typical network.
    pub fn typical_passes(&self) -> Passes {
        const WORST_CASES: usize = 8;
        const BISECTION_STEPS: usize = 36;
        const CRITICAL_STEPS: usize = 40;
        let AverageParams { sigmas, relative_sigmas, pairs } = &self.average;
        let averages = sigmas.len() + 2 * relative_sigmas.len() + 1;
        let ascents = WORST_CASES * self.worst.restarts * self.worst.steps;
        Passes {
            gradients: ascents,
            evaluations: 2 * pairs * averages + ascents + 2 * self.pac_bayes.pairs * BISECTION_STEPS + CRITICAL_STEPS,
            products: 1 + self.probes,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PlanError::Option`] for the first one out of its range.
    pub fn check(&self) -> Result<(), PlanError> {
        let lists: [(_, &[f64]); 5] = [
            ("--sigma", &self.average.sigmas),
            ("--relative-sigma", &self.average.relative_sigmas),
            ("--rho", &self.worst.l2),
            ("--rho-linf", &self.worst.linf),
            ("--target", &[self.pac_bayes.target]),
        ];
        for (name, values) in lists {
            if let Some(value) = values.iter().find(|value| !(**value > 0.0 && value.is_finite())) {
                return Err(PlanError::option(name, value, "must be above 0"));
            }
        }
        Ok(())
    }
}
