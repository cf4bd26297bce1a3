//! Largest and smallest eigenvalues with both errors.

use plotters::style::RGBColor;

use super::brush::Brush;
use super::canvas::{Canvas, Pen, Sign};
use super::palette::{INK, series, tint};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::stack::{Layer, write_stack};
use super::style::{Drawn, Target};
use super::{operator_name, statement};
use crate::analysis::{AnalysisReport, SpectrumReport};
use crate::report::ReportError;
use crate::spectral::EigenReport;

/// One eigenvalue as it is drawn.
struct Dot {
    x: f64,
    value: f64,
    residual_norm: f64,
    std_err_data: f64,
    converged: bool,
}

fn dots(eigen: &EigenReport, shift: f64) -> Vec<Dot> {
    let known = |list: &[f64], i: usize| list.get(i).copied().filter(|e| e.is_finite()).unwrap_or(f64::NAN);
    let dot = |(i, value): (usize, &f64)| Dot {
        x: (i + 1) as f64 + shift,
        value: *value,
        residual_norm: known(&eigen.residual_norms, i),
        std_err_data: known(&eigen.std_err_data, i),
        converged: eigen.converged.get(i).copied().unwrap_or(false),
    };
    eigen.ritz_values.iter().enumerate().map(dot).collect()
}

/// Writes `spectrum.*`: eigenvalues by rank, one panel per end, operators side by side.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write(report: &AnalysisReport, spectra: &[&SpectrumReport], target: Target<'_>) -> Result<Drawn, ReportError> {
    let shift = |index: usize| 0.24 * (index as f64 - 0.5 * (spectra.len() as f64 - 1.0));
    let both = |end: fn(&SpectrumReport) -> &EigenReport| -> Vec<Vec<Dot>> {
        spectra.iter().enumerate().map(|(index, spectrum)| dots(end(spectrum), shift(index))).collect()
    };
    let (top, bottom) = (both(|s| &s.top), both(|s| &s.bottom));
    let all = || top.iter().chain(&bottom).flatten();
    let most = all().map(|dot| dot.x).fold(1.0, f64::max).round();
    let layers: Vec<Layer<'_>> = [(&top, "largest"), (&bottom, "smallest")]
        .into_iter()
        .filter(|(dots, _)| dots.iter().any(|dots| !dots.is_empty()))
        .map(|(dots, end)| Layer {
            name: end.to_owned(),
            y: Axis::new(Scale::linear(dots.iter().flatten().flat_map(reach)), format!("{end} λᵢ")),
            height: 78.0,
            draw: Box::new(move |canvas, panel| {
                panel.draw_axes(canvas);
                dots.iter().enumerate().for_each(|(index, dots)| draw_dots(canvas, panel, dots, index));
            }),
        })
        .collect();
    if layers.is_empty() {
        return Ok(Drawn::default());
    }
    let mut legend: Vec<(Sample, String)> = spectra
        .iter()
        .enumerate()
        .map(|(i, spectrum)| (Sample::Mark(Brush::series(i).sign(false)), operator_name(spectrum)))
        .collect();
    // Signs that all operators share have the colour of the first.
    if all().any(|dot| !dot.converged) {
        legend.push((Sample::Mark(Sign::circle(series(0), true)), "not converged".into()));
    }
    if all().any(|dot| dot.std_err_data > 0.0) {
        legend.push((Sample::Bar(data_pen(series(0))), "± 1 s.e. (data rows)".into()));
    }
    if all().any(|dot| dot.residual_norm > 0.0) {
        legend.push((Sample::Patch(tint(series(0))), "± residual norm".into()));
    }
    let caption = "Largest and smallest eigenvalues, numbered from each end of the spectrum.".to_owned();
    let sheet = Sheet { legend, caption, statement: statement(report), ..Sheet::default() };
    let ranks = Scale::Counts { from: 0.4, to: most + 0.6 };
    write_stack(sheet, target, "spectrum", &Axis::new(ranks, "rank i, from the end of the spectrum"), &layers)
}

/// Ends of the larger of both errors.
fn reach(dot: &Dot) -> [f64; 2] {
    let error = dot.std_err_data.max(dot.residual_norm).max(0.0);
    [dot.value - error, dot.value + error]
}

fn data_pen(color: RGBColor) -> Pen {
    Pen::solid(color, 0.7)
}

fn residual_pen(color: RGBColor) -> Pen {
    Pen::solid(tint(color), 4.0)
}

fn draw_dots(canvas: &mut Canvas, panel: &Panel, dots: &[Dot], index: usize) {
    let (ends, color) = (panel.x_ends(), series(index));
    panel.curve(canvas, [(ends.0, 0.0), (ends.1, 0.0)].into_iter(), Pen::solid(INK, 0.3));
    for dot in dots {
        panel.error_bar(canvas, (dot.x, dot.value, dot.residual_norm), 0.0, residual_pen(color));
        panel.error_bar(canvas, (dot.x, dot.value, dot.std_err_data), 5.0, data_pen(color));
        panel.mark(canvas, (dot.x, dot.value), Brush::series(index).sign(!dot.converged));
    }
}
