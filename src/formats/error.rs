//! What can go wrong with an architecture.

use std::path::PathBuf;

use super::families::FAMILIES;

/// A description that cannot be read, or weights that do not fit it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file could not be read.
    #[error("architecture: cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text is neither valid JSON nor TOML, or lacks a field.
    #[error("architecture {origin}: {reason}")]
    Syntax {
        /// The file, or where else the text came from.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer kind that does not exist.
    #[error("architecture: {at}: unknown layer kind `{kind}`")]
    UnknownKind {
        /// Place in the list, such as `layers[3].main[0]`.
        at: String,
        /// What was written.
        kind: String,
        /// The most similar kind.
        nearest: Option<String>,
    },
    /// A field is missing, unknown or of the wrong type.
    #[error("architecture: {at}: {reason}")]
    Field {
        /// Place in the list.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// `param_order` is not a permutation of the layers' parameters.
    #[error("architecture: param_order does not match the layers: missing {missing:?}, unknown {unknown:?}")]
    ParamOrder {
        /// Parameters of the layers that it lacks.
        missing: Vec<String>,
        /// Names that no layer has, or that appear twice.
        unknown: Vec<String>,
    },
    /// One name stands for tensors of two shapes.
    #[error("architecture: tensor `{name}` is used with shapes {first:?} and {second:?}")]
    ConflictingShapes {
        /// The tensor.
        name: String,
        /// Its first shape.
        first: Vec<usize>,
        /// Its other shape.
        second: Vec<usize>,
    },
    /// A tensor that no machine can hold.
    #[error("architecture: tensor `{name}` of shape {shape:?} makes the model too large")]
    TooLarge {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// An archive that torch.export did not write, or not whole.
    #[error("{origin} cannot be read as an archive of torch.export: {reason}")]
    Archive {
        /// The file.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// Operations of an exported program that cannot be read, each with its count.
    #[error("program: unsupported: {}", operations.iter().map(in_modules).collect::<Vec<_>>().join(", "))]
    Unsupported {
        /// PyTorch's names, with the reason where the name is known, and the module of each occurrence.
        operations: Vec<(String, Vec<String>)>,
    },
    /// A module that returns several values, none of which is named as the output.
    #[error("program: {}", match wanted {
        Some(wanted) => format!("no floating-point output is named `{wanted}`; there are {}", names.join(", ")),
        None => format!("it has several floating-point outputs: {}", names.join(", ")),
    })]
    Outputs {
        /// The name asked for.
        wanted: Option<String>,
        /// The names that exist.
        names: Vec<String>,
    },
    /// A module that gives one number.
    #[error("program: its output is one number for the whole batch, but a value for each row is needed")]
    ScalarOutput,
    /// A program for one number of rows.
    #[error("program: input `{input}` has the fixed shape {shape}: the number of rows along axis 0 must be dynamic")]
    FixedBatch {
        /// The input.
        input: String,
        /// Its shape.
        shape: String,
    },
    /// A model family that does not exist.
    #[error("unknown model `{name}`")]
    UnknownFamily {
        /// What was written.
        name: String,
        /// The most similar family.
        nearest: Option<String>,
    },
    /// A family's short form with a bad argument.
    #[error("model `{text}`: {reason}")]
    FamilyArgument {
        /// What was written.
        text: String,
        /// What is wrong.
        reason: String,
    },
}

/// `erfinv.default (3, in head.0)`: how often, and where first.
fn in_modules((name, modules): &(String, Vec<String>)) -> String {
    match modules.iter().find(|module| !module.is_empty()) {
        Some(module) => format!("{name} ({}, in {module})", modules.len()),
        None => format!("{name} ({})", modules.len()),
    }
}

impl ModelError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => Some("check the path given with --arch or --model".into()),
            Self::UnknownKind { nearest, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean `{nearest}`? docs/models.md lists every kind"),
                None => "docs/models.md lists every kind".into(),
            }),
            Self::Syntax { .. } | Self::Field { .. } => Some("docs/models.md shows the format".into()),
            Self::UnknownFamily { nearest, .. } => Some(match nearest {
                Some(nearest) => {
                    format!("did you mean `{nearest}`? families: {}; or a file", FAMILIES.join(", "))
                }
                None => format!("families: {}; or a .json or .toml file", FAMILIES.join(", ")),
            }),
            Self::FamilyArgument { .. } => Some(
                "examples: mlp:512-256,relu  cnn:8-16  resnet-cifar:20,width=16  resnet18:stem=cifar  vit:patch=4"
                    .into(),
            ),
            Self::ParamOrder { .. } => Some("list every parameter once, or leave param_order out".into()),
            Self::ConflictingShapes { .. } => Some("give the tensors different names".into()),
            Self::Archive { .. } => {
                Some("write it again with torch.export.save, in PyTorch 2.5 or later".into())
            }
            Self::Outputs { .. } => Some("choose one with --output NAME; `flatness convert` keeps the choice".into()),
            Self::ScalarOutput => Some(
                "return the outputs, or the loss of each row (reduction=\"none\", then the mean over all axes but the first)"
                    .into(),
            ),
            Self::Unsupported { .. } => {
                Some("write the module with other operations; docs/coverage.md lists networks that are read".into())
            }
            Self::FixedBatch { input, .. } => Some(format!(
                "export with dynamic_shapes={{\"{input}\": {{0: torch.export.Dim(\"rows\")}}}} and a sample batch of 2 or more \
                 rows: a batch of 1 makes the size fixed"
            )),
            Self::TooLarge { .. } => Some("a model may have at most 2^36 elements".into()),
        }
    }
}
