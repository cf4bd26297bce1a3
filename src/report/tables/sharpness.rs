//! The table of `flatness sharpness`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{column, count, flag, number, text, write_table};
use crate::report::ReportError;
use crate::sharpness::SharpnessRow;
use crate::vocabulary::Scaling;

/// Writes `sharpness.parquet` into `folder`, which exists: one row per measure. `headline` marks those that comparisons
/// take; for a worst case, `value` is a lower bound and `std_err_numeric` the spread over restarts; where there is no value,
/// `reason` says why.
///
/// # Errors
/// [`ReportError`] if the file cannot be written.
pub fn write_sharpness(rows: &[SharpnessRow], configuration: &Value, folder: &Path) -> Result<PathBuf, ReportError> {
    let columns = [
        (column::QUANTITY, text(rows, |row| row.quantity)),
        ("measure", text(rows, |row| row.quantity.measure())),
        ("norm", text(rows, |row| row.quantity.norm())),
        ("scaling", text(rows, |row| row.quantity.scaling().map_or("", Scaling::name))),
        ("logits", text(rows, |row| row.quantity.logits().name())),
        ("radius", number(rows, |row| row.quantity.radius())),
        ("batch_size", count(rows, |row| row.batch_size)),
        (column::VALUE, number(rows, |row| row.value)),
        (column::STD_ERR_NUMERIC, number(rows, |row| row.std_err_numeric)),
        (column::STD_ERR_DATA, number(rows, |row| row.std_err_data)),
        (column::METHOD, text(rows, |row| row.method)),
        (column::CONVERGED, flag(rows, |row| row.converged)),
        ("num_gradients", count(rows, |row| row.num_gradients)),
        ("num_evaluations", count(rows, |row| row.num_evaluations)),
        (column::HEADLINE, flag(rows, |row| row.is_headline)),
        ("reason", text(rows, |row| &row.reason)),
    ];
    let path = folder.join("sharpness.parquet");
    write_table(&path, &columns, configuration)?;
    Ok(path)
}
