//! What can go wrong between the arguments and the work.

use std::path::PathBuf;

/// A command that cannot be carried out as asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The output folder holds a result.
    #[error("{} already holds a result", folder.display())]
    OutputExists {
        /// The folder.
        folder: PathBuf,
    },
    /// The output file exists.
    #[error("{} exists", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// The output path is a file.
    #[error("{} is a file, but --out names a folder", path.display())]
    OutputIsFile {
        /// The file.
        path: PathBuf,
    },
    /// The output path is a folder.
    #[error("{} is a folder, but --out names a file", path.display())]
    OutputIsFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Eigenvectors of two spaces.
    #[error("{} and {} differ in their {what}: their vectors cannot be compared", paths[0].display(), paths[1].display())]
    OtherSpace {
        /// The two results.
        paths: [PathBuf; 2],
        /// What differs.
        what: &'static str,
    },
    /// A run's configuration that cannot be read.
    #[error("{}: {reason}", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing says what to train.
    #[error("--model is missing: nothing says which network to train")]
    NoModel,
    /// Nothing says which data to train on.
    #[error("--data is missing: nothing says which data to train on")]
    NoTrainingData,
    /// Nothing says which data to use.
    #[error("{} does not say which data it was trained on", checkpoint.display())]
    NoData {
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// Nothing says which loss to use.
    #[error("no loss is known for {}", checkpoint.display())]
    NoLoss {
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// An argument's value does not make sense.
    #[error("{argument} {value}: {reason}")]
    Argument {
        /// The argument's name.
        argument: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CliError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::OutputExists { .. } | Self::FileExists { .. } => "choose another --out, or add --force".into(),
            Self::OtherSpace { .. } => "compare results of one architecture and one --scope".into(),
            Self::OutputIsFile { .. } | Self::OutputIsFolder { .. } => "choose another --out".into(),
            Self::Plan { .. } => "compare with config.toml in the folder of a run".into(),
            Self::NoModel => "name it, such as --model resnet-cifar:20".into(),
            Self::NoTrainingData => "name it, such as --data glyphs".into(),
            Self::NoData { .. } => "name the data with --data, such as --data cifar10:DIR".into(),
            Self::NoLoss { .. } => "name it with --loss cross-entropy, mse or bce".into(),
            Self::Argument { .. } => return None,
        })
    }
}
