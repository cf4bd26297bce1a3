//! The page of `flatness evaluate`.

use std::path::Path;

use super::table::plain;
use super::{Card, Figure, Measured, Page, Part, Row, Section, Table, provenance};
use crate::bayes::{Detected, Evaluation, ModelScores, ScaledScore, Scaling, Score};
use crate::report::terminal::measured;

/// The page of `report`, whose figures are in the folder `figures`.
pub fn evaluation_page(report: &Evaluation, figures: &Path, measured: &Measured<'_>) -> Page {
    let reliability = "Share of right answers against confidence.";
    let roc = "ROC curves of errors and of other rows.";
    let entropy = "Entropies of the predictions.";
    let several = report.models.len() > 1;
    let sections = [
        Section::new("Evaluation", [Figure::one(figures, "reliability", "Reliability", reliability), scores(report)]),
        Section::new(
            "Detection",
            [
                Figure::one(figures, "roc", "ROC curves", roc),
                Figure::one(figures, "entropy", "Entropies", entropy),
                detection(report),
            ],
        ),
        Section::new("Temperature", [report.scaling.as_ref().and_then(temperature)]),
        Section::folded("Models", [models(report).filter(|_| several)]),
    ];
    Page {
        title: measured.name.into(),
        subtitle: measured.statement.into(),
        cards: report.scores.iter().filter_map(card).take(MOST_CARDS).collect(),
        sections: sections.into_iter().flatten().collect(),
        provenance: provenance(measured.configuration),
        command: measured.command.into(),
    }
}

/// More than this belong into the table.
const MOST_CARDS: usize = 8;

fn card(score: &Score) -> Option<Card> {
    score.value.is_finite().then(|| Card::of(score.quantity.label(), &score.summary())).flatten()
}

/// Value and standard error as two cells.
fn cells(value: f64, std_err: f64) -> [String; 2] {
    let [value, _, std_err] = measured(value, [f64::NAN, std_err]);
    [value, plain(&std_err)]
}

fn scores(report: &Evaluation) -> Option<Part> {
    let row = |score: &Score| {
        let error = if score.bootstrapped { "bootstrap" } else { "exact" }.to_owned();
        let numbers = cells(score.value, score.std_err).into_iter();
        let cells = std::iter::once(score.quantity.label()).chain(numbers).chain([error, score.num_rows.to_string()]);
        Row { cells: cells.collect(), converged: score.converged }
    };
    let columns = [("quantity", false), ("value", true), ("± rows", true), ("error", false), ("rows", true)];
    let caption = "± rows: standard error due to the choice of data rows; errors are found by low confidence, other rows by \
                   their predictive entropy; entropies in nats; *: not converged.";
    Table::new(&columns, report.scores.iter().map(row).collect(), caption).part()
}

fn detection(report: &Evaluation) -> Option<Part> {
    let row = |row: &Detected| {
        let (areas, errors) = (row.areas, row.std_err);
        let names = [row.set.as_deref().unwrap_or("errors"), row.signal.name()].map(|word| word.replace('_', " "));
        let numbers = [
            cells(areas.auroc, errors.auroc),
            cells(areas.aupr_positive, errors.aupr_positive),
            cells(areas.aupr_negative, errors.aupr_negative),
        ];
        Row::new(
            names.into_iter().chain(numbers.into_iter().flatten()).chain(row.counts.map(|count| count.to_string())),
        )
    };
    let columns = [
        ("positives", false),
        ("signal", false),
        ("AUROC", true),
        ("± AUROC", true),
        ("AUPR, positives", true),
        ("± positives", true),
        ("AUPR, negatives", true),
        ("± negatives", true),
        ("positives, rows", true),
        ("negatives, rows", true),
    ];
    let caption = "How well each signal finds errors, or rows of another set, among the evaluated rows. AUPR: average precision \
                   with the positives, and with the negatives, as the class to be found; ±: standard error by a bootstrap.";
    Table::new(&columns, report.detected.iter().map(row).collect(), caption).part()
}

fn temperature(scaling: &Scaling) -> Option<Part> {
    let row = |score: &ScaledScore| {
        let numbers = [score.before, score.after].map(|(value, std_err)| cells(value, std_err));
        Row {
            cells: std::iter::once(score.quantity.label()).chain(numbers.into_iter().flatten()).collect(),
            converged: scaling.temperature.converged,
        }
    };
    let columns = [("quantity", false), ("before", true), ("± before", true), ("after", true), ("± after", true)];
    let caption = format!(
        "At the temperature {:.4}, fitted by likelihood on {} rows held out; measured on the other {}.",
        scaling.temperature.value, scaling.fitted_on, scaling.measured_on
    );
    Table::new(&columns, scaling.scores.iter().map(row).collect(), &caption).part()
}

fn models(report: &Evaluation) -> Option<Part> {
    let row = |model: &ModelScores| {
        let numbers = [model.accuracy, model.nll, model.brier, model.calibration_error];
        Row::new(std::iter::once(model.name.clone()).chain(numbers.map(|value| format!("{value:.4}"))))
    };
    let columns = [("model", false), ("accuracy", true), ("NLL", true), ("Brier score", true), ("ECE", true)];
    Table::new(&columns, report.models.iter().map(row).collect(), "Each model by itself, on the same rows.").part()
}
