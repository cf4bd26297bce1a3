//! Loss and accuracy along lines through the checkpoint.

use super::canvas::{Align, COLUMN, Canvas, Dash, Pen, SMALL, dash};
use super::number::{significant, subscript};
use super::palette::{GREY, INK, MAX_SERIES, series};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Part, Sample, Sheet};
use super::stack::{Layer, stack};
use super::statement;
use super::style::{Drawn, Target};
use crate::analysis::AnalysisReport;
use crate::landscape::{SliceKind, SliceReport};
use crate::report::ReportError;

/// Writes `slices.*`: a column of panels for eigenvectors, one for random directions, loss above accuracy; nothing
/// where the report has no line. At most seven lines of a kind, the first ones: the table has all.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write(report: &AnalysisReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    let of_kind = |kind: SliceKind| -> Vec<&SliceReport> {
        report.slices.iter().filter(|slice| slice.kind == kind && !slice.x.is_empty()).take(MAX_SERIES).collect()
    };
    let columns: Vec<Vec<&SliceReport>> =
        [SliceKind::Eigenvector, SliceKind::RandomFilter].map(of_kind).into_iter().filter(|c| !c.is_empty()).collect();
    if columns.is_empty() {
        return Ok(Drawn::default());
    }
    let accuracy = columns.iter().flatten().any(|slice| slice.accuracy.iter().any(|a| a.is_finite()));
    let built: Vec<(Axis, Vec<Layer<'_>>)> = columns.iter().map(|lines| column(lines, accuracy)).collect();
    let stretch = target.style.stretch(COLUMN);
    let mut parts: Vec<Part<'_>> = Vec::new();
    let width = 1.0 / columns.len() as f64;
    for (index, (x, layers)) in built.iter().enumerate() {
        let (from, to) = (width * index as f64, width * (index + 1) as f64);
        parts.extend(stack(x, layers, stretch).into_iter().map(|part| {
            let area = part.area;
            Part { area: Box::new(move |body| area(body.columns(from, to))), ..part }
        }));
    }
    let height = built.iter().map(|(x, layers)| stretch * layers.iter().map(|l| l.height).sum::<f64>() + x.foot());
    let sheet = Sheet {
        legend: legend(&columns),
        body_height: height.fold(0.0, f64::max),
        caption: caption(&columns, accuracy),
        statement: statement(report),
    };
    sheet.write_parts(target, "slices", &parts)
}

fn legend(columns: &[Vec<&SliceReport>]) -> Vec<(Sample, String)> {
    let mut legend: Vec<(Sample, String)> = Vec::new();
    for slice in columns.iter().flatten().filter(|slice| slice.kind == SliceKind::Eigenvector) {
        let name = format!("v{} (λ = {})", subscript(slice.direction + 1), significant(slice.curvature, 3));
        legend.push((Sample::Line(pen(legend.len())), name));
    }
    if columns.iter().flatten().any(|slice| slice.curvature.is_finite()) {
        legend.push((Sample::Line(parabola(0)), "quadratic model".into()));
    }
    legend
}

fn caption(columns: &[Vec<&SliceReport>], accuracy: bool) -> String {
    let has = |kind: SliceKind| columns.iter().any(|lines| lines[0].kind == kind);
    let lines = match (has(SliceKind::Eigenvector), has(SliceKind::RandomFilter)) {
        (true, true) => "eigenvectors v (left) and filter-normalised random directions d (right; Li et al. 2018)",
        (true, false) => "eigenvectors v",
        _ => "filter-normalised random directions d (Li et al. 2018)",
    };
    let what = if accuracy { "Loss and accuracy" } else { "Loss" };
    let model = if columns.iter().flatten().any(|slice| slice.curvature.is_finite()) {
        " Dashed: the quadratic model L + x gᵀv + x² λ/2 with the gradient g."
    } else {
        ""
    };
    format!("{what} along {lines}.{model}")
}

fn pen(index: usize) -> Pen {
    Pen { color: series(index), width: 1.0, dash: dash(index) }
}

/// Random directions are nameless: ink, told apart by their dashes.
fn pen_of(slice: &SliceReport, index: usize) -> Pen {
    let color = if slice.kind == SliceKind::Eigenvector { series(index) } else { INK };
    Pen { color, ..pen(index) }
}

fn parabola(index: usize) -> Pen {
    Pen { color: series(index), width: 0.6, dash: Dash::Broken(2.0, 1.4) }
}

/// The axis along the direction, and the panels above it.
fn column<'a>(lines: &'a [&'a SliceReport], accuracy: bool) -> (Axis, Vec<Layer<'a>>) {
    let (kind, direction) = match lines[0].kind {
        SliceKind::Eigenvector => ("eigenvectors", "x along vᵢ"),
        SliceKind::RandomFilter | SliceKind::RandomPlane => ("random directions", "x along random dᵢ"),
    };
    let x = Axis::new(Scale::linear(lines.iter().flat_map(|slice| slice.x.iter().copied())), direction);
    let losses: Vec<f64> = lines.iter().flat_map(|slice| slice.loss.iter().copied()).collect();
    let mut layers = vec![Layer {
        name: format!("loss {kind}"),
        y: Axis::new(Scale::linear_or_log(&losses, 1e3), "loss"),
        height: if accuracy { 86.0 } else { 90.0 },
        draw: Box::new(move |canvas, panel| draw_losses(canvas, panel, lines)),
    }];
    if accuracy {
        layers.push(Layer {
            name: format!("accuracy {kind}"),
            y: Axis::new(Scale::exactly(-0.03, 1.03), "accuracy"),
            height: 52.0,
            draw: Box::new(move |canvas, panel| {
                panel.draw_axes(canvas);
                for (index, slice) in lines.iter().enumerate().rev() {
                    let points = slice.x.iter().copied().zip(slice.accuracy.iter().copied());
                    panel.curve(canvas, points, pen_of(slice, index));
                }
            }),
        });
    }
    (x, layers)
}

fn draw_losses(canvas: &mut Canvas, panel: &Panel, lines: &[&SliceReport]) {
    panel.draw_axes(canvas);
    for (index, slice) in lines.iter().enumerate().rev() {
        draw_model(canvas, panel, slice, index);
        panel.curve(canvas, slice.x.iter().copied().zip(slice.loss.iter().copied()), pen_of(slice, index));
        mark_lost(canvas, panel, slice);
    }
}

/// `L + x gᵀv + x² λ/2`, where the direction has an eigenvalue.
fn draw_model(canvas: &mut Canvas, panel: &Panel, slice: &SliceReport, index: usize) {
    let at_center = slice.x.iter().zip(&slice.loss).min_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
    let Some((_, center)) = at_center.filter(|(x, loss)| x.is_finite() && loss.is_finite()) else { return };
    let (from, to) = panel.x_ends();
    let points = (0..=200).map(|i| from + (to - from) * f64::from(i) / 200.0);
    let points = points.map(|x| (x, center + slice.slope * x + 0.5 * slice.curvature * x * x));
    panel.curve(canvas, points, parabola(index));
}

/// A cross at the upper edge wherever the loss is not finite.
fn mark_lost(canvas: &mut Canvas, panel: &Panel, slice: &SliceReport) {
    let top = panel.y_ends().1;
    for (x, _) in slice.x.iter().zip(&slice.loss).filter(|(_, loss)| !loss.is_finite()) {
        if let Some((x, y)) = panel.place((*x, top)) {
            canvas.text_in("×", (x, y + 2.0), (SMALL, Align::Center), GREY);
        }
    }
}
