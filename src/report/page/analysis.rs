//! The page of `flatness analyze`.

use std::path::Path;

use serde_json::Value;

use super::table::plain;
use super::{Card, Figure, Page, Part, Row, Section, Table};
use crate::analysis::{AnalysisReport, unresolved};
use crate::report::terminal::measured;
use crate::spectral::EigenReport;
use crate::vocabulary::{Curvature, Quantity, Scope, SummaryRow};

/// The page of `report`, whose figures are in the folder `figures`; `command` is the command line that made it.
pub fn analysis_page(report: &AnalysisReport, figures: &Path, command: &str) -> Page {
    let sections = [
        Section::new("Spectrum", [density(figures), spectrum(figures), eigenvalues(report)]),
        Section::new("Loss around the checkpoint", slices(figures)),
        Section::new("Dependence on the number of rows", subset_study(report, figures)),
        Section::folded("Layers", [layers(report)]),
        Section::new("All numbers", [summary(report, true)]),
        not_resolved(report),
    ];
    Page {
        title: report.name.clone(),
        subtitle: report.statement.clone(),
        cards: cards(report),
        sections: sections.into_iter().flatten().collect(),
        provenance: provenance(&report.configuration),
        command: command.into(),
    }
}

fn density(figures: &Path) -> Option<Part> {
    let views = [
        ("density_linear", "linear", "The spectral density along a linear axis."),
        ("density_signed_log", "signed log", "The spectral density along a signed logarithmic axis."),
        ("density_log_abs", "log |λ|", "The spectral density along the logarithm of the magnitude."),
        ("distribution", "counts", "How many eigenvalues lie beyond each position."),
    ];
    Figure::part("Spectral density", figures, &views)
}

fn spectrum(figures: &Path) -> Option<Part> {
    Figure::one(figures, "spectrum", "Eigenvalues", "The largest and the smallest eigenvalues; hollow: not converged.")
}

/// Both ends of every spectrum.
fn eigenvalues(report: &AnalysisReport) -> Option<Part> {
    let several = report.spectra.len() > 1;
    let mut rows = Vec::new();
    for spectrum in &report.spectra {
        let operator = if several { spectrum.operator.title() } else { "" };
        for eigen in [&spectrum.top, &spectrum.bottom] {
            rows.extend((0..eigen.ritz_values.len()).map(|index| eigenvalue(operator, eigen, index)));
        }
    }
    let columns = [
        ("operator", false),
        ("end", false),
        ("index", true),
        ("eigenvalue", true),
        ("residual", true),
        ("± rows", true),
        ("converged", false),
    ];
    let caption = "Eigenvalues. residual: there is an eigenvalue within this distance; ± rows: standard error due to the choice \
                   of data rows; *: not converged.";
    Table::new(&columns, rows, caption).part()
}

fn eigenvalue(operator: &str, eigen: &EigenReport, index: usize) -> Row {
    let of = |list: &[f64]| list.get(index).copied().unwrap_or(f64::NAN);
    let converged = eigen.converged.get(index).copied().unwrap_or(false);
    let [value, residual, rows] =
        measured(of(&eigen.ritz_values), [of(&eigen.residual_norms), of(&eigen.std_err_data)]);
    let words = if converged { "yes" } else { "no" };
    let cells = [operator, eigen.end.name(), &index.to_string(), &value, &plain(&residual), &plain(&rows), words];
    Row { cells: cells.map(str::to_owned).to_vec(), converged }
}

fn slices(figures: &Path) -> [Option<Part>; 2] {
    let line = "Along eigenvectors and filter-normalised random directions (Li et al. 2018).";
    let plane = "Over the plane of two filter-normalised random directions (Li et al. 2018).";
    [Figure::one(figures, "slices", "Lines", line), Figure::one(figures, "plane", "Plane", plane)]
}

fn subset_study(report: &AnalysisReport, figures: &Path) -> [Option<Part>; 2] {
    let caption = "Curvature against the number of rows.";
    [Figure::one(figures, "subset_study", "Subsets", caption), Part::text(report.subset_study.verdict())]
}

