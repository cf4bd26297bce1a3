//! Weights of an input gradient in the order in which its tiles read them.
//!
//! The sources of an input gradient are the rows of `w`, so that a tile of a few targets takes a few numbers of each row.
//! Where the weights fit a core's cache that costs nothing; where they do not, most of each cache line would be read in
//! vain, four times over. A panel holds what one tile reads: for each source and tap, its targets' weights.

use super::operand::Operand;
use super::plan::{Plan, tile_sizes};
use crate::kernels::element::Element;
use crate::kernels::parallel;
use crate::kernels::simd::{Simd, SimdTask};
use crate::kernels::tiles::tiles;

/// Sources copied together: a cache line of each stays near while all tiles take their part of it.
const SOURCES: usize = 16;

/// The weights of each term in panels, direction by direction; nothing where the plan does without.
pub(super) fn of_terms<T: Element>(plan: &Plan, terms: &[(Operand<T>, Operand<T>)]) -> Vec<Vec<T>> {
    if !plan.in_panels {
        return Vec::new();
    }
    let copy = |weights: &[T]| {
        let mut panels = vec![T::ZERO; weights.len()];
        // A group is as independent as a direction.
        let len = plan.weight_len / plan.groups;
        parallel::for_chunks(&mut panels, len, |part, panels| fill(plan, &weights[part * len..], panels));
        panels
    };
    terms.iter().map(|(_, weights)| copy(weights.data)).collect()
}

/// The panels of one group of one direction: those of `tiles(targets)` in order, each `[sources, taps, targets of it]`.
fn fill<T: Element>(plan: &Plan, weights: &[T], panels: &mut [T]) {
    let (sources, targets) = (plan.sources, plan.targets);
    let taps = plan.target_step / sources.max(1);
    let most = T::dispatch(plan.isa, TargetsPerTile);
    for start in (0..sources).step_by(SOURCES) {
        for (first, count) in tiles(targets, most) {
            for source in start..sources.min(start + SOURCES) {
                let row = &weights[(source * targets + first) * taps..][..count * taps];
                let panel = &mut panels[first * sources * taps + source * taps * count..][..count * taps];
                for (target, row) in row.chunks_exact(taps).enumerate() {
                    row.iter().enumerate().for_each(|(tap, &weight)| panel[tap * count + target] = weight);
                }
            }
        }
    }
}

/// Asks for the targets of a full tile.
struct TargetsPerTile;

impl<T> SimdTask<T> for TargetsPerTile {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) -> usize {
        tile_sizes(S::REGISTERS).1
    }
}
