//! The results of the cells: the numbers of each, and means over seeds.

use std::path::Path;

use super::plan::names;
use super::{Plan, PlannedCell, Run, State, Step, StepKind};
use crate::report::read_run_json;
use crate::report::tables::{Column, column, read_table};
use crate::statistics::Sample;
use crate::vocabulary::{Curvature, Quantity, SummaryRow};

/// Numbers of an analysis that are listed with those of the training.
const OF_ANALYSIS: [Quantity; 3] = [Quantity::LambdaMax, Quantity::LambdaMin, Quantity::Trace];
/// Numbers of training in the table of means; the others are in `cells.parquet`.
const OF_TRAINING: [Quantity; 4] =
    [Quantity::TrainLoss, Quantity::TrainAccuracy, Quantity::TestLoss, Quantity::TestAccuracy];
/// Endings of the names of a Langevin study's numbers in that table.
const STUDIED: [&str; 3] = ["rate_exponent", "flat_share", "flat_share_moved"];

/// State and numbers of a cell.
#[derive(Debug, Clone)]
pub struct CellResult {
    /// State of its steps.
    pub state: State,
    /// By name: the last row of `metrics.parquet`, the seconds of all epochs together and the median over the epochs; then
    /// `OPERATOR_QUANTITY` of the analysis, and its seconds.
    pub numbers: Vec<(String, f64)>,
}

impl CellResult {
    /// The number of that name; NaN if it is missing.
    pub fn number(&self, name: &str) -> f64 {
        self.numbers.iter().find(|(own, _)| own == name).map_or(f64::NAN, |(_, number)| *number)
    }
}

/// Reads the folders; what is missing or cannot be read is left out.
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
        StepKind::Llc => with_seconds(step, learning_coefficient),
        StepKind::Evaluate => with_seconds(step, |folder| quantities(folder, "evaluation")),
        StepKind::Langevin => with_seconds(step, |folder| quantities(folder, "summary")),
    });
    CellResult { state: run.state(&cell.steps), numbers: numbers.collect() }
}

impl Run {
    /// A number of the last epoch of its training; NaN if it is missing.
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
    if let Ok(timings) = read_table(&folder.join("timings.parquet")) {
        if let Some(Column::Number(seconds)) = timings.column("seconds") {
            numbers.push(("train_s".to_owned(), seconds.iter().sum()));
        }
        if let Some(Column::Number(seconds)) = timings.column("training_seconds") {
            numbers.push(("epoch_s".to_owned(), median(seconds)));
        }
    }
    numbers
}

/// Other work on the machine slows single epochs down; the median is little affected.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The numbers in the folder of `step`, and the time that its last process took.
fn with_seconds(step: &Step, numbers: impl Fn(&Path) -> Vec<(String, f64)>) -> Vec<(String, f64)> {
    let mut numbers = numbers(&step.folder);
    let seconds = read_run_json(&step.folder).and_then(|run| run["elapsed_s"].as_f64());
    numbers.extend(seconds.map(|seconds| (format!("{}_s", step.kind.name()), seconds)));
    numbers
}

/// The number that comparisons take; NaN where the chains have not settled.
fn learning_coefficient(folder: &Path) -> Vec<(String, f64)> {
    let Ok(table) = read_table(&folder.join("llc.parquet")) else { return Vec::new() };
    let headline = (0..table.num_rows()).find(|row| table.flag(column::HEADLINE, *row));
    let number = |row| (table.text(column::QUANTITY, row).to_owned(), table.number(column::VALUE, row));
    headline.map(number).into_iter().collect()
}

/// The columns `quantity` and `value` of the table `name`, if it has them.
fn quantities(folder: &Path, name: &str) -> Vec<(String, f64)> {
    let Ok(table) = read_table(&folder.join(format!("{name}.parquet"))) else { return Vec::new() };
    let values = table.numbers(column::VALUE).iter().copied();
    table.texts(column::QUANTITY).iter().cloned().zip(values).collect()
}

/// The name of a number of an analysis among those of a cell.
pub(super) fn name_of(operator: Curvature, quantity: &Quantity) -> String {
    format!("{operator}_{quantity}")
}

/// The curvature and the quantity of a number of an analysis, by its name among those of a cell.
pub fn of_analysis(name: &str) -> Option<(Curvature, Quantity)> {
    let of = |operator: Curvature| Some((operator, name.strip_prefix(operator.name())?.strip_prefix('_')?.into()));
    Curvature::ALL.into_iter().find_map(of)
}

/// Headline numbers of the analysis on its whole scope.
fn headlines(folder: &Path) -> Vec<(String, f64)> {
    let Ok(table) = read_table(&folder.join("summary.parquet")) else { return Vec::new() };
    let operator = |row: usize| table.text(column::OPERATOR, row).parse::<Curvature>().ok();
    let rows: Vec<(usize, Curvature)> = (0..table.num_rows()).filter_map(|row| Some((row, operator(row)?))).collect();
    // Single layers come after the whole.
    let Some(whole) = rows.first().map(|(row, _)| table.text(column::SCOPE, *row)) else { return Vec::new() };
    let number = |(row, operator): &(usize, Curvature)| {
        let quantity = Quantity::from(table.text(column::QUANTITY, *row));
        let wanted = table.text(column::SCOPE, *row) == whole && OF_ANALYSIS.contains(&quantity);
        wanted.then(|| (name_of(*operator, &quantity), table.number(column::VALUE, *row)))
    };
    rows.iter().filter_map(number).collect()
}

/// For each group of cells that differ only in the seed: its label with the number of finished cells, and mean and standard
/// deviation (with `n − 1`; none for a single cell) of the numbers over them, as rows with the deviation as error.
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
    let of_analysis = OF_ANALYSIS.iter().any(|quantity| name.ends_with(&format!("_{quantity}")));
    of_analysis || OF_TRAINING.contains(&name.into()) || STUDIED.iter().any(|ending| name.ends_with(ending))
}

/// The number of that name over `cells`, of those that have it.
pub(super) fn over(cells: &[&CellResult], name: &str) -> Sample {
    Sample::of(&cells.iter().map(|cell| cell.number(name)).collect::<Vec<_>>())
}

fn summary(name: &str, cells: &[&CellResult]) -> SummaryRow {
    let sample = over(cells, name);
    SummaryRow { std_err_numeric: sample.std_dev, ..SummaryRow::exact(name, sample.mean) }
}
