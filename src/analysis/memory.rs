//! What fits into `--memory`.

use crate::objective::Objective;
use crate::spectral::DenseReport;

/// Memory for Krylov bases: 3/8 of `--memory`. A block product takes up to half of it, and the allocator's
/// reserve, which varies from run to run, the rest.
pub(super) fn basis_bytes(objective: &Objective<'_>) -> usize {
    share_of(objective.options().execution.memory_bytes)
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
