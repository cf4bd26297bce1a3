//! What the memory to plan with holds.

use crate::objective::Objective;
use crate::spectral::DenseReport;

/// Memory for Krylov bases with their copies: 3/8 of what there is to plan with. A block product takes up to half, and
/// what the allocator keeps in reserve, different from run to run, the rest.
pub(super) fn basis_bytes(objective: &Objective<'_>) -> usize {
    share_of(objective.options().execution.memory_bytes)
}

fn share_of(memory_bytes: usize) -> usize {
    memory_bytes / 8 * 3
}

/// Whether that share of `memory_bytes` has room for a matrix of dimension `dim` and its decomposition.
pub(super) fn matrix_fits(dim: usize, memory_bytes: usize) -> bool {
    DenseReport::memory_bytes(dim) <= share_of(memory_bytes)
}
