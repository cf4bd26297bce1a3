//! What rows consist of: inputs, targets and the normalisation of their values.

use std::borrow::Cow;

use super::{DataError, DataResult, ImageFiles, StoredRows};

/// Per-sample values before normalisation.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// Image bytes, `[N, C, H, W]` row-major; a byte `b` means `b / 255`.
    Bytes(Vec<u8>),
    /// Single precision as in the file, `[N, …]` row-major.
    Float32(Vec<f32>),
    /// Double precision as in the file, `[N, …]` row-major.
    Float64(Vec<f64>),
    /// Whole numbers, `[N, …]` row-major, such as tokens.
    Whole(Vec<i64>),
    /// Image files, which are decoded to bytes when a batch is made.
    Files(ImageFiles),
    /// Rows of a large file, which are read when a batch is made.
    Stored(StoredRows),
}

/// Another input of the rows, besides the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Shape of one sample.
    pub sample_shape: Vec<usize>,
    /// Of all rows.
    pub inputs: Inputs,
}

/// What the network should predict.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Class indices below `num_classes`, `[N]`.
    Classes {
        /// One per row.
        labels: Vec<u32>,
        /// Number of classes of the source, whether or not each occurs in the rows.
        num_classes: usize,
    },
    /// Whole numbers `[N, …sample_shape]` row-major: several classes for each row, such as one for each token or pixel,
    /// or labels of which some are to be ignored.
    Tokens {
        /// Row-major. The loss says which number is to be ignored.
        labels: Vec<i64>,
        /// Shape of one row's labels; none where each row has one.
        sample_shape: Vec<usize>,
        /// One more than the largest.
        num_classes: usize,
    },
    /// Real targets, `[N, …sample_shape]` row-major.
    Values {
        /// Row-major.
        values: Vec<f64>,
        /// Shape of one row's targets.
        sample_shape: Vec<usize>,
    },
}

/// `(x − mean) / std` per channel, after bytes are divided by 255; a single entry serves all channels.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// One per channel.
    pub mean: Vec<f64>,
    /// One per channel, positive.
    pub std: Vec<f64>,
}

impl Inputs {
    /// Numbers in all rows together.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Float32(values) => values.len(),
            Self::Float64(values) => values.len(),
            Self::Whole(values) => values.len(),
            Self::Files(files) => files.len() * files.sample_len(),
            Self::Stored(rows) => rows.len() * rows.sample_len(),
        }
    }

    /// Whether they are image bytes.
    pub(super) fn are_bytes(&self) -> bool {
        match self {
            Self::Bytes(_) | Self::Files(_) => true,
            Self::Float32(_) | Self::Float64(_) | Self::Whole(_) => false,
            Self::Stored(rows) => rows.are_bytes(),
        }
    }

    /// The image bytes of an existing row of `sample_len` numbers; none of other inputs.
    ///
    /// # Errors
    /// A file that cannot be read, decoded, or has changed.
    pub(super) fn bytes(&self, row: usize, sample_len: usize) -> DataResult<Vec<u8>> {
        match self {
            Self::Files(files) => files.square(row),
            Self::Bytes(bytes) => Ok(bytes[row * sample_len..(row + 1) * sample_len].to_vec()),
            Self::Stored(rows) => match rows.read(&[row])? {
                Self::Bytes(bytes) => Ok(bytes),
                _ => Ok(Vec::new()),
            },
            Self::Float32(_) | Self::Float64(_) | Self::Whole(_) => Ok(Vec::new()),
        }
    }

    /// Reads the rows of a file into memory where they are small; others stay as they are.
    ///
    /// # Errors
    /// A file that cannot be read, or has changed.
    pub(super) fn settled(self) -> DataResult<Self> {
        if let Self::Stored(rows) = self { rows.settled() } else { Ok(self) }
    }

    /// Bytes that rows of a file would take in memory; 0 for others.
    pub(super) fn bytes_in_file(&self) -> usize {
        if let Self::Stored(rows) = self { rows.memory_bytes() } else { 0 }
    }

    /// Reads the rows of a file into memory, whatever their size; others stay as they are.
    ///
    /// # Errors
    /// As [`Inputs::settled`].
    pub(super) fn in_memory(&self) -> DataResult<Cow<'_, Self>> {
        Ok(match self {
            Self::Stored(rows) => Cow::Owned(rows.read(&(0..rows.len()).collect::<Vec<_>>())?),
            _ => Cow::Borrowed(self),
        })
    }

    /// The given rows of `sample_len` numbers each; the rows must exist.
    pub(super) fn take(&self, rows: &[usize], sample_len: usize) -> Self {
        match self {
            Self::Bytes(values) => Self::Bytes(take(values, rows, sample_len)),
            Self::Float32(values) => Self::Float32(take(values, rows, sample_len)),
            Self::Float64(values) => Self::Float64(take(values, rows, sample_len)),
            Self::Whole(values) => Self::Whole(take(values, rows, sample_len)),
            Self::Files(files) => Self::Files(files.take(rows)),
            Self::Stored(stored) => Self::Stored(stored.take(rows)),
        }
    }
}

impl Column {
    /// The given rows, which must exist.
    pub(super) fn take(&self, rows: &[usize]) -> Self {
        let inputs = self.inputs.take(rows, self.sample_shape.iter().product());
        Self { name: self.name.clone(), sample_shape: self.sample_shape.clone(), inputs }
    }

    /// As [`Inputs::settled`].
    pub(super) fn settled(self) -> DataResult<Self> {
        Ok(Self { inputs: self.inputs.settled()?, ..self })
    }
}

impl Targets {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Tokens { labels, .. } => labels.len() / self.per_row().max(1),
            Self::Values { values, .. } => values.len() / self.per_row().max(1),
        }
    }

    /// Targets of one row.
    pub(super) fn per_row(&self) -> usize {
        match self {
            Self::Classes { .. } => 1,
            Self::Tokens { sample_shape, .. } | Self::Values { sample_shape, .. } => sample_shape.iter().product(),
        }
    }

    /// The given rows, which must exist.
    pub(super) fn take(&self, rows: &[usize]) -> Self {
        match self {
            Self::Classes { labels, num_classes } => {
                Self::Classes { labels: take(labels, rows, 1), num_classes: *num_classes }
            }
            Self::Tokens { labels, sample_shape, num_classes } => Self::Tokens {
                labels: take(labels, rows, self.per_row()),
                sample_shape: sample_shape.clone(),
                num_classes: *num_classes,
            },
            Self::Values { values, sample_shape } => {
                Self::Values { values: take(values, rows, self.per_row()), sample_shape: sample_shape.clone() }
            }
        }
    }
}

/// The given rows of `width` values each, which must exist.
pub(super) fn take<T: Copy>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
    rows.iter().flat_map(|&row| &values[row * width..(row + 1) * width]).copied().collect()
}

impl Normalisation {
    /// Spreads a single entry over all channels and checks the numbers.
    pub(super) fn fit(&mut self, channels: usize) -> DataResult<()> {
        let (means, stds) = (self.mean.len(), self.std.len());
        if means != stds || (means != 1 && means != channels) {
            return Err(DataError::NormalisationLength { means, stds, channels });
        }
        if means == 1 {
            (self.mean, self.std) = (vec![self.mean[0]; channels], vec![self.std[0]; channels]);
        }
        for (channel, (&mean, &std)) in self.mean.iter().zip(&self.std).enumerate() {
            if !(mean.is_finite() && std.is_finite() && std > 0.0) {
                return Err(DataError::NormalisationValue { channel, mean, std });
            }
        }
        Ok(())
    }
}
