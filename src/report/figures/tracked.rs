//! Curvature during a training run.

use super::bands::{Along, BandCurve, BandPanel, Words, write};
use super::palette::MAX_SERIES;
use super::style::{Drawn, Target};
use crate::report::ReportError;
use crate::vocabulary::Quantity;

/// One tracked number over the epochs.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedCurve {
    /// An eigenvalue or the trace.
    pub quantity: Quantity,
    /// Epoch (0 before the first step), value and standard error from the choice of rows.
    pub points: Vec<(f64, f64, f64)>,
}

/// Writes `curvature.*`: eigenvalues above the trace, with bands of one standard error over the rows. Nothing is written
/// where there is no finite number.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_tracked(curves: &[TrackedCurve], statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let panel = |title, traces: bool| {
        let own = curves.iter().filter(|curve| (curve.quantity == Quantity::Trace) == traces);
        let own = own.map(|curve| BandCurve {
            name: curve.quantity.label(),
            points: curve.points.iter().filter(|(_, value, _)| value.is_finite()).copied().collect(),
        });
        BandPanel { title, curves: own.filter(|curve| !curve.points.is_empty()).take(MAX_SERIES - 1).collect() }
    };
    let along = Along { title: "epoch", logarithmic: false };
    let words = Words {
        name: "curvature",
        caption: "Curvature during training; bands: ± 1 s.e. over the rows.".into(),
        statement: statement.into(),
    };
    write(vec![panel("eigenvalue", false), panel("trace", true)], &along, words, target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Style;

    #[test]
    fn a_figure_for_what_was_tracked_and_none_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let curve = |quantity, height: f64| TrackedCurve {
            quantity,
            points: (0..5).map(|i| (f64::from(i), height * f64::from(i * i + 1), height)).collect(),
        };
        let style = Style { panels: true, ..Style::default() };
        let write = |curves: &[TrackedCurve]| write_tracked(curves, "s", Target::new(folder.path(), style)).unwrap();
        assert_eq!(write(&[]), Drawn::default());
        let curves =
            [curve(Quantity::LambdaMax, 3.0), curve(Quantity::Eigenvalue(2), 2.0), curve(Quantity::Trace, 10.0)];
        // The figure, and each of its panels; what has one panel alone is that panel.
        assert_eq!(write(&curves).files.len(), 9);
        assert!(folder.path().join("curvature-eigenvalue.pdf").exists());
        assert_eq!(write(&curves[2..]).files.len(), 3);
    }
}
