//! What can go wrong with a program and while it runs.

use super::operand::Place;

/// A program that does not fit its inputs, its weights or its targets.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// An operation got operands that it cannot take.
    #[error("architecture: {}: {reason}", in_words(at, kind))]
    Shape {
        /// Where: the module or the layer's place.
        at: String,
        /// The kind of module or layer.
        kind: String,
        /// What does not fit.
        reason: String,
    },
    /// An operation names a value that nothing before it makes.
    #[error("program: `{node}` uses `{name}`, which nothing before it defines")]
    UnknownValue {
        /// The operation.
        node: String,
        /// The value.
        name: String,
    },
    /// Two values of one name.
    #[error("program: two values are named `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Training cannot go on parameters that analysis does not know.
    #[error("program: the programs for training and for analysis have different {what}")]
    Training {
        /// Inputs, parameters or buffers.
        what: String,
    },
    /// The weights lack a tensor that the program names.
    #[error("network: tensor `{name}` is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// The loss cannot take these targets.
    #[error("loss: {loss} cannot take {targets} for outputs of shape {outputs:?}")]
    Targets {
        /// The loss in words.
        loss: String,
        /// The targets in words.
        targets: String,
        /// Shape of the outputs.
        outputs: Vec<usize>,
    },
    /// Outputs whose classes may lie on either of two axes.
    #[error(
        "loss: outputs of shape {outputs:?} fit the targets with the classes on axis 1 as well as on the last axis"
    )]
    ClassAxis {
        /// Shape of the outputs.
        outputs: Vec<usize>,
    },
    /// Another number of class weights than classes.
    #[error("loss: there are {got} weights for {classes} classes")]
    ClassWeights {
        /// Weights.
        got: usize,
        /// Classes of the outputs.
        classes: usize,
    },
    /// A setting of a loss that is out of range.
    #[error("loss: `{name}` is {value}, but must be {expected}")]
    LossSetting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Targets that are not probabilities.
    #[error("loss: the target probabilities of row {row} contain {value}")]
    NegativeProbability {
        /// Position among the chosen rows.
        row: usize,
        /// The number.
        value: f64,
    },
    /// A mean over nothing.
    #[error("loss: no target counts for {loss}: every label is ignored or has the weight 0")]
    NothingCounts {
        /// The loss in words.
        loss: String,
    },
    /// Only a loss that sees the parameters through the outputs has a Gauss-Newton matrix.
    #[error(
        "loss: the program's own loss depends on the parameter `{parameter}` directly, not only through the outputs"
    )]
    LossSeesParameters {
        /// The parameter.
        parameter: String,
    },
    /// Another number of inputs than the program has.
    #[error("network: the program takes {expected} inputs, but got {got}")]
    Inputs {
        /// Given.
        got: usize,
        /// Of the program.
        expected: usize,
    },
    /// The data has no tensor for an input of the program.
    #[error("network: the data has no input `{name}`; it has {present:?}")]
    MissingInput {
        /// The input.
        name: String,
        /// What the data has.
        present: Vec<String>,
    },
    /// The program was asked for a loss that it does not bring.
    #[error("loss: the program does not define a loss")]
    NoLoss,
    /// The loss is NaN or infinite.
    #[error("loss: not finite on the data row at position {row}")]
    NonFinite {
        /// Position among the chosen rows.
        row: usize,
    },
}

/// `layers[3] (conv2d)`; what stands in no module has its kind alone.
fn in_words(at: &str, kind: &str) -> String {
    if at.is_empty() { kind.into() } else { format!("{at} ({kind})") }
}

impl ProgramError {
    /// What does not fit at a place.
    pub(crate) fn misfit(place: &Place, reason: impl Into<String>) -> Self {
        Self::Shape { at: place.module.clone(), kind: place.kind.clone(), reason: reason.into() }
    }

    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Shape { .. } => "compare the layer's fields with the shape of its input".into(),
            Self::UnknownValue { .. } | Self::DuplicateName { .. } => {
                "list operations in the order of execution, each under its own name".into()
            }
            Self::Training { .. } => "export both from one module: model.eval(), then model.train()".into(),
            Self::MissingTensor { .. } => "the architecture does not belong to these weights".into(),
            Self::Targets { .. } => "cross-entropy takes classes [N, …] for outputs [N, C, …] or [N, …, C], or probabilities in \
                                     the shape of the outputs; mse, l1, huber, smooth-l1 and bce take real targets in that \
                                     shape, bce also 0 and 1"
                .into(),
            Self::ClassAxis { .. } => "say which with --class-axis 1, as in PyTorch, or --class-axis -1".into(),
            Self::ClassWeights { classes, .. } => format!("give {classes} weights"),
            Self::LossSetting { .. } => "docs/models.md describes the losses and their settings".into(),
            Self::NegativeProbability { .. } => {
                "cross-entropy treats real targets as probabilities; mse, l1, huber and smooth-l1 accept any numbers".into()
            }
            Self::NothingCounts { .. } => "check `ignore_index` and `weight` of the loss against the labels".into(),
            Self::LossSeesParameters { .. } => "use the Hessian, which exists for every loss".into(),
            Self::Inputs { .. } | Self::MissingInput { .. } => {
                "name the tensors of the data as the program names its inputs (`flatness info` lists them)".into()
            }
            Self::NoLoss => "choose --loss cross-entropy, mse or another of docs/models.md".into(),
            Self::NonFinite { .. } => "look for NaN in the weights or the data (`flatness info` counts them)".into(),
        })
    }
}
