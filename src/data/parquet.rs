//! Parquet files of data: columns of whole numbers, and what is wrong with a file, in this folder's errors.

use std::path::Path;

use polars_core::prelude::{DataFrame, DataType};

use super::{DataError, DataResult};
use crate::parquet;

/// The values of integer columns.
pub(super) fn read_integers<const N: usize>(
    path: &Path,
    columns: [&'static str; N],
    memory_bytes: usize,
) -> DataResult<[Vec<i64>; N]> {
    let frame = read(path, memory_bytes)?;
    let mut values = std::array::from_fn(|_| Vec::new());
    for (values, column) in values.iter_mut().zip(columns) {
        *values = integers(path, &frame, column)?;
    }
    Ok(values)
}

/// The whole file, unpacked within the memory.
pub(super) fn read(path: &Path, memory_bytes: usize) -> DataResult<DataFrame> {
    let contents = parquet::read(path, memory_bytes as u64).map_err(|fault| {
        let path = path.to_path_buf();
        match fault {
            parquet::Fault::Io(source) => DataError::Io { path, source },
            parquet::Fault::Damaged(reason) => DataError::Corrupt { path, kind: "a Parquet file", reason },
            parquet::Fault::TooLarge { .. } => DataError::Memory { path, what: "its unpacked pages", memory_bytes },
        }
    })?;
    Ok(contents.frame)
}

pub(super) fn integers(path: &Path, frame: &DataFrame, name: &'static str) -> DataResult<Vec<i64>> {
    let missing = || no_column(path, frame, format!("{name}: integer"));
    let column = frame.column(name).map_err(|_| missing())?;
    if !column.dtype().is_integer() {
        return Err(missing());
    }
    let column = column.cast(&DataType::Int64).map_err(|_| missing())?;
    let values = column.i64().map_err(|_| missing())?;
    let null = |row| image_error(path, row, format!("its {name} is missing"));
    values.iter().enumerate().map(|(row, value)| value.ok_or_else(|| null(row))).collect()
}

pub(super) fn no_column(path: &Path, frame: &DataFrame, column: String) -> DataError {
    let describe = |column: &polars_core::prelude::Column| format!("`{}`: {}", column.name(), column.dtype());
    let found = frame.columns().iter().map(describe).collect::<Vec<_>>().join(", ");
    DataError::NoColumn { path: path.to_path_buf(), column, found }
}

pub(super) fn image_error(path: &Path, row: usize, reason: String) -> DataError {
    DataError::Image { path: path.to_path_buf(), row, reason }
}
