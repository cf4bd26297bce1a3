//! The learning coefficient of a network at one setting, or at those of a sweep.

use std::ops::ControlFlow;

use candle_core::Tensor;

use super::sweep::{GAMMAS, STEP_SIZES, recommended};
use super::{Chain, ChainStore, Dynamics, Estimate, LossEnergy, Schedule, Watch, sample};
use crate::curvature::{Curvature, CurvatureOperator};
use crate::objective::Objective;
use crate::plan::{LlcOptions, Passes, PlanError};
use crate::random::{Purpose, stream};
use crate::spectral::{EigenParams, eigenpairs};
use crate::team::{Alone, Team, team};
use crate::{Observer, Result, Step, Workers};

/// `ε (nβ λ₁ + γ)` by default: steps are stable below 4, and the bias of a quadratic is at most `1/(1 − 0.07/4) − 1`, 1.8 %. On
/// small networks, whose curvature grows away from the minimum, it was up to 4 %.
const STEEPNESS: f64 = 0.07;

/// What was found, and from which draws.
#[derive(Debug, Clone)]
pub struct LlcReport {
    /// One for each setting.
    pub estimates: Vec<Estimate>,
    /// The chains of each.
    pub chains: Vec<Vec<Chain>>,
    /// Rows of each draw.
    pub batch_size: usize,
    /// Largest eigenvalue of the Hessian, where it decided on the step size; else NaN.
    pub lambda_max: f64,
}

/// A setting before it is sampled.
#[derive(Debug, Clone, Copy)]
struct Setting {
    dynamics: Dynamics,
    burn_in: usize,
}

impl LlcOptions {
    /// `nβ` on `num_rows` rows.
    ///
    /// # Errors
    /// [`PlanError::Option`] for fewer than three rows without `--beta`: `ln n` must be above 0.
    pub fn n_beta(&self, num_rows: usize) -> Result<f64, PlanError> {
        let rows = num_rows as f64;
        match self.beta {
            Some(beta) => Ok(rows * beta),
            None if num_rows > 2 => Ok(rows / rows.ln()),
            None => Err(PlanError::option("--beta", "1/ln n", format!("{num_rows} rows are too few for it: set it"))),
        }
    }

    /// What the chains take, in passes over the rows of a step. How long a burn-in is depends on the curvature at the
    /// checkpoint: here it is as long as the draws.
    pub fn typical_passes(&self) -> Passes {
        let settings = if self.sweep { GAMMAS.len() * STEP_SIZES.len() } else { 1 };
        let steps = self.draws + self.burn_in.unwrap_or(self.draws);
        Passes { gradients: settings * self.chains * steps, ..Passes::default() }
    }

    /// All settings, `γ` and then step sizes ascending.
    fn settings(&self, n_beta: f64, lambda_max: f64, dim: usize) -> Vec<Setting> {
        let (gammas, step_sizes): (&[f64], &[f64]) = if self.sweep { (&GAMMAS, &STEP_SIZES) } else { (&[1.0], &[1.0]) };
        let setting = |gamma: f64, factor: f64| {
            let own = || STEEPNESS / (n_beta * lambda_max.max(0.0) + gamma);
            let step_size = factor * self.step_size.unwrap_or_else(own);
            let slowest = (3.0 + 0.5 * (dim.max(1) as f64).ln()) / (step_size * gamma);
            let default = (slowest.ceil() as usize).clamp(50, (10 * self.draws).max(50));
            let burn_in = self.burn_in.unwrap_or(default).min(Self::MOST_STEPS);
            Setting { dynamics: Dynamics { n_beta, gamma, step_size }, burn_in }
        };
        let pairs = gammas.iter().flat_map(|gamma| step_sizes.iter().map(move |factor| (gamma * self.gamma, *factor)));
        pairs.map(|(gamma, factor)| setting(gamma, factor)).collect()
    }
}

