//! Largest and smallest eigenvalues with both errors.

use std::path::{Path, PathBuf};

use plotters::style::RGBColor;

use super::canvas::{Canvas, Marker, Pen};
use super::palette::{GREY, INK, series, tint};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
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
pub fn write(report: &AnalysisReport, spectra: &[&SpectrumReport], folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let shift = |index: usize| 0.24 * (index as f64 - 0.5 * (spectra.len() as f64 - 1.0));
    let both = |end: fn(&SpectrumReport) -> &EigenReport| -> Vec<Vec<Dot>> {
        spectra.iter().enumerate().map(|(index, spectrum)| dots(end(spectrum), shift(index))).collect()
    };
    let (top, bottom) = (both(|s| &s.top), both(|s| &s.bottom));
    let all = || top.iter().chain(&bottom).flatten();
    let mut legend: Vec<(Sample, String)> = spectra
        .iter()
        .enumerate()
        .map(|(i, spectrum)| (Sample::Mark(Marker::series(i), series(i), false), operator_name(spectrum)))
        .collect();
    if all().any(|dot| !dot.converged) {
        legend.push((Sample::Mark(Marker::Circle, GREY, true), "not converged".into()));
    }
    if all().any(|dot| dot.std_err_data > 0.0) {
        legend.push((Sample::Bar(data_pen(GREY)), "± 1 s.e. (data rows)".into()));
    }
    if all().any(|dot| dot.residual_norm > 0.0) {
        legend.push((Sample::Patch(tint(GREY)), "± residual norm".into()));
    }
    let panels: Vec<(&Vec<Vec<Dot>>, &str)> = [(&top, "largest"), (&bottom, "smallest")]
        .into_iter()
        .filter(|(dots, _)| dots.iter().any(|dots| !dots.is_empty()))
        .collect();
    if panels.is_empty() {
        return Ok(Vec::new());
    }
    let shares: &[(f64, f64)] = if panels.len() == 2 { &[(0.0, 0.52), (0.52, 1.0)] } else { &[(0.0, 1.0)] };
    let sheet = Sheet { legend, body_height: 78.0 * panels.len() as f64 + 12.0, statement: statement(report) };
    sheet.write(folder, "spectrum", |canvas, body| {
        let most = all().map(|dot| dot.x).fold(1.0, f64::max).round();
        let ranks = Scale::Counts { from: 0.4, to: most + 0.6 };
        let axis = |dots: &Vec<Vec<Dot>>, end: &str| {
            let reach = dots.iter().flatten().flat_map(|dot| {
                let error = dot.std_err_data.max(dot.residual_norm).max(0.0);
                [dot.value - error, dot.value + error]
            });
            Axis::new(Scale::linear(reach), format!("{end} λᵢ"))
        };
        let axes: Vec<Axis> = panels.iter().map(|(dots, end)| axis(dots, end)).collect();
        let left = axes.iter().map(|axis| axis.room(70.0)).fold(0.0, f64::max);
        for (index, ((dots, _), y)) in panels.iter().zip(axes).enumerate() {
            let last = index + 1 == panels.len();
            let x = if last { Axis::new(ranks, "rank i, from the end of the spectrum") } else { Axis::bare(ranks) };
            let (from, to) = shares[index];
            let panel = Panel::new(body.rows(from, to), left, x, y);
            panel.draw_axes(canvas);
            for (index, dots) in dots.iter().enumerate() {
                draw_dots(canvas, &panel, dots, index);
            }
        }
    })
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
        panel.mark(canvas, (dot.x, dot.value), (Marker::series(index), color, !dot.converged));
    }
}
