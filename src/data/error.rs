//! What can go wrong while reading data, and how to mend it.

use std::path::PathBuf;

use super::images::ImageError;
use super::labels::LabelError;

/// What can go wrong while reading data; a row is counted from 0 in the file or split that is named.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Labels of a file cannot take the place of the source's own.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// Image files, or what is done to images.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// A file or folder exists but could not be read.
    #[error("data: cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file or folder does not exist.
    #[error("data: {} does not exist", path.display())]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// What should be there.
        expected: String,
    },
    /// A file where a folder is expected.
    #[error("data: {} is a file, not a folder", path.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
    },
    /// A folder where a file is expected.
    #[error("data: {} is a folder, not a file", path.display())]
    NotAFile {
        /// The folder.
        path: PathBuf,
        /// What should be there.
        expected: String,
    },
    /// A folder without the files of the split.
    #[error("data: no {what} in {}", folder.display())]
    NoFiles {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        what: String,
        /// The files that are expected.
        expected: String,
    },
    /// Some shards of a Parquet data set are not there.
    #[error("data: {} holds {found} of {announced} shards of the {split} split", folder.display())]
    MissingShards {
        /// The folder.
        folder: PathBuf,
        /// `train` or `test`.
        split: &'static str,
        /// Shards seen.
        found: usize,
        /// Shards that the file names announce.
        announced: usize,
    },
    /// A source of an unknown name.
    #[error("data: unknown source `{name}`")]
    UnknownSource {
        /// As given.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
        /// The forms of all sources.
        known: String,
    },
    /// A text of the wrong form.
    #[error("data: `{text}` is not a valid {what}")]
    Syntax {
        /// What the text should be.
        what: &'static str,
        /// As given.
        text: String,
        /// The form it should have.
        expected: String,
    },
    /// The source has one split only.
    #[error("data: `{source_name}` has no test split")]
    NoTestSplit {
        /// The source.
        source_name: String,
    },
    /// Rows that existed in the memory of another process only.
    #[error("data: the rows were passed in memory by a program and cannot be read again")]
    InMemory,
    /// The source has no rows.
    #[error("data: `{source_name}` has no rows")]
    NoRows {
        /// The source.
        source_name: String,
    },
    /// More drawn images than a split can have.
    #[error("data: a split of {count} glyphs is too large: it can have at most {limit}")]
    TooManyGlyphs {
        /// Images wanted.
        count: usize,
        /// Most images.
        limit: usize,
    },
    /// A row range without rows.
    #[error("data: rows {start}..{end} is empty")]
    EmptyRange {
        /// First row.
        start: usize,
        /// One past the last row.
        end: usize,
    },
    /// A row range that reaches past the data.
    #[error("data: rows {start}..{end} reach past the end: the split has {num_rows} rows")]
    RangePastEnd {
        /// First row.
        start: usize,
        /// One past the last row.
        end: usize,
        /// Rows of the split.
        num_rows: usize,
    },
    /// A row index that is not in the data set.
    #[error("data: row {row} does not exist: there are {num_rows} rows")]
    NoSuchRow {
        /// The index.
        row: usize,
        /// Rows of the data set.
        num_rows: usize,
    },
    /// A subset that is empty or larger than what it is chosen from.
    #[error("data: a subset of {count} rows cannot be chosen from {num_rows} rows")]
    SubsetSize {
        /// Rows wanted.
        count: usize,
        /// Rows to choose from.
        num_rows: usize,
    },
    /// Label noise on targets that are not classes, or on a single class.
    #[error("data: label noise needs at least 2 classes, but `{source_name}` has {}", classes_text(.num_classes))]
    NoiseNeedsClasses {
        /// The source.
        source_name: String,
        /// `None` where the targets are real values.
        num_classes: Option<usize>,
    },
    /// A file whose content is damaged or of another kind.
    #[error("data: {} is damaged or not {kind}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What it should be, such as `an idx file`.
        kind: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// A file that was written to while rows were read from it.
    #[error("data: {} has changed since it was opened", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file that is shorter or longer than its header says.
    #[error("data: {} holds {} bytes, not the {announced} that its header announces", path.display(), found_text(.found, .announced))]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Bytes there are, counted up to one past `announced`.
        found: u64,
        /// Bytes there should be.
        announced: u64,
    },
    /// A file that would take more memory than is allowed.
    #[error("data: {}: {what} would take more than {} MiB", path.display(), memory_bytes >> 20)]
    Memory {
        /// The file.
        path: PathBuf,
        /// What would not fit.
        what: &'static str,
        /// What is allowed.
        memory_bytes: usize,
    },
    /// Too many classes for noise that depends on the image.
    #[error(
        "data: instance noise on samples of this size is possible for at most {most} classes, but there are {num_classes}"
    )]
    NoiseClasses {
        /// Classes, one more than the largest label.
        num_classes: usize,
        /// The most that is possible.
        most: usize,
    },
    /// Inputs and targets of different lengths.
    #[error("data: {} inputs but {targets} targets in {}", .inputs, path.display())]
    LengthMismatch {
        /// The file or folder.
        path: PathBuf,
        /// Rows of the inputs.
        inputs: usize,
        /// Rows of the targets.
        targets: usize,
    },
    /// A Parquet file without a column, or with one of another type.
    #[error("data: {} has no column `{column}`; its columns are {found}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// Name and type wanted.
        column: String,
        /// Names and types there are.
        found: String,
    },
    /// An image that cannot be decoded or is not of the right size.
    #[error("data: {}, row {row}: {reason}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Row in that file.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A class label outside the classes of the source.
    #[error("data: {}, row {row}: label {label} is not a class (0 to {})", path.display(), num_classes.saturating_sub(1))]
    Label {
        /// The file.
        path: PathBuf,
        /// Row in that file.
        row: usize,
        /// As stored.
        label: i128,
        /// Classes of the source.
        num_classes: u64,
    },
    /// A file without one of the tensors.
    #[error("data: {} has no tensor `{name}`; it has {found}", path.display())]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// `x` or `y`.
        name: String,
        /// Names there are.
        found: String,
    },
    /// A tensor whose dtype or shape does not fit.
    #[error("data: {}: `{name}` is {dtype} of shape {shape:?}, but must be {expected}", path.display())]
    WrongTensor {
        /// The file.
        path: PathBuf,
        /// `x` or `y`.
        name: String,
        /// As stored.
        dtype: String,
        /// As stored.
        shape: Vec<usize>,
        /// What is expected.
        expected: &'static str,
    },
    /// A NaN or an infinity.
    #[error("data: {}: `{name}` has the value {value} in row {row}", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// `x` or `y`.
        name: String,
        /// Row of the tensor.
        row: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// Mean and standard deviation that do not fit the channels or are not usable numbers.
    #[error("data: normalisation has {means} means and {stds} standard deviations for {channels} channels")]
    NormalisationLength {
        /// Number of means.
        means: usize,
        /// Number of standard deviations.
        stds: usize,
        /// Channels of the data.
        channels: usize,
    },
    /// A mean that is not finite or a standard deviation that is not positive.
    #[error("data: normalisation of channel {channel} has mean {mean} and standard deviation {std}")]
    NormalisationValue {
        /// Channel, from 0.
        channel: usize,
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
    /// A label that the model has no output for.
    #[error("data: row {row} has label {label}, but the model has {outputs} classes")]
    LabelPastOutputs {
        /// Row of the data set.
        row: usize,
        /// Its label.
        label: i64,
        /// Classes of the model.
        outputs: usize,
    },
}

