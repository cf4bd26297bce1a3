//! What can go wrong with chains on small potentials.

/// A study that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LangevinError {
    /// A number out of its range.
    #[error("langevin: {name} is {value}, but {reason}")]
    Setting {
        /// Which number.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        reason: &'static str,
    },
    /// A step size at which chains diverge.
    #[error("langevin: chains diverge at a step size of {step_size}: the limit for this potential is {limit:.4}")]
    Unstable {
        /// `λ`.
        step_size: f64,
        /// `2/k` of the steepest curvature.
        limit: f64,
    },
    /// A chain diverged.
    #[error("langevin: a chain diverged within {step} steps of size {step_size}")]
    Diverged {
        /// Steps until it was noticed.
        step: usize,
        /// `λ`.
        step_size: f64,
    },
}

impl LangevinError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setting { .. } => None,
            Self::Unstable { limit, .. } => Some(format!("choose --step-size {:.4} or less", limit / 4.0)),
            Self::Diverged { .. } => Some("choose a smaller --step-size".into()),
        }
    }
}
