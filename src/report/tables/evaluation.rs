//! The tables of `flatness evaluate`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Column, Columns, column, count, flag, number, text, write_table};
use crate::bayes::{BINS, Bin, Evaluation, Predictions};
use crate::report::ReportError;

/// Classes whose probabilities have columns of their own, at most.
const MOST_CLASSES: usize = 100;

/// Writes `evaluation`, `detection`, `reliability`, `temperature`, `models` and `predictions.parquet` into `folder`, which
/// exists.
///
/// # Errors
/// [`ReportError`] if a file cannot be written.
pub fn write_evaluation(
    report: &Evaluation,
    configuration: &Value,
    folder: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    let mut write = |name: &str, columns: &[(&str, Column)]| {
        written.push(folder.join(format!("{name}.parquet")));
        write_table(&folder.join(format!("{name}.parquet")), columns, configuration)
    };
    write("evaluation", &scores(report))?;
    write("detection", &detection(report))?;
    write("reliability", &reliability(report))?;
    write("temperature", &temperature(report))?;
    write("models", &models(report))?;
    let (own, probabilities) = predictions(report);
    let named = probabilities.iter().map(|(name, column)| (name.as_str(), column.clone()));
    write("predictions", &own.into_iter().chain(named).collect::<Vec<_>>())?;
    Ok(written)
}

fn scores(report: &Evaluation) -> Columns {
    let rows = &report.scores;
    vec![
        (column::QUANTITY, text(rows, |row| &row.quantity)),
        (column::VALUE, number(rows, |row| row.value)),
        (column::STD_ERR_DATA, number(rows, |row| row.std_err)),
        ("bootstrapped", flag(rows, |row| row.bootstrapped)),
        ("num_rows", count(rows, |row| row.num_rows)),
        (column::CONVERGED, flag(rows, |row| row.converged)),
    ]
}

fn detection(report: &Evaluation) -> Columns {
    let rows = &report.detected;
    vec![
        ("positives", text(rows, |row| row.set.as_deref().unwrap_or("errors"))),
        ("signal", text(rows, |row| row.signal.name())),
        ("auroc", number(rows, |row| row.areas.auroc)),
        ("auroc_std_err", number(rows, |row| row.std_err.auroc)),
        ("aupr_positive", number(rows, |row| row.areas.aupr_positive)),
        ("aupr_positive_std_err", number(rows, |row| row.std_err.aupr_positive)),
        ("aupr_negative", number(rows, |row| row.areas.aupr_negative)),
        ("aupr_negative_std_err", number(rows, |row| row.std_err.aupr_negative)),
        ("num_positives", count(rows, |row| row.counts[0])),
        ("num_negatives", count(rows, |row| row.counts[1])),
    ]
}

fn reliability(report: &Evaluation) -> Columns {
    let scaled = report.scaling.iter().flat_map(|scaling| &scaling.reliability).map(|bin| ("scaled", bin));
    let rows: Vec<(&str, &Bin)> = report.reliability.iter().map(|bin| ("as they are", bin)).chain(scaled).collect();
    let bin = |index: usize| index % BINS;
    vec![
        ("probabilities", text(&rows, |row| row.0)),
        ("low", Column::Number((0..rows.len()).map(|row| bin(row) as f64 / BINS as f64).collect())),
        ("high", Column::Number((0..rows.len()).map(|row| (bin(row) + 1) as f64 / BINS as f64).collect())),
        ("num_rows", count(&rows, |(_, bin)| bin.count as usize)),
        ("confidence", number(&rows, |(_, bin)| bin.confidence / bin.count)),
        ("accuracy", number(&rows, |(_, bin)| bin.correct / bin.count)),
    ]
}

fn temperature(report: &Evaluation) -> Columns {
    let rows: Vec<_> =
        report.scaling.iter().flat_map(|scaling| scaling.scores.iter().map(move |score| (scaling, score))).collect();
    vec![
        (column::QUANTITY, text(&rows, |(_, row)| &row.quantity)),
        ("before", number(&rows, |(_, row)| row.before.0)),
        ("before_std_err", number(&rows, |(_, row)| row.before.1)),
        ("after", number(&rows, |(_, row)| row.after.0)),
        ("after_std_err", number(&rows, |(_, row)| row.after.1)),
        ("temperature", number(&rows, |(scaling, _)| scaling.temperature.value)),
        ("num_rows", count(&rows, |(scaling, _)| scaling.measured_on)),
        ("num_rows_fitted", count(&rows, |(scaling, _)| scaling.fitted_on)),
    ]
}

fn models(report: &Evaluation) -> Columns {
    let rows = &report.models;
    vec![
        ("model", text(rows, |row| &row.name)),
        ("accuracy", number(rows, |row| row.accuracy)),
        ("nll", number(rows, |row| row.nll)),
        ("brier", number(rows, |row| row.brier)),
        ("ece", number(rows, |row| row.calibration_error)),
    ]
}

/// Rows of all sets, one after another: what stands in a column each, and the probabilities of few classes.
fn predictions(report: &Evaluation) -> (Columns, Vec<(String, Column)>) {
    let sets = || {
        std::iter::once(("", &report.predictions))
            .chain(report.outside.iter().map(|set| (set.name.as_str(), &set.predictions)))
    };
    // Other rows have no label, and so nothing that depends on one.
    let labelled = |value: &dyn Fn(usize) -> f64| {
        let own = (0..report.rows.labels.len()).map(value);
        let others = report.outside.iter().map(|set| set.predictions.len()).sum();
        Column::Number(own.chain(std::iter::repeat_n(f64::NAN, others)).collect())
    };
    let choices: Vec<(usize, f64)> = sets().flat_map(|(_, set)| set.choices()).collect();
    let names = sets().flat_map(|(name, set)| std::iter::repeat_n(name.to_owned(), set.len()));
    let outside = report.outside.iter().flat_map(|set| 0..set.predictions.len());
    let information = |set: &Predictions| match set.mutual_information.is_empty() {
        true => vec![f64::NAN; set.len()],
        false => set.mutual_information.clone(),
    };
    let rows = &report.rows;
    let own = vec![
        ("ood", Column::Text(names.collect())),
        ("row", Column::Count(report.positions.iter().copied().chain(outside).collect())),
        ("label", labelled(&|row| rows.labels[row] as f64)),
        ("predicted", count(&choices, |choice| choice.0)),
        ("correct", labelled(&|row| f64::from(u8::from(rows.correct[row])))),
        ("confidence", number(&choices, |choice| choice.1)),
        ("nll", labelled(&|row| rows.nll[row])),
        ("brier", labelled(&|row| rows.brier[row])),
        ("predictive_entropy", Column::Number(sets().flat_map(|(_, set)| set.entropies.iter().copied()).collect())),
        ("mutual_information", Column::Number(sets().flat_map(|(_, set)| information(set)).collect())),
    ];
    let classes = report.predictions.classes;
    let class = |class: usize| {
        let values = sets().flat_map(|(_, set)| set.rows().map(move |row| row[class].exp()));
        (format!("p_{class}"), Column::Number(values.collect()))
    };
    (own, (0..if classes <= MOST_CLASSES { classes } else { 0 }).map(class).collect())
}
