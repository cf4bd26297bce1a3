//! Krylov methods and stochastic estimators: sees [`crate::operator::LinearOperator`] and f64 numbers, never a network.

mod closing;
mod cross_fit;
mod data_error;
mod deflated_trace;
mod dense;
mod density;
mod diagonal;
mod eigenpairs;
mod functions;
mod gram;
mod guard;
mod householder;
mod hutchpp;
mod krylov_schur;
mod lanczos;
mod power;
mod search;
mod sketch;
mod slq;
mod state;
#[cfg(test)]
mod stress;
mod survey;
#[cfg(test)]
mod testing;
mod trace;
mod tridiagonal;
mod vector_kernels;
mod vectors;
mod xtrace;

use candle_core::Tensor;

use self::trace::mean_and_std_error;
use crate::operator::ShardForms;

pub use cross_fit::{CrossFitParams, CrossFitReport, cross_fit};
pub use data_error::data_std_errors;
pub use deflated_trace::{DeflatedTraceParams, DeflatedTraceReport, Deflation, TraceStop, deflated_trace};
pub use dense::{DenseParams, DenseReport, dense};
pub use density::{DensityParams, density};
pub use diagonal::{DiagonalReport, hutchinson_diagonal};
pub use eigenpairs::{EigenParams, EigenpairsReport, eigenpairs};
pub use functions::{Count, Estimate, SpectralMeasure, trace_of};
pub use gram::{GramParams, GramReport, RowBlocks, gram};
pub use hutchpp::hutchpp;
pub use power::{PowerParams, power};
pub use sketch::{SketchParams, SketchReport};
pub use slq::{SlqParams, slq};
pub use state::{Store, SurveyState};

pub use survey::{Stop, SurveyOutcome, SurveyParams, SurveyReport, survey};
pub use trace::{TraceParams, hutchinson};
pub use xtrace::{xdiag, xtrace};

/// What can go wrong in a spectral computation.
#[derive(Debug, thiserror::Error)]
pub enum SpectralError {
    /// A product held NaN or infinity.
    #[error("{method}: the product with the operator is not finite at matvec {matvec}")]
    NonFinite {
        /// The algorithm.
        method: &'static str,
        /// Number of the matvec at which it first appeared, from 1.
        matvec: usize,
    },
    /// More eigenpairs, steps or probes than the operator has dimensions.
    #[error("{method}: {what} is {got}, but the operator has dimension {dim}")]
    TooMany {
        /// The algorithm.
        method: &'static str,
        /// The parameter's name.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The operator's dimension.
        dim: usize,
    },
    /// `uᵀAv` and `vᵀAu` differ.
    #[error(
        "{method}: the operator is not symmetric: uᵀAv and vᵀAu differ by {asymmetry:.1e} of ‖A‖, {tolerance:.0e} allowed"
    )]
    NotSymmetric {
        /// The algorithm.
        method: &'static str,
        /// The difference over `‖A‖`.
        asymmetry: f64,
        /// What rounding explains.
        tolerance: f64,
    },
    /// Two products of the same vector differ.
    #[error(
        "{method}: the operator is not deterministic: two products of one vector differ by {difference:.1e} of ‖Av‖"
    )]
    NotDeterministic {
        /// The algorithm.
        method: &'static str,
        /// Norm of the difference over the norm of the product.
        difference: f64,
    },
    /// A kept state lacks a part, or has it in another shape.
    #[error("the state of the earlier run is damaged or of another version: {part}")]
    DamagedState {
        /// Which part.
        part: String,
    },
    /// The budget does not pay for one step.
    #[error("{method}: {got} products do not pay for {needed}, the fewest that give a result")]
    BudgetTooSmall {
        /// The algorithm.
        method: &'static str,
        /// Products allowed.
        got: usize,
        /// Products needed.
        needed: usize,
    },
    /// A Gram matrix that the memory does not hold.
    #[error("gram: {} MiB do not hold a Gram matrix of {rows} rows twice, or not two of these rows beside it", memory_bytes >> 20)]
    NoRoom {
        /// Its rows.
        rows: usize,
        /// What there is to plan with.
        memory_bytes: usize,
    },
    /// Vectors that came with another number of values or forms.
    #[error("{method}: {values} values or forms for {vectors} vectors")]
    Unpaired {
        /// The algorithm.
        method: &'static str,
        /// How many vectors.
        vectors: usize,
        /// How many values.
        values: usize,
    },
    /// A budget that leaves too little for a value and its error.
    #[error("{method}: num_matvecs is {got}, but a value with a standard error takes {least}")]
    TooFewMatvecs {
        /// The algorithm.
        method: &'static str,
        /// The budget.
        got: usize,
        /// What it takes.
        least: usize,
    },
    /// Too few probes for a standard error.
    #[error("{method}: {got} probes, but a standard error needs 2 or more")]
    TooFewProbes {
        /// The algorithm.
        method: &'static str,
        /// The number asked for.
        got: usize,
    },
}

