//! The page of `flatness sharpness`.

use std::path::Path;

use serde_json::Value;

use super::table::plain;
use super::{Card, Figure, Page, Row, Section, Table, provenance};
use crate::report::terminal::measured;
use crate::sharpness::{SharpnessReport, SharpnessRow};
use crate::vocabulary::Scaling;

/// The page of `report`, whose figures lie in `figures`; `name` and `statement` say of what it is, `command` is the line that
/// made it.
pub fn sharpness_page(
    report: &SharpnessReport,
    (name, statement): (&str, &str),
    figures: &Path,
    (configuration, command): (&Value, &str),
) -> Page {
    let ratio = "The average rise over what curvature alone makes of it, against the perturbation: 1 for a parabola. Bands of \
                 one standard error over the draws.";
    let rows = |headline: bool, caption: &str| {
        let rows = report.rows.iter().filter(|row| row.is_headline == headline);
        Table::new(&COLUMNS, rows.map(row).collect(), caption).part()
    };
    let means = "± numeric: error of the computation, of a worst case its spread over the ascents; a worst case is a lower \
                 bound; ± rows: standard error from the choice of the rows; * not converged.";
    let sections = [
        Section::new(
            "Sharpness",
            [
                Figure::one(figures, "sharpness_ratio", "Average rise", ratio),
                rows(true, &format!("What comparisons take. {means}")),
            ],
        ),
        Section::folded("Other radii", [rows(false, &format!("What differs in the radius or the scale. {means}"))]),
    ];
    Page {
        title: name.into(),
        subtitle: statement.into(),
        cards: report.rows.iter().filter(|row| row.is_headline).filter_map(card).take(MOST_CARDS).collect(),
        sections: sections.into_iter().flatten().collect(),
        provenance: provenance(configuration),
        command: command.into(),
    }
}

/// More would be a table.
const MOST_CARDS: usize = 8;

const COLUMNS: [(&str, bool); 10] = [
    ("measure", false),
    ("norm", false),
    ("scaling", false),
    ("logits", false),
    ("radius", true),
    ("value", true),
    ("± numeric", true),
    ("± rows", true),
    ("method", false),
    ("gradients", true),
];

fn row(row: &SharpnessRow) -> Row {
    let [value, numeric, rows] = measured(row.value, [row.std_err_numeric, row.std_err_data]);
    let measure = row.quantity;
    let radius = if measure.radius().is_nan() { String::new() } else { measure.radius().to_string() };
    let words = |text: &str| text.replace('_', " ");
    let cells = [
        words(measure.measure()),
        measure.norm().to_owned(),
        measure.scaling().map_or("", Scaling::name).to_owned(),
        measure.logits().name().to_owned(),
        radius,
        value,
        plain(&numeric),
        plain(&rows),
        words(row.method.name()),
        row.num_gradients.to_string(),
    ];
    Row { cells: cells.to_vec(), converged: row.converged }
}

fn card(row: &SharpnessRow) -> Option<Card> {
    Card::of(row.quantity.label(), &row.summary())
}
