//! Spectra of groups of networks beside each other.

use super::brush::brushes;
use super::canvas::{Canvas, PAGE, Pen};
use super::palette::{MAX_SERIES, shade, tint};
use super::panel::{Area, Axis, Panel};
use super::scale::Scale;
use super::sheet::{Part, Sample, Sheet};
use super::style::{Drawn, Target};
use crate::report::ReportError;

/// How many eigenvalues of a group's networks lie above each place.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSpectrum {
    /// The group.
    pub name: String,
    /// `λ`, the mean number above it over the seeds, the least and the most that the networks' bands allow; `λ` ascending.
    pub points: Vec<(f64, f64, f64, f64)>,
}

/// Ends of a band with a line, the upper over the lower: beyond, the number is not known.
const RESOLVED: f64 = 10.0;

/// What that figure shows.
pub const SPECTRA_CAPTION: &str = "Number of eigenvalues of the Hessian above λ. Band: from the lowest to the highest end of the \
    networks' own 95 % bands, for quadrature and probes; line: mean over the seeds of each group, where the band is narrower than a \
    decade.";

/// Writes `spectra.*` across both columns: the number of eigenvalues above `λ`, both logarithmic, with bands from the least
/// to the most that is possible in a group's networks. Nothing is written where there is no group.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_spectra(groups: &[GroupSpectrum], statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let groups: Vec<&GroupSpectrum> = groups.iter().filter(|group| !group.points.is_empty()).take(MAX_SERIES).collect();
    if groups.is_empty() {
        return Ok(Drawn::default());
    }
    let brushes = brushes(groups.iter().map(|group| group.name.as_str()));
    let legend = groups.iter().zip(&brushes).map(|(group, brush)| (Sample::Band(brush.pen(1.1)), group.name.clone()));
    let points = || groups.iter().flat_map(|group| &group.points);
    let x = Scale::log(points().map(|point| point.0));
    // Below one eigenvalue there is none.
    let y = Axis::new(Scale::log(points().map(|point| point.1.max(0.5))), "eigenvalues above λ");
    let body_height = 190.0 * target.style.stretch(PAGE);
    let draw = |canvas: &mut Canvas, body: Area, _: bool| {
        let panel = Panel::new(body, y.room(160.0), Axis::new(x, "λ of the Hessian"), y.clone());
        for (group, brush) in groups.iter().zip(&brushes) {
            let band: Vec<(f64, f64, f64)> = group.points.iter().map(|(x, _, low, high)| (*x, *low, *high)).collect();
            panel.band(canvas, &band, tint(brush.color));
        }
        for (group, brush) in groups.iter().zip(&brushes) {
            for edge in [|p: &(f64, f64, f64, f64)| p.2, |p: &(f64, f64, f64, f64)| p.3] {
                let points = group.points.iter().map(|point| (point.0, edge(point)));
                panel.curve(canvas, points, Pen::solid(shade(brush.color, 1), 0.4));
            }
        }
        for (group, brush) in groups.iter().zip(&brushes) {
            let resolved = group.points.iter().filter(|(.., low, high)| *high <= RESOLVED * low.max(1.0));
            panel.curve(canvas, resolved.map(|(x, mean, ..)| (*x, *mean)), brush.pen(1.1));
        }
        panel.draw_axes(canvas);
    };
    let part = Part { name: String::new(), area: Box::new(|body| body), height: body_height, draw: Box::new(draw) };
    let caption = SPECTRA_CAPTION.to_owned();
    let sheet = Sheet { legend: legend.collect(), body_height, caption, statement: statement.to_owned() };
    sheet.write_wide_parts(target, "spectra", &[part])
}
