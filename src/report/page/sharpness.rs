//! The page of `flatness sharpness`.

use std::path::Path;

use serde_json::Value;

use super::table::plain;
use super::{Card, Figure, Page, Row, Section, Table, provenance};
use crate::report::terminal::measured;
use crate::sharpness::{SharpnessReport, SharpnessRow};
use crate::vocabulary::Scaling;

/// What was measured, and how.
pub struct Measured<'a> {
    /// Of the checkpoint.
    pub name: &'a str,
    /// How loss and data were defined, in one line.
    pub statement: &'a str,
    /// The resolved configuration.
    pub configuration: &'a Value,
    /// The command line that made it.
    pub command: &'a str,
}

/// The page of `report`, whose figures are in the folder `figures`.
pub fn sharpness_page(report: &SharpnessReport, figures: &Path, measured: &Measured<'_>) -> Page {
    let ratio = "The average rise of the loss divided by that of the quadratic model, against the size of the perturbation. \
                 Bands: ± 1 standard error over the draws.";
    let rows = |headline: bool, caption: &str| {
        let rows = report.rows.iter().filter(|row| row.is_headline == headline);
        Table::new(&COLUMNS, rows.map(row).collect(), caption).part()
    };
    let means = "± numeric: error of the computation; for a worst case, which is a lower bound, the spread over the ascents. \
                 ± rows: standard error due to the choice of data rows; *: not converged.";
    let unknown = report.rows.iter().filter(|row| !row.reason.is_empty());
    let reasons: String = unknown.map(|row| format!(" {}: {}.", row.quantity.label(), row.reason)).collect();
    let sections = [
        Section::new(
            "Sharpness",
            [
                Figure::one(figures, "sharpness_ratio", "Average rise", ratio),
                rows(true, &format!("The measures that flatness compare uses. {means}{reasons}")),
            ],
        ),
        Section::folded(
            "Other radii",
            [rows(false, &format!("The same measures with other radii or scalings. {means}"))],
        ),
    ];
    Page {
        title: measured.name.into(),
        subtitle: measured.statement.into(),
        cards: report.rows.iter().filter(|row| row.is_headline).filter_map(card).take(MOST_CARDS).collect(),
        sections: sections.into_iter().flatten().collect(),
        provenance: provenance(measured.configuration),
        command: measured.command.into(),
    }
}

/// More than this belong into the table.
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
    let scaling = measure.scaling().map_or("", Scaling::name).to_owned();
    let [name, method] = [measure.measure(), row.method.name()].map(|word| word.replace('_', " "));
    let [norm, logits] = [measure.norm(), measure.logits().name()].map(str::to_owned);
    let (numeric, rows, gradients) = (plain(&numeric), plain(&rows), row.num_gradients.to_string());
    let cells = vec![name, norm, scaling, logits, radius, value, numeric, rows, method, gradients];
    Row { cells, converged: row.converged }
}

fn card(row: &SharpnessRow) -> Option<Card> {
    Card::of(row.quantity.label(), &row.summary())
}
