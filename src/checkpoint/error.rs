//! What can go wrong with a file of tensors.

use std::path::PathBuf;

/// A file of tensors that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A folder without a file of weights of a usual name.
    #[error("{} is a folder without a weights file of a usual name", path.display())]
    NoWeightsInFolder {
        /// The folder.
        path: PathBuf,
    },
    /// An index of shards that cannot be used.
    #[error("{} is not an index of weight files: {reason}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of another kind.
    #[error("{} is {what}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Not a whole safetensors or zipped PyTorch file.
    #[error("{} is damaged or not a {format} file: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// `safetensors` or `PyTorch`.
        format: &'static str,
        /// What the reader met.
        reason: String,
    },
    /// No state of an optimiser where one would be.
    #[error("there is no state of an optimiser for {}: {} does not exist", checkpoint.display(), path.display())]
    NoOptimizerState {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// Where the state would be.
        path: PathBuf,
    },
    /// A file that is not the state of Adam, or belongs to another network.
    #[error("{} cannot serve as the state of the optimiser: {reason}", path.display())]
    OptimizerState {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No architecture in the metadata, none given.
    #[error("{} does not record its architecture", path.display())]
    NoArchitecture {
        /// The file.
        path: PathBuf,
    },
    /// Names and shapes that do not fit the architecture.
    #[error("{} does not fit the architecture: {}", path.display(), misfits(missing, misshapen, others))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Tensors of the architecture that the file lacks.
        missing: Vec<String>,
        /// `name: got […], expected […]`.
        misshapen: Vec<String>,
        /// Tensors of the file that the architecture has no use for.
        others: Vec<String>,
    },
    /// A dictionary of weights that a command asked for.
    #[error("{} contains no weights for this network under `{key}`", path.display())]
    NoWeightsKey {
        /// The file.
        path: PathBuf,
        /// The key asked for.
        key: String,
    },
    /// Several dictionaries of weights.
    #[error("{} contains several sets of weights that fit: {}", path.display(), keys.join(", "))]
    SeveralFit {
        /// The file.
        path: PathBuf,
        /// Where they stand.
        keys: Vec<String>,
    },
    /// NaN or infinity among the weights.
    #[error("{}: tensor `{name}` holds {count} values that are not finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first such tensor.
        name: String,
        /// How many of its values.
        count: usize,
    },
    /// An architecture without a single parameter.
    #[error("{}: the architecture has no parameters", path.display())]
    NoParameters {
        /// The file.
        path: PathBuf,
    },
    /// A state that belongs to other settings.
    #[error("{} is the state of another run: {}", path.display(), differing.join("; "))]
    OtherState {
        /// The state file.
        path: PathBuf,
        /// Keys of the configuration that differ, with both values.
        differing: Vec<String>,
    },
    /// A state that cannot be read.
    #[error("cannot resume from the state: {reason}")]
    UnreadableState {
        /// The file and what is wrong with it.
        reason: String,
    },
    /// A tensor whose numbers are damaged.
    #[error("{}: tensor `{name}` cannot be read: {reason}", path.display())]
    Numbers {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the reader met.
        reason: String,
    },
    /// A tensor that a command asked for.
    #[error("{} has no tensor `{name}`; it has {}", path.display(), grouped(present))]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// The names that exist.
        present: Vec<String>,
    },
    /// Vectors that have no direction.
    #[error("{}: `{name}` {reason}", path.display())]
    Vectors {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Names in a line: where there are more than ten, those that begin alike are counted, and ten are shown.
pub(super) fn grouped(names: &[String]) -> String {
    if names.len() <= 10 {
        return names.join(", ");
    }
    let top = |name: &String| name.split_once('.').map(|(top, _)| top.to_owned());
    let groups: Vec<&[String]> = names.chunk_by(|a, b| top(a).is_some() && top(a) == top(b)).collect();
    let shown: Vec<String> = groups
        .iter()
        .take(10)
        .map(|group| match (top(&group[0]), group.len()) {
            (Some(top), count @ 4..) if groups.len() > 1 => format!("{top}.* ({count})"),
            _ => group.iter().take(10).cloned().collect::<Vec<_>>().join(", "),
        })
        .collect();
    format!("{}, … ({} in all)", shown.join(", "), names.len())
}

fn misfits(missing: &[String], misshapen: &[String], others: &[String]) -> String {
    let parts = [("missing", missing), ("misshapen", misshapen), ("not used", others)];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(what, names)| format!("{what}: {}", grouped(names))).collect::<Vec<_>>().join("; ")
}

impl CheckpointError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => "check the path".into(),
            Self::NoWeightsInFolder { .. } => {
                "name the file itself; checkpoint.safetensors, model.safetensors and pytorch_model.bin are found by their folder".into()
            }
            Self::Index { .. } => "name the index beside its files, such as model.safetensors.index.json".into(),
            Self::Foreign { remedy, .. } => (*remedy).into(),
            Self::Corrupt { .. } | Self::Numbers { .. } => "copy the file again, or save the weights again with torch.save or safetensors".into(),
            Self::NoOptimizerState { .. } => {
                "name it with --optimizer-state: optimizer.safetensors of a training with adamw, or what torch.save wrote of \
                 optimizer.state_dict() of Adam or AdamW"
                    .into()
            }
            Self::OptimizerState { .. } => {
                "give the state of Adam or AdamW that was saved with these weights; where it has the parameters in another order \
                 than the network, make the optimiser with model.named_parameters()"
                    .into()
            }
            Self::NoArchitecture { .. } => {
                "name its network with --arch: a .json of layers, a .pt2 of torch.export or another checkpoint (docs/models.md)".into()
            }
            Self::NoWeightsKey { .. } => "leave --weights-key out: where several sets of weights fit, an error lists them".into(),
            Self::SeveralFit { .. } => "choose one with --weights-key KEY".into(),
            Self::Tensors { path, .. } if path.to_string_lossy().contains("-of-") => {
                "name the index of the shards, such as model.safetensors.index.json, or their folder".into()
            }
            Self::Tensors { .. } => "compare with `flatness info`, or correct the names in --arch".into(),
            Self::NotFinite { .. } => {
                "a training run that diverged leaves such weights: use an earlier file, or replace the values".into()
            }
            Self::NoParameters { .. } => "describe a network with weights (docs/models.md)".into(),
            Self::OtherState { .. } => {
                "repeat the command that wrote it, or start again with --force in place of --resume".into()
            }
            Self::UnreadableState { .. } => "start again with --force in place of --resume".into(),
            Self::Vectors { .. } => "expected vectors as rows, [k, n], of finite values that are not all 0".into(),
            Self::NoTensor { .. } => "rename the tensor in the file".into(),
        })
    }
}
