//! What can go wrong while labels are replaced by those of a file.

use std::path::PathBuf;

/// What can go wrong while labels are replaced by those of a file; rows count from 0.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// No file was named and none is where they usually are.
    #[error("labels: no file with {set} beside the data; looked for {}", list(.looked))]
    NoFile {
        /// The set of labels, such as `cifar10n:worse`.
        set: &'static str,
        /// Paths tried.
        looked: Vec<PathBuf>,
    },
    /// Labels for a source whose targets are not classes.
    #[error("labels: the targets of `{source_name}` are not classes")]
    NeedsClasses {
        /// The source.
        source_name: String,
    },
    /// More or fewer labels than the source has rows.
    #[error("labels: {} has {labels} labels, but the training split of `{source_name}` has {rows} rows", path.display())]
    Count {
        /// The file of labels.
        path: PathBuf,
        /// Labels there.
        labels: usize,
        /// The source.
        source_name: String,
        /// Its rows.
        rows: usize,
    },
    /// The file's clean labels are not those of the source.
    #[error("labels: {} has its rows in another order than `{source_name}`: row {row} is of class {theirs} there, but of class {ours} here", path.display())]
    Order {
        /// The file of labels.
        path: PathBuf,
        /// The source.
        source_name: String,
        /// First row that differs.
        row: usize,
        /// The file's clean label.
        theirs: i64,
        /// The source's label.
        ours: u32,
    },
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no file, since the data are not in a folder".into();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl LabelError {
    /// How to mend it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoFile { set, .. } => format!("put one of these files there, or give its path: `{set}:FILE`"),
            Self::NeedsClasses { .. } => "leave the labels out".into(),
            Self::Count { .. } => "the labels are for another data set, or rows of the source are missing".into(),
            Self::Order { .. } => {
                "the labels are in the order of CIFAR's Python version, from which the binary version differs: use the \
                 Parquet files"
                    .into()
            }
        }
    }
}
