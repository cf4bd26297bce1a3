//! What can go wrong between the arguments and the work.

use std::path::PathBuf;

/// A command that cannot be carried out as asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Arguments that are not those of a command, in the words of the parser.
    #[error("{words}")]
    Arguments {
        /// What it says.
        words: String,
    },
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
    /// The output path is a device, a pipe or a socket.
    #[error("{} is not a regular file", path.display())]
    OutputIsDevice {
        /// The path.
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
    /// An argument of `compare` that holds nothing to compare.
    #[error("{}: {reason}", path.display())]
    NotComparable {
        /// The argument.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A network that does not say to which group it belongs.
    #[error("{member} does not record its `{key}`")]
    NoGroup {
        /// Its name.
        member: String,
        /// What groups are made by.
        key: String,
    },
    /// Two members of a group with one seed.
    #[error("group {group} contains seed {seed} twice")]
    SeedTwice {
        /// The group.
        group: String,
        /// The seed.
        seed: u64,
    },
    /// Fewer than two groups.
    #[error("{found}: there is nothing to compare with")]
    OneGroup {
        /// What there is.
        found: String,
    },
    /// Curvature of other rows or another loss.
    #[error("{} and {} differ in {key}: {} and {}", members[0].0, members[1].0, members[0].1, members[1].1)]
    MixedConditions {
        /// What differs.
        key: String,
        /// Two members and their values.
        members: Box<[(String, String); 2]>,
    },
    /// Results that are no longer what their `run.json` says.
    #[error("different from what run.json records: {}", differing.join("; "))]
    Unverified {
        /// Each result with what differs.
        differing: Vec<String>,
    },
    /// Nothing says which data to use.
    #[error("{} does not record which data it was trained on", checkpoint.display())]
    NoData {
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// Nothing says which loss to use.
    #[error("{} does not record its loss", checkpoint.display())]
    NoLoss {
        /// The checkpoint.
        checkpoint: PathBuf,
    },
}

impl CliError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Arguments { .. } => return None,
            Self::OutputExists { .. } | Self::FileExists { .. } => "choose another --out, or add --force".into(),
            Self::OtherSpace { .. } => "compare results of one architecture and one --scope".into(),
            Self::OutputIsFile { .. } | Self::OutputIsFolder { .. } | Self::OutputIsDevice { .. } => {
                "choose another --out".into()
            }
            Self::Unverified { .. } => {
                "copy the results again from where they were made, or repeat the commands that made them".into()
            }
            Self::NoData { .. } => "name the data with --data, such as --data cifar10:DIR".into(),
            Self::NoLoss { .. } => "name it with --loss: mse, l1, huber, smooth-l1 or bce for real targets".into(),
            Self::NotComparable { .. } => {
                "name checkpoints, folders of train, analyze or llc, or results of run or compare".into()
            }
            Self::NoGroup { .. } => "choose another key with --by, such as folder or learning_rate".into(),
            Self::SeedTwice { .. } => "groups may be finer with --by KEY, such as learning_rate or folder".into(),
            Self::OneGroup { .. } => "name networks of another method, or choose --by KEY".into(),
            Self::MixedConditions { .. } => {
                "analyze all on the same rows and with the same loss, or add --allow-mixed".into()
            }
        })
    }
}
