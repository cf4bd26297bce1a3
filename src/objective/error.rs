//! What can go wrong with an objective and its parts.

use crate::program::Place;

/// A part that does not exist, a product that is not finite, or a network that does not fit the memory.
#[derive(Debug, thiserror::Error)]
pub enum ObjectiveError {
    /// A part without rows, or one that does not exist.
    #[error("data shards {start}..{end} were asked for, but the objective has {num_shards}")]
    NoShards {
        /// First shard.
        start: usize,
        /// The shard after the last.
        end: usize,
        /// Shards of the objective.
        num_shards: usize,
    },
    /// A subset of no rows, or of more than there are.
    #[error("a subset of {got} rows was asked for, but the objective has {num_rows}")]
    SubsetSize {
        /// Rows asked for.
        got: usize,
        /// Rows of the objective.
        num_rows: usize,
    },
    /// A network of which one row does not fit the memory.
    #[error("{}: one row needs {elements} numbers, more than fit in {} MiB", at(place), memory_bytes >> 20)]
    RowTooLarge {
        /// The operation; empty for all of them together.
        place: Place,
        /// Numbers that exist at a time.
        elements: usize,
        /// What there is to plan with.
        memory_bytes: usize,
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

/// `layers[3] (conv2d)`.
fn at(place: &Place) -> String {
    match (place.module.as_str(), place.kind.as_str()) {
        ("", "") => "network".into(),
        ("", kind) => kind.into(),
        (module, kind) => format!("{module} ({kind})"),
    }
}

impl ObjectiveError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoShards { num_shards, .. } => format!("choose a range within 0..{num_shards}"),
            Self::SubsetSize { num_rows, .. } => format!("choose 1 to {num_rows} rows"),
            Self::RowTooLarge { .. } => "raise --memory, or check the sizes that the architecture names".into(),
            Self::NonFiniteProduct { .. } => {
                "compute in f64 (--dtype f64); if that does not help, inputs or weights are far too large".into()
            }
        })
    }
}
