//! Curvature during training, on a fixed part of the training rows.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::analysis::{Analysis, AnalysisReport};
use crate::curvature::Preconditioner;
use crate::objective::Objective;
use crate::plan::{AnalysisOptions, EigenMethod, Track};
use crate::report::tables::Column;
use crate::vocabulary::{Curvature, Method, Quantity, Scope, SummaryRow};
use crate::{Observer, Result};

/// One number at the end of an epoch: a row of `curvature.parquet`, whose other columns are those of `summary.parquet`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackedRow {
    /// 0 is before the first step.
    pub epoch: usize,
    /// Steps since the start.
    pub step: usize,
    /// Of which matrix.
    pub operator: Curvature,
    /// An eigenvalue, the trace, or the threshold that the largest eigenvalue is compared with.
    pub quantity: Quantity,
    /// As in [`SummaryRow`].
    pub method: Method,
    /// As in [`SummaryRow`].
    pub converged: bool,
    /// As in [`SummaryRow`].
    pub num_matvecs: usize,
    /// Its value.
    #[serde(skip)]
    pub value: f64,
    /// As in [`SummaryRow`].
    #[serde(skip)]
    pub std_err_numeric: f64,
    /// As in [`SummaryRow`].
    #[serde(skip)]
    pub std_err_data: f64,
}

impl TrackedRow {
    /// What JSON cannot carry exactly.
    pub(super) fn numbers(&self) -> [f64; 3] {
        [self.value, self.std_err_numeric, self.std_err_data]
    }

    pub(super) fn set_numbers(&mut self, [value, std_err_numeric, std_err_data]: [f64; 3]) {
        (self.value, self.std_err_numeric, self.std_err_data) = (value, std_err_numeric, std_err_data);
    }

    #[cfg(test)]
    pub(super) fn synthetic(value: f64) -> Self {
        Self {
            epoch: 1,
            step: 9,
            operator: Curvature::Hessian,
            quantity: Quantity::Trace,
            method: Method::Exact,
            converged: true,
            num_matvecs: 3,
            value,
            std_err_numeric: 0.0,
            std_err_data: f64::NAN,
        }
    }
}

/// The tracked numbers at `theta`, epoch and step not yet filled in: of the Hessian, and with a preconditioner the eigenvalues
/// of the preconditioned Hessian after them.
///
/// Eigenvalues to a residual of 1 % of the largest; the trace exact where it can be, else to 2 % from probes. Cost:
/// some 10 products for one eigenvalue, one gradient per class for an exact trace; 10 and 8 more of the preconditioned
/// Hessian.
pub(super) fn measure(
    objective: &Objective<'_>,
    theta: &Tensor,
    track: Track,
    preconditioner: Option<&Preconditioner>,
    observer: &mut dyn Observer,
) -> Result<Vec<TrackedRow>> {
    let options = AnalysisOptions {
        method: EigenMethod::Lanczos,
        top: track.top,
        bottom: 0,
        eigen_tolerance: 0.01,
        trace_tolerance: 0.02,
        // The density comes with the survey but is not used.
        density_tolerance: f64::INFINITY,
        num_probes: 2,
        num_steps: 8,
        cross_fit: false,
        slice_points: 0,
        plane_points: 0,
        random_lines: 0,
        ..AnalysisOptions::default()
    };
    let mut report = AnalysisReport::empty("track");
    Analysis { objective, theta, options: &options, preconditioner: None }.run(&mut report, &mut (), observer)?;
    let mut rows = eigenvalues(&report);
    let is_trace = |row: &SummaryRow| row.quantity == Quantity::Trace && row.scope == Scope::All;
    rows.extend(report.summary.into_iter().filter(|row| track.trace && is_trace(row)));
    if preconditioner.is_some() {
        // Nor is its trace, which would take most of the products.
        let operators = vec![Curvature::PreconditionedHessian];
        let options = AnalysisOptions { operators, trace_tolerance: f64::INFINITY, ..options };
        let mut report = AnalysisReport::empty("track");
        Analysis { objective, theta, options: &options, preconditioner }.run(&mut report, &mut (), observer)?;
        rows.extend(eigenvalues(&report));
    }
    Ok(rows.into_iter().map(tracked).collect())
}

/// The largest eigenvalues of a report's matrix.
fn eigenvalues(report: &AnalysisReport) -> Vec<SummaryRow> {
    let Some(spectrum) = report.spectra.first() else { return Vec::new() };
    let top = &spectrum.top;
    let row = |index: usize| {
        let at = |list: &[f64]| list.get(index).copied().unwrap_or(f64::NAN);
        SummaryRow {
            operator: Some(spectrum.operator),
            std_err_numeric: at(&top.residual_norms),
            std_err_data: at(&top.std_err_data),
            method: top.method,
            converged: top.converged.get(index).copied().unwrap_or(false),
            num_matvecs: top.num_matvecs,
            ..SummaryRow::exact(Quantity::eigenvalue(index), at(&top.ritz_values))
        }
    };
    (0..top.ritz_values.len()).map(row).collect()
}

fn tracked(row: SummaryRow) -> TrackedRow {
    TrackedRow {
        epoch: 0,
        step: 0,
        operator: row.operator.unwrap_or(Curvature::Hessian),
        quantity: row.quantity,
        method: row.method,
        converged: row.converged,
        num_matvecs: row.num_matvecs,
        value: row.value,
        std_err_numeric: row.std_err_numeric,
        std_err_data: row.std_err_data,
    }
}

/// The columns of `curvature.parquet`.
pub(super) fn columns(rows: &[TrackedRow]) -> Vec<(&'static str, Column)> {
    let text = |value: fn(&TrackedRow) -> String| Column::Text(rows.iter().map(value).collect());
    let number = |value: fn(&TrackedRow) -> f64| Column::Number(rows.iter().map(value).collect());
    let count = |value: fn(&TrackedRow) -> usize| Column::Count(rows.iter().map(value).collect());
    vec![
        ("epoch", count(|row| row.epoch)),
        ("step", count(|row| row.step)),
        ("operator", text(|row| row.operator.to_string())),
        ("scope", text(|_| Scope::All.to_string())),
        ("quantity", text(|row| row.quantity.to_string())),
        ("value", number(|row| row.value)),
        ("std_err_numeric", number(|row| row.std_err_numeric)),
        ("std_err_data", number(|row| row.std_err_data)),
        ("method", text(|row| row.method.to_string())),
        ("converged", Column::Flag(rows.iter().map(|row| row.converged).collect())),
        ("num_matvecs", count(|row| row.num_matvecs)),
    ]
}
