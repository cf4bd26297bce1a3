//! What `analyze` computes, as plain report structs that `report` turns into tables and figures.

mod check;
mod cost;
mod run;
mod subset_study;

pub use check::{CheckOptions, Finding, check, check_outputs};
pub use cost::{CostEstimate, typical_matvecs};
pub use run::{AnalysisOptions, EigenMethod, analyze};
pub use subset_study::{SubsetQuantity, SubsetRow, SubsetStudy};

use crate::spectral::{DensityReport, EigenReport, SlqReport, TraceReport};

/// Which curvature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperatorKind {
    /// Second derivative of the mean loss.
    Hessian,
    /// Generalised Gauss-Newton matrix.
    Ggn,
}

impl OperatorKind {
    /// The word in tables: `hessian` or `ggn`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hessian => "hessian",
            Self::Ggn => "ggn",
        }
    }
}

/// The spectrum of one operator.
#[derive(Debug, Clone)]
pub struct SpectrumReport {
    /// Which curvature.
    pub operator: OperatorKind,
    /// Part of the parameters: `all`, `layer:X`, `kind:weight|bias|norm`, `params:GLOB`.
    pub scope: String,
    /// Largest eigenvalues.
    pub top: EigenReport,
    /// Smallest eigenvalues.
    pub bottom: EigenReport,
    /// Hutchinson's trace.
    pub trace: TraceReport,
    /// Raw nodes and weights.
    pub slq: SlqReport,
    /// Smoothed densities, linear and signed-log.
    pub densities: Vec<DensityReport>,
}

/// What direction a slice follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceKind {
    /// One unit eigenvector.
    Eigenvector,
    /// One random filter-normalised direction (Li et al. 2018).
    RandomFilter,
    /// The plane of two random filter-normalised directions, orthogonalised.
    RandomPlane,
}

impl SliceKind {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eigenvector => "eigenvector",
            Self::RandomFilter => "random_filter",
            Self::RandomPlane => "random_plane",
        }
    }
}

/// Loss and accuracy along a line or over a plane through the checkpoint.
#[derive(Debug, Clone)]
pub struct SliceReport {
    /// What direction.
    pub kind: SliceKind,
    /// Index of the direction within its kind, from 0 (for a plane: 0).
    pub direction: usize,
    /// First coordinate of each point, in units of the direction.
    pub x: Vec<f64>,
    /// Second coordinate; all 0 on a line.
    pub y: Vec<f64>,
    /// Mean loss at each point.
    pub loss: Vec<f64>,
    /// Accuracy in 0..=1 at each point; NaN where the targets are no classes.
    pub accuracy: Vec<f64>,
    /// For an eigenvector: its Ritz value, so that the figure can draw the parabola `loss + λ x²/2`; else NaN.
    pub curvature: f64,
}

/// One headline number: a row of `summary.parquet` and of the terminal's table.
#[derive(Debug, Clone)]
pub struct SummaryRow {
    /// `hessian`, `ggn`, or empty where no operator is involved.
    pub operator: String,
    /// As in [`SpectrumReport::scope`].
    pub scope: String,
    /// `loss`, `accuracy`, `gradient_norm`, `lambda_max`, `lambda_min`, `trace`, …
    pub quantity: String,
    /// Its value.
    pub value: f64,
    /// Standard error or bound of the computation; NaN where it does not apply.
    pub std_err_numeric: f64,
    /// Standard error from the choice of data rows; NaN where unknown.
    pub std_err_data: f64,
    /// `exact`, `lanczos`, `hutchinson`, …
    pub method: String,
    /// Whether the estimate met its tolerance.
    pub converged: bool,
    /// Products with the operator that it took.
    pub num_matvecs: usize,
}

impl SummaryRow {
    /// A number without operator and estimation error.
    pub fn exact(quantity: &str, value: f64) -> Self {
        Self {
            operator: String::new(),
            scope: "all".into(),
            quantity: quantity.into(),
            value,
            std_err_numeric: f64::NAN,
            std_err_data: f64::NAN,
            method: "exact".into(),
            converged: true,
            num_matvecs: 0,
        }
    }
}

/// Everything that `analyze` found on one checkpoint.
#[derive(Debug, Clone)]
pub struct AnalysisReport {
    /// Name for titles and the result folder.
    pub name: String,
    /// One entry per operator asked for.
    pub spectra: Vec<SpectrumReport>,
    /// Lines and planes.
    pub slices: Vec<SliceReport>,
    /// Headline numbers.
    pub summary: Vec<SummaryRow>,
    /// How loss and data were defined, in one line for captions: loss, reduction, rows, batch norm, dtype.
    pub statement: String,
    /// The resolved scientific configuration with data and checkpoint hashes: goes into every file's metadata.
    pub configuration: serde_json::Value,
}
