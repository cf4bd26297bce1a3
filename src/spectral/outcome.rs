//! What a survey of a spectrum found, by whatever method.

use super::measure::SlqReport;
use super::pairs::EigenpairsReport;

/// Why a survey ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All asked for is within its tolerance, as far as the recurrence can tell.
    Converged,
    /// The pairs are within their tolerance; the density took all its steps, or all that memory held, and is not.
    MaxSteps,
    /// [`super::SurveyParams::max_matvecs`] is spent.
    MaxMatvecs,
    /// The next products would have exceeded [`super::SurveyParams::max_time`]; the same numbers come from `max_matvecs`.
    MaxTime {
        /// The budget that ends at the same step.
        max_matvecs: usize,
    },
    /// The observer asked for it.
    Interrupted,
}

/// What a survey found.
#[derive(Debug, Clone)]
pub struct SurveyReport {
    /// Both ends, measured by a closing product.
    pub pairs: EigenpairsReport,
    /// Gauss rules and the trace seen by the start vectors.
    pub slq: SlqReport,
    /// How it went.
    pub outcome: SurveyOutcome,
}

/// How a survey went.
#[derive(Debug, Clone, Copy)]
pub struct SurveyOutcome {
    /// Why it ended.
    pub stop: Stop,
    /// Whether the density has settled: see [`super::SurveyParams::density_tolerance`].
    pub density_converged: bool,
    /// Steps of the density that were asked for.
    pub num_steps: usize,
    /// The most vectors that the basis was allowed; 0 for a method that keeps none.
    pub basis_rows: usize,
    /// Whether the memory set that, below what the method would have taken.
    pub memory_bound: bool,
    /// How often the basis shrank to its best vectors.
    pub num_restarts: usize,
    /// Products in all: guard, basis, closing, and a separate density where memory forced one.
    pub num_matvecs: usize,
}
