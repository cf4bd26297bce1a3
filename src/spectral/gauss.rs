//! Measures known by their moments alone: Gauss rules, and what the moments say about the mass below a point.

/// A left-over of a step below this share of the largest entry is rounding.
const BREAKDOWN: f64 = 1e-14;
/// QR sweeps for one eigenvalue; three are usual.
const MAX_SWEEPS: usize = 60;

/// The Jacobi matrix of a measure of mass 1: its first `2m − 1` moments, for `m` steps.
#[derive(Debug, Clone)]
pub(super) struct Jacobi {
    /// The diagonal.
    alphas: Vec<f64>,
    /// Beside it: one entry fewer.
    betas: Vec<f64>,
    /// The measure has no more points than there were steps: the rule is the measure.
    closed: bool,
}

impl Jacobi {
    /// Of the measure that the rule of these nodes and weights stands for, by `steps` steps of Lanczos' method with full
    /// orthogonalisation (Gragg & Harrod 1984): the measure itself if `exact`, else one that shares the moments in question.
    /// Cost: `2 steps²` multiplications per node.
    pub(super) fn of(nodes: &[f64], weights: &[f64], exact: bool, steps: usize) -> Self {
        let mass: f64 = weights.iter().sum();
        let mut jacobi = Self { alphas: Vec::new(), betas: Vec::new(), closed: true };
        let mut next: Vec<f64> = weights.iter().map(|weight| (weight / mass).max(0.0).sqrt()).collect();
        let mut basis: Vec<Vec<f64>> = Vec::new();
        let size = nodes.iter().fold(0.0, |size: f64, node| size.max(node.abs()));
        while basis.len() < steps && mass > 0.0 {
            let mut rest: Vec<f64> = nodes.iter().zip(&next).map(|(node, entry)| node * entry).collect();
            jacobi.alphas.push(dot(&rest, &next));
            basis.push(next);
            // The second pass stays, as in `lanczos`.
            for vector in basis.iter().chain(&basis) {
                let along = dot(&rest, vector);
                rest.iter_mut().zip(vector).for_each(|(entry, part)| *entry -= along * part);
            }
            let beta = dot(&rest, &rest).sqrt();
            if beta <= BREAKDOWN * size {
                jacobi.closed = exact || basis.len() < nodes.len();
                return jacobi;
            }
            jacobi.betas.push(beta);
            next = rest.into_iter().map(|entry| entry / beta).collect();
        }
        jacobi.closed = mass <= 0.0;
        jacobi.betas.pop();
        jacobi
    }

    /// Whether the measure is known: its points are the nodes of its rule.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The Gauss rule: nodes, ascending, and weights.
    pub(super) fn rule(&self) -> Vec<(f64, f64)> {
        golub_welsch(self.alphas.clone(), self.betas.clone())
    }

    /// Bounds of the mass below `at` and of that up to and including `at`: no measure with these moments has less below, or
    /// more up to there (Chebyshev, Markov and Stieltjes; Szegő 1939, section 3.41).
    ///
    /// They belong to the rule that has a node at `at`, and are one weight apart. Cost: `O(m²)`.
    pub(super) fn bounds(&self, at: f64) -> [f64; 2] {
        let rule = if self.closed { self.rule() } else { self.rule_through(at) };
        // The node that was put at `at` is there up to rounding.
        let margin = 4.0 * rule.len() as f64 * f64::EPSILON * (at.abs() + self.norm());
        let mass =
            |below: f64| rule.iter().filter(|(node, _)| *node < below).fold(0.0, |sum, (_, weight)| sum + weight);
        [mass(at - margin), mass(at + margin).min(1.0)]
    }

    fn norm(&self) -> f64 {
        self.alphas.iter().chain(&self.betas).fold(0.0, |norm: f64, entry| norm.max(entry.abs()))
    }

