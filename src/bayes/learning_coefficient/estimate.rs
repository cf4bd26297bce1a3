//! What the chains of one setting say, and whether they say it.

use std::fmt;

use super::{Chain, Dynamics, Visit};
use crate::statistics::{Mixing, Sample};
use crate::vocabulary::{Method, Quantity, SummaryRow};

/// Largest split R̂ of loss and distance.
const MOST_R_HAT: f64 = 1.05;
/// Fewest independent draws over all chains.
const FEWEST_DRAWS: f64 = 50.0;
/// Standard errors that a drift must exceed to count, as far as it also exceeds [`MOST_SHARE`].
const MOST_ERRORS: f64 = 3.0;
/// Share of the estimate that the bias of the step size, or a drift, may have.
pub(super) const MOST_SHARE: f64 = 0.05;

/// Why chains give no number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// A chain left the finite numbers at this step.
    Lost(usize),
    /// Chains, or their halves, differ in their loss or, if `of_distance`, in how far they are from `w*`.
    Unmixed {
        /// Split R̂.
        r_hat: f64,
        /// Of the distance rather than the loss.
        of_distance: bool,
    },
    /// The mean loss of the second half differs from that of the first by this much of `λ̂`.
    Drift(f64),
    /// So few independent draws.
    FewDraws(f64),
    /// The chains find less loss than at `w*`.
    Negative(f64),
    /// The step size alone makes this share of the estimate.
    Biased(f64),
}

impl Fault {
    /// One word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost(_) => "not_finite",
            Self::Unmixed { .. } => "r_hat",
            Self::Drift(_) => "drift",
            Self::FewDraws(_) => "few_draws",
            Self::Negative(_) => "negative",
            Self::Biased(_) => "step_size_bias",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(step) => write!(f, "the loss of a chain is not finite at step {step}"),
            Self::Unmixed { r_hat, of_distance: false } => write!(f, "the chains differ in their loss (R̂ {r_hat:.2})"),
            Self::Unmixed { r_hat, of_distance: true } => {
                write!(f, "the chains are still moving away from the checkpoint (R̂ of the distance {r_hat:.2})")
            }
            Self::Drift(drift) => write!(f, "the loss drifts (by {drift:+.2} between the halves of the chains)"),
            Self::FewDraws(size) => write!(f, "the draws are worth only {size:.0} independent ones"),
            Self::Negative(value) => {
                write!(f, "the estimate is negative ({value:.2}): the checkpoint is no minimum on these rows")
            }
            Self::Biased(share) => write!(f, "the step size alone makes {:.0} % of the estimate", 100.0 * share),
        }
    }
}

/// The learning coefficient at one setting, with what decides whether it is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// `nβ`, `γ`, `ε`.
    pub dynamics: Dynamics,
    /// Steps of each chain that do not count.
    pub burn_in: usize,
    /// Steps of each chain that do.
    pub draws: usize,
    /// `λ̂ = nβ (E L − L(w*))`; NaN where the chains have not settled.
    pub value: f64,
    /// Its standard error: the larger of the two in `mixing`.
    pub std_err: f64,
    /// Of `nβ (L − L(w*))` over the draws.
    pub mixing: Mixing,
    /// Split R̂ of `‖w − w*‖²`.
    pub r_hat_distance: f64,
    /// Root of the mean of `‖w − w*‖²`.
    pub distance: f64,
    /// By how much `λ̂` is too large because of the step size: `ε/8 E⟨∇U, nβ ∇L⟩`, exact where the loss is quadratic and the
    /// rows are all.
    pub step_size_bias: f64,
    /// Why there is no value.
    pub fault: Option<Fault>,
    /// Whether comparisons take it: the only setting, or the one that a sweep recommends.
    pub is_headline: bool,
}

