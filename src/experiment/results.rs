//! What the cells came to: a row of numbers for each, and means over seeds.

use std::path::Path;

use serde_json::Value;

use super::tables::labels;
use super::{Plan, PlannedCell, Run, State, Step, StepKind};
use crate::analysis::SummaryRow;
use crate::report::tables::{Column, read_table, write_table};
use crate::report::{ReportError, read_run_json};

/// Numbers of an analysis that stand beside those of training.
const QUANTITIES: [&str; 3] = ["lambda_max", "lambda_min", "trace"];
/// Numbers of training in the table of means; the others are in `cells.parquet`.
const MEANS: [&str; 4] = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"];
/// Ends of the names of numbers of a Langevin study there.
const STUDIED: [&str; 3] = ["rate_exponent", "flat_share", "flat_share_moved"];

/// State and numbers of a cell.
#[derive(Debug, Clone)]
pub struct CellResult {
    /// Of its steps.
    pub state: State,
    /// By name: the last row of `metrics.parquet`, seconds of all epochs and (median) of the steps of one; then
    /// `OPERATOR_QUANTITY` of the analysis, and its seconds.
    pub numbers: Vec<(String, f64)>,
}

impl CellResult {
    /// The number of that name; NaN where it is not there.
    pub fn number(&self, name: &str) -> f64 {
        self.numbers.iter().find(|(own, _)| own == name).map_or(f64::NAN, |(_, number)| *number)
    }
}

/// Reads what the folders hold; what is not there, or cannot be read, is left out.
pub fn collect(plan: &Plan) -> Vec<CellResult> {
    plan.cells.iter().map(|cell| result(plan, cell)).collect()
}

fn result(plan: &Plan, cell: &PlannedCell) -> CellResult {
    let Some(run) = plan.runs.get(cell.run) else {
        return CellResult { state: State::Pending, numbers: Vec::new() };
    };
    let steps = cell.steps.iter().filter_map(|number| run.steps.get(*number));
    let numbers = steps.flat_map(|step| match step.kind {
        StepKind::Train => trained(&step.folder),
        StepKind::Analyze => with_seconds(step, headlines),
        StepKind::Sharpness => with_seconds(step, |folder| quantities(folder, "sharpness")),
        StepKind::Langevin => with_seconds(step, |folder| quantities(folder, "summary")),
    });
    CellResult { state: run.state(&cell.steps), numbers: numbers.collect() }
}

impl Run {
    /// A number of the last epoch of its training; NaN where it is not there.
    pub fn final_number(&self, name: &str) -> f64 {
        let step = self.steps.iter().find(|step| step.kind == StepKind::Train);
        let numbers = step.map(|step| trained(&step.folder)).unwrap_or_default();
        CellResult { state: State::Finished, numbers }.number(name)
    }
}

/// The last row of the metrics, and the time.
fn trained(folder: &Path) -> Vec<(String, f64)> {
    let metrics = read_table(&folder.join("metrics.parquet")).ok();
    let columns = metrics.iter().flat_map(|table| &table.columns);
    let last = |(name, column): &(String, Column)| {
        let value = match column {
            Column::Number(values) => values.last().copied(),
            Column::Count(values) => values.last().map(|value| *value as f64),
            Column::Text(_) | Column::Flag(_) => None,
        };
        value.map(|value| (name.clone(), value))
    };
    let mut numbers: Vec<_> = columns.filter_map(last).collect();
    // The sum over the epochs holds those before an interruption too.
    let timings = read_table(&folder.join("timings.parquet")).ok();
    if let Some(Column::Number(seconds)) = timings.as_ref().and_then(|table| table.column("seconds")) {
        numbers.push(("train_s".to_owned(), seconds.iter().sum()));
    }
    if let Some(Column::Number(seconds)) = timings.as_ref().and_then(|table| table.column("training_seconds")) {
        numbers.push(("epoch_s".to_owned(), median(seconds)));
    }
    numbers
}

/// Of an epoch other work on the machine takes its share: the median is the least disturbed number.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What `numbers` finds in the folder of `step`, and the time of its last process.
fn with_seconds(step: &Step, numbers: impl Fn(&Path) -> Vec<(String, f64)>) -> Vec<(String, f64)> {
    let mut numbers = numbers(&step.folder);
    let seconds = read_run_json(&step.folder).and_then(|run| run["elapsed_s"].as_f64());
    numbers.extend(seconds.map(|seconds| (format!("{}_s", step.kind.name()), seconds)));
    numbers
}

/// `quantity` and `value` of the table `name`, where both are there.
fn quantities(folder: &Path, name: &str) -> Vec<(String, f64)> {
    let table = read_table(&folder.join(format!("{name}.parquet"))).ok();
    let column = |name| table.as_ref().and_then(|table| table.column(name));
    match (column("quantity"), column("value")) {
        (Some(Column::Text(names)), Some(Column::Number(values))) => {
            names.iter().cloned().zip(values.iter().copied()).collect()
        }
        _ => Vec::new(),
    }
}

