//! The page of `flatness analyze`.

use std::path::Path;

use serde_json::Value;

use super::{Headline, Page, Section};
use crate::analysis::{AnalysisReport, SummaryRow, unresolved};
use crate::report::terminal::{headline, measured};

/// The page of `report`, whose figures lie in `figures`; `command` is the line that made it.
pub fn analysis_page(report: &AnalysisReport, figures: &Path, command: &str) -> Page {
    let sections = [
        Section::figure(
            "Spectral density",
            figures,
            &[
                ("density_linear", "linear", "Spectral density over a linear axis of eigenvalues"),
                ("density_signed_log", "signed log", "Spectral density over a signed logarithmic axis"),
                ("density_log_abs", "log |λ|", "Spectral density over the logarithm of the absolute eigenvalue"),
            ],
            density_caption(report),
        ),
        Section::figure("Eigenvalues", figures, &[("spectrum", "spectrum", "Largest and smallest eigenvalues")], ""),
        Section::figure(
            "Slices of the loss",
            figures,
            &[
                ("slices", "lines", "Loss along eigenvectors and random directions"),
                ("plane", "plane", "Loss over a plane of two random directions"),
            ],
            "",
        ),
        Section::figure(
            "Size of the subset",
            figures,
            &[("subset_study", "rows", "Curvature against the number of rows")],
            "",
        ),
        layers(report),
        not_resolved(report),
        Some(summary(report)),
    ];
    Page {
        title: report.name.clone(),
        subtitle: report.statement.clone(),
        headlines: headlines(report),
        sections: sections.into_iter().flatten().collect(),
        provenance: provenance(&report.configuration),
        command: command.into(),
    }
}

/// What the cards leave out.
fn not_resolved(report: &AnalysisReport) -> Option<Section> {
    let paragraphs = unresolved(report);
    (!paragraphs.is_empty()).then(|| Section::Text { title: "Not resolved".into(), paragraphs })
}

fn density_caption(report: &AnalysisReport) -> &'static str {
    if report.spectra.iter().all(|spectrum| spectrum.slq.source.is_spectrum()) {
        "All eigenvalues of the matrix, each drawn as wide as the kernel."
    } else {
        "Stochastic Lanczos quadrature; bands of one standard error over the probes."
    }
}

/// Value and errors in words.
fn words(row: &SummaryRow) -> (String, String) {
    let [value, numeric, data] = headline(row);
    if row.is_bound() {
        return (value, String::new());
    }
    let parts = [(numeric, "numeric"), (data, "rows")];
    let parts = parts.into_iter().filter(|(error, _)| !error.is_empty());
    (value, parts.map(|(error, of)| format!("{error} ({of})")).collect::<Vec<_>>().join(", "))
}

fn headlines(report: &AnalysisReport) -> Vec<Headline> {
    let whole = |row: &&SummaryRow| row.scope == "all" || row.operator.is_empty();
    let first = report.summary.iter().find(|row| !row.operator.is_empty()).map_or("", |row| &row.operator);
    let shown = [
        ("lambda_max", "λ₁"),
        ("trace", "trace"),
        ("lambda_min", "smallest λ"),
        ("loss", "loss"),
        ("accuracy", "accuracy"),
        ("parameter_norm", "weight norm"),
    ];
    let headline = |(quantity, label): (&str, &str)| {
        let own = |row: &&SummaryRow| row.quantity == quantity && (row.operator == first || row.operator.is_empty());
        let row = report.summary.iter().filter(whole).find(own).filter(|row| row.converged || row.is_bound())?;
        let (value, error) = words(row);
        let operator =
            if row.operator.is_empty() { String::new() } else { format!(", {}", row.operator.replace('_', " ")) };
        Some(Headline { label: format!("{label}{operator}"), value, error, converged: row.converged })
    };
    shown.into_iter().filter_map(headline).collect()
}

/// Traces of single layers.
fn layers(report: &AnalysisReport) -> Option<Section> {
    let trace = |row: &&SummaryRow| row.quantity == "trace" && row.scope.starts_with("layer:");
    let total = |operator: &str| {
        let own =
            |row: &&SummaryRow| row.quantity == "trace" && row.operator == operator && !row.scope.starts_with("layer:");
        report.summary.iter().find(own).map_or(f64::NAN, |row| row.value)
    };
    let row = |row: &SummaryRow| {
        let [value, numeric, data] = measured(row.value, [row.std_err_numeric, row.std_err_data]);
        let plain = |error: String| error.trim_start_matches("± ").to_owned();
        let share = format!("{:.2}", 100.0 * row.value / total(&row.operator));
        vec![
            row.scope.trim_start_matches("layer:").to_owned(),
            row.operator.clone(),
            value,
            plain(numeric),
            plain(data),
            share,
        ]
    };
    let rows: Vec<Vec<String>> = report.summary.iter().filter(trace).map(row).collect();
    let columns = [
        ("layer", false),
        ("operator", false),
        ("trace", true),
        ("± numeric", true),
        ("± rows", true),
        ("share in %", true),
    ];
    (!rows.is_empty()).then(|| Section::Table {
        title: "Layers".into(),
        columns: columns.map(|(name, number)| (name.to_owned(), number)).to_vec(),
        rows,
        caption: "Traces of the layers' blocks; they add up to the trace of the whole.".into(),
    })
}

fn summary(report: &AnalysisReport) -> Section {
    let rows = report.summary.iter().filter(|row| !row.scope.starts_with("layer:")).map(|row| {
        let [value, numeric, data] = measured(row.value, [row.std_err_numeric, row.std_err_data]);
        let plain = |error: String| error.trim_start_matches("± ").to_owned();
        let converged = if row.converged { "yes" } else { "no" };
        vec![
            row.quantity.replace('_', " "),
            row.operator.clone(),
            row.scope.clone(),
            value,
            plain(numeric),
            plain(data),
            row.method.clone(),
            converged.to_owned(),
            row.num_matvecs.to_string(),
        ]
    });
    let columns = [
        ("quantity", false),
        ("operator", false),
        ("scope", false),
        ("value", true),
        ("± numeric", true),
        ("± rows", true),
        ("method", false),
        ("converged", false),
        ("products", true),
    ];
    Section::Table {
        title: "All numbers".into(),
        columns: columns.map(|(name, number)| (name.to_owned(), number)).to_vec(),
        rows: rows.collect(),
        caption: "± numeric: error of the computation; ± rows: standard error from the choice of the data rows.".into(),
    }
}

/// Hashes, rows, seeds and definitions of a configuration.
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
