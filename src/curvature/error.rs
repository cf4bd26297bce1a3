//! What can go wrong between an objective and its operators.

/// An operator, scope or subset that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum CurvatureError {
    /// Only a softmax gives labels to draw.
    #[error("Monte Carlo Fisher: labels are drawn from the softmax of cross-entropy, but the loss is {loss}")]
    NoLabelModel {
        /// The loss in words.
        loss: String,
    },
    /// Batch statistics make one sample's outputs depend on the other rows.
    #[error("exact {what}: batch normalisation in training mode couples the rows")]
    CoupledRows {
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
    /// Vectors of another length than the operator's.
    #[error("vectors have shape {got:?}, but the operator has dimension {dim}: expected [k, {dim}]")]
    BlockShape {
        /// Their shape.
        got: Vec<usize>,
        /// The operator's dimension.
        dim: usize,
    },
    /// A sum of nothing, or of operators on different spaces.
    #[error("sum of operators: dimensions {dims:?}, dtypes {dtypes:?}")]
    Terms {
        /// Of each term.
        dims: Vec<usize>,
        /// Of each term.
        dtypes: Vec<candle_core::DType>,
    },
    /// Index ranges that are empty, overlap, are not in order or reach past the end.
    #[error("restriction to {ranges:?} of an operator of dimension {dim}")]
    Ranges {
        /// The ranges.
        ranges: Vec<std::ops::Range<usize>>,
        /// The operator's dimension.
        dim: usize,
    },
    /// Vectors to deflate by that are not orthonormal.
    #[error("deflation: an entry of QQᵀ is off the identity's by {deviation:.1e}, more than {tolerance:.1e}")]
    NotOrthonormal {
        /// The largest deviation.
        deviation: f64,
        /// What rounding explains.
        tolerance: f64,
    },
    /// Text that is no scope.
    #[error("scope `{text}`: {reason}")]
    UnknownScope {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A scope that no parameter belongs to.
    #[error("scope `{scope}` has no parameters")]
    EmptyScope {
        /// The scope.
        scope: String,
        /// What there is, the most similar first.
        candidates: Vec<String>,
    },
}

impl CurvatureError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoLabelModel { .. } => "use the GGN, which needs no labels, or the empirical Fisher matrix".into(),
            Self::CoupledRows { .. } => "use stored batch-norm statistics, or estimate it from random probes".into(),
            Self::TooFewColumns { outputs, .. } => format!("allow 2 columns, or all {outputs}"),
            Self::NoShards { num_shards, .. } => format!("choose a range within 0..{num_shards}"),
            Self::SubsetSize { num_rows, .. } => format!("choose 1 to {num_rows} rows"),
            Self::NonFiniteProduct { .. } => {
                "compute in f64 (--dtype f64); if that is no help, inputs or weights are far too large".into()
            }
            Self::BlockShape { dim, .. } => format!("give vectors as rows of length {dim}"),
            Self::Terms { .. } => "give one or more operators of equal dimension and dtype".into(),
            Self::Ranges { dim, .. } => format!("give ascending ranges within 0..{dim} that do not overlap"),
            Self::NotOrthonormal { .. } => "orthonormalise the vectors first".into(),
            Self::UnknownScope { .. } => {
                "write all, layer:NAME, kind:weight, kind:bias, kind:norm, or params:GLOB with * and ?".into()
            }
            Self::EmptyScope { candidates, .. } => match candidates.as_slice() {
                [] => return None,
                candidates => format!("there is {}", candidates.join(", ")),
            },
        })
    }
}
