//! Spectral densities on the three eigenvalue axes.

use super::canvas::{Align, Canvas, Dash, Pen, SMALL, dash};
use super::number::significant;
use super::palette::{INK, series, tint};
use super::panel::{Area, Axis as PanelAxis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::style::{Drawn, Target};
use super::{operator_name, statement};
use crate::analysis::{AnalysisReport, SpectrumReport};
use crate::report::ReportError;
use crate::spectral::{Axis, DensityReport, MassShares, Share};

/// Height of a rug's ticks in points.
const RUG: f64 = 4.0;
/// Height of a line of notes in points.
const LINE: f64 = 9.0;
/// Width of a stem's cap in points.
const CAP: f64 = 2.4;
/// Distance of hatching lines in points.
const HATCH: f64 = 5.0;
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

    /// Peak that a single eigenvalue at `value` makes: `1/(n σ √(2π))`.
    fn single(&self, value: f64) -> f64 {
        let sigma = self.density.sigma.get(self.index_of(value)).copied().unwrap_or(f64::NAN);
        1.0 / (self.spectrum.slq.dim.max(1) as f64 * sigma * std::f64::consts::TAU.sqrt())
    }

    /// Whether `value` is located: near zero only a mass is known.
    fn shows(&self, value: f64) -> bool {
        value.abs() > self.density.linear_threshold
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
        converged.filter(|value| self.shows(*value) && self.at(*value) <= BULK * self.single(*value)).collect()
    }

    /// Density at the grid point next to `value`.
    fn at(&self, value: f64) -> f64 {
        self.density.density.get(self.index_of(value)).copied().unwrap_or(0.0)
    }

    fn index_of(&self, value: f64) -> usize {
        let values = &self.density.values;
        values.partition_point(|position| *position < value).min(values.len().saturating_sub(1))
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

    /// What a panel that does not show all says of itself.
    fn words(self) -> &'static str {
        match self {
            Self::Both => "",
            Self::Positive => "λ > 0",
            Self::Negative => "λ < 0",
        }
    }
}

