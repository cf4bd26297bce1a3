//! Which rows of a source: split, range and random subset, each with its text form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::draw::choose;
use super::{DataError, DataResult};
use crate::random::{Purpose, stream};

/// Which part of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The rows to train on.
    #[default]
    Train,
    /// The held-out rows.
    Test,
}

/// Rows `start` to `end − 1`; written `A..B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RowRange {
    start: usize,
    end: usize,
}

/// A seeded choice of rows without replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subset {
    /// Rows to keep.
    pub count: usize,
    /// Seed of the choice.
    #[serde(default)]
    pub seed: u64,
}

impl RowRange {
    /// Rows `start` to `end − 1`.
    ///
    /// # Errors
    /// [`DataError::EmptyRange`] where `end` is not above `start`.
    pub fn new(start: usize, end: usize) -> Result<Self, DataError> {
        if start < end { Ok(Self { start, end }) } else { Err(DataError::EmptyRange { start, end }) }
    }
}

impl FromStr for RowRange {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        let numbers = text.split_once("..").and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)));
        match numbers {
            Some((start, end)) => Self::new(start, end),
            None => Err(DataError::syntax("row range", text, "`A..B` for rows A to B - 1, such as `0..1000`")),
        }
    }
}

impl fmt::Display for RowRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl TryFrom<String> for RowRange {
    type Error = DataError;

    fn try_from(text: String) -> DataResult<Self> {
        text.parse()
    }
}

impl From<RowRange> for String {
    fn from(range: RowRange) -> Self {
        range.to_string()
    }
}

impl Split {
    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        match text {
            "train" => Ok(Self::Train),
            "test" => Ok(Self::Test),
            _ => Err(DataError::syntax("split", text, "`train` or `test`")),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rows that `range` and `subset` leave of `num_rows`, ascending.
pub(super) fn select(num_rows: usize, range: Option<RowRange>, subset: Option<Subset>) -> DataResult<Vec<usize>> {
    let RowRange { start, end } = range.unwrap_or(RowRange { start: 0, end: num_rows });
    if end > num_rows {
        return Err(DataError::RangePastEnd { start, end, num_rows });
    }
    let Some(Subset { count, seed }) = subset else { return Ok((start..end).collect()) };
    if count == 0 || count > end - start {
        return Err(DataError::SubsetSize { count, num_rows: end - start });
    }
    let chosen = choose(&mut stream(seed, Purpose::Subset), end - start, count);
    Ok(chosen.into_iter().map(|row| start + row).collect())
}
