//! What can go wrong while a network runs.

/// A missing tensor, or targets that do not fit the outputs.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// The weights lack a tensor that a layer names.
    #[error("network: tensor `{name}` is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// The loss cannot take these targets.
    #[error("loss: {loss} cannot take {targets} for {outputs} outputs")]
    Targets {
        /// The loss in words.
        loss: String,
        /// The targets in words.
        targets: String,
        /// Outputs of the network.
        outputs: usize,
    },
    /// The network's output is no matrix.
    #[error("network: the output has shape {got:?}, but losses need [N, outputs]")]
    OutputShape {
        /// Its shape.
        got: Vec<usize>,
    },
    /// The loss is NaN or infinite.
    #[error("loss: not finite on the data row at position {row}")]
    NonFinite {
        /// Position among the chosen rows.
        row: usize,
    },
}

impl NnError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::MissingTensor { .. } => "the architecture does not belong to these weights".into(),
            Self::Targets { .. } => {
                "choose --loss cross-entropy for classes, mse for real targets, bce for targets in 0..1".into()
            }
            Self::OutputShape { .. } => "end the network with flatten or a linear layer".into(),
            Self::NonFinite { .. } => "look for NaN in the weights or the data (`flatness info` counts them)".into(),
        })
    }
}
