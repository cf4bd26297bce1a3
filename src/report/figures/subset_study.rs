//! Curvature against the number of rows it is taken over.

use super::bands::{Along, BandCurve, BandPanel, Words, write};
use super::style::{Drawn, Target};
use crate::analysis::{SubsetRow, SubsetStudy};
use crate::report::ReportError;
use crate::vocabulary::Quantity;

/// What shares an axis, with its title.
const PANELS: [(&[Quantity], &str); 2] =
    [(&[Quantity::LambdaMax, Quantity::LambdaMaxCrossFitted], "largest λ"), (&[Quantity::Trace], "trace")];

/// Writes `subset_study.*`: largest eigenvalue, plain and cross-fitted, above the trace, with bands of one standard
/// error, over a logarithmic axis of rows. Nothing is written where the study has no finite number.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_subset_study(study: &SubsetStudy, target: Target<'_>) -> Result<Drawn, ReportError> {
    let curve = |quantity: &Quantity| {
        let known = |row: &&SubsetRow| row.quantity == *quantity && row.value.is_finite() && row.num_rows > 0;
        let mut rows: Vec<&SubsetRow> = study.rows.iter().filter(known).collect();
        rows.sort_by_key(|row| row.num_rows);
        let points = rows.iter().map(|row| (row.num_rows as f64, row.value, row.std_err)).collect();
        BandCurve { name: quantity.label(), points }
    };
    let panel = |(quantities, title): &(&[Quantity], &'static str)| BandPanel {
        title,
        curves: quantities.iter().map(curve).filter(|curve| !curve.points.is_empty()).collect(),
    };
    let along = Along { title: "rows", logarithmic: true };
    let words = Words {
        name: "subset_study",
        caption: "Curvature against the number of data rows; bands: ± 1 s.e. of a single subset.".into(),
        statement: study.statement.clone(),
    };
    write(PANELS.iter().map(panel).collect(), &along, words, target)
}
