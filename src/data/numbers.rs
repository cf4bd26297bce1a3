//! The numbers of a tensor as inputs or as targets.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Dtype;

use super::{DataError, DataResult, Inputs, Targets};

/// A tensor `[N, …]`, with what an error needs to name it.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'a str,
    pub(super) dtype: Dtype,
    pub(super) shape: &'a [usize],
    /// Row-major and little-endian.
    pub(super) bytes: &'a [u8],
}

impl Numbers<'_> {
    /// Whether they can be inputs, whatever their values.
    ///
    /// # Errors
    /// [`DataError::WrongTensor`].
    pub(super) fn check_inputs(&self) -> DataResult<()> {
        let shape_fits = self.shape.len() >= 2 && !self.shape[1..].contains(&0);
        match shape_fits && (self.is_whole() || self.is_float()) {
            true => Ok(()),
            false => Err(self.wrong("f32, f64, f16, bf16 or u8 of shape [N, ...] without empty axes")),
        }
    }

    /// As inputs.
    ///
    /// # Errors
    /// As [`Numbers::check_inputs`]; [`DataError::NonFinite`].
    pub(super) fn inputs(&self) -> DataResult<Inputs> {
        self.check_inputs()?;
        match self.dtype {
            Dtype::U8 => Ok(Inputs::Bytes(self.bytes.to_vec())),
            Dtype::F64 => Ok(Inputs::Float64(self.finite(self.read(f64::from_le_bytes))?)),
            _ if self.is_whole() => Ok(Inputs::Whole(self.whole()?)),
            _ => Ok(Inputs::Float32(self.finite(self.floats()?)?)),
        }
    }

    /// Whether they can be targets, whatever their values.
    ///
    /// # Errors
    /// [`DataError::WrongTensor`].
    pub(super) fn check_targets(&self) -> DataResult<()> {
        let shape_fits = !self.shape.is_empty() && !self.shape[1..].contains(&0);
        match shape_fits && (self.is_whole() || self.is_float()) {
            true => Ok(()),
            false => Err(self.wrong("whole numbers, truth values or floats of shape [N, ...] without empty axes")),
        }
    }

    /// As targets.
    ///
    /// # Errors
    /// As [`Numbers::check_targets`]; [`DataError::NonFinite`].
    pub(super) fn targets(&self) -> DataResult<Targets> {
        self.check_targets()?;
        let sample_shape = &self.shape[1..];
        if self.is_whole() {
            let labels = self.whole()?;
            return Ok(if sample_shape.is_empty() { classes(labels) } else { tokens(labels, sample_shape) });
        }
        Ok(Targets::Values { values: self.finite(self.reals()?)?, sample_shape: sample_shape.to_vec() })
    }

    /// As a list of finite numbers, such as weights of classes.
    ///
    /// # Errors
    /// [`DataError::WrongTensor`], [`DataError::NonFinite`].
    pub(super) fn list(&self) -> DataResult<Vec<f64>> {
        match self.shape.len() == 1 && (self.is_whole() || self.is_float()) {
            true => self.finite(self.reals()?),
            false => Err(self.wrong("numbers of shape [classes]")),
        }
    }

    fn reals(&self) -> DataResult<Vec<f64>> {
        Ok(match self.dtype {
            Dtype::F64 => self.read(f64::from_le_bytes),
            _ if self.is_whole() => self.whole()?.into_iter().map(|value| value as f64).collect(),
            _ => self.floats()?.into_iter().map(f64::from).collect(),
        })
    }

    /// All entries, read with `convert` from their bytes.
    fn read<T, const WIDTH: usize>(&self, convert: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
        self.bytes.as_chunks().0.iter().map(|&bytes| convert(bytes)).collect()
    }

    /// Truth values among them.
    pub(super) fn is_whole(&self) -> bool {
        use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
        [BOOL, U8, I8, U16, I16, U32, I32, U64, I64].contains(&self.dtype)
    }

    fn is_float(&self) -> bool {
        [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64].contains(&self.dtype)
    }

    /// Entries of a tensor of whole numbers, which fit 64 bits.
    ///
    /// # Errors
    /// [`DataError::WrongTensor`].
    pub(super) fn whole(&self) -> DataResult<Vec<i64>> {
        let too_large = || self.wrong("whole numbers below 2^63");
        Ok(match self.dtype {
            Dtype::U8 | Dtype::BOOL => self.read(|bytes| u8::from_le_bytes(bytes).into()),
            Dtype::I8 => self.read(|bytes| i8::from_le_bytes(bytes).into()),
            Dtype::U16 => self.read(|bytes| u16::from_le_bytes(bytes).into()),
            Dtype::I16 => self.read(|bytes| i16::from_le_bytes(bytes).into()),
            Dtype::U32 => self.read(|bytes| u32::from_le_bytes(bytes).into()),
            Dtype::I32 => self.read(|bytes| i32::from_le_bytes(bytes).into()),
            Dtype::I64 => self.read(i64::from_le_bytes),
            _ => {
                let entries = self.bytes.as_chunks().0.iter();
                let fits = |&bytes: &[u8; 8]| i64::try_from(u64::from_le_bytes(bytes)).map_err(|_| too_large());
                entries.map(fits).collect::<DataResult<_>>()?
            }
        })
    }

    /// Entries of a float tensor of at most 32 bits.
    fn floats(&self) -> DataResult<Vec<f32>> {
        let half = |dtype| {
            let tensor = Tensor::from_raw_buffer(self.bytes, dtype, self.shape, &Device::Cpu).ok()?;
            tensor.to_dtype(DType::F32).ok()?.flatten_all().ok()?.to_vec1().ok()
        };
        let floats = match self.dtype {
            Dtype::F16 => half(DType::F16),
            Dtype::BF16 => half(DType::BF16),
            _ => Some(self.read(f32::from_le_bytes)),
        };
        floats.ok_or_else(|| self.wrong("floats of at most 32 bits"))
    }

    fn finite<T: Copy + Into<f64>>(&self, values: Vec<T>) -> DataResult<Vec<T>> {
        let width: usize = self.shape[1..].iter().product();
        match values.iter().position(|&value| !value.into().is_finite()) {
            Some(place) => Err(DataError::NonFinite {
                path: self.path.to_path_buf(),
                name: self.name.into(),
                row: place / width.max(1),
                value: values[place].into(),
            }),
            None => Ok(values),
        }
    }

    fn wrong(&self, expected: &'static str) -> DataError {
        DataError::WrongTensor {
            path: self.path.to_path_buf(),
            name: self.name.into(),
            dtype: format!("{:?}", self.dtype).to_lowercase(),
            shape: self.shape.to_vec(),
            expected,
        }
    }
}

/// Several labels for each row, or labels of which some are not classes.
pub(super) fn tokens(labels: Vec<i64>, sample_shape: &[usize]) -> Targets {
    let num_classes = labels.iter().max().map_or(0, |&largest| largest.max(-1).saturating_add(1) as usize);
    Targets::Tokens { labels, sample_shape: sample_shape.to_vec(), num_classes }
}

fn classes(labels: Vec<i64>) -> Targets {
    match labels.iter().map(|&label| u32::try_from(label)).collect::<Result<Vec<_>, _>>() {
        Ok(labels) => {
            let num_classes = labels.iter().max().map_or(0, |&largest| largest as usize + 1);
            Targets::Classes { labels, num_classes }
        }
        Err(_) => tokens(labels, &[]),
    }
}
