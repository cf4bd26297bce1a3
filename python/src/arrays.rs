//! NumPy arrays as tensors, and tensors as NumPy arrays.

use candle_core::{DType, Device, Tensor};
use numpy::{Element, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView};

/// Declares [`Array`] from the types of numbers, each with its name in files of tensors.
macro_rules! arrays {
    ($($name:ident $dtype:ident $type:ty),* $(,)?) => {
        /// A row-major array of numbers or truth values, borrowed for reading.
        pub enum Array<'py> {
            $($name(PyReadonlyArrayDyn<'py, $type>),)*
        }

        impl<'py> Array<'py> {
            /// Borrows `array`.
            ///
            /// # Errors
            /// `TypeError` for a type without a counterpart; an array that somebody writes to.
            pub fn of(array: &Bound<'py, PyUntypedArray>) -> PyResult<Self> {
                $(if let Ok(array) = array.cast::<PyArrayDyn<$type>>() {
                    return Ok(Self::$name(array.try_readonly()?));
                })*
                Err(PyTypeError::new_err(format!("arrays of {} are not supported", array.dtype())))
            }

            /// The same as a reader of tensor files sees it.
            ///
            /// # Errors
            /// An array that is not row-major.
            pub fn view(&self) -> PyResult<TensorView<'_>> {
                let (dtype, shape, bytes) = match self {
                    $(Self::$name(array) => (Dtype::$dtype, array.shape().to_vec(), bytes_of(array)?),)*
                };
                TensorView::new(dtype, shape, bytes).map_err(|error: SafeTensorError| PyTypeError::new_err(error.to_string()))
            }
        }
    };
}

arrays! {
    Bool BOOL bool, U8 U8 u8, I8 I8 i8, U16 U16 u16, I16 I16 i16, U32 U32 u32, I32 I32 i32, U64 U64 u64, I64 I64 i64,
    F32 F32 f32, F64 F64 f64,
}

/// The elements of a row-major array, as they lie in memory.
fn bytes_of<'a, T: Element>(array: &'a PyReadonlyArrayDyn<'_, T>) -> PyResult<&'a [u8]> {
    let values = array.as_slice()?;
    // SAFETY: numbers and truth values have no padding, so that all bytes are initialised.
    Ok(unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) })
}

/// A tensor with the values of a row-major array.
///
/// # Errors
/// `TypeError` for a type that tensors lack.
pub fn tensor(array: &Bound<'_, PyUntypedArray>) -> PyResult<Tensor> {
    let array = Array::of(array)?;
    let view = array.view()?;
    let dtype = DType::try_from(view.dtype()).map_err(|error| PyTypeError::new_err(error.to_string()))?;
    Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
        .map_err(|error| PyTypeError::new_err(error.to_string()))
}

/// The values of a tensor of f32 or f64, in its type and shape.
///
/// # Errors
/// The tensor cannot be read.
pub fn array<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    fn values<'py, T: candle_core::WithDType + Element>(
        py: Python<'py>,
        tensor: &Tensor,
    ) -> PyResult<Bound<'py, PyAny>> {
        let flat = tensor.flatten_all().and_then(|flat| flat.to_vec1::<T>());
        let flat = flat.map_err(|error| PyTypeError::new_err(error.to_string()))?;
        Ok(PyArray1::from_vec(py, flat).reshape(tensor.dims())?.into_any())
    }
    match tensor.dtype() {
        DType::F32 => values::<f32>(py, tensor),
        _ => values::<f64>(py, tensor),
    }
}
