//! Loss and accuracy over the epochs of one or several runs.

use super::brush::{Brush, brushes};
use super::canvas::{Canvas, Dash, Pen};
use super::palette::{GREY, MAX_SERIES};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::stack::{Layer, write_stack};
use super::style::{Drawn, Target};
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

/// What a panel shows of a run: training and test rows.
type Lists = fn(&TrainingCurve) -> [&Vec<f64>; 2];

const PANELS: [(&str, Lists); 2] = [
    ("loss", |curve| [&curve.train_loss, &curve.test_loss]),
    ("accuracy", |curve| [&curve.train_accuracy, &curve.test_accuracy]),
];

/// Writes `training.*`: loss above accuracy, a colour per run, test dashed; at most seven runs. Nothing is written where
/// no run has a finite number.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_training_curves(
    curves: &[TrainingCurve],
    statement: &str,
    target: Target<'_>,
) -> Result<Drawn, ReportError> {
    let curves = &curves[..curves.len().min(MAX_SERIES)];
    let brushes = brushes(curves.iter().map(|curve| curve.name.as_str()));
    let finite = |lists: Lists| -> Vec<f64> {
        curves.iter().flat_map(lists).flatten().copied().filter(|value| value.is_finite()).collect()
    };
    let layer = |(name, lists): (&'static str, Lists)| {
        let values = finite(lists);
        let brushes = &brushes;
        (!values.is_empty()).then(|| Layer {
            name: name.to_owned(),
            y: Axis::new(Scale::linear_or_log(&values, 20.0), name),
            height: 80.0,
            draw: Box::new(move |canvas, panel| {
                panel.draw_axes(canvas);
                curves.iter().zip(brushes).for_each(|(curve, brush)| draw(canvas, panel, curve, lists, *brush));
            }),
        })
    };
    let layers: Vec<Layer<'_>> = PANELS.into_iter().filter_map(layer).collect();
    if layers.is_empty() {
        return Ok(Drawn::default());
    }
    let legend =
        curves.iter().zip(&brushes).map(|(curve, brush)| (Sample::Line(pen(*brush, false)), curve.name.clone()));
    let mut legend: Vec<(Sample, String)> = legend.collect();
    let tested = curves.iter().any(|curve| !curve.test_loss.is_empty() || !curve.test_accuracy.is_empty());
    if tested {
        let grey = Brush { color: GREY, ..Brush::series(0) };
        legend.push((Sample::Line(pen(grey, false)), "train".into()));
        legend.push((Sample::Line(pen(grey, true)), "test".into()));
    }
    let (from, to) = Scale::linear(curves.iter().flat_map(|curve| curve.epochs.iter().copied())).ends();
    let shown: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    let rows = if tested { "training rows (solid) and test rows (dashed)" } else { "training rows" };
    let caption = format!("Mean {} in each epoch, on {rows}.", shown.join(" and "));
    let sheet = Sheet { legend, caption, statement: statement.to_owned(), ..Sheet::default() };
    write_stack(sheet, target, "training", &Axis::new(Scale::Counts { from, to }, "epoch"), &layers)
}

fn draw(canvas: &mut Canvas, panel: &Panel, curve: &TrainingCurve, lists: Lists, brush: Brush) {
    for (list, test) in lists(curve).into_iter().zip([false, true]) {
        // A line through the epochs that were evaluated, however far apart they are.
        let points = curve.epochs.iter().copied().zip(list.iter().copied());
        panel.curve(canvas, points.filter(|(_, value)| value.is_finite()), pen(brush, test));
    }
}

fn pen(brush: Brush, test: bool) -> Pen {
    Pen { color: brush.color, width: 1.0, dash: if test { Dash::Broken(2.5, 1.5) } else { Dash::Solid } }
}
