//! Spectral densities on the three eigenvalue axes.

use super::canvas::{Align, Canvas, Dash, Pen, SMALL, dash, shorten};
use super::number::significant;
use super::palette::{GREY, INK, series, tint};
use super::panel::{Area, Axis as PanelAxis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::style::{Drawn, Target};
use super::{operator_name, statement};
use crate::analysis::{AnalysisReport, SpectrumReport};
use crate::report::ReportError;
use crate::spectral::{Axis, DensityReport, Share};

/// Height of a rug's ticks in points.
const RUG: f64 = 4.0;
/// Height of a line of notes in points.
const LINE: f64 = 9.0;
/// Width of a stem's cap in points.
const CAP: f64 = 2.4;
/// Where a kernel holds more eigenvalues than these, it is the bulk, and single ones say nothing.
const BULK: f64 = 10.0;

/// The density of one operator.
struct Curve<'a> {
    index: usize,
    spectrum: &'a SpectrumReport,
    density: &'a DensityReport,
}

impl Curve<'_> {
    fn color(&self) -> plotters::style::RGBColor {
        series(self.index)
    }

    fn pen(&self) -> Pen {
        Pen { color: self.color(), width: 1.0, dash: dash(self.index) }
    }

    /// Peak that a single eigenvalue makes: `1/(n σ √(2π))`.
    fn single(&self) -> f64 {
        1.0 / (self.spectrum.slq.dim.max(1) as f64 * self.density.sigma * std::f64::consts::TAU.sqrt())
    }

    /// Whether the axis has a place for `value`: near zero, the log axis has none.
    fn shows(&self, value: f64) -> bool {
        self.density.axis != Axis::LogAbs || value.abs() > self.density.linear_threshold
    }

    /// Nodes of all probes, ascending.
    fn nodes(&self) -> Vec<f64> {
        let nodes = self.spectrum.slq.probes.iter().flat_map(|rule| &rule.nodes).copied();
        let mut nodes: Vec<f64> = nodes.filter(|node| self.shows(*node)).collect();
        nodes.sort_by(f64::total_cmp);
        nodes
    }

    /// Converged eigenvalues outside the bulk.
    fn outliers(&self) -> Vec<f64> {
        let ends = [&self.spectrum.top, &self.spectrum.bottom];
        let pairs = ends.into_iter().flat_map(|end| end.ritz_values.iter().zip(&end.converged));
        let converged = pairs.filter(|(_, converged)| **converged).map(|(value, _)| *value);
        converged.filter(|value| self.shows(*value) && self.at(*value) <= BULK * self.single()).collect()
    }

    /// Density at the grid point next to `value`; 0 outside the grid.
    fn at(&self, value: f64) -> f64 {
        let above = self.density.values.partition_point(|position| *position < value);
        self.density.density.get(above).copied().unwrap_or(0.0)
    }
}

/// Which eigenvalues a panel shows, and where along its axis.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Both,
    Positive,
    /// By magnitude.
    Negative,
}

impl Side {
    fn place(self, value: f64) -> Option<f64> {
        match self {
            Self::Both => Some(value),
            Self::Positive => (value > 0.0).then_some(value),
            Self::Negative => (value < 0.0).then_some(-value),
        }
    }
}

/// Writes `density_linear.*`, `density_signed_log.*` or `density_log_abs.*` (positive above negative eigenvalues);
/// nothing where no operator has that density.
///
/// The density axis is logarithmic and ends a decade below the peak that a single eigenvalue makes, `1/(n σ √(2π))`
/// for dimension `n` and kernel width `σ`: what is lower is the kernel's tail. The other axis holds every node, and
/// every converged eigenvalue outside the bulk has a stem as high as its weight `1/n`.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write<'a>(
    report: &AnalysisReport,
    spectra: &[&'a SpectrumReport],
    axis: Axis,
    target: Target<'_>,
) -> Result<Drawn, ReportError> {
    let curve = |(index, spectrum): (usize, &&'a SpectrumReport)| {
        Some(Curve { index, spectrum, density: spectrum.densities.iter().find(|density| density.axis == axis)? })
    };
    let curves: Vec<Curve> = spectra.iter().enumerate().filter_map(curve).collect();
    let sides = sides(axis, &curves);
    if sides.is_empty() {
        return Ok(Drawn::default());
    }
    let notes = notes(axis, &curves);
    let name = match axis {
        Axis::Linear => "density_linear",
        Axis::SignedLog => "density_signed_log",
        Axis::LogAbs => "density_log_abs",
    };
    let panels = if sides.len() == 2 { 2.0 * 88.0 + 14.0 } else { 140.0 };
    let below = LINE * notes.len() as f64;
    let sheet = Sheet {
        legend: legend(&curves),
        body_height: panels + below,
        caption: "Spectral density, logarithmic, down to a tenth of the peak of a single eigenvalue.".into(),
        statement: statement(report),
    };
    sheet.write(target, name, |canvas, body| {
        let (x, y) = axes(axis, &sides, &curves);
        let plots = Area { bottom: body.bottom - below, ..body };
        let left = y.room((plots.bottom - plots.top) / sides.len() as f64);
        // The lower panel also holds the labels.
        let shares: &[(f64, f64)] = if sides.len() == 2 { &[(0.0, 0.46), (0.46, 1.0)] } else { &[(0.0, 1.0)] };
        for (side, (from, to)) in sides.iter().zip(shares) {
            let last = *to == 1.0;
            let across = if last { x.clone() } else { PanelAxis::bare(x.scale) };
            let panel = Panel::new(plots.rows(*from, *to), left, across, y.clone());
            draw_side(canvas, &panel, *side, &curves);
        }
        for (row, note) in notes.iter().enumerate() {
            let at = (body.left, plots.bottom + 2.0 + LINE * (row as f64 + 0.5));
            canvas.text_in(&shorten(note, SMALL, body.right - body.left - 3.0), at, (SMALL, Align::Left), GREY);
        }
    })
}

