//! What can go wrong with operators made of operators.

/// An operator that cannot be made, or vectors that do not fit it.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Vectors of another length than the operator's.
    #[error("vectors have shape {got:?}, but the operator has dimension {dim}: expected [k, {dim}]")]
    BlockShape {
        /// Their shape.
        got: Vec<usize>,
        /// The operator's dimension.
        dim: usize,
    },
    /// Index ranges that are empty, overlap, are not in order or reach past the end.
    #[error("cannot restrict an operator of dimension {dim} to {ranges:?}")]
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
    /// A diagonal with NaN or infinite entries.
    #[error("scaling: the diagonal has entries that are not finite in {dtype}")]
    Scale {
        /// The operator's dtype.
        dtype: &'static str,
    },
}

impl OperatorError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BlockShape { dim, .. } => format!("give vectors as rows of length {dim}"),
            Self::Ranges { dim, .. } => format!("give ascending ranges within 0..{dim} that do not overlap"),
            Self::NotOrthonormal { .. } => "orthonormalise the vectors first".into(),
            Self::Scale { .. } => "give finite numbers; --dtype f64 holds larger ones".into(),
        })
    }
}
