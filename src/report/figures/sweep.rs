//! Means over seeds along an axis of an experiment.

use super::bands::{Along, BandCurve, BandPanel, Words, write};
use super::palette::MAX_SERIES;
use super::style::{Drawn, Target};
use crate::report::ReportError;

/// Name of a group; place on the axis, mean and standard deviation (NaN: none) over its seeds, places ascending.
pub type SweepCurve = (String, Vec<(f64, f64, f64)>);

/// A quantity along an axis, for each group.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepPanel {
    /// What it is, with its unit.
    pub title: String,
    /// One for each group.
    pub groups: Vec<SweepCurve>,
}

/// Writes the figure `name`: at most two panels above the axis `along`, which is logarithmic where all places are
/// positive and span more than a factor of 30. Nothing is written where there is no finite number.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_sweep(
    panels: &[SweepPanel],
    along: &str,
    name: &str,
    statement: &str,
    target: Target<'_>,
) -> Result<Drawn, ReportError> {
    let finite = |(place, value, _): &(f64, f64, f64)| place.is_finite() && value.is_finite();
    let panel = |panel: &'_ SweepPanel| -> Vec<BandCurve> {
        let curves = panel.groups.iter().map(|(name, points)| BandCurve {
            name: name.clone(),
            points: points.iter().filter(|point| finite(point)).copied().collect(),
        });
        curves.filter(|curve| !curve.points.is_empty()).take(MAX_SERIES).collect()
    };
    let panels: Vec<BandPanel<'_>> =
        panels.iter().map(|own| BandPanel { title: &own.title, curves: panel(own) }).collect();
    let places = || panels.iter().flat_map(|panel| &panel.curves).flat_map(|curve| &curve.points).map(|(x, ..)| *x);
    let (lowest, highest) = (places().fold(f64::INFINITY, f64::min), places().fold(0.0, f64::max));
    let logarithmic = lowest > 0.0 && highest / lowest > 30.0;
    let titles: Vec<&str> = panels.iter().map(|panel| panel.title).take(2).collect();
    let caption = format!("Dependence on {along}: {}.", titles.join(" and "));
    let words = Words { name, caption, statement: statement.to_owned() };
    write(panels, &Along { title: along, logarithmic }, words, target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Style;

    #[test]
    fn a_figure_for_finite_numbers_and_none_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let panel = |value: f64| SweepPanel {
            title: "trace".into(),
            groups: vec![("sam".into(), vec![(0.1, value, 0.1), (10.0, 2.0 * value, f64::NAN)])],
        };
        let target = Target::new(folder.path(), Style::default());
        let write = |value| write_sweep(&[panel(value), panel(value)], "rho", "sweep", "s", target).unwrap();
        assert_eq!(write(f64::NAN), Drawn::default());
        assert_eq!(write(3.0).files.len(), 3);
    }
}
