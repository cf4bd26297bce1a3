//! What can go wrong with the matrices of an objective.

/// A matrix or a trace that the objective does not have.
#[derive(Debug, thiserror::Error)]
pub enum CurvatureError {
    /// Only a softmax gives labels to draw.
    #[error("Monte Carlo Fisher: labels are drawn from the softmax of cross-entropy, but the loss is {loss}")]
    NoLabelModel {
        /// The loss in words.
        loss: String,
    },
    /// One row's outputs depend on the other rows.
    #[error("exact {what}: rows are not independent: {coupling}")]
    CoupledRows {
        /// The operation that couples them, and how.
        coupling: String,
        /// `trace` or `diagonal`.
        what: &'static str,
    },
    /// Too few random columns for a standard error.
    #[error("exact {what}: {got} random columns for {outputs} outputs, but a standard error needs 2 or more")]
    TooFewColumns {
        /// `trace` or `diagonal`.
        what: &'static str,
        /// The number asked for.
        got: usize,
        /// Outputs of the network.
        outputs: usize,
    },
    /// A matrix that is not, or may not be, a sum of outer products of vectors of its own rows.
    #[error("gram: the matrix {matrix} is not a sum of outer products that belong to single outputs or rows")]
    NoOuterProducts {
        /// Its name.
        matrix: &'static str,
    },
    /// The preconditioned Hessian without the state of an optimiser.
    #[error("the preconditioned Hessian needs the state of Adam, and none is given")]
    NoPreconditioner,
    /// A diagonal that divides nothing.
    #[error("preconditioner: the entry of parameter {index} of {dim} is {value}, but must be above 0 and finite")]
    Preconditioner {
        /// Place in the flat vector.
        index: usize,
        /// Length of the vector.
        dim: usize,
        /// The entry.
        value: f64,
    },
}

impl CurvatureError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPreconditioner => {
                "analyze takes it from --optimizer-state, or from the folder of a training with adamw".into()
            }
            Self::Preconditioner { .. } => {
                "with eps = 0, it is 0 for a parameter whose gradient was always 0: train with eps above 0".into()
            }
            Self::NoLabelModel { .. } => "use the GGN, which needs no labels, or the empirical Fisher matrix".into(),
            Self::CoupledRows { .. } => "use stored batch-norm statistics, or estimate it from random probes".into(),
            Self::TooFewColumns { outputs, .. } => format!("allow 2 columns, or all {outputs}"),
            Self::NoOuterProducts { .. } => {
                "the Fisher matrices and the covariance of gradients are such sums, and so is the GGN of a loss that is known to be \
                 convex in the outputs, where no row depends on the others"
                    .into()
            }
        })
    }
}
