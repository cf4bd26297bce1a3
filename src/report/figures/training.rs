//! Loss and accuracy over the epochs of one or several runs.

use std::path::{Path, PathBuf};

use super::canvas::{Dash, Pen};
use super::palette::{GREY, MAX_SERIES, series};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use crate::report::ReportError;

/// Metrics of one run, one entry per epoch; a list may be empty, a missing number is NaN.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingCurve {
    /// Name in the legend.
    pub name: String,
    /// Epochs, ascending.
    pub epochs: Vec<f64>,
    /// Mean loss on the training rows.
    pub train_loss: Vec<f64>,
    /// Mean loss on the test rows.
    pub test_loss: Vec<f64>,
    /// Accuracy in 0..=1 on the training rows.
    pub train_accuracy: Vec<f64>,
    /// Accuracy in 0..=1 on the test rows.
    pub test_accuracy: Vec<f64>,
}

/// Writes `training.*`: loss above accuracy, a colour per run, test dashed; at most six runs. Nothing is written where
/// no run has a finite number.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_training_curves(
    curves: &[TrainingCurve],
    statement: &str,
    folder: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let curves = &curves[..curves.len().min(MAX_SERIES)];
    let all = |lists: fn(&TrainingCurve) -> [&Vec<f64>; 2]| -> Vec<f64> {
        curves.iter().flat_map(lists).flatten().copied().filter(|value| value.is_finite()).collect()
    };
    let losses = all(|curve| [&curve.train_loss, &curve.test_loss]);
    let accuracies = all(|curve| [&curve.train_accuracy, &curve.test_accuracy]);
    let panels = [(&losses, "loss"), (&accuracies, "accuracy")];
    let panels: Vec<(&Vec<f64>, &str)> = panels.into_iter().filter(|(values, _)| !values.is_empty()).collect();
    if panels.is_empty() {
        return Ok(Vec::new());
    }
    let legend = curves.iter().enumerate().map(|(i, curve)| (Sample::Line(pen(i, false)), curve.name.clone()));
    let mut legend: Vec<(Sample, String)> = legend.collect();
    if curves.iter().any(|curve| !curve.test_loss.is_empty() || !curve.test_accuracy.is_empty()) {
        legend.push((Sample::Line(Pen::solid(GREY, 1.0)), "train".into()));
        legend.push((Sample::Line(Pen { color: GREY, ..pen(0, true) }), "test".into()));
    }
    let body_height = 80.0 * panels.len() as f64 + 14.0;
    let sheet = Sheet { legend, body_height, statement: statement.to_owned() };
    sheet.write(folder, "training", |canvas, body| {
        let (from, to) = Scale::linear(curves.iter().flat_map(|curve| curve.epochs.iter().copied())).ends();
        let x = Scale::Counts { from, to };
        let axes: Vec<Axis> =
            panels.iter().map(|(values, name)| Axis::new(Scale::linear_or_log(values, 20.0), *name)).collect();
        let left = axes.iter().map(|axis| axis.room(72.0)).fold(0.0, f64::max);
        for (index, y) in axes.into_iter().enumerate() {
            let count = panels.len() as f64;
            let last = index + 1 == panels.len();
            // The lower panel also holds the labels.
            let share = |index: usize| {
                if index == 0 {
                    0.0
                } else if index == panels.len() {
                    1.0
                } else {
                    0.46
                }
            };
            let across = if last { Axis::new(x, "epoch") } else { Axis::bare(x) };
            let rows = if count > 1.0 { body.rows(share(index), share(index + 1)) } else { body };
            let panel = Panel::new(rows, left, across, y);
            panel.draw_axes(canvas);
            for (order, curve) in curves.iter().enumerate() {
                let lists = match panels[index].1 {
                    "loss" => [&curve.train_loss, &curve.test_loss],
                    _ => [&curve.train_accuracy, &curve.test_accuracy],
                };
                for (list, test) in lists.into_iter().zip([false, true]) {
                    // A line through the epochs that were evaluated, however far apart they are.
                    let points = curve.epochs.iter().copied().zip(list.iter().copied());
                    panel.curve(canvas, points.filter(|(_, value)| value.is_finite()), pen(order, test));
                }
            }
        }
    })
}

fn pen(index: usize, test: bool) -> Pen {
    Pen { color: series(index), width: 1.0, dash: if test { Dash::Broken(2.5, 1.5) } else { Dash::Solid } }
}
