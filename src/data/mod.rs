//! Data sets: sources, splits, labels and label noise, augmentation and batches.

mod augment;
mod batch;
mod dataset;
mod draw;
mod error;
mod files;
mod foreign;
mod hash;
mod images;
mod instance;
mod labels;
mod loader;
mod noise;
mod numbers;
mod parquet;
mod rows;
mod selection;
mod source;
mod spec;
mod stored;
#[cfg(test)]
pub(crate) mod testing;

pub use augment::Augmentation;
pub use batch::{Batch, TargetBatch};
pub use dataset::Dataset;
pub(crate) use draw::choose;
pub use error::DataError;
pub use images::{ImageError, ImageFiles};
pub use labels::{LabelError, LabelSet, LabelSource};
pub use loader::{Batches, EpochPlan, with_batches};
pub use noise::LabelNoise;
pub use rows::{Column, Inputs, Normalisation, Targets};
pub use selection::{RowRange, Split, Subset};
pub(crate) use source::read_weights;
pub use source::{Cifar10, Cifar100, GlyphOptions, Glyphs, Images, Memory, Mnist, Source, Tensors, Tokens};
pub use spec::{DataSpec, NormalisationChoice};
pub use stored::StoredRows;

/// `Result` with this folder's error.
pub(crate) type DataResult<T> = std::result::Result<T, DataError>;
