//! Krylov methods and stochastic estimators: sees [`crate::curvature::LinearOperator`] and f64 numbers, never a network.

mod closing;
mod data_error;
mod dense;
mod density;
mod eigenpairs;
mod krylov_schur;
mod lanczos;
mod power;
mod slq;
#[cfg(test)]
mod testing;
mod trace;
mod vector_kernels;
mod vectors;

use candle_core::Tensor;

pub use data_error::data_std_errors;
pub use dense::DenseOperator;
pub use density::{DensityParams, density};
pub use eigenpairs::{EigenParams, EigenpairsReport, eigenpairs};
pub use power::{PowerParams, power};
pub use slq::{SlqParams, slq};
pub use trace::{TraceParams, hutchinson};

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
    /// `lanczos` or `power`.
    pub method: &'static str,
    /// Products with the operator, shared by both ends of one run.
    pub num_matvecs: usize,
    /// The observer ended the run early. Residual norms are then those of the recurrence, without a closing product,
    /// and the data errors are NaN.
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

/// Gauss quadrature of the spectral measure seen from each probe (stochastic Lanczos quadrature).
#[derive(Debug, Clone)]
pub struct SlqReport {
    /// One rule per probe.
    pub probes: Vec<Quadrature>,
    /// Dimension of the operator.
    pub dim: usize,
    /// Products with the operator.
    pub num_matvecs: usize,
    /// `zᵀAz` per probe comes free with the first Lanczos step: Hutchinson's trace.
    pub trace: TraceReport,
    /// Whether each basis was kept and orthogonalised in full. If not (too little memory for one basis), the
    /// recurrence ran on the last few vectors alone: nodes may repeat, weights still add up.
    pub full_orthogonality: bool,
    /// The observer ended the run early: fewer probes or shorter rules than asked for.
    pub interrupted: bool,
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
    /// Standard error of the density over the probes, same length.
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
    /// NaN below two probes.
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
