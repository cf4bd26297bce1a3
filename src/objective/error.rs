//! What can go wrong with an objective and its parts.

/// A part that does not exist, or a product that is not finite.
#[derive(Debug, thiserror::Error)]
pub enum ObjectiveError {
    /// A part without rows, or one that does not exist.
    #[error("data shards {start}..{end} of an objective with {num_shards}")]
    NoShards {
        /// First shard.
        start: usize,
        /// The shard after the last.
        end: usize,
        /// Shards of the objective.
        num_shards: usize,
    },
    /// A subset of no rows, or of more than there are.
    #[error("a subset of {got} rows of an objective with {num_rows}")]
    SubsetSize {
        /// Rows asked for.
        got: usize,
        /// Rows of the objective.
        num_rows: usize,
    },
    /// A product that leaves the finite numbers, though the loss does not.
    #[error(
        "product: not finite on a micro-batch (shard {shard}, number of rows {num_rows}, the first at position {row})"
    )]
    NonFiniteProduct {
        /// The data shard.
        shard: usize,
        /// Position among the chosen rows of the first row of the micro-batch.
        row: usize,
        /// Rows of the micro-batch.
        num_rows: usize,
    },
}

impl ObjectiveError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoShards { num_shards, .. } => format!("choose a range within 0..{num_shards}"),
            Self::SubsetSize { num_rows, .. } => format!("choose 1 to {num_rows} rows"),
            Self::NonFiniteProduct { .. } => {
                "compute in f64 (--dtype f64); if that is no help, inputs or weights are far too large".into()
            }
        })
    }
}
