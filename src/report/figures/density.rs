//! Spectral densities on both eigenvalue axes.

use std::path::{Path, PathBuf};

use super::canvas::{Canvas, Pen, dash};
use super::palette::{series, tint};
use super::panel::{Axis as PanelAxis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::{operator_name, statement};
use crate::analysis::{AnalysisReport, SpectrumReport};
use crate::report::ReportError;
use crate::spectral::{Axis, DensityReport, SlqReport};

/// Height of a rug's ticks in points.
const RUG: f64 = 4.0;

/// Writes `density_linear.*` or `density_signed_log.*`; nothing where no operator has that density.
///
/// The density axis is logarithmic and ends a decade below the peak that a single eigenvalue makes, `1/(n σ √(2π))`
/// for dimension `n` and kernel width `σ`: what is lower is the kernel's tail.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write(
    report: &AnalysisReport,
    spectra: &[&SpectrumReport],
    axis: Axis,
    folder: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let of_axis = |(index, spectrum): (usize, &&'_ SpectrumReport)| {
        let density = spectrum.densities.iter().position(|density| density.axis == axis)?;
        Some((index, density))
    };
    let found: Vec<(usize, usize)> = spectra.iter().enumerate().filter_map(of_axis).collect();
    let curves: Vec<(usize, &DensityReport, &SlqReport)> =
        found.iter().map(|(i, d)| (*i, &spectra[*i].densities[*d], &spectra[*i].slq)).collect();
    if curves.iter().all(|(_, density, _)| density.values.is_empty()) {
        return Ok(Vec::new());
    }
    let mut legend: Vec<(Sample, String)> = curves
        .iter()
        .map(|(i, ..)| (Sample::Band(pen(*i)), format!("{} ± 1 s.e. (probes)", operator_name(spectra[*i]))))
        .collect();
    if curves.iter().any(|(.., slq)| slq.probes.iter().any(|rule| !rule.nodes.is_empty())) {
        let tick = Pen { dash: super::canvas::Dash::Solid, ..pen(curves[0].0) };
        legend.push((Sample::Tick(tick), "Ritz nodes".into()));
    }
    let name = match axis {
        Axis::Linear => "density_linear",
        Axis::SignedLog => "density_signed_log",
    };
    let sheet = Sheet { legend, body_height: 140.0, statement: statement(report) };
    sheet.write(folder, name, |canvas, body| {
        let (x, y) = axes(axis, &curves);
        let panel = Panel::new(body, y.room(body.bottom - body.top), x, y);
        for (index, density, _) in &curves {
            let errors = density.values.iter().zip(&density.density).zip(&density.std_err);
            let band: Vec<(f64, f64, f64)> = errors.map(|((x, d), e)| (*x, d - e, d + e)).collect();
            panel.band(canvas, &band, tint(series(*index)));
        }
        for (index, density, slq) in &curves {
            let points = density.values.iter().copied().zip(density.density.iter().copied());
            panel.curve(canvas, points, pen(*index));
            draw_rug(canvas, &panel, slq, *index);
        }
        panel.draw_axes(canvas);
    })
}

fn pen(index: usize) -> Pen {
    Pen { color: series(index), width: 1.0, dash: dash(index) }
}

fn axes(axis: Axis, curves: &[(usize, &DensityReport, &SlqReport)]) -> (PanelAxis, PanelAxis) {
    let floors = curves
        .iter()
        .map(|(_, density, slq)| 0.1 / (slq.dim.max(1) as f64 * density.sigma * std::f64::consts::TAU.sqrt()));
    let peaks = curves.iter().flat_map(|(_, d, _)| &d.density).copied().filter(|d| d.is_finite());
    let peak = peaks.fold(0.0, f64::max);
    let floor = floors.filter(|floor| *floor > 0.0 && floor.is_finite()).fold(f64::INFINITY, f64::min);
    let floor = if floor < 0.1 * peak { floor } else { 1e-6 * peak };
    let y = PanelAxis::new(
        Scale::log([floor, peak].into_iter()),
        match axis {
            Axis::Linear => "density per unit of λ",
            Axis::SignedLog => "density per decade",
        },
    );
    // Where the density is above the floor: the rest of the grid is empty paper.
    let seen = curves.iter().flat_map(|(_, d, _)| d.values.iter().zip(&d.density));
    let seen: Vec<f64> = seen.filter(|(_, density)| **density >= floor).map(|(value, _)| *value).collect();
    let threshold = curves.iter().map(|(_, density, _)| density.linear_threshold).fold(f64::NAN, f64::max);
    let x = match axis {
        Axis::Linear => PanelAxis::new(Scale::linear(seen.into_iter()), "eigenvalue λ"),
        Axis::SignedLog => PanelAxis::new(Scale::signed_log(&seen, threshold), "eigenvalue λ (signed log axis)"),
    };
    (x, y)
}

/// Ticks at the foot of the panel, one row per operator.
fn draw_rug(canvas: &mut Canvas, panel: &Panel, slq: &SlqReport, index: usize) {
    let foot = panel.inner.bottom - RUG * index as f64;
    let floor = panel.y_ends().0;
    let mut drawn = f64::NEG_INFINITY;
    let mut nodes: Vec<f64> = slq.probes.iter().flat_map(|rule| rule.nodes.iter().copied()).collect();
    nodes.sort_by(f64::total_cmp);
    for node in nodes.into_iter().filter(|node| panel.holds((*node, floor))) {
        let Some((x, _)) = panel.place((node, floor)) else { continue };
        // Ticks that print on one another add nothing but bytes.
        if x - drawn >= 0.1 {
            canvas.line(&[(x, foot), (x, foot - 0.85 * RUG)], Pen::solid(series(index), 0.25));
            drawn = x;
        }
    }
}
