//! The table of `flatness sharpness`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Column, write_table};
use crate::report::ReportError;
use crate::sharpness::SharpnessRow;

/// Writes `sharpness.parquet` into `folder`, which exists: one row per measure. `headline` marks those that comparisons
/// take; of a worst case `value` is a lower bound and `std_err_numeric` the spread over restarts.
///
/// # Errors
/// [`ReportError`] where the file cannot be written.
pub fn write_sharpness(rows: &[SharpnessRow], configuration: &Value, folder: &Path) -> Result<PathBuf, ReportError> {
    let text = |value: fn(&SharpnessRow) -> &str| Column::Text(rows.iter().map(|row| value(row).to_owned()).collect());
    let number = |value: fn(&SharpnessRow) -> f64| Column::Number(rows.iter().map(value).collect());
    let count = |value: fn(&SharpnessRow) -> usize| Column::Count(rows.iter().map(value).collect());
    let flag = |value: fn(&SharpnessRow) -> bool| Column::Flag(rows.iter().map(value).collect());
    let columns = [
        ("quantity", text(|row| &row.quantity)),
        ("measure", text(|row| row.measure)),
        ("norm", text(|row| row.norm)),
        ("scaling", text(|row| row.scaling)),
        ("logits", text(|row| row.logits)),
        ("radius", number(|row| row.radius)),
        ("batch_size", count(|row| row.batch_size)),
        ("value", number(|row| row.value)),
        ("std_err_numeric", number(|row| row.std_err_numeric)),
        ("std_err_data", number(|row| row.std_err_data)),
        ("method", text(|row| row.method)),
        ("converged", flag(|row| row.converged)),
        ("num_gradients", count(|row| row.num_gradients)),
        ("num_evaluations", count(|row| row.num_evaluations)),
        ("headline", flag(|row| row.is_headline)),
    ];
    let path = folder.join("sharpness.parquet");
    write_table(&path, &columns, configuration)?;
    Ok(path)
}
