//! What can go wrong in training.

/// A run that cannot start or continue, or whose numbers are no longer finite.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// A file of initial weights that does not fit the network.
    #[error("initial weights do not fit the network: {}", misfits.join("; "))]
    Init {
        /// Tensors that are missing or have another shape.
        misfits: Vec<String>,
    },
    /// Buffers whose initial values are known only from a file.
    #[error("train: these buffers have no initial values without a file of weights: {}", names.join(", "))]
    NoFreshBuffers {
        /// Their names.
        names: Vec<String>,
    },
    /// A state whose parameters are not the network's.
    #[error("the state holds {got} parameters, but the network trains {expected}")]
    StateLength {
        /// In the state.
        got: usize,
        /// In the network.
        expected: usize,
    },
    /// NaN or infinity where it first appeared.
    #[error("train: {what} not finite at epoch {epoch}, step {step} (learning rate {learning_rate:?})")]
    NonFinite {
        /// `the loss is`, `the parameters are`, …
        what: &'static str,
        /// From 1.
        epoch: usize,
        /// Steps since the start, this one included.
        step: usize,
        /// Of this step.
        learning_rate: f64,
    },
}

impl TrainError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Init { .. } => Some(
                "choose the --model that the file was saved from; only the last linear layer may differ in shape"
                    .into(),
            ),
            Self::NoFreshBuffers { .. } => {
                Some("start from the weights of the file, with --init FILE instead of --model FILE".into())
            }
            Self::StateLength { .. } => Some("start again, with --force instead of --resume".into()),
            Self::NonFinite { .. } => Some("lower the learning rate, or the noise (sigma, beta_inverse, rho)".into()),
        }
    }
}
