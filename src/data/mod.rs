//! Data sets: sources, splits, label noise and batches.

mod batch;
mod cifar;
mod dataset;
mod draw;
mod error;
mod files;
mod glyphs;
mod idx;
mod noise;
mod parquet;
mod source;
mod spec;
mod table;
mod tensors;
#[cfg(test)]
mod testing;

pub use batch::{Batch, TargetBatch};
pub use dataset::{Dataset, Inputs, Normalisation, Targets};
pub(crate) use draw::choose;
pub use error::DataError;
pub use glyphs::GlyphOptions;
pub use noise::LabelNoise;
pub use source::Source;
pub use spec::{DataSpec, NormalisationChoice, RowRange, Split, Subset};

/// `Result` with this folder's error.
pub(crate) type DataResult<T> = std::result::Result<T, DataError>;
