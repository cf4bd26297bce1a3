//! `flatness status`: how far the runs of an experiment have come.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::Ui;
use super::run::{ExperimentArgs, plan};
use super::ui::duration;
use crate::Result;
use crate::experiment::{CellResult, Plan, PlannedCell, State, StepKind, collect};
use crate::path_text::to_text;
use crate::visible::visible;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
}

pub(super) fn run(args: &StatusArgs, ui: &mut Ui) -> Result<u8> {
    let (experiment, folder) = args.experiment.read()?;
    let plan = plan(&experiment, &folder, 1, 1)?;
    let results = collect(&plan);
    let header = ["cell", "state", "epoch", "test loss", "accuracy", "time", ""].map(str::to_owned);
    let rows = plan.cells.iter().zip(&results).map(|(cell, result)| row(&plan, cell, result));
    ui.print_lines(&table(&std::iter::once(header).chain(rows).collect::<Vec<_>>()));
    let counts = ["finished", "running", "interrupted", "failed", "pending"].map(|name| {
        let count = results.iter().filter(|result| result.state.name() == name).count();
        (count > 0).then(|| format!("{count} {name}"))
    });
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    ui.print(&format!("{} cells: {}", results.len(), counts.join(", ")));
    let cells = plan.cells.iter().zip(&results).map(|(cell, result)| {
        let reason = match &result.state {
            State::Failed(failure) => Some(format!("{}: {}", failure.step, failure.reason)),
            _ => None,
        };
        json!({
            "cell": cell.cell.label(&StepKind::ALL),
            "state": result.state.name(),
            "reason": reason,
            "numbers": result.numbers.iter().cloned().collect::<BTreeMap<_, _>>(),
        })
    });
    ui.answer(&json!({"folder": to_text(&folder), "cells": cells.collect::<Vec<_>>()}));
    Ok(0)
}

/// Label, state, epoch reached, loss and accuracy on the test rows, time, and why it failed.
fn row(plan: &Plan, cell: &PlannedCell, result: &CellResult) -> [String; 7] {
    let number = |name: &str, digits: usize| {
        let value = result.number(name);
        if value.is_nan() { "-".to_owned() } else { format!("{value:.digits$}") }
    };
    let reason = match &result.state {
        State::Failed(failure) => format!("{}: {}", failure.step, failure.reason),
        _ => String::new(),
    };
    let seconds: Vec<f64> =
        ["train_s", "analyze_s"].map(|name| result.number(name)).into_iter().filter(|s| s.is_finite()).collect();
    let seconds = match &result.state {
        State::Running => running_for(plan, cell),
        _ => Some(seconds.iter().sum()).filter(|_| !seconds.is_empty()),
    };
    [
        cell.cell.label(&StepKind::ALL),
        result.state.name().into(),
        number("epoch", 0),
        number("test_loss", 4),
        number("test_accuracy", 4),
        seconds.map_or("-".into(), duration),
        reason,
    ]
}

fn running_for(plan: &Plan, cell: &PlannedCell) -> Option<f64> {
    let since = plan.runs.get(cell.run)?.held_since()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(now.saturating_sub(since) as f64)
}

/// Aligned columns; labels are not cut, since they differ at their ends.
fn table(rows: &[[String; 7]]) -> String {
    let rows: Vec<[String; 7]> = rows.iter().map(|row| row.each_ref().map(|cell| visible(cell).into_owned())).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let line = |row: &[String; 7]| {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 | 1 | 6 => format!("{cell:<width$}", width = width(column)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
