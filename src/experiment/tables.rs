//! Combines the tables of all cells, so that a notebook or a query reads one file for the whole experiment.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::plan::names;
use super::results::over;
use super::{CellResult, Plan, PlannedCell, State, StepKind};
use crate::report::tables::{Column, Table, column, read_table, write_table};
use crate::report::{ReportError, is_complete};
use crate::statistics::Sample;

/// Step, table in its folder, table of the experiment.
const COMBINED: [(StepKind, &str, &str); 12] = [
    (StepKind::Train, "metrics", "metrics"),
    (StepKind::Analyze, "summary", "curvature"),
    (StepKind::Analyze, "eigenvalues", "eigenvalues"),
    (StepKind::Analyze, "density_nodes", "density_nodes"),
    (StepKind::Sharpness, "sharpness", "sharpness"),
    (StepKind::Llc, "llc", "llc"),
    (StepKind::Evaluate, "evaluation", "evaluation"),
    (StepKind::Evaluate, "detection", "detection"),
    (StepKind::Langevin, "summary", "langevin"),
    (StepKind::Langevin, "rate", "rate"),
    (StepKind::Langevin, "coupling", "coupling"),
    (StepKind::Langevin, "mass", "mass"),
];

type Columns = Vec<(String, Column)>;

/// The column of `cells.parquet` with the folders of a step.
pub fn folder_column(kind: StepKind) -> String {
    format!("{}_folder", kind.name())
}

/// Writes one row per cell to `path`: its variant, axes and seed, its folders relative to the results, state and numbers.
///
/// # Errors
/// [`ReportError`] where the file cannot be written.
pub fn write_cells(plan: &Plan, results: &[CellResult], path: &Path, configuration: &Value) -> Result<(), ReportError> {
    let cells: Vec<&PlannedCell> = plan.cells.iter().collect();
    let numbers = names(results.iter().flat_map(|result| result.numbers.iter().map(|(name, _)| name.as_str())));
    let mut columns = labels(plan, &cells);
    let folder = |cell: &PlannedCell, kind| {
        let run = plan.runs.get(cell.run);
        run.zip(plan.step(cell, kind)).map_or(String::new(), |(run, step)| format!("{}/{}", run.name, step.name()))
    };
    let folders = StepKind::ALL.map(|kind| {
        let folders = cells.iter().map(|cell| folder(cell, kind)).collect();
        (folder_column(kind), Column::Text(folders))
    });
    columns.extend(folders.iter().map(|(name, column)| (name.as_str(), column.clone())));
    let states = results.iter().map(|result| result.state.name().to_owned()).collect();
    let reasons = results.iter().map(|result| match &result.state {
        State::Failed(failure) => failure.reason.clone(),
        _ => String::new(),
    });
    columns.extend([(column::STATE, Column::Text(states)), ("reason", Column::Text(reasons.collect()))]);
    for name in &numbers {
        columns.push((name, Column::Number(results.iter().map(|result| result.number(name)).collect())));
    }
    write_table(path, &columns, configuration)
}

/// Writes every table of complete steps into the folder of results, with `variant`, a column per axis and `seed` before its
/// own columns. Returns the paths.
///
/// # Errors
/// [`ReportError`] where a file cannot be written. A table that cannot be read is left out.
pub fn write_combined(plan: &Plan, configuration: &Value) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    for (kind, table, name) in COMBINED {
        let Some(columns) = combined(plan, kind, table) else { continue };
        let path = plan.folder.join(format!("{name}.parquet"));
        let columns: Vec<(&str, Column)> =
            columns.iter().map(|(name, column)| (name.as_str(), column.clone())).collect();
        write_table(&path, &columns, configuration)?;
        written.push(path);
    }
    Ok(written)
}

/// `None` if no cell has the table.
fn combined(plan: &Plan, kind: StepKind, name: &str) -> Option<Columns> {
    let table = |cell: &PlannedCell| {
        let folder = plan.step(cell, kind).map(|step| &step.folder).filter(|folder| is_complete(folder))?;
        read_table(&folder.join(format!("{name}.parquet"))).ok()
    };
    let cells: Vec<(&PlannedCell, Table)> =
        plan.cells.iter().filter_map(|cell| table(cell).map(|table| (cell, table))).collect();
    let (_, first) = cells.first()?;
    let rows: Vec<&PlannedCell> =
        cells.iter().flat_map(|(cell, table)| std::iter::repeat_n(*cell, table.num_rows())).collect();
    let mut columns: Columns =
        labels(plan, &rows).into_iter().map(|(name, column)| (name.to_owned(), column)).collect();
    for (name, column) in &first.columns {
        let mut all = column.clone();
        let whole = cells.iter().skip(1).all(|(_, table)| table.column(name).is_some_and(|part| all.append(part)));
        // A table may have a seed of its own: the cell's stays.
        if whole && columns.iter().all(|(other, _)| other != name) {
            columns.push((name.clone(), all));
        }
    }
    Some(columns)
}