    /// The rule of as many nodes that shares all moments but the last and has a node at `at`.
    fn rule_through(&self, at: f64) -> Vec<(f64, f64)> {
        let mut alphas = self.alphas.clone();
        let Some(last) = alphas.pop() else { return Vec::new() };
        let least = f64::EPSILON * (self.norm() + last.abs()).max(f64::MIN_POSITIVE);
        // The pivots of `at·I − T` without its last row.
        let mut ratio = 0.0;
        for (alpha, beta) in alphas.iter().zip(&self.betas) {
            let pivot = at - alpha - ratio;
            ratio = beta.powi(2) / if pivot.abs() < least { least } else { pivot };
        }
        alphas.push(at - ratio);
        golub_welsch(alphas, self.betas.clone())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Eigenvalues of a symmetric tridiagonal matrix, ascending, with the squared first entries of its eigenvectors, by implicit
/// QL sweeps (Golub & Welsch 1969).
fn golub_welsch(mut diagonal: Vec<f64>, mut beside: Vec<f64>) -> Vec<(f64, f64)> {
    let dim = diagonal.len();
    beside.resize(dim, 0.0);
    let mut first = vec![0.0; dim];
    if let Some(entry) = first.first_mut() {
        *entry = 1.0;
    }
    for low in 0..dim {
        for _ in 0..MAX_SWEEPS {
            let small = |i: usize| beside[i].abs() <= f64::EPSILON * (diagonal[i].abs() + diagonal[i + 1].abs());
            let high = (low..dim - 1).find(|&i| small(i)).unwrap_or(dim - 1);
            if high == low {
                break;
            }
            sweep(&mut diagonal, &mut beside, &mut first, [low, high]);
        }
    }
    let mut rule: Vec<(f64, f64)> = diagonal.into_iter().zip(first.into_iter().map(|entry| entry * entry)).collect();
    rule.sort_by(|a, b| a.0.total_cmp(&b.0));
    rule
}

/// One sweep of rotations over rows `low..=high`, with Wilkinson's shift.
fn sweep(diagonal: &mut [f64], beside: &mut [f64], first: &mut [f64], [low, high]: [usize; 2]) {
    let half = (diagonal[low + 1] - diagonal[low]) / (2.0 * beside[low]);
    let root = half.hypot(1.0).copysign(half);
    let mut rest = diagonal[high] - diagonal[low] + beside[low] / (half + root);
    let (mut sine, mut cosine, mut shift) = (1.0, 1.0, 0.0);
    for i in (low..high).rev() {
        let (along, across) = (sine * beside[i], cosine * beside[i]);
        let length = along.hypot(rest);
        beside[i + 1] = length;
        if length == 0.0 {
            diagonal[i + 1] -= shift;
            beside[high] = 0.0;
            return;
        }
        (sine, cosine) = (along / length, rest / length);
        let moved = diagonal[i + 1] - shift;
        let turned = (diagonal[i] - moved) * sine + 2.0 * cosine * across;
        shift = sine * turned;
        diagonal[i + 1] = moved + shift;
        rest = cosine * turned - across;
        (first[i + 1], first[i]) = (sine * first[i] + cosine * first[i + 1], cosine * first[i] - sine * first[i + 1]);
    }
    diagonal[low] -= shift;
    beside[low] = rest;
    beside[high] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` points with weights that vary by a factor of 10⁴.
    fn measure(count: usize) -> (Vec<f64>, Vec<f64>) {
        let nodes: Vec<f64> = (0..count).map(|i| (i as f64 / 7.0).sinh() - 3.0).collect();
        let weights: Vec<f64> = (0..count).map(|i| 10f64.powf(2.0 * (1.3 * i as f64).sin())).collect();
        let mass: f64 = weights.iter().sum();
        (nodes, weights.into_iter().map(|weight| weight / mass).collect())
    }

    #[test]
    fn rules_have_the_moments_of_the_measure() {
        let (nodes, weights) = measure(40);
        let size = nodes.iter().fold(0.0, |size: f64, node| size.max(node.abs()));
        let rule = Jacobi::of(&nodes, &weights, false, 6).rule();
        for degree in 0..12 {
            let moment: f64 = nodes.iter().zip(&weights).map(|(x, w)| w * (x / size).powi(degree)).sum();
            let seen: f64 = rule.iter().map(|(x, w)| w * (x / size).powi(degree)).sum();
            // A dozen products of numbers of size 1, summed over 40 points.
            assert!((moment - seen).abs() < 12.0 * 40.0 * f64::EPSILON, "degree {degree}: {moment} {seen}");
        }
    }

    #[test]
    fn bounds_hold_the_measure_everywhere_and_touch_it() {
        let (nodes, weights) = measure(40);
        let jacobi = Jacobi::of(&nodes, &weights, false, 9);
        let mut widest: f64 = 0.0;
        for step in 0..400 {
            let at = -4.0 + 140.0 * f64::from(step) / 399.0;
            let below = |inclusive: bool| -> f64 {
                let pairs = nodes.iter().zip(&weights);
                pairs.filter(|(x, _)| **x < at || inclusive && **x == at).map(|(_, w)| w).sum()
            };
            let [low, high] = jacobi.bounds(at);
            // Weights are exact to some n·ε.
            assert!(low <= below(false) + 1e-12 && below(true) <= high + 1e-12, "{at}: {low} {high}");
            widest = widest.max(high - low);
        }
        assert!(widest > 0.05 && widest < 0.6, "{widest}");
        // At its own nodes the bounds are those of the rule itself, one degree less.
        let rule = jacobi.rule();
        let [low, high] = jacobi.bounds(rule[3].0);
        let before: f64 = rule[..3].iter().map(|(_, weight)| weight).sum();
        assert!((low - before).abs() < 1e-10 && (high - before - rule[3].1).abs() < 1e-10);
    }

    #[test]
    fn a_measure_of_few_points_is_known() {
        let (nodes, weights) = (vec![-1.0, 0.0, 4.0], vec![0.25, 0.5, 0.25]);
        let jacobi = Jacobi::of(&nodes, &weights, true, 8);
        for (at, expected) in [(-2.0, [0.0, 0.0]), (-0.5, [0.25, 0.25]), (2.0, [0.75, 0.75]), (5.0, [1.0, 1.0])] {
            let bounds = jacobi.bounds(at);
            assert!(bounds.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{at}: {bounds:?}");
        }
        let one = Jacobi::of(&nodes, &weights, false, 1);
        assert_eq!((one.rule(), one.bounds(3.0)), (vec![(0.75, 1.0)], [0.0, 1.0]));
        // As many nodes as steps: more may lie behind them.
        let rule = Jacobi::of(&nodes, &weights, false, 3);
        assert!((rule.bounds(2.0)[1] - rule.bounds(2.0)[0]) > 0.1);
        assert!(Jacobi::of(&[], &[], true, 4).rule().is_empty());
    }
}