/// The panels that have something to show, in reading order.
fn sides(axis: Axis, curves: &[Curve]) -> Vec<Side> {
    let wanted: &[Side] = if axis == Axis::LogAbs { &[Side::Positive, Side::Negative] } else { &[Side::Both] };
    let seen = |side: &Side| curves.iter().flat_map(|c| &c.density.values).any(|value| side.place(*value).is_some());
    wanted.iter().copied().filter(seen).collect()
}

fn legend(curves: &[Curve]) -> Vec<(Sample, String)> {
    let known = |curve: &Curve| curve.spectrum.slq.source.is_spectrum();
    let error = |curve: &Curve| if known(curve) { "" } else { " ± 1 s.e. (probes)" };
    let name = |curve: &Curve| format!("{}{}", operator_name(curve.spectrum), error(curve));
    let mut legend: Vec<(Sample, String)> =
        curves.iter().map(|curve| (Sample::Band(curve.pen()), name(curve))).collect();
    if let Some(curve) = curves.iter().find(|curve| !curve.nodes().is_empty()) {
        let nodes = if curves.iter().all(known) { "all eigenvalues" } else { "Ritz nodes" };
        legend.push((Sample::Tick(Pen { dash: Dash::Solid, ..curve.pen() }), nodes.into()));
    }
    if let Some(curve) = curves.iter().find(|curve| !curve.outliers().is_empty()) {
        legend.push((Sample::Stem(stem(curve)), "converged eigenvalues, weight 1/n".into()));
    }
    legend
}

fn stem(curve: &Curve) -> Pen {
    Pen::solid(curve.color(), 0.6)
}

/// What the kernel's width is, what the axis leaves out, and which density has not converged.
fn notes(axis: Axis, curves: &[Curve]) -> Vec<String> {
    let open = curves.iter().filter(|curve| !curve.spectrum.outcome.density_converged);
    let open = open.map(|curve| {
        let change = curve.spectrum.slq.change();
        let moved = if change.is_finite() {
            format!(", last steps moved {} % of mean |λ|", significant(100.0 * change, 2))
        } else {
            String::new()
        };
        format!("{}: not converged near 0{moved}", operator_name(curve.spectrum))
    });
    widths(axis, curves).into_iter().chain(open).collect()
}

fn widths(axis: Axis, curves: &[Curve]) -> Vec<String> {
    let width = |curve: &Curve| significant(curve.density.sigma, 2);
    let threshold = |curve: &Curve| significant(curve.density.linear_threshold, 2);
    if axis == Axis::LogAbs {
        let line = |curve: &Curve| {
            let (name, zero) = (operator_name(curve.spectrum), percent(curve.density.shares.near_zero));
            format!("{name}: kernel σ = {} decades; |λ| ≤ {}: {zero}", width(curve), threshold(curve))
        };
        return curves.iter().map(line).collect();
    }
    let each = |text: &dyn Fn(&Curve) -> String| {
        let mut all: Vec<String> = curves.iter().map(text).collect();
        all.dedup();
        all.join(", ")
    };
    let widths = each(&width);
    vec![match axis {
        Axis::SignedLog => format!("kernel σ = {widths} decades; axis linear within ±{}", each(&threshold)),
        _ => format!("kernel σ = {widths} in λ"),
    }]
}