/// Writes `density_linear.*`, `density_signed_log.*` or `density_log_abs.*` (positive above negative eigenvalues);
/// nothing where no operator has that density.
///
/// The density axis is logarithmic and ends a decade below the peak that a single eigenvalue makes, `1/(n σ √(2π))`
/// for dimension `n` and kernel width `σ`: what is lower is the kernel's tail. The other axis holds every node, and
/// every converged eigenvalue outside the bulk has a stem as high as its weight `1/n`. Near zero, where eigenvalues are
/// counted and not located, there is a hatched block and no curve.
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
    let body_height = if sides.len() == 2 { 2.0 * 88.0 + 14.0 } else { 140.0 };
    let sheet = Sheet {
        legend: legend(&curves),
        body_height,
        caption: format!(
            "Spectral density on a logarithmic scale, down to a tenth of the peak of a single eigenvalue. Hatched: eigenvalues \
             near zero, which are counted but not located. {}.",
            notes.join(". ")
        ),
        statement: statement(report),
    };
    sheet.write(target, name, |canvas, body| {
        let (x, y) = axes(axis, &sides, &curves);
        let left = y.room((body.bottom - body.top) / sides.len() as f64);
        // The lower panel also holds the labels.
        let shares: &[(f64, f64)] = if sides.len() == 2 { &[(0.0, 0.46), (0.46, 1.0)] } else { &[(0.0, 1.0)] };
        for (side, (from, to)) in sides.iter().zip(shares) {
            let last = *to == 1.0;
            let across = if last { x.clone() } else { PanelAxis::bare(x.scale) };
            let panel = Panel::new(body.rows(*from, *to), left, across, y.clone());
            draw_side(canvas, &panel, *side, &curves);
            let place = (panel.inner.right, panel.inner.top + 0.4 * LINE);
            canvas.text_in(side.words(), place, (SMALL, Align::Right), INK);
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
    let name = |curve: &Curve| match known(curve) {
        true => (Sample::Line(curve.pen()), operator_name(curve.spectrum)),
        false => (Sample::Band(curve.pen()), format!("{}, 95 % (probes)", operator_name(curve.spectrum))),
    };
    let near_zero = |curve: &Curve| (Sample::Hatch(Pen::solid(curve.color(), 0.5)), share_near_zero(curve));
    let mut legend: Vec<(Sample, String)> = curves.iter().flat_map(|curve| [name(curve), near_zero(curve)]).collect();
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

/// What lies near zero, and how wide the kernels are: a line for each operator.
fn notes(axis: Axis, curves: &[Curve]) -> Vec<String> {
    curves
        .iter()
        .map(|curve| {
            let near_zero = Some(share_near_zero(curve));
            let words = [near_zero, sides_of_zero(axis, curve), located(curve), Some(widths(axis, curve))];
            format!("{}: {}", operator_name(curve.spectrum), words.into_iter().flatten().collect::<Vec<_>>().join("; "))
        })
        .collect()
}

/// How many eigenvalues lie on each side of zero, where these have panels of their own.
fn sides_of_zero(axis: Axis, curve: &Curve) -> Option<String> {
    let DensityReport { linear_threshold, shares: MassShares { negative, positive, .. }, .. } = curve.density;
    let end = significant(*linear_threshold, 2);
    let words = || format!("λ > {end}: {}; λ < −{end}: {}", percent(*positive), percent(*negative));
    (axis == Axis::LogAbs).then(words)
}

/// `|λ| ≤ 0.013: 71 % (68–73 %)`.
fn share_near_zero(curve: &Curve) -> String {
    let DensityReport { linear_threshold, shares, .. } = curve.density;
    format!("|λ| ≤ {}: {}", significant(*linear_threshold, 2), percent(shares.near_zero))
}

/// What would locate more of them.
fn located(curve: &Curve) -> Option<String> {
    let slq = &curve.spectrum.slq;
    let words = || match curve.spectrum.outcome.density_converged {
        true => "a lower --density-tol would locate more of those near zero".into(),
        false => format!("--steps {} would locate more of those near zero", 2 * slq.num_steps),
    };
    (!slq.source.is_spectrum()).then(words)
}

fn widths(axis: Axis, curve: &Curve) -> String {
    let ends = curve.density.sigma.iter().fold((f64::INFINITY, 0.0f64), |(low, high), s| (low.min(*s), high.max(*s)));
    let (low, high) = (significant(ends.0, 2), significant(ends.1, 2));
    let range = if low == high { low } else { format!("{low} to {high}") };
    format!("kernel σ = {range} {}", if axis == Axis::Linear { "in λ" } else { "decades" })
}

/// `20.3 %`, and the interval where there is one.
fn percent(share: Share) -> String {
    // Ends that no number of eigenvalues is near.
    let [low, high] = share.range.map(|end| significant(if end < 1e-8 { 0.0 } else { 100.0 * end }, 3));
    let value = significant(100.0 * share.value, 3);
    if low == high { format!("{value} %") } else { format!("{value} % ({low}–{high} %)") }
}

fn axes(axis: Axis, sides: &[Side], curves: &[Curve]) -> (PanelAxis, PanelAxis) {
    let peaks = curves.iter().flat_map(|curve| &curve.density.density).copied().filter(|d| d.is_finite());
    let peak = peaks.fold(0.0, f64::max);
    let sigmas = curves.iter().map(|curve| curve.density.sigma.iter().copied().fold(0.0, f64::max));
    let singles = curves.iter().zip(sigmas).map(|(c, sigma)| (c.spectrum.slq.dim.max(1) as f64 * sigma * 2.5).recip());
    let floors = singles.map(|single| 0.1 * single);
    let floor = floors.filter(|floor| *floor > 0.0 && floor.is_finite()).fold(f64::INFINITY, f64::min);
    let floor = if floor < 0.1 * peak { floor } else { 1e-6 * peak };
    let title = if axis == Axis::Linear { "density per unit of λ" } else { "density per decade" };
    let y = PanelAxis::new(Scale::log([floor, peak].into_iter()), title);
    // Where the density is above the floor, and all that has a mark: the rest of the grid is empty paper.
    let grid = curves.iter().flat_map(|curve| curve.density.values.iter().zip(&curve.density.density));
    let mut seen: Vec<f64> = grid.filter(|(_, density)| **density >= floor).map(|(value, _)| *value).collect();
    seen.extend(curves.iter().flat_map(|curve| [curve.nodes(), curve.outliers()]).flatten());
    let threshold = curves.iter().map(|curve| curve.density.linear_threshold).fold(f64::NAN, f64::max);
    // Room for the hatched block, whose end is at the threshold.
    if axis == Axis::LogAbs {
        seen.extend(sides.iter().map(|side| if *side == Side::Negative { -0.5 * threshold } else { 0.5 * threshold }));
    }
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
    for curve in curves {
        for negative in [true, false] {
            let ranges = curve.density.values.iter().zip(&curve.density.range).filter(|(v, _)| (**v < 0.0) == negative);
            let band = ranges.filter_map(|(value, [low, high])| Some((side.place(*value)?, *low, *high)));
            panel.band(canvas, &band.collect::<Vec<_>>(), tint(curve.color()));
        }
    }
    curves.iter().for_each(|curve| draw_block(canvas, panel, side, curve));
    for curve in curves {
        for negative in [true, false] {
            let points =
                curve.density.values.iter().zip(&curve.density.density).filter(|(v, _)| (**v < 0.0) == negative);
            panel.curve(canvas, points.filter_map(|(value, d)| Some((side.place(*value)?, *d))), curve.pen());
        }
        draw_rug(canvas, panel, side, curve);
    }
    for curve in curves {
        for (x, value) in curve.outliers().into_iter().filter_map(|value| Some((side.place(value)?, value))) {
            panel.stem(canvas, (x, curve.single(value)), CAP, stem(curve));
        }
    }
    panel.draw_axes(canvas);
}

/// Hatching over what is near zero.
fn draw_block(canvas: &mut Canvas, panel: &Panel, side: Side, curve: &Curve) {
    let threshold = curve.density.linear_threshold;
    let floor = panel.y_ends().0;
    let ends = if side == Side::Both { [-threshold, threshold] } else { [panel.x_ends().0, threshold] };
    let [Some((left, _)), Some((right, _))] = ends.map(|end| panel.place((end, floor))) else { return };
    let Area { top, bottom, left: first, right: last } = panel.inner;
    let (left, right) = (left.max(first), right.min(last));
    let pen = Pen::solid(tint(curve.color()), 0.5);
    let mut start = left - (bottom - top) + HATCH * (0.5 + 0.5 * curve.index as f64);
    while start < right && right - left > HATCH {
        // From the foot upwards to the right, cut off at both sides.
        let at = |x: f64| (x, bottom - (x - start));
        canvas.line(&[at(start.max(left)), at((start + bottom - top).min(right))], pen);
        start += HATCH;
    }
    let edge = Pen::solid(curve.color(), 0.3);
    canvas.line(&[(right, bottom), (right, top)], edge);
    if side == Side::Both {
        canvas.line(&[(left, bottom), (left, top)], edge);
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