/// Samples around `theta`, `[d]`, at one setting, or at nine for a sweep. Cost: a gradient for each step of a chain, one pass
/// over the rows, and some ten products with the Hessian where the step size is not given.
///
/// # Errors
/// Settings out of range; a loss that is not finite at `theta`; an interruption, after the store has been told.
pub fn survey(
    objective: &Objective<'_>,
    theta: &Tensor,
    options: &LlcOptions,
    store: &mut dyn ChainStore,
    observer: &mut dyn Observer,
) -> Result<LlcReport> {
    options.check()?;
    let n_beta = options.n_beta(objective.num_rows())?;
    // Where there are fewer chains than ranks, all ranks share the gradients.
    let (ranks_take_chains, apart) = (options.chains >= team().size(), objective.apart());
    let (team, of_chains): (&'static dyn Team, _) =
        if ranks_take_chains { (team(), &apart) } else { (&Alone, objective) };
    let energy = LossEnergy::new(of_chains, theta, options.batch, options.seed, observer)?;
    let lambda_max = match options.step_size {
        Some(_) => f64::NAN,
        None => steepest(objective, theta, options.seed, observer)?,
    };
    let settings = options.settings(n_beta, lambda_max, objective.dim());
    let workers = Workers::new(objective.options().execution.threads)?;
    // Threads likewise. Chains whose gradients all ranks share must not run side by side.
    let side_by_side = if ranks_take_chains { objective.point_workers() } else { 1 };
    let at_a_time = if team.own(options.chains).len() < side_by_side { 1 } else { side_by_side };
    let steps = |setting: &Setting| setting.burn_in + options.draws;
    let total = settings.iter().map(steps).sum();
    let mut report =
        LlcReport { estimates: Vec::new(), chains: Vec::new(), batch_size: energy.batch_size(), lambda_max };
    for (index, setting) in settings.iter().enumerate() {
        let schedule = Schedule {
            chains: options.chains,
            steps: steps(setting),
            seed: options.seed,
            at_a_time,
            workers: workers.clone(),
            team,
        };
        let before = settings[..index].iter().map(steps).sum();
        let mut progress = Progress { observer: &mut *observer, before, total };
        let watch = Watch { setting: index, store: &mut *store, observer: &mut progress };
        let chains = sample(&energy, &setting.dynamics, &schedule, watch)?;
        report.estimates.push(Estimate::of(&chains, setting.dynamics, setting.burn_in));
        report.chains.push(chains);
    }
    // Without a recommendation the setting that was asked for stays in front: that in the middle.
    let headline = recommended(&report.estimates).unwrap_or(settings.len() / 2);
    if let Some(estimate) = report.estimates.get_mut(headline) {
        estimate.is_headline = true;
    }
    Ok(report)
}

/// `λ₁` to about a tenth, which the step size forgives.
fn steepest(objective: &Objective<'_>, theta: &Tensor, seed: u64, observer: &mut dyn Observer) -> Result<f64> {
    let operator = CurvatureOperator::new(objective, theta, Curvature::Hessian)?;
    let memory_bytes = objective.options().execution.memory_bytes;
    let params =
        EigenParams { top: 1, bottom: 0, tolerance: 0.1, max_matvecs: 60, memory_bytes, ..EigenParams::default() };
    let mut rng = stream(seed, Purpose::LearningCoefficientEigenvalue);
    let found = eigenpairs(&operator, &params, &mut rng, observer)?;
    Ok(found.top.ritz_values.first().copied().unwrap_or(f64::NAN))
}

impl LlcReport {
    /// The setting that comparisons take.
    pub fn headline(&self) -> Option<&Estimate> {
        self.estimates.iter().find(|estimate| estimate.is_headline)
    }
}

/// Tells an observer of all settings where the sampler tells of one.
struct Progress<'a> {
    observer: &'a mut dyn Observer,
    before: usize,
    total: usize,
}

impl Observer for Progress<'_> {
    fn on_step(&mut self, step: &Step) -> ControlFlow<()> {
        self.observer.on_step(&Step { done: self.before + step.done, total: self.total, ..step.clone() })
    }
}