impl Estimate {
    /// From chains of `burn_in + draws` visits, or of fewer if one of them was lost.
    pub fn of(chains: &[Chain], dynamics: Dynamics, burn_in: usize) -> Self {
        let lost = chains.iter().filter(|chain| chain.is_lost()).map(|chain| chain.visits.len() - 1).min();
        let column = |number: fn(&Visit) -> f64, scale: f64| -> Vec<Vec<f64>> {
            let counted =
                |chain: &Chain| chain.visits.iter().skip(burn_in).map(|visit| scale * number(visit)).collect();
            chains.iter().map(counted).collect()
        };
        let mixing = Mixing::of(&column(|visit| visit.rise, dynamics.n_beta));
        let mean = |values: Vec<Vec<f64>>| Sample::of(&values.concat()).mean;
        let distances = column(|visit| visit.square_distance, 1.0);
        let estimate = Self {
            dynamics,
            burn_in,
            draws: chains.first().map_or(0, |chain| chain.visits.len().saturating_sub(burn_in)),
            value: f64::NAN,
            std_err: f64::NAN,
            mixing,
            r_hat_distance: Mixing::of(&distances).r_hat,
            distance: mean(distances).sqrt(),
            step_size_bias: dynamics.step_size / 8.0 * mean(column(|visit| visit.slope, 1.0)),
            fault: None,
            is_headline: false,
        };
        match lost.map(Fault::Lost).or_else(|| estimate.fault()) {
            None => Self { value: mixing.mean, std_err: mixing.std_err(), ..estimate },
            fault => Self { fault, ..estimate },
        }
    }

    /// The first reason why chains that stayed finite give no number.
    fn fault(&self) -> Option<Fault> {
        let Mixing { mean, r_hat, drift, effective_size, .. } = self.mixing;
        let most = |r_hat: f64| r_hat.is_nan() || r_hat > MOST_R_HAT;
        // Both halves have half the draws: the error of their difference is twice that of the mean.
        let is_drift = drift.abs() > MOST_ERRORS * 2.0 * self.mixing.std_err() && drift.abs() > MOST_SHARE * mean.abs();
        let bias = self.step_size_bias / mean;
        [
            (mean < 0.0, Fault::Negative(mean)),
            (most(r_hat), Fault::Unmixed { r_hat, of_distance: false }),
            (most(self.r_hat_distance), Fault::Unmixed { r_hat: self.r_hat_distance, of_distance: true }),
            (is_drift, Fault::Drift(drift)),
            (effective_size < FEWEST_DRAWS, Fault::FewDraws(effective_size)),
            (bias > MOST_SHARE, Fault::Biased(bias)),
        ]
        .into_iter()
        .find_map(|(is_so, fault)| is_so.then_some(fault))
    }

    /// What to change where there is no number.
    pub fn advice(&self) -> Option<String> {
        let Dynamics { step_size, gamma, .. } = self.dynamics;
        let burn_in = format!("--burn-in {}", (8.0 / (step_size * gamma)).ceil().max(2.0 * self.burn_in as f64));
        Some(match self.fault? {
            Fault::Lost(_) => format!("choose --step-size {:.1e} or less, or a larger --gamma", step_size / 4.0),
            Fault::Negative(_) => "choose the rows that it was trained on, train it further, or raise --gamma".into(),
            Fault::Unmixed { of_distance: true, .. } => format!("choose {burn_in} or more, or raise --gamma"),
            Fault::Unmixed { .. } | Fault::Drift(_) => {
                format!("choose {burn_in} and --draws {} or more, or raise --gamma", 4 * self.draws)
            }
            Fault::FewDraws(_) => format!("choose --draws {} or more", 4 * self.draws),
            Fault::Biased(share) => {
                format!("choose --step-size {:.1e} or less", step_size * MOST_SHARE / share / 1.25)
            }
        })
    }

    /// As a headline number.
    pub fn summary(&self) -> SummaryRow {
        SummaryRow {
            std_err_numeric: self.std_err,
            method: Method::Sgld,
            converged: self.fault.is_none(),
            ..SummaryRow::exact(Quantity::LearningCoefficient, self.value)
        }
    }
}
