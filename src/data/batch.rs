//! Batches: rows as one normalised tensor, with their targets.

use candle_core::{DType, Device, Tensor};

use super::{Column, Dataset, Inputs, Targets};
use crate::Result;

/// Targets of a batch of `n` rows.
#[derive(Debug, Clone)]
pub enum TargetBatch {
    /// Class indices, `[n]`.
    Classes(Vec<u32>),
    /// Whole numbers `[n, …sample_shape]` row-major: see [`Targets::Tokens`].
    Tokens {
        /// Row-major.
        labels: Vec<i64>,
        /// Shape of one row's labels.
        sample_shape: Vec<usize>,
    },
    /// Real targets, `[n, …]`, in the batch's dtype and on its device.
    Values(Tensor),
}

/// Rows as one tensor, with their targets.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Places of the rows in their data set.
    pub rows: Vec<usize>,
    /// Normalised values, `[n, …sample_shape]`.
    pub x: Tensor,
    /// Inputs of the program besides the first, in its order.
    pub more: Vec<Tensor>,
    /// One per row.
    pub targets: TargetBatch,
}

impl TargetBatch {
    /// As an input of a program: whole numbers, or floats.
    ///
    /// # Errors
    /// Making the tensor.
    pub fn as_input(&self, device: &Device) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(labels) => Tensor::from_vec(
                labels.iter().map(|&label| i64::from(label)).collect::<Vec<_>>(),
                labels.len(),
                device,
            )?,
            Self::Tokens { labels, sample_shape } => {
                let rows = labels.len() / sample_shape.iter().product::<usize>().max(1);
                Tensor::from_vec(labels.clone(), [&[rows], sample_shape.as_slice()].concat(), device)?
            }
            Self::Values(values) => values.clone(),
        })
    }
}

impl Batch {
    /// Rows `start` to `end − 1` of this batch.
    ///
    /// # Errors
    /// A candle error for a range that does not exist.
    pub fn part(&self, start: usize, end: usize) -> Result<Self> {
        let rows = self.rows.get(start..end).unwrap_or_default().to_vec();
        let x = self.x.narrow(0, start, end - start)?;
        let more = self.more.iter().map(|input| input.narrow(0, start, end - start));
        let more = more.collect::<candle_core::Result<_>>()?;
        let targets = match &self.targets {
            TargetBatch::Classes(labels) => TargetBatch::Classes(labels.get(start..end).unwrap_or_default().to_vec()),
            TargetBatch::Tokens { labels, sample_shape } => {
                let per_row: usize = sample_shape.iter().product();
                let labels = labels.get(start * per_row..end * per_row).unwrap_or_default().to_vec();
                TargetBatch::Tokens { labels, sample_shape: sample_shape.clone() }
            }
            TargetBatch::Values(values) => TargetBatch::Values(values.narrow(0, start, end - start)?),
        };
        Ok(Self { rows, x, more, targets })
    }

    /// All inputs of the program in its order.
    pub fn inputs(&self) -> Vec<Tensor> {
        std::iter::once(&self.x).chain(&self.more).cloned().collect()
    }
}

impl Dataset {
    /// The given rows as `x`, `[n, …sample_shape]`, and their targets.
    ///
    /// Values are normalised in `f64` and rounded once to `dtype` (to `f32` on the way to half precision). Image files
    /// are decoded, over the rayon pool that the caller runs in, where it may share its work.
    ///
    /// # Errors
    /// [`NoSuchRow`](super::DataError::NoSuchRow); [`Unreadable`](super::ImageError::Unreadable) for an image file that
    /// does not decode; a candle error for a `dtype` that is not a float, or when the device is full.
    pub fn batch(&self, rows: &[usize], dtype: DType, device: &Device) -> Result<(Tensor, TargetBatch)> {
        check_dtype(dtype)?;
        self.check_rows(rows)?;
        let images = match &self.inputs {
            Inputs::Files(files) => files.squares(rows)?,
            _ => Vec::new(),
        };
        self.assemble(rows, images, dtype, device)
    }

