//! Data sets: sources, splits, label noise and batches.

use std::path::PathBuf;

/// What can go wrong while reading data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("data: cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl DataError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// Per-sample values before normalisation.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// Image bytes, `[N, C, H, W]` row-major; a byte `b` means `b / 255`.
    Bytes(Vec<u8>),
    /// Single precision as in the file, `[N, …]` row-major.
    Float32(Vec<f32>),
    /// Double precision as in the file, `[N, …]` row-major.
    Float64(Vec<f64>),
}

/// What the network should give.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Class indices below `num_classes`, `[N]`.
    Classes {
        /// One per row.
        labels: Vec<u32>,
        /// Number of classes.
        num_classes: usize,
    },
    /// Real targets, `[N, outputs]` row-major.
    Values {
        /// Row-major.
        values: Vec<f64>,
        /// Columns.
        outputs: usize,
    },
}

/// `(x − mean) / std` per channel, after bytes are divided by 255.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalisation {
    /// One per channel.
    pub mean: Vec<f64>,
    /// One per channel, positive.
    pub std: Vec<f64>,
}

/// Rows in memory, with where they came from.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The specification it was loaded from, such as `glyphs` or `cifar10:DIR`.
    pub source: String,
    /// Shape of one sample, `[C, H, W]` or `[features]`.
    pub sample_shape: Vec<usize>,
    /// Inputs of all rows.
    pub inputs: Inputs,
    /// Targets of all rows.
    pub targets: Targets,
    /// Applied when a batch is made; `None` leaves the values (bytes still become `b / 255`).
    pub normalisation: Option<Normalisation>,
    /// SHA-256 (hex) of inputs and targets as they are used.
    pub sha256: String,
}
