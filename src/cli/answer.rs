//! `--json`: what a command found, as one JSON value on stdout.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Ui;
use crate::path_text::to_text;
use crate::report::tables::{Column, Table, read_table};
use crate::{Error, Result};

/// Answers with all tables of the result in `folder`, each under its name as a list of rows; `statement` says how the numbers
/// were defined.
///
/// # Errors
/// A table that cannot be read.
pub(super) fn result(folder: &Path, statement: &str, ui: &mut Ui) -> Result<()> {
    if ui.wants_json() {
        ui.answer(&tables(folder, statement)?);
    }
    Ok(())
}

/// The same of several results, as a list.
///
/// # Errors
/// As [`result`].
pub(super) fn results(folders: &[PathBuf], statement: &str, ui: &mut Ui) -> Result<()> {
    if ui.wants_json() {
        let results = folders.iter().map(|folder| tables(folder, statement));
        ui.answer(&results.collect::<Result<Vec<_>>>()?.into());
    }
    Ok(())
}

fn tables(folder: &Path, statement: &str) -> Result<Value> {
    let statement = Some(statement).filter(|words| !words.is_empty());
    let mut answer =
        Map::from_iter([("folder".to_owned(), json!(to_text(folder))), ("statement".to_owned(), json!(statement))]);
    let entries = std::fs::read_dir(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
    let mut tables: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    tables.retain(|path| path.extension().is_some_and(|ending| ending == "parquet"));
    tables.sort();
    for path in tables {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        answer.insert(name, rows(&read_table(&path)?));
    }
    Ok(Value::Object(answer))
}

/// An object for each row; numbers that JSON lacks are null.
fn rows(table: &Table) -> Value {
    let cell = |column: &Column, row: usize| match column {
        Column::Text(values) => values.get(row).map(|text| json!(text)),
        Column::Number(values) => values.get(row).map(|number| json!(number)),
        Column::Count(values) => values.get(row).map(|count| json!(count)),
        Column::Flag(values) => values.get(row).map(|flag| json!(flag)),
    };
    let length = table.columns.first().map_or(0, |(_, column)| column.len());
    let row = |row| {
        let cells = table.columns.iter().map(|(name, column)| (name.clone(), cell(column, row).unwrap_or_default()));
        Value::Object(cells.collect())
    };
    (0..length).map(row).collect()
}
