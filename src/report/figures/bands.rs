//! Numbers with errors along an axis: one or two panels of curves with bands.

use std::path::{Path, PathBuf};

use super::canvas::{Canvas, Marker, Pen, dash};
use super::palette::{optimizer, series, tint};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use crate::report::ReportError;

/// A quantity along the axis.
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

/// Writes the figure `name` with bands of one standard error; at most two panels. Nothing is written where no panel has
/// a curve.
///
/// # Errors
/// As [`super::write_figures`].
pub(super) fn write(
    panels: Vec<BandPanel<'_>>,
    along: &Along<'_>,
    (name, statement): (&str, String),
    folder: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let panels: Vec<BandPanel<'_>> = panels.into_iter().filter(|panel| !panel.curves.is_empty()).take(2).collect();
    if panels.is_empty() {
        return Ok(Vec::new());
    }
    let all = || panels.iter().flat_map(|panel| &panel.curves);
    let styles = Styles::new(all());
    let legend = styles.names.iter().map(|name| (Sample::Band(pen(styles.of(name))), (*name).to_owned())).collect();
    let sheet = Sheet { legend, body_height: 80.0 * panels.len() as f64 + 14.0, statement };
    sheet.write(folder, name, |canvas, body| {
        let places = all().flat_map(|curve| &curve.points).map(|(place, ..)| *place);
        let x = if along.logarithmic { Scale::log(places) } else { Scale::linear(places) };
        let axes: Vec<Axis> = panels
            .iter()
            .map(|panel| Axis::new(Scale::linear(panel.curves.iter().flat_map(reach)), panel.title))
            .collect();
        let left = axes.iter().map(|axis| axis.room(72.0)).fold(0.0, f64::max);
        // The lower panel also holds the labels.
        let shares: &[(f64, f64)] = if panels.len() == 2 { &[(0.0, 0.46), (0.46, 1.0)] } else { &[(0.0, 1.0)] };
        for ((panel, y), (from, to)) in panels.iter().zip(axes).zip(shares) {
            let across = if *to == 1.0 { Axis::new(x, along.title) } else { Axis::bare(x) };
            let place = Panel::new(body.rows(*from, *to), left, across, y);
            // All bands first: no band hides another's curve.
            panel.curves.iter().for_each(|curve| draw_band(canvas, &place, curve, styles.of(&curve.name)));
            panel.curves.iter().for_each(|curve| draw(canvas, &place, curve, styles.of(&curve.name)));
            place.draw_axes(canvas);
        }
    })
}

/// Which series draws a name: an optimiser its own where all are optimisers, else by the order of appearance.
struct Styles<'a> {
    names: Vec<&'a str>,
    optimizers: bool,
}

impl<'a> Styles<'a> {
    fn new(curves: impl Iterator<Item = &'a BandCurve>) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for curve in curves {
            if !names.contains(&curve.name.as_str()) {
                names.push(&curve.name);
            }
        }
        let optimizers = names.iter().all(|name| optimizer(name).is_some());
        Self { names, optimizers }
    }

    fn of(&self, name: &str) -> usize {
        let order = self.names.iter().position(|own| *own == name).unwrap_or(0);
        if self.optimizers { optimizer(name).unwrap_or(order) } else { order }
    }
}

/// Ends of all bands.
fn reach(curve: &BandCurve) -> impl Iterator<Item = f64> {
    curve.points.iter().flat_map(|(_, value, std_err)| [value - known(*std_err), value + known(*std_err)])
}

fn known(std_err: f64) -> f64 {
    if std_err > 0.0 { std_err } else { 0.0 }
}

fn draw_band(canvas: &mut Canvas, panel: &Panel, curve: &BandCurve, index: usize) {
    let bounds = |(place, value, std_err): &(f64, f64, f64)| (*place, value - std_err, value + std_err);
    panel.band(canvas, &curve.points.iter().map(bounds).collect::<Vec<_>>(), tint(series(index)));
}

/// More markers than this make a band of their own.
const MOST_MARKERS: usize = 12;

fn draw(canvas: &mut Canvas, panel: &Panel, curve: &BandCurve, index: usize) {
    let pen = pen(index);
    let points = || curve.points.iter().map(|(place, value, _)| (*place, *value));
    panel.curve(canvas, points(), pen);
    for point in points().step_by(curve.points.len().div_ceil(MOST_MARKERS).max(1)) {
        panel.mark(canvas, point, (Marker::series(index), pen.color, false));
    }
}

fn pen(index: usize) -> Pen {
    Pen { color: series(index), width: 1.0, dash: dash(index) }
}