/// `20.3 ± 0.9 %`.
fn percent(share: Share) -> String {
    let value = significant(100.0 * share.value, 3);
    if share.std_err > 0.0 {
        format!("{value} ± {} %", significant(100.0 * share.std_err, 1))
    } else {
        format!("{value} %")
    }
}

fn axes(axis: Axis, sides: &[Side], curves: &[Curve]) -> (PanelAxis, PanelAxis) {
    let peaks = curves.iter().flat_map(|curve| &curve.density.density).copied().filter(|d| d.is_finite());
    let peak = peaks.fold(0.0, f64::max);
    let floors = curves.iter().map(|curve| 0.1 * curve.single());
    let floor = floors.filter(|floor| *floor > 0.0 && floor.is_finite()).fold(f64::INFINITY, f64::min);
    let floor = if floor < 0.1 * peak { floor } else { 1e-6 * peak };
    let title = if axis == Axis::Linear { "density per unit of λ" } else { "density per decade" };
    let y = PanelAxis::new(Scale::log([floor, peak].into_iter()), title);
    // Where the density is above the floor, and all that has a mark: the rest of the grid is empty paper.
    let grid = curves.iter().flat_map(|curve| curve.density.values.iter().zip(&curve.density.density));
    let mut seen: Vec<f64> = grid.filter(|(_, density)| **density >= floor).map(|(value, _)| *value).collect();
    seen.extend(curves.iter().flat_map(|curve| [curve.nodes(), curve.outliers()]).flatten());
    let threshold = curves.iter().map(|curve| curve.density.linear_threshold).fold(f64::NAN, f64::max);
    let x = match axis {
        Axis::Linear => PanelAxis::new(Scale::linear(seen.into_iter()), "eigenvalue λ"),
        Axis::SignedLog => PanelAxis::new(Scale::signed_log(&seen, threshold), "eigenvalue λ (signed log axis)"),
        Axis::LogAbs => {
            let places = seen.iter().flat_map(|value| sides.iter().filter_map(|side| side.place(*value)));
            PanelAxis::new(Scale::log(places), "magnitude |λ| of the eigenvalue")
        }
    };
    (x, y)
}

fn draw_side(canvas: &mut Canvas, panel: &Panel, side: Side, curves: &[Curve]) {
    let points = |curve: &Curve| -> Vec<(f64, f64, f64)> {
        let errors = curve.density.values.iter().zip(&curve.density.density).zip(&curve.density.std_err);
        errors.filter_map(|((value, d), error)| Some((side.place(*value)?, *d, *error))).collect()
    };
    for curve in curves {
        let band: Vec<(f64, f64, f64)> = points(curve).into_iter().map(|(x, d, e)| (x, d - e, d + e)).collect();
        panel.band(canvas, &band, tint(curve.color()));
    }
    for curve in curves {
        panel.curve(canvas, points(curve).into_iter().map(|(x, d, _)| (x, d)), curve.pen());
        draw_rug(canvas, panel, side, curve);
    }
    for curve in curves {
        for x in curve.outliers().into_iter().filter_map(|value| side.place(value)) {
            panel.stem(canvas, (x, curve.single()), CAP, stem(curve));
        }
    }
    panel.draw_axes(canvas);
    if side != Side::Both {
        let at = |row: usize| (panel.inner.right, panel.inner.top + LINE * (row as f64 + 0.4));
        canvas.text_in(if side == Side::Positive { "λ > 0" } else { "λ < 0" }, at(0), (SMALL, Align::Right), INK);
        for (row, curve) in curves.iter().enumerate() {
            let shares = &curve.density.shares;
            let share = if side == Side::Positive { shares.positive } else { shares.negative };
            canvas.text_in(&percent(share), at(row + 1), (SMALL, Align::Right), curve.color());
        }
    }
}

/// Ticks at the foot of the panel, one row per operator.
fn draw_rug(canvas: &mut Canvas, panel: &Panel, side: Side, curve: &Curve) {
    let foot = panel.inner.bottom - RUG * curve.index as f64;
    let floor = panel.y_ends().0;
    let mut drawn = f64::NAN;
    for node in curve.nodes().into_iter().filter_map(|node| side.place(node)).filter(|x| panel.holds((*x, floor))) {
        let Some((x, _)) = panel.place((node, floor)) else { continue };
        // Ticks that print on one another add nothing but bytes.
        if drawn.is_nan() || (x - drawn).abs() >= 0.1 {
            canvas.line(&[(x, foot), (x, foot - 0.85 * RUG)], Pen::solid(curve.color(), 0.25));
            drawn = x;
        }
    }
}
