//! How much of the machine an objective may use.

/// How much of the machine a computation may use. Neither figure changes a bit of any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// Worker threads.
    pub threads: usize,
    /// What the engine plans with, in bytes; micro-batches and blocks are chosen to fit it.
    pub memory_bytes: usize,
}

impl Default for Execution {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, memory_bytes: 2 << 30 }
    }
}
