//! Curvature during training, on a fixed part of the training rows.

use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::analysis::{AnalysisOptions, AnalysisReport, SummaryRow, analyze};
use crate::objective::Objective;
use crate::report::tables::Column;
use crate::{Observer, Result};

/// What is tracked; written `top:1,trace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Track {
    /// Largest eigenvalues of the Hessian; `lambda_max` is the first, `lambda_2` the second.
    pub top: usize,
    /// Whether the Hessian's trace.
    pub trace: bool,
}

impl FromStr for Track {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        let bad = || TrainError::Track { text: text.into() };
        let mut track = Self { top: 0, trace: false };
        for word in text.split(',') {
            match word.split_once(':') {
                None if word == "trace" => track.trace = true,
                None if word == "top" => track.top = 1,
                Some(("top", count)) => {
                    track.top = count.parse().ok().filter(|count| (1..=100).contains(count)).ok_or_else(bad)?;
                }
                _ => return Err(bad()),
            }
        }
        Ok(track)
    }
}

impl TryFrom<String> for Track {
    type Error = TrainError;

    fn try_from(text: String) -> Result<Self, TrainError> {
        text.parse()
    }
}

impl From<Track> for String {
    fn from(track: Track) -> Self {
        match (track.top, track.trace) {
            (0, _) => "trace".into(),
            (top, true) => format!("top:{top},trace"),
            (top, false) => format!("top:{top}"),
        }
    }
}

/// One number at the end of an epoch: a row of `curvature.parquet`, whose other columns are those of `summary.parquet`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackedRow {
    /// 0 is before the first step.
    pub epoch: usize,
    /// Steps since the start.
    pub step: usize,
    /// `lambda_max`, `lambda_2`, … or `trace`.
    pub quantity: String,
    /// As in [`SummaryRow`].
    pub method: String,
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
            quantity: "trace".into(),
            method: "exact".into(),
            converged: true,
            num_matvecs: 3,
            value,
            std_err_numeric: 0.0,
            std_err_data: f64::NAN,
        }
    }
}

/// The tracked numbers at `theta`, epoch and step not yet filled in.
///
/// Eigenvalues to a residual of 1 % of the largest; the trace exact where it can be, else to 2 % from probes. Cost:
/// some 10 products for one eigenvalue, one gradient per class for an exact trace.
pub(super) fn measure(
    objective: &Objective<'_>,
    theta: &Tensor,
    track: Track,
    observer: &mut dyn Observer,
) -> Result<Vec<TrackedRow>> {
    let options = AnalysisOptions {
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
    analyze(objective, theta, &options, &mut report, (&mut (), observer))?;
    let mut rows: Vec<SummaryRow> = Vec::new();
    if let Some(top) = report.spectra.first().map(|spectrum| &spectrum.top) {
        for index in 0..top.ritz_values.len() {
            let quantity = if index == 0 { "lambda_max".to_owned() } else { format!("lambda_{}", index + 1) };
            let at = |list: &[f64]| list.get(index).copied().unwrap_or(f64::NAN);
            rows.push(SummaryRow {
                std_err_numeric: at(&top.residual_norms),
                std_err_data: at(&top.std_err_data),
                method: top.method.into(),
                converged: top.converged.get(index).copied().unwrap_or(false),
                num_matvecs: top.num_matvecs,
                ..SummaryRow::exact(&quantity, at(&top.ritz_values))
            });
        }
    }
    rows.extend(report.summary.into_iter().filter(|row| track.trace && row.quantity == "trace" && row.scope == "all"));
    Ok(rows.into_iter().map(tracked).collect())
}

fn tracked(row: SummaryRow) -> TrackedRow {
    TrackedRow {
        epoch: 0,
        step: 0,
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
    let text = |value: fn(&TrackedRow) -> &str| Column::Text(rows.iter().map(|row| value(row).to_owned()).collect());
    let number = |value: fn(&TrackedRow) -> f64| Column::Number(rows.iter().map(value).collect());
    let count = |value: fn(&TrackedRow) -> usize| Column::Count(rows.iter().map(value).collect());
    vec![
        ("epoch", count(|row| row.epoch)),
        ("step", count(|row| row.step)),
        ("operator", text(|_| "hessian")),
        ("scope", text(|_| "all")),
        ("quantity", text(|row| &row.quantity)),
        ("value", number(|row| row.value)),
        ("std_err_numeric", number(|row| row.std_err_numeric)),
        ("std_err_data", number(|row| row.std_err_data)),
        ("method", text(|row| &row.method)),
        ("converged", Column::Flag(rows.iter().map(|row| row.converged).collect())),
        ("num_matvecs", count(|row| row.num_matvecs)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        for (text, top, trace) in [("top:1,trace", 1, true), ("trace", 0, true), ("top:5", 5, false)] {
            let track: Track = text.parse().unwrap();
            assert_eq!((track.top, track.trace), (top, trace));
            assert_eq!(String::from(track), text);
        }
        for text in ["", "top:0", "bottom:1", "trace:1", "top:x", "top:1,", "top:101"] {
            let error = text.parse::<Track>().unwrap_err();
            assert!(error.hint().unwrap().contains("top:1,trace"), "{error}");
        }
    }
}
