//! Data sets: sources, splits, labels and label noise, augmentation and batches.

mod arrays;
mod augment;
mod batch;
mod cifar;
mod dataset;
mod draw;
mod error;
mod files;
mod glyphs;
mod hash;
mod idx;
mod images;
mod instance;
mod labels;
mod loader;
mod noise;
mod npy;
mod parquet;
mod rows;
mod selection;
mod source;
mod spec;
mod table;
mod tensors;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;

pub use augment::Augmentation;
pub use batch::{Batch, TargetBatch};
pub use dataset::Dataset;
pub(crate) use draw::choose;
pub use error::DataError;
pub use glyphs::GlyphOptions;
pub use images::{ImageError, ImageFiles};
pub use labels::{LabelError, LabelSet, LabelSource};
pub use loader::{Batches, EpochPlan, with_batches};
pub use noise::LabelNoise;
pub(crate) use npy::read_weights;
pub use rows::{Column, Inputs, Normalisation, Targets};
pub use selection::{RowRange, Split, Subset};
pub use source::Source;
pub use spec::{DataSpec, NormalisationChoice};
pub use tokens::TokenFile;

/// `Result` with this folder's error.
pub(crate) type DataResult<T> = std::result::Result<T, DataError>;