fn cards(report: &AnalysisReport) -> Vec<Card> {
    let whole = |row: &&SummaryRow| row.scope == Scope::All || row.operator.is_none();
    let first = report.summary.iter().find_map(|row| row.operator);
    let shown = [
        Quantity::LambdaMax,
        Quantity::Trace,
        Quantity::LambdaMin,
        Quantity::Loss,
        Quantity::Accuracy,
        Quantity::ParameterNorm,
    ];
    let card = |quantity: Quantity| {
        let own = |row: &&SummaryRow| row.quantity == quantity && (row.operator == first || row.operator.is_none());
        let row = report.summary.iter().filter(whole).find(own)?;
        let operator = row.operator.map_or(String::new(), |operator| format!(", {}", operator.title()));
        Card::of(quantity.label() + &operator, row)
    };
    shown.into_iter().filter_map(card).collect()
}

/// Trace and largest eigenvalue of each layer.
fn layers(report: &AnalysisReport) -> Option<Part> {
    let of_layer = |row: &&SummaryRow| matches!(row.scope, Scope::Layer(_));
    let total = |operator| {
        let own = |row: &&SummaryRow| row.quantity == Quantity::Trace && row.operator == operator && !of_layer(row);
        report.summary.iter().find(own).map_or(f64::NAN, |row| row.value)
    };
    let row = |row: &SummaryRow| {
        let [value, numeric, data] = measured(row.value, [row.std_err_numeric, row.std_err_data]);
        let share = if row.quantity == Quantity::Trace { 100.0 * row.value / total(row.operator) } else { f64::NAN };
        let share = if share.is_nan() { String::new() } else { format!("{share:.2}") };
        let layer = if let Scope::Layer(name) = &row.scope { name.clone() } else { String::new() };
        let operator = row.operator.map_or("", Curvature::title).to_owned();
        Row {
            cells: vec![layer, row.quantity.label(), operator, value, plain(&numeric), plain(&data), share],
            converged: row.converged,
        }
    };
    let columns = [
        ("layer", false),
        ("quantity", false),
        ("operator", false),
        ("value", true),
        ("± numeric", true),
        ("± rows", true),
        ("share in %", true),
    ];
    let rows = report.summary.iter().filter(of_layer).map(row).collect();
    let caption =
        "The diagonal block of each layer. The traces add up to the trace of the whole matrix; *: not converged.";
    Table::new(&columns, rows, caption).part()
}

/// Headline numbers that have converged, or those that have not.
fn summary(report: &AnalysisReport, converged: bool) -> Option<Part> {
    let kept = |row: &&SummaryRow| !matches!(row.scope, Scope::Layer(_)) && row.converged == converged;
    let caption = if converged {
        "Numbers that have converged. ± numeric: error of the computation; ± rows: standard error due to the choice of data rows."
    } else {
        "Numbers that have not converged, as they were when the computation ended; ≥ and ≤: a bound."
    };
    Table::of_summary(report.summary.iter().filter(kept), caption).part()
}

/// The numbers that the cards leave out, and how to resolve them.
fn not_resolved(report: &AnalysisReport) -> Option<Section> {
    Section::folded("Not resolved", [Part::text(unresolved(report)), summary(report, false)])
}

/// The entries of a configuration that a page shows: hashes, rows, seed and definition of the loss.
pub fn provenance(configuration: &Value) -> Vec<(String, String)> {
    let shown = [
        ("version", "version"),
        ("architecture", "architecture"),
        ("num_params", "parameters"),
        ("checkpoint_sha256", "checkpoint, SHA-256"),
        ("data_sha256", "rows, SHA-256"),
        ("rows", "number of rows"),
        ("data", "data"),
        ("loss", "loss"),
        ("reduction", "reduction"),
        ("weight_decay", "L2 term"),
        ("batch_norm", "batch norm"),
        ("dtype", "precision"),
        ("seed", "seed"),
    ];
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| match value {
                Value::String(text) => format!("{key} {text}"),
                other => format!("{key} {other}"),
            };
            fields.iter().filter(|(_, value)| !value.is_object()).map(field).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    let known = shown.into_iter().filter(|(key, _)| !configuration[*key].is_null());
    known.map(|(key, name)| (name.to_owned(), text(&configuration[key]))).collect()
}
