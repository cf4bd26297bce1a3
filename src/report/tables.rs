//! Parquet tables: one observation per row, the configuration in every file.
//!
//! Numbers that do not exist (NaN in the report structs) are written as Parquet nulls; infinities stay. Every file
//! carries the key-value metadata `flatness.schema` (an integer) and `flatness.configuration` (JSON). Equal input gives
//! equal bytes.

use std::io::Write;
use std::path::Path;

use polars_core::error::PolarsError;
use polars_core::prelude::{DataFrame, DataType, IntoColumn, NamedFrom, Series, StringChunked};
use polars_io::prelude::{KeyValueMetadata, ParquetCompression, ParquetWriter};

use super::ReportError;
use crate::files::write_atomic;
use crate::parquet::{self, Contents, Fault};

mod analysis;
pub mod column;
mod comparison;
mod evaluation;
mod landscape;
mod langevin;
mod llc;
mod sharpness;

pub use analysis::write_tables;
pub use comparison::write_comparison;
pub use evaluation::write_evaluation;
pub use landscape::write_landscape_tables;
pub use langevin::write_langevin;
pub use llc::write_llc;
pub use sharpness::write_sharpness;

/// Version of the columns, in `flatness.schema`.
pub const SCHEMA: u32 = 1;

/// Maximum memory of a table that is read.
const MOST_BYTES: u64 = 1 << 30;

/// One column; all columns of a table have the same length.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Strings.
    Text(Vec<String>),
    /// Measured numbers; NaN becomes null.
    Number(Vec<f64>),
    /// Counts and indices.
    Count(Vec<usize>),
    /// True or false.
    Flag(Vec<bool>),
}

impl Column {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Number(values) => values.len(),
            Self::Count(values) => values.len(),
            Self::Flag(values) => values.len(),
        }
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the values of `other`; returns false and does nothing if that is of another kind.
    pub fn append(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(values), Self::Text(more)) => values.extend_from_slice(more),
            (Self::Number(values), Self::Number(more)) => values.extend_from_slice(more),
            (Self::Count(values), Self::Count(more)) => values.extend_from_slice(more),
            (Self::Flag(values), Self::Flag(more)) => values.extend_from_slice(more),
            _ => return false,
        }
        true
    }

    fn series(&self, name: &str) -> Series {
        match self {
            Self::Text(values) => Series::new(name.into(), values),
            Self::Number(values) => {
                Series::new(name.into(), values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect::<Vec<_>>())
            }
            // Signed, because pandas and DuckDB wrap around when unsigned columns are subtracted.
            Self::Count(values) => Series::new(name.into(), values.iter().map(|v| *v as i64).collect::<Vec<_>>()),
            Self::Flag(values) => Series::new(name.into(), values),
        }
    }
}

type Columns = Vec<(&'static str, Column)>;

fn text<'a, R, T: ToString>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Column {
    Column::Text(rows.iter().map(|row| value(row).to_string()).collect())
}

fn number<R>(rows: &[R], value: impl Fn(&R) -> f64) -> Column {
    Column::Number(rows.iter().map(value).collect())
}

fn count<R>(rows: &[R], value: impl Fn(&R) -> usize) -> Column {
    Column::Count(rows.iter().map(value).collect())
}

fn flag<R>(rows: &[R], value: impl Fn(&R) -> bool) -> Column {
    Column::Flag(rows.iter().map(value).collect())
}

/// Writes one table, atomically.
///
/// # Errors
/// [`ReportError::Table`] if names repeat or lengths differ; [`ReportError::File`] if the file cannot be written.
pub fn write_table(
    path: &Path,
    columns: &[(&str, Column)],
    configuration: &serde_json::Value,
) -> Result<(), ReportError> {
    let table_error = |source| ReportError::Table { path: path.to_owned(), source };
    let bytes = encode(columns, configuration).map_err(table_error)?;
    Ok(write_atomic(path, |file| file.write_all(&bytes))?)
}

fn encode(columns: &[(&str, Column)], configuration: &serde_json::Value) -> Result<Vec<u8>, PolarsError> {
    let columns = columns.iter().map(|(name, column)| column.series(name).into_column()).collect();
    let frame = DataFrame::new_infer_height(columns)?;
    let metadata = KeyValueMetadata::from_static(vec![
        ("flatness.schema".into(), SCHEMA.to_string()),
        ("flatness.configuration".into(), configuration.to_string()),
    ]);
    let mut bytes = Vec::new();
    let mut writer =
        ParquetWriter::new(&mut bytes).with_compression(ParquetCompression::Snappy).batched(frame.schema())?;
    writer.write_batch(&frame)?;
    // Not `finish`: it adds polars' own schema, in which text has a type that pyarrow before version 16 refuses to
    // read. Without it readers take the types of the Parquet format itself.
    let metadata = if let KeyValueMetadata::Static(entries) = metadata { Some(entries) } else { None };
    let mut file = writer.get_writer().lock().map_err(|_| PolarsError::ComputeError("poisoned lock".into()))?;
    file.end(metadata)?;
    drop(file);
    drop(writer);
    Ok(bytes)
}

