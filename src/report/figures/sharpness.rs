//! Average rises beside what curvature alone makes of them.

use super::bands::{Along, BandCurve, BandPanel, Words, write};
use super::style::{Drawn, Target};
use crate::report::ReportError;
use crate::sharpness::SharpnessRow;
use crate::vocabulary::{Scaling, Sharpness};

/// Writes `sharpness_ratio.*`: the average rise over `σ²/2` times the (scaled) trace of the Hessian, against `σ`. On smooth
/// networks it tends to 1 as `σ` falls; kinks of ReLU add to it. Nothing is written where the trace is not known exactly.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_sharpness(rows: &[SharpnessRow], statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let curve = |scaling: Scaling| {
        let point = |row: &SharpnessRow| match row.quantity {
            Sharpness::AverageRatio { scaling: own, sigma } if own == scaling => {
                Some((sigma, row.value, row.std_err_numeric)).filter(|(_, value, _)| value.is_finite())
            }
            _ => None,
        };
        let points = rows.iter().filter_map(point);
        let name = match scaling {
            Scaling::None => "unscaled",
            Scaling::Element => "relative to |θ|",
            Scaling::Filter => "relative to filters",
        };
        BandCurve { name: name.into(), points: points.collect() }
    };
    let curves: Vec<BandCurve> = Scaling::ALL.map(curve).into_iter().filter(|curve| curve.points.len() > 1).collect();
    let along = Along { title: "σ", logarithmic: true };
    let panel = BandPanel { title: "rise / (σ²/2 · tr H)", curves };
    let words = Words {
        name: "sharpness_ratio",
        caption:
            "Average rise of the loss under perturbations of size σ, divided by σ²/2 · tr H, the rise of the quadratic \
                  model; bands: ± 1 s.e. over the draws."
                .into(),
        statement: statement.into(),
    };
    write(vec![panel], &along, words, target)
}