impl SpectralError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NonFinite { .. } => "check the weights and the data for NaN, or use --dtype f64".into(),
            Self::TooMany { what, dim, .. } => format!("set {what} to {dim} or less"),
            Self::NotSymmetric { .. } => "only symmetric operators have the eigenvalues that this computes".into(),
            Self::NotDeterministic { .. } => {
                "switch off whatever draws random numbers in it (dropout, shuffling, augmentation)".into()
            }
            Self::DamagedState { .. } => "start again without --resume".into(),
            Self::BudgetTooSmall { needed, .. } => format!("allow {needed} products or more"),
            Self::NoRoom { .. } => {
                "allow more memory, take fewer data rows, or let a survey estimate the spectrum".into()
            }
            Self::Unpaired { .. } => "give one value and one form of each shard per vector".into(),
            Self::TooFewMatvecs { least, .. } => format!("set num_matvecs to {least} or more"),
            Self::TooFewProbes { .. } => "ask for 2 probes or more".into(),
        })
    }
}

/// Which end of the spectrum: `Top` holds the largest algebraic eigenvalues, `Bottom` the smallest (most negative).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Largest algebraic.
    Top,
    /// Smallest algebraic.
    Bottom,
}

/// Eigenpairs at one end of the spectrum.
#[derive(Debug, Clone)]
pub struct EigenReport {
    /// Which end.
    pub end: End,
    /// Largest first for [`End::Top`], smallest first for [`End::Bottom`].
    pub ritz_values: Vec<f64>,
    /// `‖A y − θ y‖` of unit `y`, recomputed from a closing product; same order and length. It bounds the distance
    /// of `θ` to some eigenvalue of `A`.
    pub residual_norms: Vec<f64>,
    /// Whether each residual is within the tolerance; same order and length.
    pub converged: Vec<bool>,
    /// Unit Ritz vectors as rows, `[k, n]`, in the operator's dtype.
    pub vectors: Tensor,
    /// Standard error of each eigenvalue from the choice of data rows (first order: spread of `yᵀA_s y` over the
    /// shards `s`); NaN where the operator has no shards.
    pub std_err_data: Vec<f64>,
    /// `yᵀA_s y` of each shard and vector, where the operator has shards.
    pub shard_forms: Option<ShardForms>,
    /// `lanczos`, `power`, `dense` or `gram`.
    pub method: &'static str,
    /// Products with the operator, shared by both ends of one run.
    pub num_matvecs: usize,
    /// The observer ended the run early. Residual norms are then those of the recurrence, or the rounding of a product
    /// where that is more, without a closing product, and the data errors are NaN.
    pub interrupted: bool,
}

/// A trace estimate with its two errors.
#[derive(Debug, Clone)]
pub struct TraceReport {
    /// Mean of the samples.
    pub trace: f64,
    /// Standard error from the random probes.
    pub std_err_numeric: f64,
    /// Standard error from the choice of data rows; NaN where the operator has no shards.
    pub std_err_data: f64,
    /// `zᵀAz` per probe.
    pub samples: Vec<f64>,
    /// Products with the operator.
    pub num_matvecs: usize,
}

/// Where the rules of a spectral measure come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleSource {
    /// Lanczos recurrences whose bases were kept and orthogonalised in full.
    Lanczos,
    /// Too little memory for one basis: the recurrence ran on the last few vectors alone. Nodes may repeat, weights
    /// still add up.
    ThreeTerm,
    /// The matrix: one rule, whose nodes are all its eigenvalues.
    Dense,
    /// The Gram matrix of the rows that the matrix is made of: the same, with one node for all zeros that need no row.
    Gram,
}

impl RuleSource {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lanczos => "slq",
            Self::ThreeTerm => "slq_three_term",
            Self::Dense => "dense",
            Self::Gram => "gram",
        }
    }

    /// Whether the one rule is the spectrum itself: nothing was drawn, and nothing is left open.
    pub fn is_spectrum(self) -> bool {
        matches!(self, Self::Dense | Self::Gram)
    }
}

