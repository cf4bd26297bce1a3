//! What can go wrong in training.

/// A run that cannot begin or go on, or that left the finite numbers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// Tracked numbers that cannot be read.
    #[error("nothing to track: `{text}`")]
    Track {
        /// What was written.
        text: String,
    },
    /// A file of initial weights that does not fit the network.
    #[error("initial weights do not fit the network: {}", misfits.join("; "))]
    Init {
        /// Tensors that are missing or have another shape.
        misfits: Vec<String>,
    },
    /// Buffers that only a file has values for.
    #[error("train: only a file has values for these buffers: {}", names.join(", "))]
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
            Self::Track { .. } => Some("examples: top:1,trace  top:5  trace".into()),
            Self::Init { .. } => {
                Some("choose the --model of the file; only the last linear layer may have another shape".into())
            }
            Self::NoFreshBuffers { .. } => {
                Some("begin with the weights of the file: --init FILE in place of --model FILE".into())
            }
            Self::StateLength { .. } => Some("start again with --force in place of --resume".into()),
            Self::NonFinite { .. } => Some("lower the learning rate, or the noise (sigma, beta_inverse, rho)".into()),
        }
    }
}
