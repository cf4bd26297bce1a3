//! Tables of all cells as one, so that a notebook or a query reads one file for the whole experiment.

use std::path::PathBuf;

use serde_json::Value;

use super::results::{Moments, names};
use super::{CellResult, Plan, PlannedCell, State, StepKind};
use crate::report::tables::{Column, Table, read_table, write_table};
use crate::report::{ReportError, is_complete};

/// Step, table in its folder, table of the experiment.
const COMBINED: [(StepKind, &str, &str); 9] = [
    (StepKind::Train, "metrics", "metrics"),
    (StepKind::Analyze, "summary", "curvature"),
    (StepKind::Analyze, "eigenvalues", "eigenvalues"),
    (StepKind::Analyze, "density_nodes", "density_nodes"),
    (StepKind::Sharpness, "sharpness", "sharpness"),
    (StepKind::Langevin, "summary", "langevin"),
    (StepKind::Langevin, "rate", "rate"),
    (StepKind::Langevin, "coupling", "coupling"),
    (StepKind::Langevin, "mass", "mass"),
];

type Columns = Vec<(String, Column)>;

/// Writes, into the folder of results, every table that complete steps have left, with the columns `variant`, a column
/// per axis, and `seed` before its own. Returns the paths.
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

/// `None` where no cell has the table.
fn combined(plan: &Plan, kind: StepKind, name: &str) -> Option<Columns> {
    let table = |cell: &PlannedCell| {
        let folder = plan.step(cell, kind).map(|step| &step.folder).filter(|folder| is_complete(folder))?;
        read_table(&folder.join(format!("{name}.parquet"))).ok()
    };
    let cells: Vec<(&PlannedCell, Table)> =
        plan.cells.iter().filter_map(|cell| table(cell).map(|table| (cell, table))).collect();
    let (_, first) = cells.first()?;
    let height = |table: &Table| table.columns.first().map_or(0, |(_, column)| column.len());
    let rows: Vec<&PlannedCell> =
        cells.iter().flat_map(|(cell, table)| std::iter::repeat_n(*cell, height(table))).collect();
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

/// Writes `means.parquet` into the folder of results, one row for each group of cells that differ in the seed alone and
/// each of its numbers: `variant`, a column per axis, `quantity`, `num_seeds` (finished ones that have it), `mean`, and
/// the standard deviation over them `std_dev` (with `n − 1`; null for one).
///
/// # Errors
/// [`ReportError`] where the file cannot be written.
pub fn write_means(plan: &Plan, results: &[CellResult], configuration: &Value) -> Result<PathBuf, ReportError> {
    let groups: Vec<String> = plan.cells.iter().map(|cell| cell.cell.group()).collect();
    let mut rows: Vec<(&PlannedCell, &str, Moments)> = Vec::new();
    for group in names(groups.iter().map(String::as_str)) {
        let cells = || (0..results.len().min(groups.len())).filter(|index| groups[*index] == group);
        let finished: Vec<&CellResult> =
            cells().map(|index| &results[index]).filter(|result| result.state == State::Finished).collect();
        let Some(first) = cells().next().and_then(|index| plan.cells.get(index)) else { continue };
        for name in names(finished.iter().flat_map(|result| result.numbers.iter().map(|(name, _)| name.as_str()))) {
            rows.push((first, name, Moments::of(finished.iter().map(|result| result.number(name)))));
        }
    }
    let cells: Vec<&PlannedCell> = rows.iter().map(|(cell, ..)| *cell).collect();
    let mut columns = labels(plan, &cells);
    // The seed of the first cell says nothing about the group.
    columns.retain(|(name, _)| *name != "seed");
    columns.extend([
        ("quantity", Column::Text(rows.iter().map(|(_, name, _)| (*name).to_owned()).collect())),
        ("num_seeds", Column::Count(rows.iter().map(|(.., moments)| moments.count).collect())),
        ("mean", Column::Number(rows.iter().map(|(.., moments)| moments.mean).collect())),
        ("std_dev", Column::Number(rows.iter().map(|(.., moments)| moments.std_dev).collect())),
    ]);
    let path = plan.folder.join("means.parquet");
    write_table(&path, &columns, configuration)?;
    Ok(path)
}

/// What tells cells apart, a row for each of `cells`: `variant`, a column per axis, `seed`.
pub(super) fn labels<'a>(plan: &'a Plan, cells: &[&PlannedCell]) -> Vec<(&'a str, Column)> {
    let variant = Column::Text(cells.iter().map(|cell| cell.cell.variant.clone()).collect());
    let seed = Column::Count(cells.iter().map(|cell| cell.cell.seed as usize).collect());
    let axis = |name| (name, axis(cells, name));
    let axes = plan.axis_names().into_iter().map(axis);
    std::iter::once(("variant", variant)).chain(axes).chain([("seed", seed)]).collect()
}

/// Values on an axis, as numbers where all are; cells of variants without that axis have none.
fn axis(cells: &[&PlannedCell], name: &str) -> Column {
    let values = || cells.iter().map(|cell| cell.cell.on_axis(name));
    let numbers: Option<Vec<f64>> =
        values().map(|value| value.map_or(Some(f64::NAN), |text| text.parse().ok())).collect();
    numbers.map_or_else(
        || Column::Text(values().map(|value| value.unwrap_or_default().to_owned()).collect()),
        Column::Number,
    )
}
