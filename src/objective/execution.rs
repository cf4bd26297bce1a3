//! How much of the machine an objective may use.

use crate::kernels::DEFAULT_MEMORY;

/// How much of the machine a computation may use. Threads change no bit of any result; memory decides micro-batches and
/// pieces of sums, and so the last digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// Threads of the pool that all work shares: see [`Workers`](crate::Workers).
    pub threads: usize,
    /// What the engine plans with, in bytes; micro-batches, blocks and pieces are chosen to fit it.
    pub memory_bytes: usize,
}

impl Default for Execution {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, memory_bytes: DEFAULT_MEMORY }
    }
}