/// Writes `means.parquet` into the folder of results, one row for each group of cells that differ only in the seed and
/// each of its numbers: `variant`, a column per axis, `quantity`, `num_seeds` (finished ones that have it), `mean`, and
/// the standard deviation over them `std_dev` (with `n − 1`; null for one).
///
/// # Errors
/// [`ReportError`] where the file cannot be written.
pub fn write_means(plan: &Plan, results: &[CellResult], configuration: &Value) -> Result<PathBuf, ReportError> {
    let groups: Vec<String> = plan.cells.iter().map(|cell| cell.cell.group()).collect();
    let mut rows: Vec<(&PlannedCell, &str, Sample)> = Vec::new();
    for group in names(groups.iter().map(String::as_str)) {
        let cells = || (0..results.len().min(groups.len())).filter(|index| groups[*index] == group);
        let finished: Vec<&CellResult> =
            cells().map(|index| &results[index]).filter(|result| result.state == State::Finished).collect();
        let Some(first) = cells().next().and_then(|index| plan.cells.get(index)) else { continue };
        for name in names(finished.iter().flat_map(|result| result.numbers.iter().map(|(name, _)| name.as_str()))) {
            rows.push((first, name, over(&finished, name)));
        }
    }
    let cells: Vec<&PlannedCell> = rows.iter().map(|(cell, ..)| *cell).collect();
    let mut columns = labels(plan, &cells);
    // The seed of the first cell says nothing about the group.
    columns.retain(|(name, _)| *name != column::SEED);
    columns.extend([
        (column::QUANTITY, Column::Text(rows.iter().map(|(_, name, _)| (*name).to_owned()).collect())),
        ("num_seeds", Column::Count(rows.iter().map(|(.., sample)| sample.count).collect())),
        ("mean", Column::Number(rows.iter().map(|(.., sample)| sample.mean).collect())),
        ("std_dev", Column::Number(rows.iter().map(|(.., sample)| sample.std_dev).collect())),
    ]);
    let path = plan.folder.join("means.parquet");
    write_table(&path, &columns, configuration)?;
    Ok(path)
}

/// The columns that identify cells, with a row for each of `cells`: `variant`, one per axis, `seed`.
fn labels<'a>(plan: &'a Plan, cells: &[&PlannedCell]) -> Vec<(&'a str, Column)> {
    let variant = Column::Text(cells.iter().map(|cell| cell.cell.variant.clone()).collect());
    let seed = Column::Count(cells.iter().map(|cell| cell.cell.seed as usize).collect());
    let axis = |name| (name, axis(cells, name));
    let axes = plan.axis_names().into_iter().map(axis);
    std::iter::once((column::VARIANT, variant)).chain(axes).chain([(column::SEED, seed)]).collect()
}

