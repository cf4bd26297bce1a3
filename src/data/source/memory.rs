//! Rows that a program passes in memory: what a result says of them.

use super::kind::Kind;
use super::request::Request;
use super::table::Table;
use crate::data::{DataError, DataResult};

/// Rows that a program passed in memory, such as those of a loader in Python. Results record their hash; they cannot be read
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory;

impl Kind for Memory {
    fn about() -> &'static str {
        "rows that a program passed in memory"
    }

    fn parse(place: Option<&str>) -> Option<Self> {
        place.is_none().then_some(Self)
    }

    fn caption(&self) -> String {
        "memory".into()
    }

    fn has_test_split(&self) -> bool {
        false
    }

    fn open(&self, _request: &Request) -> DataResult<Table> {
        Err(DataError::InMemory)
    }
}