fn classes_text(num_classes: &Option<usize>) -> String {
    num_classes.map_or("real targets".to_string(), |count| count.to_string())
}

fn found_text(found: &u64, announced: &u64) -> String {
    if found > announced { format!("more than {announced}") } else { found.to_string() }
}

impl DataError {
    /// [`DataError::Syntax`] of `text`.
    pub(super) fn syntax(what: &'static str, text: &str, expected: impl Into<String>) -> Self {
        Self::Syntax { what, text: text.into(), expected: expected.into() }
    }

    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { expected, .. }
            | Self::NotAFolder { expected, .. }
            | Self::NotAFile { expected, .. }
            | Self::NoFiles { expected, .. } => format!("expected {expected}"),
            Self::MissingShards { .. } => "download the remaining shards into the same folder".to_string(),
            Self::UnknownSource { nearest, known, .. } => {
                let asked = nearest.as_ref().map_or(String::new(), |name| format!("did you mean `{name}`? "));
                format!("{asked}the sources are {known}")
            }
            Self::Syntax { expected, .. } => format!("write {expected}"),
            Self::NoTestSplit { .. } => "pass the file of the test rows as --data, with --split train".to_string(),
            Self::InMemory => "pass the same rows from that program, or as a file with --data".to_string(),
            Self::NoRows { .. } => "choose a source with at least one row".to_string(),
            Self::TooManyGlyphs { limit, .. } => format!("choose 1 to {limit} images"),
            Self::EmptyRange { .. } => "the end must be larger than the start: rows A..B are A to B - 1".to_string(),
            Self::RangePastEnd { num_rows, .. } => format!("choose rows within 0..{num_rows}"),
            Self::NoSuchRow { num_rows, .. } => format!("choose rows below {num_rows}"),
            Self::SubsetSize { num_rows, .. } => format!("choose 1 to {num_rows} rows"),
            Self::NoiseNeedsClasses { .. } => "leave the label noise out".to_string(),
            Self::Corrupt { .. } | Self::WrongSize { .. } => {
                "the file may be incomplete: compare its size or checksum with the original's".to_string()
            }
            Self::Changed { .. } => "repeat the command when nothing writes to the file any more".to_string(),
            Self::Memory { .. } => "raise --memory if the file is meant to be this large".to_string(),
            Self::NoiseClasses { .. } => "the largest label determines the number of classes: check it, or choose another kind of noise".to_string(),
            Self::LengthMismatch { .. } => "inputs and targets must have the same number of rows".to_string(),
            Self::NoColumn { .. } => {
                "expected the layout of the Hugging Face data set: `img` (struct with `bytes`) and `label`, for CIFAR-100 \
                 `fine_label`; for CIFAR-N `clean` and the name of the set"
                    .to_string()
            }
            Self::Image { .. } => "expected 32x32 RGB images as PNG or JPEG".to_string(),
            Self::Label { .. } => "class labels count from 0".to_string(),
            Self::NoTensor { .. } | Self::WrongTensor { .. } => {
                "expected inputs [N, ...] of floats or whole numbers (one may be called `x`), and `y`: classes [N] or [N, ...], or \
                 real targets [N, ...]"
                    .to_string()
            }
            Self::NonFinite { .. } => "remove such rows or replace the values".to_string(),
            Self::NormalisationLength { channels, .. } => {
                format!("set one mean and one standard deviation, or {channels} of each")
            }
            Self::NormalisationValue { .. } => "means must be finite, standard deviations positive".to_string(),
            Self::LabelPastOutputs { .. } => "choose an architecture with an output for each class; labels that do not count \
                                              are named by `ignore_index` of cross-entropy"
                .to_string(),
            Self::Labels(error) => error.hint(),
            Self::Images(error) => error.hint(),
            Self::Io { .. } => return None,
        };
        Some(hint)
    }
}
