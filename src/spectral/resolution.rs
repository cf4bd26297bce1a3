//! How finely Gauss rules see a spectrum, and where they see nothing of it but its mass.

use std::f64::consts::LN_10;

use super::gauss::Jacobi;
use super::{Quadrature, SlqReport};

/// Kernels wider than this, in decades, say nothing of where an eigenvalue lies.
const WIDEST: f64 = 0.25;
/// Places along a log axis at which the resolution is looked at.
const PLACES: usize = 500;
/// Eigenvalues below this share of the largest are its rounding in f32.
const ROUNDING: f64 = 1e-5;

/// Share of the largest `|λ|` down to which a settled density locates eigenvalues.
const LOCATED: f64 = 0.01;

impl SlqReport {
    /// Whether the density has settled: the last quarter of the steps moved it by no more than `tolerance` (see
    /// [`Self::change`]), and eigenvalues beyond 1 % of the largest `|λ|` can be located.
    pub(crate) fn is_settled(&self, tolerance: f64) -> bool {
        self.change() <= tolerance && self.is_located()
    }

    /// Whether eigenvalues beyond 1 % of the largest `|λ|` can be located.
    pub(super) fn is_located(&self) -> bool {
        let resolution = Resolution::of(self);
        resolution.scale == 0.0 || resolution.threshold() <= LOCATED * resolution.scale
    }
}

/// What each probe sees of the eigenvalues that are not known.
#[derive(Debug, Clone)]
pub(super) struct Resolution {
    /// Its moments.
    pub(super) probes: Vec<Jacobi>,
    /// Nodes of its Gauss rule, ascending, and the wider of the gaps on either side of each.
    gaps: Vec<Vec<(f64, f64)>>,
    /// The largest `|λ|` seen.
    scale: f64,
}

impl Resolution {
    /// Of the rules: in a survey those of each start vector alone, off the known eigenvalues.
    pub(super) fn of(slq: &SlqReport) -> Self {
        let moments = |rule: &Quadrature| {
            let (nodes, weights) = slq.rest(rule);
            Jacobi::of(nodes, weights, rule.exact, slq.num_steps)
        };
        let probes: Vec<Jacobi> = slq.probes.iter().map(moments).collect();
        let nodes = slq.probes.iter().flat_map(|rule| &rule.nodes);
        let scale = nodes.fold(0.0, |scale: f64, node| scale.max(node.abs()));
        // A measure of few points is known.
        let open = probes.iter().filter(|jacobi| !jacobi.is_closed());
        Self { gaps: open.map(gaps).collect(), probes, scale }
    }

    /// The distance of nodes at `value`, the mean over the probes; 0 where the spectrum is known.
    pub(super) fn gap(&self, value: f64) -> f64 {
        let sum: f64 = self.gaps.iter().map(|gaps| between(gaps, value)).sum();
        if self.gaps.is_empty() { 0.0 } else { sum / self.gaps.len() as f64 }
    }

    /// The smallest `|λ|` from which on nodes lie closer, on a log axis, than a quarter of a decade: below, a mass is known
    /// and not its place. At least 10⁻⁵ of the largest `|λ|`, about the rounding of an f32 spectrum; 1 for an operator that
    /// is zero.
    pub(super) fn threshold(&self) -> f64 {
        if self.scale == 0.0 {
            return 1.0;
        }
        let place = |i: usize| self.scale * ROUNDING.powf(1.0 - i as f64 / PLACES as f64);
        let blurred = |size: f64| self.gap(size).max(self.gap(-size)) > WIDEST * LN_10 * size;
        (0..=PLACES).rev().find(|&i| blurred(place(i))).map_or(ROUNDING * self.scale, |i| place((i + 1).min(PLACES)))
    }
}

fn gaps(jacobi: &Jacobi) -> Vec<(f64, f64)> {
    let nodes: Vec<f64> = jacobi.rule().into_iter().map(|(node, _)| node).collect();
    let apart = |i: usize| nodes.get(i + 1).map_or(0.0, |next| next - nodes[i]);
    (0..nodes.len()).map(|i| (nodes[i], apart(i).max(if i > 0 { apart(i - 1) } else { 0.0 }))).collect()
}

/// Linear between the nodes, constant outside.
fn between(gaps: &[(f64, f64)], value: f64) -> f64 {
    let above = gaps.partition_point(|(node, _)| *node < value);
    match (above.checked_sub(1).map(|below| gaps[below]), gaps.get(above)) {
        (Some((low, gap)), Some(&(high, next))) if high > low => gap + (next - gap) * (value - low) / (high - low),
        (_, Some(&(_, gap))) | (Some((_, gap)), None) => gap,
        (None, None) => 0.0,
    }
}
