//! Gauss rules of a block Krylov space: the spectral measure that each start vector sees.

use nalgebra::DMatrix;

use crate::spectral::Quadrature;
use crate::spectral::dense::symmetric_eigen;
use crate::spectral::search::Search;

/// Block steps from which on a rule is compared with a shorter one, and between comparisons.
const STEPS_BETWEEN_CHECKS: usize = 4;

/// The rules of all start vectors, and how far they have settled.
pub(super) struct Rules {
    pub(super) probes: Vec<Quadrature>,
    /// Block steps: each rule is exact for polynomials of degree `2·num_steps − 1` at least.
    pub(super) num_steps: usize,
    /// Distance to the rules of three quarters of the steps: `W₁` over the mean `|λ|`; NaN for too few steps.
    pub(super) change: f64,
}

/// Eigenvalues at the two ends that are known exactly.
#[derive(Clone, Copy)]
struct Known {
    bottom: usize,
    top: usize,
}

/// Whether a check is due after so many block steps of at most `most`.
pub(super) fn is_due(num_steps: usize, most: usize) -> bool {
    num_steps >= most || num_steps >= 2 * STEPS_BETWEEN_CHECKS && num_steps.is_multiple_of(STEPS_BETWEEN_CHECKS)
}

impl Rules {
    /// Of the present basis, which has not restarted (Golub & Meurant 2010, chapter 6, for blocks): nodes are its Ritz
    /// values, weights the squared components of the Ritz vectors on each start vector.
    ///
    /// Converged pairs at the ends count with their exact weight `1/n` each, and the weights of the others are scaled to
    /// the rest: the part of a start vector in the complement of known eigenvectors is uniform there, so this removes
    /// the probe noise of the outliers, which is most of it.
    pub(super) fn of(search: &Search<'_>, num_probes: usize) -> Self {
        let (projected, ritz) = (search.state.projected(), &search.ritz);
        let rows = projected.nrows();
        let dim = search.operator.dim();
        let exact = search.state.is_complete() || search.state.closed > 0;
        let known = if search.state.is_complete() {
            Known { bottom: 0, top: rows }
        } else {
            let [bottom, top] = search.converged_at_ends();
            Known { bottom, top }
        };
        let probes = rules(&ritz.values, &ritz.vectors, (num_probes, dim), known, exact);
        let num_steps = rows.div_ceil(num_probes);
        let before = (3 * num_steps / 4) * num_probes;
        let change = if exact {
            0.0
        } else if num_steps < STEPS_BETWEEN_CHECKS || before < known.bottom + known.top {
            f64::NAN
        } else {
            let (values, vectors) = symmetric_eigen(projected.view((0, 0), (before, before)).into_owned());
            let shorter = rules(&values, &vectors, (num_probes, dim), known, false);
            relative_distance(&mean(&shorter), &mean(&probes))
        };
        Self { probes, num_steps, change }
    }
}

fn rules(
    nodes: &[f64],
    vectors: &DMatrix<f64>,
    (num_probes, dim): (usize, usize),
    known: Known,
    exact: bool,
) -> Vec<Quadrature> {
    let unknown = known.bottom..nodes.len() - known.top;
    let rest = 1.0 - (known.bottom + known.top) as f64 / dim as f64;
    (0..num_probes.min(vectors.nrows()))
        .map(|probe| {
            let mut weights: Vec<f64> = vectors.row(probe).iter().map(|component| component * component).collect();
            let seen: f64 = weights[unknown.clone()].iter().sum();
            for (index, weight) in weights.iter_mut().enumerate() {
                if !unknown.contains(&index) {
                    *weight = 1.0 / dim as f64;
                } else if seen > 0.0 {
                    *weight *= rest / seen;
                }
            }
            Quadrature { nodes: nodes.to_vec(), weights, exact }
        })
        .collect()
}

/// Nodes with their weights averaged over the probes.
fn mean(rules: &[Quadrature]) -> Vec<(f64, f64)> {
    let share = 1.0 / rules.len() as f64;
    rules.iter().flat_map(|rule| rule.nodes.iter().copied().zip(rule.weights.iter().map(move |w| w * share))).collect()
}

/// `∫ |F − G| dλ` of two measures of mass 1 (the Wasserstein distance of order 1), over the mean `|λ|` of the second.
fn relative_distance(first: &[(f64, f64)], second: &[(f64, f64)]) -> f64 {
    let size: f64 = second.iter().map(|(node, weight)| weight * node.abs()).sum();
    let mut jumps: Vec<(f64, f64)> =
        first.iter().map(|&(node, weight)| (node, -weight)).chain(second.iter().copied()).collect();
    jumps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut distance, mut difference) = (0.0, 0.0);
    for pair in jumps.windows(2) {
        difference += pair[0].1;
        distance += f64::abs(difference) * (pair[1].0 - pair[0].0);
    }
    if size > 0.0 { distance / size } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_work_of_moving_mass() {
        // Half of the mass moves by 2, against a mean |λ| of 1.
        let (at_zero, spread) = (vec![(0.0, 1.0)], vec![(0.0, 0.5), (2.0, 0.5)]);
        assert_eq!(relative_distance(&at_zero, &spread), 1.0);
        assert_eq!(relative_distance(&spread, &spread), 0.0);
        assert_eq!(relative_distance(&at_zero, &at_zero), 0.0);
    }

    #[test]
    fn known_eigenvalues_weigh_one_nth_and_the_rest_keeps_its_shape() {
        let vectors = DMatrix::from_row_slice(1, 3, &[0.6, 0.0, 0.8]);
        let rule = &rules(&[-1.0, 0.0, 9.0], &vectors, (1, 10), Known { bottom: 0, top: 1 }, false)[0];
        assert!((rule.weights[2] - 0.1).abs() < 1e-15 && (rule.weights[0] - 0.9).abs() < 1e-15);
        let all = &rules(&[-1.0, 0.0, 9.0], &vectors, (1, 3), Known { bottom: 0, top: 3 }, true)[0];
        assert!(all.weights.iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-15));
    }
}
