//! Loss and accuracy along lines through the checkpoint.

use std::path::{Path, PathBuf};

use super::canvas::{Align, Canvas, Dash, Pen, SMALL, dash};
use super::number::{significant, subscript};
use super::palette::{GREY, INK, MAX_SERIES, series};
use super::panel::{Area, Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::statement;
use crate::analysis::{AnalysisReport, SliceKind, SliceReport};
use crate::report::ReportError;

/// Writes `slices.*`: a column of panels for eigenvectors, one for random directions, loss above accuracy; nothing
/// where the report has no line. At most six lines of a kind, the first ones: the table has all.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write(report: &AnalysisReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let of_kind = |kind: SliceKind| -> Vec<&SliceReport> {
        report.slices.iter().filter(|slice| slice.kind == kind && !slice.x.is_empty()).take(MAX_SERIES).collect()
    };
    let columns: Vec<Vec<&SliceReport>> =
        [SliceKind::Eigenvector, SliceKind::RandomFilter].map(of_kind).into_iter().filter(|c| !c.is_empty()).collect();
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let accuracy = columns.iter().flatten().any(|slice| slice.accuracy.iter().any(|a| a.is_finite()));
    let legend = legend(&columns);
    let body_height = if accuracy { 162.0 } else { 112.0 };
    let sheet = Sheet { legend, body_height, statement: statement(report) };
    sheet.write(folder, "slices", |canvas, body| {
        let width = 1.0 / columns.len() as f64;
        for (index, lines) in columns.iter().enumerate() {
            let area = body.columns(width * index as f64, width * (index + 1) as f64);
            draw_column(canvas, area, lines, (accuracy, index == 0));
        }
    })
}

fn legend(columns: &[Vec<&SliceReport>]) -> Vec<(Sample, String)> {
    let mut legend: Vec<(Sample, String)> = Vec::new();
    for slice in columns.iter().flatten().filter(|slice| slice.kind == SliceKind::Eigenvector) {
        let name = format!("v{} (λ = {})", subscript(slice.direction + 1), significant(slice.curvature, 3));
        legend.push((Sample::Line(pen(legend.len())), name));
    }
    if columns.iter().flatten().any(|slice| slice.curvature.is_finite()) {
        legend.push((Sample::Line(parabola(GREY)), "loss + λx²/2".into()));
    }
    legend
}

fn pen(index: usize) -> Pen {
    Pen { color: series(index), width: 1.0, dash: dash(index) }
}

/// Random directions are nameless: ink, told apart by their dashes.
fn pen_of(slice: &SliceReport, index: usize) -> Pen {
    let color = if slice.kind == SliceKind::Eigenvector { series(index) } else { INK };
    Pen { color, ..pen(index) }
}

fn parabola(color: plotters::style::RGBColor) -> Pen {
    Pen { color, width: 0.6, dash: Dash::Broken(2.0, 1.4) }
}

fn draw_column(canvas: &mut Canvas, area: Area, lines: &[&SliceReport], (accuracy, first): (bool, bool)) {
    let x = Scale::linear(lines.iter().flat_map(|slice| slice.x.iter().copied()));
    let direction = match lines[0].kind {
        SliceKind::Eigenvector => "distance x along vᵢ",
        SliceKind::RandomFilter | SliceKind::RandomPlane => "x along random dᵢ",
    };
    let title = |words: &str| if first { words.to_owned() } else { String::new() };
    let losses: Vec<f64> = lines.iter().flat_map(|slice| slice.loss.iter().copied()).collect();
    let loss = Axis::new(Scale::linear_or_log(&losses, 1e3), title("loss"));
    let share = if accuracy { 0.60 } else { 1.0 };
    let right = Axis::new(Scale::exactly(-0.03, 1.03), title("accuracy"));
    let left = loss.room(90.0).max(if accuracy { right.room(35.0) } else { 0.0 });
    let below = |title: &str| Axis::new(x, title);
    let upper = Panel::new(area.rows(0.0, share), left, if accuracy { Axis::bare(x) } else { below(direction) }, loss);
    upper.draw_axes(canvas);
    for (index, slice) in lines.iter().enumerate().rev() {
        draw_parabola(canvas, &upper, slice, index);
        upper.curve(canvas, slice.x.iter().copied().zip(slice.loss.iter().copied()), pen_of(slice, index));
        mark_lost(canvas, &upper, slice);
    }
    if accuracy {
        let lower = Panel::new(area.rows(share, 1.0), left, below(direction), right);
        lower.draw_axes(canvas);
        for (index, slice) in lines.iter().enumerate().rev() {
            lower.curve(canvas, slice.x.iter().copied().zip(slice.accuracy.iter().copied()), pen_of(slice, index));
        }
    }
}

fn draw_parabola(canvas: &mut Canvas, panel: &Panel, slice: &SliceReport, index: usize) {
    let at_center = slice.x.iter().zip(&slice.loss).min_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
    let Some((_, center)) = at_center.filter(|(x, loss)| x.is_finite() && loss.is_finite()) else { return };
    let (from, to) = panel.x_ends();
    let points = (0..=200).map(|i| from + (to - from) * f64::from(i) / 200.0);
    let points = points.map(|x| (x, center + 0.5 * slice.curvature * x * x));
    panel.curve(canvas, points, parabola(series(index)));
}

/// A cross at the upper edge wherever the loss is no finite number.
fn mark_lost(canvas: &mut Canvas, panel: &Panel, slice: &SliceReport) {
    let top = panel.y_ends().1;
    for (x, _) in slice.x.iter().zip(&slice.loss).filter(|(_, loss)| !loss.is_finite()) {
        if let Some((x, y)) = panel.place((*x, top)) {
            canvas.text_in("×", (x, y + 2.0), (SMALL, Align::Center), GREY);
        }
    }
}