/// Gauss quadrature of the spectral measure seen from each probe (stochastic Lanczos quadrature), or all eigenvalues.
#[derive(Debug, Clone)]
pub struct SlqReport {
    /// One rule per probe.
    pub probes: Vec<Quadrature>,
    /// The rules of three quarters of the steps, which tell how much the steps still matter: see [`SlqReport::change`].
    pub shorter: Vec<Quadrature>,
    /// Dimension of the operator.
    pub dim: usize,
    /// Steps: each rule is exact for polynomials of degree `2·num_steps − 1`. A rule from a block of start vectors has
    /// more nodes than steps.
    pub num_steps: usize,
    /// Products with the operator.
    pub num_matvecs: usize,
    /// `zᵀAz` per probe comes free with the first Lanczos step: Hutchinson's trace.
    pub trace: TraceReport,
    /// Where the rules come from.
    pub source: RuleSource,
    /// The observer ended the run early: fewer probes or shorter rules than asked for.
    pub interrupted: bool,
}

impl SlqReport {
    /// What an interruption before the first rule leaves.
    pub(crate) fn none(dim: usize) -> Self {
        let (trace, std_err_numeric, std_err_data) = (f64::NAN, f64::NAN, f64::NAN);
        Self {
            probes: Vec::new(),
            shorter: Vec::new(),
            dim,
            num_steps: 0,
            num_matvecs: 0,
            trace: TraceReport { trace, std_err_numeric, std_err_data, samples: Vec::new(), num_matvecs: 0 },
            source: RuleSource::Lanczos,
            interrupted: true,
        }
    }

    /// Mean and standard error of a number with one sample per probe; a spectrum that is known has no error.
    fn over_probes(&self, samples: &[f64]) -> (f64, f64) {
        let (mean, std_err) = mean_and_std_error(samples);
        (mean, if self.source.is_spectrum() { 0.0 } else { std_err })
    }
}

/// Nodes (Ritz values) and weights (squared first components; sum 1) of one probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Quadrature {
    /// Ascending.
    pub nodes: Vec<f64>,
    /// Same order and length as `nodes`.
    pub weights: Vec<f64>,
    /// Whether the Krylov space closed (breakdown): the rule is then exact for this probe.
    pub exact: bool,
}

/// The eigenvalue axis of a density.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Eigenvalue `λ` itself; density per unit of `λ`.
    Linear,
    /// `sign(λ)·log10(1 + |λ|/λ0)` with the threshold [`DensityReport::linear_threshold`]; density per unit of that coordinate.
    SignedLog,
    /// `log10|λ|`, one curve for negative and one for positive `λ`; density per decade. What is no larger than
    /// [`DensityReport::linear_threshold`] has no place on this axis: see [`MassShares::near_zero`].
    LogAbs,
}

/// A smoothed spectral density on a grid.
#[derive(Debug, Clone)]
pub struct DensityReport {
    /// Which axis.
    pub axis: Axis,
    /// Grid positions as eigenvalues, ascending. On [`Axis::LogAbs`] the curve of negative eigenvalues comes first.
    pub values: Vec<f64>,
    /// Density at each position. It integrates to 1 along the axis coordinate; on [`Axis::LogAbs`] each curve to the
    /// share of its sign.
    pub density: Vec<f64>,
    /// Standard error of the density over the probes, same length; 0 of a spectrum that is known.
    pub std_err: Vec<f64>,
    /// Standard deviation of the Gaussian kernel, in the axis coordinate.
    pub sigma: f64,
    /// `λ0` of the signed-log axis, or the largest `|λ|` that counts as near zero on the log axis, in the unit of the
    /// eigenvalues; 0 for the linear axis.
    pub linear_threshold: f64,
    /// What the grid holds, by the trapezoid rule, with the share near zero where that is left out of the curves: 1 but
    /// for the kernels' tails (10⁻⁸). 0 without nodes.
    pub mass: f64,
    /// How the mass divides by sign.
    pub shares: MassShares,
}

/// A share of the spectral mass: mean and standard error over the probes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// In 0..=1; NaN without nodes.
    pub value: f64,
    /// 0 of a spectrum that is known, else NaN below two probes.
    pub std_err: f64,
}

/// The weight of negative, tiny and positive nodes; the three add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MassShares {
    /// Nodes below `−`[`DensityReport::linear_threshold`].
    pub negative: Share,
    /// Nodes of no larger magnitude: zero, as far as the precision of the products tells.
    pub near_zero: Share,
    /// Nodes above the threshold.
    pub positive: Share,
}