    /// [`Dataset::batch`] of existing rows, from image bytes `[n, …sample_shape]` where `images` has any.
    pub(super) fn assemble(
        &self,
        rows: &[usize],
        images: Vec<u8>,
        dtype: DType,
        device: &Device,
    ) -> Result<(Tensor, TargetBatch)> {
        let read = match &self.inputs {
            _ if !images.is_empty() => Some(Inputs::Bytes(images)),
            Inputs::Stored(stored) => Some(stored.read(rows)?),
            _ => None,
        };
        let x = match &read {
            Some(inputs) => self.normalised_rows(inputs, &(0..rows.len()).collect::<Vec<_>>(), dtype, device)?,
            None => self.normalised_rows(&self.inputs, rows, dtype, device)?,
        };
        Ok((x, self.target_batch(rows, dtype, device)?))
    }

    /// The given rows of inputs in memory, `[n, …sample_shape]`.
    fn normalised_rows(&self, inputs: &Inputs, rows: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(self.sample_shape.iter().copied()).collect();
        Ok(match dtype {
            _ if matches!(inputs, Inputs::Whole(_)) => column_of(inputs, &self.sample_shape, rows, dtype, device)?,
            DType::F64 => Tensor::from_vec(self.gather(inputs, rows, |value| value), shape, device)?,
            _ => Tensor::from_vec(self.gather(inputs, rows, |value| value as f32), shape, device)?.to_dtype(dtype)?,
        })
    }

    /// The targets of the given rows, which must exist.
    pub(crate) fn target_batch(&self, rows: &[usize], dtype: DType, device: &Device) -> Result<TargetBatch> {
        Ok(match self.targets.take(rows) {
            Targets::Classes { labels, .. } => TargetBatch::Classes(labels),
            Targets::Tokens { labels, sample_shape, .. } => TargetBatch::Tokens { labels, sample_shape },
            Targets::Values { values, sample_shape } => {
                let shape = [&[rows.len()], sample_shape.as_slice()].concat();
                TargetBatch::Values(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
            }
        })
    }

    /// The given rows of an input beside the first, `[n, …]`; floats in `dtype`, whole numbers as they are.
    ///
    /// # Errors
    /// Making the tensor.
    pub fn column(&self, column: &Column, rows: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        self.check_rows(rows)?;
        column_of(&column.inputs, &column.sample_shape, rows, dtype, device)
    }

    /// Normalised values of rows in memory, row-major.
    fn gather<T: Copy>(&self, inputs: &Inputs, rows: &[usize], cast: impl Fn(f64) -> T) -> Vec<T> {
        let sample_len = self.sample_len();
        let range = |&row: &usize| row * sample_len..(row + 1) * sample_len;
        match inputs {
            Inputs::Float32(values) => {
                self.normalise(rows.iter().flat_map(|row| &values[range(row)]).map(|&value| f64::from(value)), cast)
            }
            Inputs::Float64(values) => self.normalise(rows.iter().flat_map(|row| &values[range(row)]).copied(), cast),
            Inputs::Bytes(bytes) => self.normalise_bytes(rows.iter().map(|row| &bytes[range(row)]), cast),
            // Whole numbers stay as they are: see `column_of`. The others are read before.
            Inputs::Whole(_) | Inputs::Files(_) | Inputs::Stored(_) => Vec::new(),
        }
    }

    fn normalised(&self, value: f64, channel: usize) -> f64 {
        match &self.normalisation {
            Some(normalisation) => (value - normalisation.mean[channel]) / normalisation.std[channel],
            None => value,
        }
    }

    fn normalise<T>(&self, values: impl Iterator<Item = f64>, cast: impl Fn(f64) -> T) -> Vec<T> {
        let sample_len = self.sample_len();
        let plane = sample_len / self.channels().max(1);
        values.enumerate().map(|(i, value)| cast(self.normalised(value, i % sample_len / plane))).collect()
    }

    fn normalise_bytes<'a, T: Copy>(
        &self,
        samples: impl ExactSizeIterator<Item = &'a [u8]>,
        cast: impl Fn(f64) -> T,
    ) -> Vec<T> {
        // 256 values per channel instead of a division per pixel.
        let value = |byte: usize, channel| cast(self.normalised(byte as f64 / 255.0, channel));
        let tables: Vec<[T; 256]> =
            (0..self.channels()).map(|channel| std::array::from_fn(|byte| value(byte, channel))).collect();
        let plane = self.sample_len() / self.channels().max(1);
        let mut out = Vec::with_capacity(samples.len() * self.sample_len());
        for sample in samples {
            for (values, table) in sample.chunks(plane.max(1)).zip(&tables) {
                out.extend(values.iter().map(|&byte| table[usize::from(byte)]));
            }
        }
        out
    }
}

