//! Spectra of groups of networks beside each other.

use std::path::{Path, PathBuf};

use super::canvas::{Pen, dash};
use super::palette::{MAX_SERIES, optimizer, series, tint};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use crate::report::ReportError;

/// How many eigenvalues of a group's networks lie above each place.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSpectrum {
    /// The group.
    pub name: String,
    /// `λ`, the mean number above it over the seeds, the least and the most; `λ` ascending.
    pub points: Vec<(f64, f64, f64, f64)>,
}

/// Writes `spectra.*` across both columns: the number of eigenvalues above `λ`, both logarithmic, with bands from the least
/// to the most of a group's seeds. Nothing is written where there is no group.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_spectra(groups: &[GroupSpectrum], statement: &str, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let groups: Vec<&GroupSpectrum> = groups.iter().filter(|group| !group.points.is_empty()).take(MAX_SERIES).collect();
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let all = groups.iter().all(|group| optimizer(&group.name).is_some());
    let style = |index: usize| {
        let index = if all { optimizer(&groups[index].name).unwrap_or(index) } else { index };
        Pen { color: series(index), width: 1.1, dash: dash(index) }
    };
    let legend = groups.iter().enumerate().map(|(i, group)| (Sample::Band(style(i)), group.name.clone())).collect();
    let sheet = Sheet { legend, body_height: 190.0, statement: statement.to_owned() };
    sheet.write_wide(folder, "spectra", |canvas, body| {
        let points = || groups.iter().flat_map(|group| &group.points);
        let x = Scale::log(points().map(|point| point.0));
        // Below one eigenvalue there is none.
        let y = Axis::new(Scale::log(points().map(|point| point.1.max(0.5))), "eigenvalues above λ");
        let left = y.room(160.0);
        let panel = Panel::new(body, left, Axis::new(x, "λ of the Hessian"), y);
        for (index, group) in groups.iter().enumerate() {
            let band: Vec<(f64, f64, f64)> = group.points.iter().map(|(x, _, low, high)| (*x, *low, *high)).collect();
            panel.band(canvas, &band, tint(style(index).color));
        }
        for (index, group) in groups.iter().enumerate() {
            panel.curve(canvas, group.points.iter().map(|(x, mean, ..)| (*x, *mean)), style(index));
        }
        panel.draw_axes(canvas);
    })
}