/// The values on an axis, as numbers if all are; cells of variants without that axis have none.
fn axis(cells: &[&PlannedCell], name: &str) -> Column {
    let values = || cells.iter().map(|cell| cell.cell.on_axis(name));
    let numbers: Option<Vec<f64>> =
        values().map(|value| value.map_or(Some(f64::NAN), |text| text.parse().ok())).collect();
    numbers.map_or_else(
        || Column::Text(values().map(|value| value.unwrap_or_default().to_owned()).collect()),
        Column::Number,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Cell, Run, Step, collect, group_summaries, of_analysis};
    use crate::vocabulary::{Curvature, Quantity};
    use serde_json::json;

    fn plan(folder: &Path, cells: &[(&str, u64, &str)]) -> Plan {
        let mut plan = Plan { folder: folder.into(), cells: vec![], runs: vec![] };
        for (index, (variant, seed, rate)) in cells.iter().enumerate() {
            let name = format!("{variant}-{rate}-{seed}");
            let step = |kind: StepKind| Step {
                kind,
                folder: folder.join(&name).join(kind.name()),
                arguments: vec![],
                go_on: "",
                configuration: Value::Null,
            };
            let steps = [StepKind::Train, StepKind::Analyze].map(step).to_vec();
            let axes = vec![("train.rate".to_owned(), (*rate).to_owned())];
            let cell = Cell { variant: (*variant).into(), axes, seed: *seed, settings: Default::default() };
            plan.runs.push(Run { folder: folder.join(&name), name, steps });
            plan.cells.push(PlannedCell { cell, run: index, steps: vec![0, 1] });
        }
        plan
    }

    /// Tables as `train` and `analyze` write them.
    fn fill(run: &Run, losses: &[f64], lambda: f64) {
        let [train, analysis] = [0, 1].map(|step| &run.steps[step].folder);
        [train, analysis].iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        let epochs = (1..=losses.len()).collect();
        let metrics = [("epoch", Column::Count(epochs)), ("test_loss", Column::Number(losses.to_vec()))];
        write_table(&train.join("metrics.parquet"), &metrics, &json!({})).unwrap();
        let words = |words: [&str; 4]| Column::Text(words.map(str::to_owned).to_vec());
        let summary = [
            ("operator", words(["", "ggn", "ggn", "ggn"])),
            ("scope", words(["all", "kind:weight", "kind:weight", "layer:x"])),
            ("quantity", words(["loss", "lambda_max", "effective_dimension", "lambda_max"])),
            ("value", Column::Number(vec![0.5, lambda, 3.0, 99.0])),
        ];
        write_table(&analysis.join("summary.parquet"), &summary, &json!({})).unwrap();
        let timings =
            [("seconds", Column::Number(vec![1.5, 0.25])), ("training_seconds", Column::Number(vec![0.9, 0.2]))];
        write_table(&train.join("timings.parquet"), &timings, &json!({})).unwrap();
        for folder in [train, analysis] {
            let run = json!({"complete": true, "elapsed_s": 4.0});
            std::fs::write(folder.join("run.json"), run.to_string()).unwrap();
        }
    }

    #[test]
    fn the_table_has_a_row_per_cell_and_means_are_over_finished_seeds() {
        let folder = tempfile::tempdir().unwrap();
        let cells = [("sgd", 0, "0.1"), ("sgd", 1, "0.1"), ("sgd", 2, "0.1"), ("sam", 0, "1e-3")];
        let plan = plan(folder.path(), &cells);
        fill(&plan.runs[0], &[9.0, 1.0], 10.0);
        fill(&plan.runs[1], &[9.0, 2.0], 14.0);
        fill(&plan.runs[3], &[9.0], 7.0);
        let results = collect(&plan);
        let path = folder.path().join("cells.parquet");
        write_cells(&plan, &results, &path, &json!({"name": "x"})).unwrap();
        let table = read_table(&path).unwrap();
        let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        let folders =
            ["train_folder", "analyze_folder", "sharpness_folder", "llc_folder", "evaluate_folder", "langevin_folder"];
        let expected = [&["variant", "train.rate", "seed"], &folders[..], &["state", "reason"]].concat();
        let numbers = ["epoch", "test_loss", "train_s", "epoch_s", "ggn_lambda_max", "analyze_s"];
        assert_eq!(names, [&expected[..], &numbers[..]].concat());
        let states = ["finished", "finished", "pending", "finished"].map(str::to_owned).to_vec();
        assert_eq!(table.column("state"), Some(&Column::Text(states)));
        assert_eq!(table.column("train.rate"), Some(&Column::Number(vec![0.1, 0.1, 0.1, 1e-3])));
        assert_eq!((results[0].number("epoch"), results[0].number("train_s")), (2.0, 1.75));
        assert!(results[2].number("epoch").is_nan());
        assert_eq!(of_analysis("ggn_lambda_max"), Some((Curvature::Ggn, Quantity::LambdaMax)));
        assert_eq!(of_analysis("test_loss"), None);
        let groups = group_summaries(&plan, &results);
        let labels: Vec<&str> = groups.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["sgd-rate=0.1 n=2", "sam-rate=1e-3 n=1"]);
        let row = |group: usize, row: usize| &groups[group].1[row];
        assert_eq!((&row(0, 0).quantity, row(0, 0).value), (&Quantity::TestLoss, 1.5));
        // Of 1 and 2: sqrt(0.25 + 0.25); of 10 and 14: sqrt(4 + 4). Exact in f64 up to the root.
        assert_eq!(row(0, 0).std_err_numeric, 0.5f64.sqrt());
        assert_eq!((row(0, 1).value, row(0, 1).std_err_numeric), (12.0, 8f64.sqrt()));
        assert!(row(1, 0).value == 9.0 && row(1, 0).std_err_numeric.is_nan());
    }
}