/// Headline numbers of whole operators.
fn headlines(folder: &Path) -> Vec<(String, f64)> {
    let Ok(table) = read_table(&folder.join("summary.parquet")) else { return Vec::new() };
    let text = |name| match table.column(name) {
        Some(Column::Text(values)) => values.as_slice(),
        _ => &[],
    };
    let Some(Column::Number(values)) = table.column("value") else { return Vec::new() };
    let rows = text("quantity").iter().zip(text("operator")).zip(text("scope")).zip(values);
    let rows: Vec<_> = rows.filter(|(((_, operator), _), _)| !operator.is_empty()).collect();
    // Single layers come after the whole.
    let Some(whole) = rows.first().map(|((_, scope), _)| scope.as_str()) else { return Vec::new() };
    let wanted =
        rows.iter().filter(|(((quantity, _), scope), _)| *scope == whole && QUANTITIES.contains(&quantity.as_str()));
    wanted.map(|(((quantity, operator), _), value)| (format!("{operator}_{quantity}"), **value)).collect()
}

/// Writes one row per cell to `path`: what it is, its folders under the folder of results, its state, its numbers.
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
        (format!("{}_folder", kind.name()), Column::Text(folders))
    });
    columns.extend(folders.iter().map(|(name, column)| (name.as_str(), column.clone())));
    let states = results.iter().map(|result| result.state.name().to_owned()).collect();
    let reasons = results.iter().map(|result| match &result.state {
        State::Failed(failure) => failure.reason.clone(),
        _ => String::new(),
    });
    columns.extend([("state", Column::Text(states)), ("reason", Column::Text(reasons.collect()))]);
    for name in &numbers {
        columns.push((name, Column::Number(results.iter().map(|result| result.number(name)).collect())));
    }
    write_table(path, &columns, configuration)
}

/// Each name once, in the order of appearance.
pub(super) fn names<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// For each group of cells that differ in the seed alone: its label with the number of finished cells, and mean and
/// standard deviation (with `n − 1`; none for one cell) of the numbers over them, as rows with that deviation for error.
pub fn group_summaries(plan: &Plan, results: &[CellResult]) -> Vec<(String, Vec<SummaryRow>)> {
    let labels: Vec<String> = plan.cells.iter().map(|cell| cell.cell.group()).collect();
    let groups = names(labels.iter().map(String::as_str)).into_iter();
    groups
        .filter_map(|group| {
            let cells = labels.iter().zip(results).filter(|(label, _)| *label == group);
            let finished: Vec<&CellResult> =
                cells.map(|(_, result)| result).filter(|result| result.state == State::Finished).collect();
            let found = names(finished.iter().flat_map(|result| result.numbers.iter().map(|(name, _)| name.as_str())));
            let rows = found.into_iter().filter(|name| is_shown(name)).map(|name| summary(name, &finished));
            (!finished.is_empty()).then(|| (format!("{group} n={}", finished.len()), rows.collect()))
        })
        .collect()
}

fn is_shown(name: &str) -> bool {
    let studied = STUDIED.iter().any(|ending| name.ends_with(ending));
    MEANS.contains(&name) || studied || QUANTITIES.iter().any(|quantity| name.ends_with(&format!("_{quantity}")))
}

fn summary(name: &str, cells: &[&CellResult]) -> SummaryRow {
    let moments = Moments::of(cells.iter().map(|cell| cell.number(name)));
    SummaryRow { std_err_numeric: moments.std_dev, ..SummaryRow::exact(name, moments.mean) }
}

/// Of the numbers that are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    pub(super) count: usize,
    pub(super) mean: f64,
    /// With `n − 1`; NaN for one.
    pub(super) std_dev: f64,
}

impl Moments {
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        // One value has no deviation: 0/0 is NaN, which tables leave out.
        Self { count: values.len(), mean, std_dev: (squares / (count - 1.0)).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Cell;
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
        let folders = ["train_folder", "analyze_folder", "sharpness_folder", "langevin_folder"];
        let expected = [&["variant", "train.rate", "seed"], &folders[..], &["state", "reason"]].concat();
        let numbers = ["epoch", "test_loss", "train_s", "epoch_s", "ggn_lambda_max", "analyze_s"];
        assert_eq!(names, [&expected[..], &numbers[..]].concat());
        let states = ["finished", "finished", "pending", "finished"].map(str::to_owned).to_vec();
        assert_eq!(table.column("state"), Some(&Column::Text(states)));
        assert_eq!(table.column("train.rate"), Some(&Column::Number(vec![0.1, 0.1, 0.1, 1e-3])));
        assert_eq!((results[0].number("epoch"), results[0].number("train_s")), (2.0, 1.75));
        assert!(results[2].number("epoch").is_nan());
        let groups = group_summaries(&plan, &results);
        let labels: Vec<&str> = groups.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["sgd-rate=0.1 n=2", "sam-rate=1e-3 n=1"]);
        let row = |group: usize, row: usize| &groups[group].1[row];
        assert_eq!((row(0, 0).quantity.as_str(), row(0, 0).value), ("test_loss", 1.5));
        // Of 1 and 2: sqrt(0.25 + 0.25); of 10 and 14: sqrt(4 + 4). Exact in f64 up to the root.
        assert_eq!(row(0, 0).std_err_numeric, 0.5f64.sqrt());
        assert_eq!((row(0, 1).value, row(0, 1).std_err_numeric), (12.0, 8f64.sqrt()));
        assert!(row(1, 0).value == 9.0 && row(1, 0).std_err_numeric.is_nan());
    }
}
