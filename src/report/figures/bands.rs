//! Numbers with errors along an axis: up to three panels of curves with bands.

use super::brush::{Brush, brushes};
use super::canvas::{Canvas, Pen};
use super::palette::{shade, tint};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::stack::{Layer, write_stack};
use super::style::{Drawn, Target};
use crate::report::ReportError;

/// A quantity along the axis.
#[derive(Clone)]
pub(super) struct BandCurve {
    pub(super) name: String,
    /// Place, value and standard error (NaN: none known), places ascending.
    pub(super) points: Vec<(f64, f64, f64)>,
}

/// Curves that share an axis.
pub(super) struct BandPanel<'a> {
    pub(super) title: &'a str,
    pub(super) curves: Vec<BandCurve>,
}

/// What lies along the bottom.
pub(super) struct Along<'a> {
    pub(super) title: &'a str,
    pub(super) logarithmic: bool,
}

/// What a figure of bands is called and says.
pub(super) struct Words<'a> {
    pub(super) name: &'a str,
    pub(super) caption: String,
    pub(super) statement: String,
}

/// Writes a figure with bands of one standard error; at most three panels. Nothing is written where no panel has a curve.
///
/// # Errors
/// As [`super::write_figures`].
pub(super) fn write(
    panels: Vec<BandPanel<'_>>,
    along: &Along<'_>,
    words: Words<'_>,
    target: Target<'_>,
) -> Result<Drawn, ReportError> {
    let panels: Vec<BandPanel<'_>> = panels.into_iter().filter(|panel| !panel.curves.is_empty()).take(3).collect();
    if panels.is_empty() {
        return Ok(Drawn::default());
    }
    let all = || panels.iter().flat_map(|panel| &panel.curves);
    let mut names: Vec<&str> = Vec::new();
    for curve in all() {
        if !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
    }
    let brushes = brushes(names.iter().copied());
    let brush = |name: &str| names.iter().position(|own| *own == name).map_or(Brush::series(0), |at| brushes[at]);
    let with_error = |name: &str| all().any(|curve| curve.name == name && curve.points.iter().any(|p| p.2 > 0.0));
    let sample = |name: &str| match with_error(name) {
        true => Sample::Band(brush(name).pen(WIDTH)),
        false => Sample::Line(brush(name).pen(WIDTH)),
    };
    let legend = names.iter().map(|name| (sample(name), (*name).to_owned())).collect();
    let places = all().flat_map(|curve| &curve.points).map(|(place, ..)| *place);
    let x = if along.logarithmic { Scale::log(places) } else { Scale::linear(places) };
    let layer = |panel: &'_ BandPanel<'_>| {
        let curves: Vec<(BandCurve, Brush)> =
            panel.curves.iter().map(|curve| (curve.clone(), brush(&curve.name))).collect();
        Layer {
            name: panel.title.to_owned(),
            y: Axis::new(Scale::linear(panel.curves.iter().flat_map(reach)), panel.title),
            height: if panels.len() == 1 { 88.0 } else { 80.0 },
            draw: Box::new(move |canvas, place| {
                draw_bands(canvas, place, &curves);
                curves.iter().for_each(|(curve, brush)| draw(canvas, place, curve, *brush));
                place.draw_axes(canvas);
            }),
        }
    };
    let layers: Vec<Layer<'_>> = panels.iter().map(layer).collect();
    let sheet = Sheet { legend, caption: words.caption, statement: words.statement, ..Sheet::default() };
    write_stack(sheet, target, words.name, &Axis::new(x, along.title), &layers)
}

/// Of curves, in points.
const WIDTH: f64 = 1.0;

/// Ends of all bands.
fn reach(curve: &BandCurve) -> impl Iterator<Item = f64> {
    curve.points.iter().flat_map(|(_, value, std_err)| [value - known(*std_err), value + known(*std_err)])
}

fn known(std_err: f64) -> f64 {
    if std_err > 0.0 { std_err } else { 0.0 }
}

/// All bands, so that none hides a curve: the widest first, and then the edges of each, which show where one lies under
/// another.
fn draw_bands(canvas: &mut Canvas, panel: &Panel, curves: &[(BandCurve, Brush)]) {
    let width = |curve: &BandCurve| curve.points.iter().map(|(.., std_err)| known(*std_err)).sum::<f64>();
    let mut widest_first: Vec<&(BandCurve, Brush)> = curves.iter().collect();
    widest_first.sort_by(|a, b| width(&b.0).total_cmp(&width(&a.0)));
    for (curve, brush) in &widest_first {
        let bounds = |(place, value, std_err): &(f64, f64, f64)| (*place, value - std_err, value + std_err);
        panel.band(canvas, &curve.points.iter().map(bounds).collect::<Vec<_>>(), tint(brush.color));
    }
    for (curve, brush) in widest_first.iter().filter(|_| curves.len() > 1) {
        for sign in [-1.0, 1.0] {
            let edge = curve.points.iter().map(|(place, value, std_err)| (*place, value + sign * std_err));
            panel.curve(canvas, edge, Pen::solid(shade(brush.color, 1), 0.4));
        }
    }
}

/// More markers than this make a band of their own.
const MOST_MARKERS: usize = 12;

fn draw(canvas: &mut Canvas, panel: &Panel, curve: &BandCurve, brush: Brush) {
    let points = || curve.points.iter().map(|(place, value, _)| (*place, *value));
    panel.curve(canvas, points(), brush.pen(WIDTH));
    for point in points().step_by(curve.points.len().div_ceil(MOST_MARKERS).max(1)) {
        panel.mark(canvas, point, brush.sign(false));
    }
}
