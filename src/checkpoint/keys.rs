//! Keys of the metadata.

/// Metadata key of the architecture.
pub const ARCH_KEY: &str = "flatness.arch";
/// Metadata key of the data specification.
pub(crate) const DATA_KEY: &str = "flatness.data";
/// Metadata key of the number of samples in a file of them.
pub(crate) const SAMPLES_KEY: &str = "flatness.samples";
/// Metadata key of the training facts.
pub(crate) const TRAIN_KEY: &str = "flatness.train";
/// Metadata key of the program's version.
pub(crate) const VERSION_KEY: &str = "flatness.version";
