//! What fits into `--memory`.

use crate::objective::Objective;
use crate::spectral::DenseReport;

/// Memory for Krylov bases: 3/8 of `--memory`, or what parameters, gradient and a block product leave of all of it. The rest is
/// for products, and for the allocator's reserve, which varies from run to run.
pub(super) fn basis_bytes(objective: &Objective<'_>) -> usize {
    let execution = objective.options().execution;
    let vectors = 2 * objective.dim() * objective.options().dtype.size_in_bytes();
    let others = vectors + objective.nominal_product_bytes(objective.block_size());
    share_of(execution.memory_bytes).min(execution.memory_bytes.saturating_sub(others))
}

fn share_of(memory_bytes: usize) -> usize {
    memory_bytes / 8 * 3
}

/// The memory whose share holds so many vectors.
pub(super) fn memory_for(vectors: usize, vector_bytes: usize) -> usize {
    vectors.saturating_mul(vector_bytes).div_ceil(3).saturating_mul(8)
}

/// Whether a matrix of dimension `dim` and its decomposition fit into that share of `memory_bytes`.
pub(super) fn matrix_fits(dim: usize, memory_bytes: usize) -> bool {
    DenseReport::memory_bytes(dim) <= share_of(memory_bytes)
}
