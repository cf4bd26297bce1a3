//! Threads that share the work on a vector.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// Numbers per piece of work and per sub-stream of noise; part of every result, so it never changes.
pub(super) const CHUNK: usize = 4096;

/// A pool of its own, so that `threads` is kept to. Vector work is elementwise or keyed by chunk: any number of threads
/// gives the same bits.
#[derive(Debug, Clone)]
pub(super) struct Workers(Arc<ThreadPool>);

impl Workers {
    pub(super) fn new(threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
        pool.map(|pool| Self(Arc::new(pool))).map_err(|error| Error::Threads { reason: error.to_string() })
    }

    /// Runs `work`, whose parallel iterators then use these threads.
    pub(super) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}
