//! What can go wrong in an evaluation.

/// Models or rows that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A loss or targets without classes.
    #[error("evaluate: needs one whole-number label for each row and two classes or more, but {what}")]
    NoClasses {
        /// What there is instead.
        what: String,
    },
    /// Rows none of which has a label that counts.
    #[error("evaluate: no row has a label that counts")]
    NoLabels,
    /// A model with another number of classes than the first.
    #[error("evaluate: {model} has {got} classes, but the first model has {expected}")]
    OtherClasses {
        /// Its name.
        model: String,
        /// Its classes.
        got: usize,
        /// Those of the first.
        expected: usize,
    },
    /// A model that expects other inputs than the first.
    #[error("evaluate: {model} was trained on inputs of another normalisation than the first model")]
    OtherInputs {
        /// Its name.
        model: String,
    },
    /// A set of other rows that the network cannot take.
    #[error("--ood {name}: its rows have the shape {got:?}, but the network takes {expected:?}")]
    OutsideShape {
        /// Of the set.
        name: String,
        /// Shape of its rows.
        got: Vec<usize>,
        /// Shape of the evaluated rows.
        expected: Vec<usize>,
    },
    /// Outputs that are not finite.
    #[error("evaluate: the outputs of {model} are not finite for row {row}")]
    NonFinite {
        /// The model.
        model: String,
        /// Position of the row.
        row: usize,
    },
}

impl EvaluationError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoClasses { .. } => {
                "evaluate a classifier: cross-entropy, or bce with one output; --loss names the loss".into()
            }
            Self::NoLabels => "choose other rows, or another ignore-index in --loss".into(),
            Self::OtherClasses { .. } | Self::OtherInputs { .. } => {
                "an average needs models of one task: evaluate the others by themselves".into()
            }
            Self::OutsideShape { .. } => {
                "images of bytes are resized, and grey ones repeated over three channels; bring other rows to that shape \
                 first and name them as tensors:FILE"
                    .into()
            }
            Self::NonFinite { .. } => "compute in f64 (--dtype f64); if that does not help, the weights are far too large".into(),
        })
    }
}
