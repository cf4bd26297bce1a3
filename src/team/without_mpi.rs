//! Without MPI a process is alone.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::started_together;
use crate::Error;

/// Runs `command`, which stops when the flag that it is given is set, and gives its exit code.
pub fn lead(
    asked: Arc<AtomicBool>,
    _complain: impl Fn(&Error),
    command: impl FnOnce(Arc<AtomicBool>) -> u8 + Send,
) -> u8 {
    command(asked)
}

/// Whether ranks can hear of each other.
pub(super) const BUILT: bool = false;

/// How many ranks were started that cannot hear of each other.
pub(super) fn unheard() -> Option<usize> {
    started_together()
}

/// Nothing starts ranks.
pub(super) fn slurm_plugin() -> Option<&'static str> {
    None
}
