//! A team of one.

use std::time::Duration;

use super::{Team, TeamError};
use crate::Result;

/// The only process, which has nobody to talk to.
#[derive(Debug)]
pub(crate) struct Alone;

impl Team for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn send(&self, to: usize, _: Vec<u8>) -> Result<Vec<u8>> {
        Err(TeamError::Message { reason: format!("there is no rank {to}") }.into())
    }

    fn receive(&self, from: usize, _: Vec<u8>) -> Result<Vec<u8>> {
        Err(TeamError::Message { reason: format!("there is no rank {from}") }.into())
    }

    fn talked(&self) -> Duration {
        Duration::ZERO
    }

    fn is_asked_to_stop(&self) -> bool {
        false
    }

    fn stop(&self) {}

    fn give_up(&self, _: &str, _: Option<&str>) {}
}
