//! How much of a pass is done at a time: directions, rows and workers. Only the workers depend on the machine, and they
//! change no result.

use super::Objective;
use super::sum::{MicroBatch, SumShape, cut, cut_evenly};

/// What is asked of a pass over the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Vectors of a product; 0 of a loss or gradient.
    pub(crate) directions: usize,
    /// Whether sums by data shard are wanted: micro-batches then stay within a shard.
    pub(crate) by_shard: bool,
    /// Whether there is a gradient, or a product, to sum.
    pub(crate) gradients: bool,
}

impl Asked {
    /// Losses alone.
    pub(crate) const LOSS: Self = Self { directions: 0, by_shard: false, gradients: false };
    /// Losses and their gradient.
    pub(crate) const GRADIENT: Self = Self { directions: 0, by_shard: false, gradients: true };
}

/// Directions that one product carries at a time where memory allows.
pub(crate) const BLOCK: usize = 8;

/// Micro-batches of a product, at least, where each pays for committing a gradient: work for as many threads.
const WANTED_BATCHES: usize = 16;

/// Pieces of a sum: at most so many, or one for each few micro-batches, so that their sums cost little to merge. Ranks share
/// whole pieces.
const FEW_PIECES: usize = 16;
const BATCHES_OF_PIECE: usize = 8;
const MOST_PIECES: usize = 1024;

/// What an activation of a block may occupy to stay near a core: a fixed figure, not this machine's cache.
const NOMINAL_CACHE_BYTES: usize = 5 << 19;

impl Objective<'_> {
    /// Directions per pass: `BLOCK`, or fewer where two blocks of f64 would fill half of the memory, or a product would take more
    /// than its share.
    pub fn block_size(&self) -> usize {
        let most = (self.options.execution.memory_bytes / 4 / (8 * self.dim().max(1))).clamp(1, BLOCK);
        let fits = |directions: &usize| self.nominal_product_bytes(*directions) <= self.product_share();
        (1..=most).rev().find(fits).unwrap_or(1)
    }

    /// What a product with `directions` vectors occupies on two threads, however many there are.
    pub(crate) fn nominal_product_bytes(&self, directions: usize) -> usize {
        let rows = self.rows_at_a_time(directions);
        self.shared_bytes(directions, rows, 2) + 2 * self.worker_bytes(directions, rows)
    }

    /// The most that a product may occupy.
    fn product_share(&self) -> usize {
        self.options.execution.memory_bytes / 4 * 3
    }

    fn rows_at_a_time(&self, directions: usize) -> usize {
        if self.couples_rows() { self.num_rows() } else { self.micro_batch(directions).min(self.num_rows()) }
    }

    /// Of a product: the vectors, their products, and the sums of so many workers in f64.
    fn shared_bytes(&self, directions: usize, rows: usize, workers: usize) -> usize {
        let vectors = 2 * directions * self.dim() * self.options.dtype.size_in_bytes();
        vectors + self.sums_bytes(directions, rows, workers)
    }

    /// Rows of a micro-batch that carries `directions`: enough arithmetic to pay for committing a gradient, no more
    /// activations than stay near a core or fit the memory. Depends on the model, the dtype and the memory only.
    pub fn micro_batch(&self, directions: usize) -> usize {
        let bytes = self.options.dtype.size_in_bytes() * (1 + directions);
        let cached = NOMINAL_CACHE_BYTES / (bytes * self.cost.largest_activation.max(1));
        let fitting = self.options.execution.memory_bytes / 8 / (bytes * self.cost.activations.max(1));
        cached.max(self.paying_rows(directions)).min(fitting).max(1)
    }

    /// Rows whose arithmetic hides the commit of the gradient, or of each of the products: about 1536 multiply-adds for each
    /// parameter. A row takes as many as three forward passes for a gradient, and six for a product.
    pub(crate) fn paying_rows(&self, directions: usize) -> usize {
        let passes = if directions == 0 { 3 } else { 6 };
        (1536 / passes * self.dim()).div_ceil(self.cost.multiply_adds.max(1)).max(1)
    }

    /// The micro-batches of a pass: one, where batch statistics couple the rows.
    pub(crate) fn micro_batches(&self, asked: Asked) -> Vec<MicroBatch> {
        if self.couples_rows() {
            return vec![MicroBatch { shard: 0, rows: self.shards[0].clone() }];
        }
        match asked.by_shard {
            true => cut(&self.shards, self.micro_batch(asked.directions)),
            false => self.even_micro_batches(self.shards.concat(), asked.directions),
        }
    }

    /// Even micro-batches of `rows`: where they pay, enough for several threads, and two in any case, which a sum keeps as they come.
    pub(crate) fn even_micro_batches(&self, rows: Vec<usize>, directions: usize) -> Vec<MicroBatch> {
        let share = rows.len().div_ceil(WANTED_BATCHES).max(self.paying_rows(directions));
        let half = rows.len().div_ceil(2);
        let two_fit = 4 * self.worker_bytes(directions, half) <= self.options.execution.memory_bytes;
        let most = if two_fit { half } else { rows.len() };
        cut_evenly(rows, self.micro_batch(directions).min(share).min(most).max(1))
    }

    /// Pieces of a sum over so many micro-batches: see [`pieces`].
    pub(crate) fn pieces(&self, batches: usize, sum_bytes: usize) -> usize {
        pieces(batches, sum_bytes, self.options.execution.memory_bytes)
    }

    /// As many workers as asked for, and as fit the memory with `rows` rows each.
    pub(crate) fn worker_limit(&self, directions: usize, rows: usize) -> usize {
        self.workers_within(self.options.execution.memory_bytes, directions, rows)
    }

    /// The workers of a product, or of a gradient: as many as fit beside what they share.
    pub(crate) fn sum_worker_limit(&self, directions: usize, rows: usize) -> usize {
        let shared = self.shared_bytes(directions, rows, 1);
        self.workers_within(self.product_share().saturating_sub(shared), directions, rows)
    }

    fn workers_within(&self, bytes: usize, directions: usize, rows: usize) -> usize {
        if !self.options.device.is_cpu() {
            return 1;
        }
        self.options.execution.threads.min(bytes / self.worker_bytes(directions, rows).max(1)).max(1)
    }

    /// The gradients and activations of a worker with `rows` rows.
    fn worker_bytes(&self, directions: usize, rows: usize) -> usize {
        self.options.dtype.size_in_bytes() * (1 + directions) * (self.dim() + rows * self.cost.activations)
    }

    /// What a product with `directions` vectors occupies: the vectors, their products, the sums in f64, and the workers.
    pub(crate) fn product_bytes(&self, directions: usize) -> usize {
        let rows = self.rows_at_a_time(directions);
        let workers = if self.couples_rows() { 1 } else { self.sum_worker_limit(directions, rows) };
        self.shared_bytes(directions, rows, workers) + workers * self.worker_bytes(directions, rows)
    }

    /// What a training step on `rows` rows occupies: their activations at a time, the gradient, and four vectors of the
    /// optimiser.
    pub(crate) fn training_bytes(&self, rows: usize) -> usize {
        self.worker_bytes(0, rows) + 4 * self.dim() * self.options.dtype.size_in_bytes()
    }

    /// What a product with `directions` vectors leaves of half of the memory, which is its share.
    pub(crate) fn spare_bytes(&self, directions: usize) -> usize {
        (self.options.execution.memory_bytes / 2).saturating_sub(self.product_bytes(directions))
    }

    /// The sums that exist at a time: of the pieces that workers with `rows` rows have begun, and of the levels of the tree.
    fn sums_bytes(&self, directions: usize, rows: usize, workers: usize) -> usize {
        let bytes = SumShape { directions, columns: self.dim() }.bytes();
        let batches = self.num_rows().div_ceil(rows.max(1));
        let pieces = self.pieces(batches, bytes);
        let begun = (workers * pieces).div_ceil(batches.max(1));
        pieces.min(begun + pieces.ilog2() as usize) * bytes
    }
}