/// A table as read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Name and values, in the file's order; nulls of a number column are NaN again.
    pub columns: Vec<(String, Column)>,
    /// The content of `flatness.configuration`.
    pub configuration: serde_json::Value,
}

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(own, _)| own == name).map(|(_, column)| column)
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    /// All strings of a column; empty if it is missing or of another kind.
    pub fn texts(&self, name: &str) -> &[String] {
        if let Some(Column::Text(values)) = self.column(name) { values } else { &[] }
    }

    /// All numbers of a column; empty if it is missing or of another kind.
    pub fn numbers(&self, name: &str) -> &[f64] {
        if let Some(Column::Number(values)) = self.column(name) { values } else { &[] }
    }

    /// All counts of a column; empty if it is missing or of another kind.
    pub fn counts(&self, name: &str) -> &[usize] {
        if let Some(Column::Count(values)) = self.column(name) { values } else { &[] }
    }

    /// One string; empty if it is missing.
    pub fn text(&self, name: &str, row: usize) -> &str {
        self.texts(name).get(row).map_or("", String::as_str)
    }

    /// One number; NaN if it is missing.
    pub fn number(&self, name: &str, row: usize) -> f64 {
        self.numbers(name).get(row).copied().unwrap_or(f64::NAN)
    }

    /// One flag; false if it is missing.
    pub fn flag(&self, name: &str, row: usize) -> bool {
        matches!(self.column(name), Some(Column::Flag(values)) if values.get(row) == Some(&true))
    }
}

/// Reads a table that [`write_table`] wrote.
///
/// # Errors
/// [`ReportError::Table`] if the file cannot be opened, is not a Parquet file, has another schema or other column types, or
/// has no configuration.
pub fn read_table(path: &Path) -> Result<Table, ReportError> {
    decode(path).map_err(|source| ReportError::Table { path: path.to_owned(), source })
}

fn decode(path: &Path) -> Result<Table, PolarsError> {
    let Contents { frame, metadata } = parquet::read(path, MOST_BYTES).map_err(|fault| match fault {
        Fault::Io(error) => error.into(),
        fault => PolarsError::ComputeError(fault.to_string().into()),
    })?;
    let entry = |key| metadata.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
    let schema = entry("flatness.schema");
    if schema != Some(&SCHEMA.to_string()) {
        let found = schema.map_or("no schema version".to_owned(), |schema| format!("schema version {schema}"));
        let text = format!("it has {found}, but this program reads version {SCHEMA}: repeat the command that wrote it");
        return Err(PolarsError::ComputeError(text.into()));
    }
    let configuration = entry("flatness.configuration").and_then(|text| serde_json::from_str(text).ok());
    let configuration =
        configuration.ok_or_else(|| PolarsError::ComputeError("no flatness.configuration in its metadata".into()))?;
    let mut left = MOST_BYTES;
    let columns = frame.columns().iter().map(|column| {
        let values = match column.dtype() {
            DataType::String => Column::Text(texts(column.str()?, &mut left)?),
            DataType::Boolean => Column::Flag(column.bool()?.iter().map(|v| v.unwrap_or(false)).collect()),
            DataType::Int64 => Column::Count(column.i64()?.iter().map(|v| v.unwrap_or(0) as usize).collect()),
            _ => Column::Number(column.f64()?.iter().map(|v| v.unwrap_or(f64::NAN)).collect()),
        };
        Ok((column.name().to_string(), values))
    });
    Ok(Table { columns: columns.collect::<Result<_, PolarsError>>()?, configuration })
}

/// The strings, each in memory of its own; the file may store one string once for many rows.
fn texts(column: &StringChunked, left: &mut u64) -> Result<Vec<String>, PolarsError> {
    let needed = column.iter().flatten().fold(0u64, |sum, text| sum.saturating_add(text.len() as u64));
    *left =
        left.checked_sub(needed).ok_or_else(|| PolarsError::ComputeError("its strings take too much memory".into()))?;
    Ok(column.iter().map(|text| text.unwrap_or("").to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars_io::prelude::{ParquetReader, SerReader};
    use serde_json::json;

    fn metrics() -> Vec<(&'static str, Column)> {
        vec![
            ("epoch", Column::Count(vec![0, 1, 2])),
            ("loss", Column::Number(vec![2.3, f64::NAN, f64::INFINITY])),
            ("split", Column::Text(vec!["train".into(), "train".into(), "test".into()])),
            ("finite", Column::Flag(vec![true, false, false])),
        ]
    }

    #[test]
    fn a_table_survives_the_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.parquet");
        write_table(&path, &metrics(), &json!({"seed": 7})).unwrap();
        let table = read_table(&path).unwrap();
        assert_eq!(table.configuration, json!({"seed": 7}));
        assert_eq!(table.column("epoch"), Some(&Column::Count(vec![0, 1, 2])));
        let Some(Column::Number(loss)) = table.column("loss") else { panic!("loss is a number") };
        assert!(loss[0] == 2.3 && loss[1].is_nan() && loss[2] == f64::INFINITY, "{loss:?}");
    }

    #[test]
    fn nan_is_null_and_infinity_is_not() {
        let bytes = encode(&metrics(), &json!({})).unwrap();
        let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish().unwrap();
        assert_eq!(frame.column("loss").unwrap().null_count(), 1);
    }

    #[test]
    fn the_metadata_holds_our_entries_only() {
        let bytes = encode(&metrics(), &json!({})).unwrap();
        let mut reader = ParquetReader::new(std::io::Cursor::new(bytes));
        let entries = reader.get_metadata().unwrap().key_value_metadata.clone().unwrap();
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["flatness.schema", "flatness.configuration"]);
    }

    #[test]
    fn equal_tables_give_equal_bytes() {
        assert_eq!(encode(&metrics(), &json!({"a": 1})).unwrap(), encode(&metrics(), &json!({"a": 1})).unwrap());
    }

    #[test]
    fn columns_of_unequal_length_are_an_error_that_names_the_file() {
        let columns = [("a", Column::Number(vec![1.0])), ("b", Column::Number(vec![]))];
        let error = write_table(Path::new("bad.parquet"), &columns, &json!({})).unwrap_err();
        assert!(matches!(error, ReportError::Table { .. }));
        assert!(error.to_string().contains("bad.parquet"));
    }
}
