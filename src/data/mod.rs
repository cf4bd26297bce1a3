//! Data sets: sources, splits, label noise and batches.

mod batch;
mod cifar;
mod dataset;
mod draw;
mod error;
mod files;
mod glyphs;
mod hash;
mod idx;
mod instance;
mod labels;
mod noise;
mod parquet;
mod rows;
mod selection;
mod source;
mod spec;
mod table;
mod tensors;
#[cfg(test)]
mod testing;

pub use batch::TargetBatch;
pub use dataset::Dataset;
pub use error::DataError;
pub use glyphs::GlyphOptions;
pub use labels::{LabelError, LabelSet, LabelSource};
pub use noise::LabelNoise;
pub use rows::{Inputs, Normalisation, Targets};
pub use selection::{RowRange, Split, Subset};
pub use source::Source;
pub use spec::{DataSpec, NormalisationChoice};

/// `Result` with this folder's error.
pub(crate) type DataResult<T> = std::result::Result<T, DataError>;
