//! Tables of results, as NumPy arrays and through Arrow's C interface.

use std::path::PathBuf;

use flatness::report::tables::{Column, read_table as read};
use numpy::PyArray1;
use polars_arrow::array::{Array, BooleanArray, PrimitiveArray, StructArray, Utf8Array};
use polars_arrow::datatypes::{ArrowDataType, Field};
use polars_arrow::ffi::export_iterator;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList};

use crate::calls::outside;

/// A table in memory: columns of texts, numbers, counts or truth values.
#[pyclass(frozen)]
pub struct Table {
    columns: Vec<(String, Column)>,
}

/// The table in a Parquet file of results.
#[pyfunction]
pub fn read_table(py: Python<'_>, path: PathBuf) -> PyResult<Table> {
    let table = outside(py, |_| Ok(read(&path)?))?;
    Ok(Table { columns: table.columns })
}

#[pymethods]
impl Table {
    /// Columns by name: lists of texts, NumPy arrays of everything else.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let columns = PyDict::new(py);
        for (name, column) in &self.columns {
            let values = match column {
                Column::Text(values) => PyList::new(py, values)?.into_any(),
                Column::Number(values) => PyArray1::from_slice(py, values).into_any(),
                Column::Count(values) => PyArray1::from_vec(py, counts(values)).into_any(),
                Column::Flag(values) => PyArray1::from_slice(py, values).into_any(),
            };
            columns.set_item(name, values)?;
        }
        Ok(columns)
    }

    /// The table as a stream of Arrow's C interface, in one batch.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A request may be ignored: consumers cast.
        let _ = requested_schema;
        let arrays: Vec<Box<dyn Array>> = self.columns.iter().map(|(_, column)| arrow(column)).collect();
        let fields = self.columns.iter().zip(&arrays);
        let fields = fields.map(|((name, _), array)| Field::new(name.into(), array.dtype().clone(), true));
        let dtype = ArrowDataType::Struct(fields.collect());
        let length = arrays.first().map_or(0, |array| array.len());
        let batch: Box<dyn Array> = Box::new(StructArray::new(dtype.clone(), length, arrays, None));
        let stream = export_iterator(Box::new(std::iter::once(Ok(batch))), Field::new("".into(), dtype, false));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }
}

/// Counts in the type of the files.
fn counts(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&count| i64::try_from(count).unwrap_or(i64::MAX)).collect()
}

/// A column as in the files: numbers that are not there are null.
fn arrow(column: &Column) -> Box<dyn Array> {
    match column {
        Column::Text(values) => Box::new(Utf8Array::<i64>::from_slice(values)),
        Column::Number(values) => {
            Box::new(values.iter().map(|&number| (!number.is_nan()).then_some(number)).collect::<PrimitiveArray<f64>>())
        }
        Column::Count(values) => Box::new(PrimitiveArray::from_vec(counts(values))),
        Column::Flag(values) => Box::new(BooleanArray::from_slice(values)),
    }
}
