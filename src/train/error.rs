//! What can go wrong in training.

use crate::optim::OPTIMIZERS;

/// Settings that make no sense, or a run that left the finite numbers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// A setting out of its range.
    #[error("train: `{name}` is {value}, but must be {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What would do.
        expected: &'static str,
    },
    /// A method that does not exist.
    #[error("unknown optimizer `{name}`")]
    UnknownOptimizer {
        /// What was written.
        name: String,
        /// The most similar method.
        nearest: Option<String>,
    },
    /// A method with a setting that it does not have.
    #[error("optimizer `{text}`: {reason}")]
    OptimizerSetting {
        /// What was written.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A word for weight decay that does not exist.
    #[error("no choice of parameters for weight decay: `{text}`")]
    Decay {
        /// What was written.
        text: String,
    },
    /// A buffer of an optimiser that cannot be restored.
    #[error("optimizer state: `{name}` {reason}")]
    OptimizerState {
        /// The buffer.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A schedule that cannot be read.
    #[error("no learning-rate schedule: `{text}`")]
    Schedule {
        /// What was written.
        text: String,
        /// The most similar schedule.
        nearest: Option<String>,
    },
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
    /// [`TrainError::Setting`] unless `usable`.
    pub(crate) fn unless(
        usable: bool,
        name: &'static str,
        value: f64,
        expected: &'static str,
    ) -> Result<(), TrainError> {
        if usable { Ok(()) } else { Err(Self::Setting { name, value, expected }) }
    }

    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setting { .. } => None,
            Self::UnknownOptimizer { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::UnknownOptimizer { nearest: None, .. } => Some(format!("optimizers: {}", OPTIMIZERS.join(", "))),
            Self::OptimizerSetting { .. } => Some(
                "examples: sgd:momentum=0.9,nesterov=true  adamw:beta1=0.9  sam:rho=0.05,base=adamw  fsgld:sigma=0.01"
                    .into(),
            ),
            Self::Decay { .. } => Some("it acts on `all` parameters, or on `weights` only".into()),
            Self::OptimizerState { .. } => {
                Some("go on with the method and the model that the state was saved for".into())
            }
            Self::Schedule { nearest, .. } => {
                let start = nearest.as_ref().map_or(String::new(), |nearest| format!("did you mean `{nearest}`? "));
                Some(start + "examples: constant  cosine:warmup=2  multi_step:30-60,gamma=0.1  cyclical:cycles=4")
            }
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
