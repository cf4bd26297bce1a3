//! How much of a pass is done at a time: directions, rows and workers. Only the workers depend on the machine, and they
//! change no result.

use super::Objective;
use super::pass::Direction;
use super::sum::{cut, cut_evenly};

/// Directions that one product carries at a time where memory allows.
pub const BLOCK: usize = 8;

/// Micro-batches of a product, at least, where each pays for committing a gradient: work for as many threads.
const WANTED_PIECES: usize = 16;

/// What an activation of a block may occupy to stay near a core: a fixed figure, not this machine's cache.
const NOMINAL_CACHE_BYTES: usize = 5 << 19;

impl Objective<'_> {
    /// Directions per pass: [`BLOCK`], or fewer where two blocks of f64 would fill half of the memory.
    pub fn block_size(&self) -> usize {
        (self.options.execution.memory_bytes / 4 / (8 * self.dim().max(1))).clamp(1, BLOCK)
    }

    /// Rows of a micro-batch that carries `directions`: enough arithmetic to pay for committing a gradient, no more
    /// activations than stay near a core or fit the memory. Depends on the model, the dtype and the memory only.
    pub fn micro_batch(&self, directions: usize) -> usize {
        let bytes = self.options.dtype.size_in_bytes() * (1 + directions);
        let cached = NOMINAL_CACHE_BYTES / (bytes * self.cost.largest_activation.max(1));
        let fitting = self.options.execution.memory_bytes / 8 / (bytes * self.cost.activations.max(1));
        cached.max(self.paying_rows()).min(fitting).max(1)
    }

    /// Rows whose arithmetic hides the commit of a gradient: about 256 multiply-adds for each parameter.
    pub(crate) fn paying_rows(&self) -> usize {
        (256 * self.dim()).div_ceil(self.cost.multiply_adds.max(1)).max(1)
    }

    /// Shard and rows of each micro-batch of a pass, where no batch statistics couple the rows.
    pub(crate) fn micro_batches(&self, direction: &Direction) -> Vec<(usize, Vec<usize>)> {
        let size = self.micro_batch(direction.count);
        if direction.by_shard {
            return cut(&self.shards, size);
        }
        let share = self.num_rows().div_ceil(WANTED_PIECES).max(self.paying_rows());
        cut_evenly(&self.shards, size.min(share))
    }

    /// As many workers as asked for, and as fit the memory with `rows` rows each.
    pub(crate) fn workers(&self, directions: usize, rows: usize) -> usize {
        if !self.options.device.is_cpu() {
            return 1;
        }
        let execution = self.options.execution;
        execution.threads.min(execution.memory_bytes / self.worker_bytes(directions, rows).max(1)).max(1)
    }

    /// The gradients and activations of a worker with `rows` rows.
    fn worker_bytes(&self, directions: usize, rows: usize) -> usize {
        self.options.dtype.size_in_bytes() * (1 + directions) * (self.dim() + rows * self.cost.activations)
    }

    /// What a product with `directions` vectors occupies: the vectors, their products, the sum in f64, and the workers.
    pub(crate) fn product_bytes(&self, directions: usize) -> usize {
        let (rows, workers) = if self.couples_rows() {
            (self.num_rows(), 1)
        } else {
            let size = self.micro_batch(directions);
            (size.min(self.num_rows()), self.workers(directions, size))
        };
        let vectors = directions * self.dim() * (2 * self.options.dtype.size_in_bytes() + 8);
        vectors + workers * self.worker_bytes(directions, rows)
    }
}