/// The given rows without normalisation, bytes as `b / 255`.
fn column_of(inputs: &Inputs, shape: &[usize], rows: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let (sample_len, shape) = (shape.iter().product(), [&[rows.len()], shape].concat());
    let tensor = match inputs.take(rows, sample_len).in_memory()?.into_owned() {
        Inputs::Whole(values) => return Ok(Tensor::from_vec(values, shape, device)?),
        Inputs::Float32(values) => Tensor::from_vec(values, shape, device)?,
        Inputs::Float64(values) => Tensor::from_vec(values, shape, device)?,
        Inputs::Bytes(values) => {
            let values: Vec<f64> = values.iter().map(|&byte| f64::from(byte) / 255.0).collect();
            Tensor::from_vec(values, shape, device)?
        }
        Inputs::Files(_) | Inputs::Stored(_) => {
            return Err(candle_core::Error::Msg("image files can only be the first input".into()).into());
        }
    };
    Ok(tensor.to_dtype(dtype)?)
}

/// Refuses integers, which cannot hold normalised values.
pub(super) fn check_dtype(dtype: DType) -> Result<()> {
    match dtype.is_float() {
        true => Ok(()),
        false => Err(candle_core::Error::UnsupportedDTypeForOp(dtype, "batch").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataError, Normalisation};

    const MEAN: [f64; 2] = [0.4914, 0.25];
    const STD: [f64; 2] = [0.2023, 0.5];

    fn normalised(inputs: Inputs) -> Dataset {
        let normalisation = Some(Normalisation { mean: MEAN.to_vec(), std: STD.to_vec() });
        let targets = Targets::Classes { labels: vec![7, 8], num_classes: 9 };
        Dataset::new("test".into(), vec![2, 1, 3], inputs, targets, normalisation).unwrap()
    }

    fn values(data: &Dataset, rows: &[usize]) -> Vec<f64> {
        let (x, _) = data.batch(rows, DType::F64, &Device::Cpu).unwrap();
        assert_eq!(x.dims(), [rows.len(), 2, 1, 3]);
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn bytes_are_divided_by_255_and_normalised_per_channel() {
        let bytes: Vec<u8> = vec![0, 255, 51, 102, 1, 254, 10, 20, 30, 40, 50, 60];
        let data = normalised(Inputs::Bytes(bytes.clone()));
        let expected = |row: usize| {
            let bytes = &bytes;
            (0..6).map(move |i| (f64::from(bytes[row * 6 + i]) / 255.0 - MEAN[i / 3]) / STD[i / 3])
        };
        assert_eq!(values(&data, &[1, 0]), expected(1).chain(expected(0)).collect::<Vec<_>>());
        // Bytes as floats give the same: the table is exact.
        let floats = Inputs::Float64(bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect());
        assert_eq!(values(&normalised(floats), &[0, 1]), values(&data, &[0, 1]));
        let (single, targets) = data.batch(&[1], DType::F32, &Device::Cpu).unwrap();
        let single: Vec<f32> = single.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(single, expected(1).map(|value| value as f32).collect::<Vec<_>>());
        assert!(matches!(targets, TargetBatch::Classes(labels) if labels == [8]));
    }

    #[test]
    fn real_targets_come_as_a_tensor() {
        let targets = Targets::Values { values: vec![0.5, 1.5, -2.0, 4.0], sample_shape: vec![2] };
        let inputs = Inputs::Float32(vec![1.0, 2.0]);
        let data = Dataset::new("test".into(), vec![1], inputs, targets, None).unwrap();
        let (x, targets) = data.batch(&[1], DType::F32, &Device::Cpu).unwrap();
        assert_eq!(x.to_vec2::<f32>().unwrap(), [[2.0]]);
        let TargetBatch::Values(y) = targets else { panic!("classes") };
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[-2.0, 4.0]]);
    }

    #[test]
    fn missing_rows_and_integer_dtypes_are_errors() {
        let data = normalised(Inputs::Bytes(vec![0; 12]));
        let error = data.batch(&[0, 2], DType::F32, &Device::Cpu).unwrap_err();
        assert!(matches!(error, crate::Error::Data(DataError::NoSuchRow { row: 2, num_rows: 2 })));
        assert!(data.batch(&[0], DType::U32, &Device::Cpu).is_err());
        assert_eq!(data.batch(&[0], DType::F16, &Device::Cpu).unwrap().0.dtype(), DType::F16);
    }
}
