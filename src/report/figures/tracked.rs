//! Curvature during a training run.

use super::bands::{Along, BandCurve, BandPanel, Words, write};
use super::palette::MAX_SERIES;
use super::style::{Drawn, Target};
use crate::report::ReportError;
use crate::vocabulary::{Curvature, Quantity};

/// One tracked number over the epochs.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedCurve {
    /// Of which matrix.
    pub operator: Curvature,
    /// An eigenvalue, the trace, or the threshold of stability.
    pub quantity: Quantity,
    /// Epoch (0 before the first step), value and standard error from the choice of rows.
    pub points: Vec<(f64, f64, f64)>,
}

/// Writes `curvature.*`: eigenvalues with the threshold of stability, those of the preconditioned Hessian, and the trace, each
/// below the other, with bands of one standard error over the rows. Nothing is written where there is no finite number.
///
/// The threshold grows without bound as the learning rate falls to 0, so its line ends where it leaves twice the height of what
/// else there is to see.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_tracked(curves: &[TrackedCurve], statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let panel = |title, belongs: fn(&TrackedCurve) -> bool| {
        let own = || curves.iter().filter(|curve| belongs(curve));
        let most = ceiling(own());
        let own = own().map(|curve| BandCurve { name: curve.quantity.label(), points: drawn(curve, most) });
        BandPanel { title, curves: own.filter(|curve| !curve.points.is_empty()).take(MAX_SERIES - 1).collect() }
    };
    let is_preconditioned = |curve: &TrackedCurve| curve.operator == Curvature::PreconditionedHessian;
    let panels = vec![
        panel("eigenvalue", |curve| curve.operator == Curvature::Hessian && curve.quantity != Quantity::Trace),
        panel("P⁻¹H eigenvalue", is_preconditioned),
        panel("trace", |curve| curve.operator == Curvature::Hessian && curve.quantity == Quantity::Trace),
    ];
    let along = Along { title: "epoch", logarithmic: false };
    let words = Words { name: "curvature", caption: caption(curves), statement: statement.into() };
    write(panels, &along, words, target)
}

/// Twice the largest number, and twice the smallest threshold where that is higher.
fn ceiling<'a>(curves: impl Iterator<Item = &'a TrackedCurve>) -> f64 {
    let largest = |curve: &TrackedCurve| {
        let values = curve.points.iter().map(|(_, value, _)| *value).filter(|value| value.is_finite());
        if curve.quantity == Quantity::StabilityThreshold {
            values.fold(f64::INFINITY, f64::min)
        } else {
            values.fold(0.0, f64::max)
        }
    };
    2.0 * curves.map(largest).filter(|value| value.is_finite()).fold(0.0, f64::max)
}

/// The finite points of a curve, of a threshold those up to `most`.
fn drawn(curve: &TrackedCurve, most: f64) -> Vec<(f64, f64, f64)> {
    let most = if curve.quantity == Quantity::StabilityThreshold { most } else { f64::MAX };
    curve.points.iter().copied().filter(|(_, value, _)| value.is_finite() && *value <= most).collect()
}

fn caption(curves: &[TrackedCurve]) -> String {
    let threshold = match curves.iter().any(|curve| curve.quantity == Quantity::StabilityThreshold) {
        true => {
            " Stability threshold: the largest λ₁ at which the steps settle on a quadratic, at the learning rate of the \
                 step; it is not drawn where it lies above the figure."
        }
        false => "",
    };
    format!("Curvature during training; bands: ± 1 s.e. over the rows.{threshold}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Style;

    #[test]
    fn a_threshold_does_not_push_the_eigenvalues_down() {
        let curve = |quantity, values: [f64; 3]| TrackedCurve {
            operator: Curvature::Hessian,
            quantity,
            points: values.iter().enumerate().map(|(i, value)| (i as f64, *value, f64::NAN)).collect(),
        };
        let largest = curve(Quantity::LambdaMax, [3.0, 9.0, f64::NAN]);
        let low = curve(Quantity::StabilityThreshold, [8.0, 40.0, f64::INFINITY]);
        let high = curve(Quantity::StabilityThreshold, [70.0, 50.0, 1e9]);
        for (threshold, most, expected) in [(low, 18.0, vec![8.0]), (high, 100.0, vec![70.0, 50.0])] {
            assert_eq!(ceiling([&largest, &threshold].into_iter()), most);
            assert_eq!(drawn(&threshold, most).iter().map(|point| point.1).collect::<Vec<_>>(), expected);
            assert_eq!(drawn(&largest, most).len(), 2);
        }
    }

    #[test]
    fn a_figure_for_what_was_tracked_and_none_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let curve = |quantity, height: f64| TrackedCurve {
            operator: Curvature::Hessian,
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
