//! What is known of a value without computing it.

use serde::{Deserialize, Serialize};

/// What a value consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Kind {
    /// Floats, on the tape.
    #[default]
    #[serde(rename = "float")]
    Float,
    /// Whole numbers (i64), never differentiated.
    #[serde(rename = "int64")]
    Whole,
    /// Truth values (u8), never differentiated.
    #[serde(rename = "bool")]
    Truth,
}

impl Kind {
    /// What arithmetic makes of both: floats of floats and anything, whole numbers of different kinds.
    pub(super) fn joined(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Float, _) | (_, Self::Float) => Self::Float,
            _ => Self::Whole,
        }
    }
}

/// The axis along which a value holds the rows of the batch: it has `outer · N · inner` entries, row `n` those at
/// `(o · N + n) · inner + i`. Reshapes may have merged other axes into it, in front (`outer`) or behind (`inner`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowAxis {
    /// The axis.
    pub axis: usize,
    /// Blocks in front of the rows.
    pub outer: usize,
    /// Entries of one row within a block.
    pub inner: usize,
    /// Whether the value of row `n` is `n` itself: it may choose the row's own entries of other values, and nothing else.
    pub places: bool,
}

/// Where the rows are after an operation; `None` where the result does not depend on the inputs.
///
/// # Errors
/// In words, how the operation mixes rows.
pub type Tracked = Result<Option<RowAxis>, String>;

impl RowAxis {
    /// The batch as it comes: axis 0.
    pub(crate) const FIRST: Self = Self { axis: 0, outer: 1, inner: 1, places: false };

    /// The same along another axis.
    pub(super) fn at(self, axis: usize) -> Self {
        Self { axis, ..self }
    }
}

/// Kind and shape of a value, and where the rows of the batch lie in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fact {
    /// What it consists of.
    pub kind: Kind,
    /// Its shape for the batch at hand.
    pub shape: Vec<usize>,
    /// The batch axis; `None` where the value does not depend on the inputs.
    pub rows: Option<RowAxis>,
}

impl Fact {
    /// Floats of a shape, the same for every batch.
    pub fn float(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), ..Self::default() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// More elements than any machine holds in one tensor; far below where sizes would overflow.
pub(crate) const MAX_ELEMENTS: usize = 1 << 36;

/// The number of elements, where it is at most 2^36.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))?;
    (count <= MAX_ELEMENTS).then_some(count)
}

/// A dimension that may count from the end, as PyTorch's do.
///
/// # Errors
/// One that does not exist.
pub(crate) fn axis(dim: i64, rank: usize) -> Result<usize, String> {
    let axis = if dim < 0 { dim + rank as i64 } else { dim };
    match usize::try_from(axis) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => Err(format!("dimension {dim} is out of range for {rank} dimensions")),
    }
}

/// The shape of two operands broadcast together, aligned at the end.
///
/// # Errors
/// Sizes that are neither equal nor 1.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(format!("shapes {a:?} and {b:?} do not fit together")),
        })
        .collect()
}
