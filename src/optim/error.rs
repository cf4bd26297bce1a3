//! What can go wrong with settings, schedules and states of optimisers.

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("train: `{name}` is {value}, but must be {expected}")]
pub struct SettingError {
    /// The setting.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// What it must be.
    pub expected: &'static str,
}

impl SettingError {
    /// The error, unless the value is `usable`.
    pub(crate) fn unless(
        usable: bool,
        name: &'static str,
        value: f64,
        expected: &'static str,
    ) -> Result<(), SettingError> {
        if usable { Ok(()) } else { Err(Self { name, value, expected }) }
    }
}

/// An optimiser or schedule that cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptimError {
    /// A method that does not exist.
    #[error("unknown optimizer `{name}`")]
    UnknownMethod {
        /// What was written.
        name: String,
        /// The most similar method.
        nearest: Option<String>,
        /// The names of all methods.
        known: &'static [&'static str],
    },
    /// A method with a setting that it does not have.
    #[error("optimizer `{text}`: {reason}")]
    MethodSetting {
        /// What was written.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A buffer that cannot be restored.
    #[error("optimizer state: `{name}` {reason}")]
    State {
        /// The buffer.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A schedule that cannot be read.
    #[error("unknown learning-rate schedule `{text}`")]
    Schedule {
        /// What was written.
        text: String,
        /// The most similar schedule.
        nearest: Option<String>,
    },
}

impl OptimError {
    /// How to mend it.
    pub fn hint(&self) -> String {
        let asked = |nearest: &String| format!("did you mean `{nearest}`?");
        match self {
            Self::UnknownMethod { nearest, known, .. } => {
                nearest.as_ref().map_or_else(|| format!("choose one of: {}", known.join(", ")), asked)
            }
            Self::MethodSetting { .. } => {
                "examples: sgd:momentum=0.9,nesterov=true  adamw:beta1=0.9  sam:rho=0.05,base=adamw  fsgld:sigma=0.01"
                    .into()
            }
            Self::State { .. } => "resume with the method and the model that the state was saved for".into(),
            Self::Schedule { nearest, .. } => {
                let start = nearest.as_ref().map_or(String::new(), |nearest| asked(nearest) + " ");
                start
                    + "examples: constant  cosine:warmup=2  multi_step:30-60,gamma=0.1  cyclical:cycles=4,exploration=0.9"
            }
        }
    }
}
