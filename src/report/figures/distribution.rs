//! How many eigenvalues lie beyond each place, with what quadrature and probes leave open.

use super::canvas::{Align, Canvas, Pen, SMALL, dash};
use super::palette::{INK, series, tint};
use super::panel::{Area, Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::style::{Drawn, Target};
use super::{operator_name, statement};
use crate::analysis::{AnalysisReport, SpectrumReport};
use crate::report::ReportError;

/// Number of eigenvalues beyond a place, and its range.
type Row = (f64, f64, f64, f64);

/// The eigenvalues of one sign.
struct Side {
    name: &'static str,
    /// For each operator, by ascending magnitude.
    curves: Vec<Vec<Row>>,
}

/// Writes `distribution.*`: how many eigenvalues are larger than `λ`, and how many are smaller than `−λ`; nothing where no
/// operator has a distribution.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write(report: &AnalysisReport, spectra: &[&SpectrumReport], target: Target<'_>) -> Result<Drawn, ReportError> {
    let side = |name, sign: f64| Side { name, curves: spectra.iter().map(|spectrum| rows(spectrum, sign)).collect() };
    let sides: Vec<Side> = [side("above λ", 1.0), side("below −λ", -1.0)]
        .into_iter()
        .filter(|side| side.curves.iter().any(|rows| rows.len() > 1))
        .collect();
    if sides.is_empty() {
        return Ok(Drawn::default());
    }
    let pen = |index: usize| Pen { color: series(index), width: 1.0, dash: dash(index) };
    let name = |(index, spectrum): (usize, &&SpectrumReport)| match spectrum.slq.source.is_spectrum() {
        true => (Sample::Line(pen(index)), operator_name(spectrum)),
        false => (Sample::Band(pen(index)), format!("{}, bounds and 95 % (probes)", operator_name(spectrum))),
    };
    let legend = spectra.iter().enumerate().map(name).collect();
    let sheet = Sheet {
        legend,
        body_height: 150.0,
        caption: "Number of eigenvalues above λ, and of those below −λ. Bands: all counts that agree with the measured moments of \
                  the spectrum, and around them a 95 % interval for the random start vectors."
            .into(),
        statement: statement(report),
    };
    sheet.write(target, "distribution", |canvas, body| {
        let all = || sides.iter().flat_map(|side| side.curves.iter().flatten());
        let x = Scale::log(all().map(|row| row.0));
        let y = Axis::new(Scale::log(all().map(|row| row.1.max(0.7))), "number of eigenvalues");
        let left = y.room(body.bottom - body.top);
        let width = 1.0 / sides.len() as f64;
        for (index, side) in sides.iter().enumerate() {
            let outer = body.columns(index as f64 * width, (index + 1) as f64 * width);
            let panel = Panel::new(outer, left, Axis::new(x, "magnitude λ"), y.clone());
            draw(canvas, &panel, side, &pen);
        }
    })
}

/// Beyond the threshold, as long as there is an eigenvalue.
fn rows(spectrum: &SpectrumReport, sign: f64) -> Vec<Row> {
    let distribution = &spectrum.distribution;
    let number = |share: f64| spectrum.slq.dim as f64 * if sign > 0.0 { 1.0 - share } else { share };
    let places = distribution.values.iter().zip(&distribution.shares).zip(&distribution.range);
    let rows = places.filter(|((value, _), _)| **value * sign > 0.0).map(|((value, share), range)| {
        let [one, other] = range.map(number);
        (value.abs(), number(*share), one.min(other), one.max(other))
    });
    let mut rows: Vec<Row> = rows.filter(|row| row.3 > 0.0 && row.3.is_finite()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows
}

fn draw(canvas: &mut Canvas, panel: &Panel, side: &Side, pen: &dyn Fn(usize) -> Pen) {
    for (index, rows) in side.curves.iter().enumerate() {
        let band: Vec<(f64, f64, f64)> = rows.iter().map(|(x, _, low, high)| (*x, *low, *high)).collect();
        panel.band(canvas, &band, tint(series(index)));
    }
    for (index, rows) in side.curves.iter().enumerate() {
        panel.curve(canvas, rows.iter().map(|(x, number, ..)| (*x, *number)), pen(index));
    }
    panel.draw_axes(canvas);
    let Area { right, top, .. } = panel.inner;
    canvas.text_in(side.name, (right, top + 4.0), (SMALL, Align::Right), INK);
}
