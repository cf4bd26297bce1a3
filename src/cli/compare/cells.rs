//! The results of `flatness run` as networks to compare.

use std::path::Path;

use super::found::Found;
use super::recorded::{self, MEMBERS};
use crate::Result;
use crate::cli::CliError;
use crate::experiment::{State, StepKind, folder_column};
use crate::report::tables::{Column, column, read_table};

/// The finished cells of an experiment, or what an earlier comparison recorded of them.
pub(super) fn cells(path: &Path) -> Result<Vec<Found>> {
    let table = read_table(&path.join("cells.parquet"))?;
    let text = |name: &str| match table.column(name) {
        Some(Column::Text(values)) => Ok(values.clone()),
        _ => {
            Err(CliError::NotComparable { path: path.into(), reason: format!("cells.parquet has no column `{name}`") })
        }
    };
    let folders = |kind| text(&folder_column(kind));
    let (states, trains, variants) = (text(column::STATE)?, folders(StepKind::Train)?, text(column::VARIANT)?);
    let (analyses, sharpness) = (folders(StepKind::Analyze)?, folders(StepKind::Sharpness).unwrap_or_default());
    let llc = folders(StepKind::Llc).unwrap_or_default();
    let evaluations = folders(StepKind::Evaluate).unwrap_or_default();
    let Some(Column::Count(seeds)) = table.column(column::SEED) else {
        return Err(
            CliError::NotComparable { path: path.into(), reason: "cells.parquet has no column `seed`".into() }.into()
        );
    };
    let folder = |list: &[String], index: usize| {
        list.get(index).filter(|name| !name.is_empty()).map(|name| path.join(name)).filter(|folder| folder.is_dir())
    };
    let cell = |index: usize| {
        let train = folder(&trains, index)?;
        let axes = table.columns.iter().take_while(|(name, _)| name != column::SEED).skip(1);
        let axes =
            axes.filter_map(|(name, column)| Some(format!("{}={}", name.rsplit('.').next()?, shown(column, index)?)));
        let variant = Some(variants[index].clone()).filter(|variant| !variant.is_empty());
        let group: Vec<String> = variant.into_iter().chain(axes).collect();
        Some(Found {
            name: trains[index].split('/').next().unwrap_or_default().to_owned(),
            experiment: Some(path.into()),
            group: Some(group.join("-")).filter(|group| !group.is_empty()),
            seed: Some(seeds[index] as u64),
            checkpoint: Some(train.join("checkpoint.safetensors")),
            train: Some(train),
            analysis: folder(&analyses, index),
            sharpness: folder(&sharpness, index),
            llc: folder(&llc, index),
            evaluation: folder(&evaluations, index),
            ..Found::default()
        })
    };
    let finished: Vec<usize> = (0..states.len()).filter(|index| states[*index] == State::Finished.name()).collect();
    let found: Vec<Found> = finished.iter().filter_map(|index| cell(*index)).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    if !finished.is_empty() && path.join(MEMBERS).exists() {
        // The folders of the cells, which are large, may be gone; what a comparison took from them is still recorded.
        return recorded::find(path);
    }
    let reason = "no cell of the experiment is finished".into();
    Err(CliError::NotComparable { path: path.into(), reason }.into())
}

/// A value on an axis; `None` where the cell has none.
fn shown(column: &Column, index: usize) -> Option<String> {
    match column {
        Column::Text(values) => values.get(index).cloned().filter(|text| !text.is_empty()),
        Column::Number(values) => values.get(index).filter(|value| !value.is_nan()).map(|value| format!("{value:?}")),
        Column::Count(values) => values.get(index).map(usize::to_string),
        Column::Flag(values) => values.get(index).map(bool::to_string),
    }
}
