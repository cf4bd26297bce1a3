//! Krylov methods and stochastic estimators: sees [`crate::operator::LinearOperator`] and f64 numbers, never a network.

mod closing;
mod cross_fit;
mod data_error;
mod deflated_trace;
mod dense;
mod density;
mod diagonal;
mod distribution;
mod eigenpairs;
mod functions;
mod gauss;
mod gram;
mod guard;
mod householder;
mod hutchpp;
mod krylov_schur;
mod lanczos;
mod measure;
mod power;
mod resolution;
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

use crate::operator::ShardForms;
use crate::vocabulary::Method;

pub use cross_fit::{CrossFitParams, CrossFitReport, cross_fit};
pub use data_error::data_std_errors;
pub use deflated_trace::{DeflatedTraceParams, DeflatedTraceReport, Deflation, TraceStop, deflated_trace};
pub use dense::{DenseParams, DenseReport, dense};
pub use density::{Axis, DensityParams, DensityReport, MassShares, Share, density};
pub use diagonal::{DiagonalReport, hutchinson_diagonal};
pub use distribution::{DistributionReport, distribution};
pub use eigenpairs::{EigenParams, EigenpairsReport, eigenpairs};
pub use functions::{Estimate, SpectralMeasure, trace_of};
pub use gram::{GramParams, GramReport, RowBlocks, gram};
pub use hutchpp::hutchpp;
pub use measure::{Quadrature, RuleSource, SlqReport};
pub use power::{PowerParams, power};
pub use sketch::{SketchParams, SketchReport};
pub use slq::{SlqParams, slq};
pub use state::{Store, SurveyState};

pub use survey::{Stop, SurveyOutcome, SurveyParams, SurveyReport, survey};
pub use trace::{TraceParams, hutchinson};
pub use xtrace::{xdiag, xtrace};

pub use crate::vocabulary::End;

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
    /// How they were found.
    pub method: Method,
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