/// Pieces of even numbers of micro-batches, for sums of `sum_bytes` each: at most [`FEW_PIECES`], or one for each
/// [`BATCHES_OF_PIECE`] micro-batches up to [`MOST_PIECES`]; even where several, so that two threads end together; and fewer
/// where the sum at hand and one on each level of the tree would take more than a sixth of the memory.
fn pieces(batches: usize, sum_bytes: usize, memory_bytes: usize) -> usize {
    let fitting = (memory_bytes / 6).checked_div(sum_bytes).unwrap_or(usize::MAX);
    let sums = fitting.clamp(1, 1 + MOST_PIECES.ilog2() as usize);
    let most = 1 << (sums - 1);
    let batches_each = batches.div_ceil(most).max(batches.div_ceil(FEW_PIECES).min(BATCHES_OF_PIECE)).max(1);
    match batches.div_ceil(batches_each) {
        0 | 1 => 1,
        pieces => pieces.next_multiple_of(2).min(batches),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_few_even_and_fit() {
        let of = |batches| pieces(batches, 1000, 1 << 30);
        let expected =
            [(0, 1), (1, 1), (2, 2), (3, 3), (15, 15), (16, 16), (17, 10), (20, 10), (32, 16), (33, 12), (128, 16)];
        for (batches, expected) in expected {
            assert_eq!(of(batches), expected, "{batches}");
        }
        assert_eq!([1_000, 8_192, 50_000].map(of), [126, 1024, 1022]);
        // Sums without vectors take no memory.
        assert_eq!(pieces(64, 0, 1), 16);
        // One sum in a sixth of the memory: one piece; k + 1 sums: 2^k pieces.
        for (sums, expected) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (100, 512)] {
            assert_eq!(pieces(4096, 1000, 6 * (1000 * sums + 500)), expected, "{sums}");
        }
    }
}
