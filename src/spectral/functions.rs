//! Sums `tr f(A) = Σ f(λᵢ)` over a spectrum, and the measures of curvature that are such sums.

use super::{Quadrature, SlqReport};

/// A number read off a spectrum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Standard error from the random probes; 0 of a spectrum that is known, else NaN with fewer than two. It does not hold the error of rules that are too
    /// short for `f`: see [`SpectralMeasure`].
    pub std_err_numeric: f64,
    /// Products with the operator that the rules took.
    pub num_matvecs: usize,
}

/// A number of eigenvalues, with the range that the quadrature leaves open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count {
    /// The mean over probes of the weight beyond the threshold, times the dimension; not rounded to an integer.
    pub estimate: Estimate,
    /// What each probe's own measure has beyond the threshold lies, in the mean, between these two numbers
    /// (Chebyshev, Markov and Stieltjes; Szegő 1939, section 3.41): they are one node's weight apart, or two.
    pub quadrature_range: [f64; 2],
}

/// A spectrum of `k + dim` eigenvalues: `k` known ones, and quadrature for the others.
///
/// `Σ f(λᵢ)` is the sum over the known values plus the mean over probes of `dim · Σ w f(node)` (Ubaru, Chen & Saad
/// 2017). Known values must be those of converged eigenpairs, and the rules those of the operator *off* these pairs,
/// with `dim = n − k`; weights of a rule may then add up to `‖Pz‖²/(n − k)` of the projected probe `Pz` instead of 1,
/// which is what makes Rademacher probes unbiased.
///
/// Errors: the standard error is that of the probes. A rule of `m` nodes is exact for polynomials of degree
/// `2m − 1` and for the spectrum itself once [`Quadrature::exact`]; for smooth `f` its error falls geometrically, for a
/// jump or a kink like `1/m`, and no standard error sees it. Cost: no matvecs.
///
/// ```
/// use candle_core::DType;
/// use flatness::random::{Purpose, stream};
/// use flatness::operator::DenseOperator;
/// use flatness::spectral::{SlqParams, SpectralMeasure, slq};
/// use nalgebra::{DMatrix, DVector};
///
/// # fn main() -> flatness::Result<()> {
/// // On a diagonal matrix every sign vector sees each eigenvalue with the same weight, so even 2 probes are exact.
/// let diagonal = DMatrix::from_diagonal(&DVector::from_vec(vec![3.0, 1.0, -1.0]));
/// let params = SlqParams { num_probes: 2, num_steps: 3, ..SlqParams::default() };
/// let operator = DenseOperator::new(diagonal, DType::F64);
/// let report = slq(&operator, &params, &mut stream(0, Purpose::Probes), &mut ())?;
/// let measure = SpectralMeasure::of(&report);
/// assert!((measure.nuclear_norm().value - 5.0).abs() < 1e-12);
/// assert!((measure.negative_mass().value - 0.2).abs() < 1e-12);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SpectralMeasure<'a> {
    /// Rules of the part that is not known.
    pub slq: &'a SlqReport,
    /// Eigenvalues known without probe error, in any order.
    pub known: &'a [f64],
}

/// `tr f(A)` as the mean over probes of `n Σ w f(node)`; see [`SpectralMeasure::trace_of`].
pub fn trace_of(slq: &SlqReport, f: impl Fn(f64) -> f64) -> Estimate {
    SpectralMeasure::of(slq).trace_of(f)
}

impl<'a> SpectralMeasure<'a> {
    /// The spectrum as the rules alone see it.
    pub fn of(slq: &'a SlqReport) -> Self {
        Self { slq, known: &[] }
    }

    /// `Σ f(λᵢ)`, in the unit of `f`. With rules that miss values near a pole of `f` the result is that of the nodes.
    pub fn trace_of(&self, f: impl Fn(f64) -> f64) -> Estimate {
        let (value, std_err) = self.slq.over_probes(&self.sums(f));
        self.estimate(value, std_err)
    }

    /// `‖A‖_F = √(Σ λ²)`. The error is that of the root to first order, `SE(Σ λ²) / (2 ‖A‖_F)`; the root of a noisy
    /// sum is low by about `SE²/(2‖A‖_F)`.
    pub fn frobenius_norm(&self) -> Estimate {
        let squares = self.trace_of(|value| value * value);
        let norm = squares.value.max(0.0).sqrt();
        let std_err = if squares.std_err_numeric == 0.0 { 0.0 } else { squares.std_err_numeric / (2.0 * norm) };
        self.estimate(norm, std_err)
    }

    /// `Σ |λ|`, the nuclear norm.
    pub fn nuclear_norm(&self) -> Estimate {
        self.trace_of(f64::abs)
    }

    /// `Σ log(1 + |λ|/c)`: the log-determinant of `I + |A|/c`, finite for flat and for negative directions. For `c > 0`.
    pub fn log_determinant(&self, c: f64) -> Estimate {
        self.trace_of(|value| (value.abs() / c).ln_1p())
    }

    /// `Σ λ⁺/(λ⁺ + c)` with `λ⁺ = max(λ, 0)`: how many directions are sharper than `c` (MacKay 1992). A negative
    /// eigenvalue counts as 0, as a flat direction does, whereas `λ/(λ + c)` has a pole at `−c`. For `c > 0`.
    pub fn effective_dimension(&self, c: f64) -> Estimate {
        self.trace_of(|value| value.max(0.0) / (value.max(0.0) + c))
    }

    /// `Σ |λ⁻| / Σ |λ|`, from 0 (positive semi-definite) to 1; 0 for the zero operator. The error is the linearised one
    /// of a ratio of means over the same probes (Cochran 1977, section 6.3).
    pub fn negative_mass(&self) -> Estimate {
        let (negative, total) = (self.sums(|value| (-value).max(0.0)), self.sums(f64::abs));
        let mean_total = self.slq.over_probes(&total).0;
        if mean_total == 0.0 {
            return self.estimate(0.0, 0.0);
        }
        let ratio = self.slq.over_probes(&negative).0 / mean_total;
        let rests: Vec<f64> = negative.iter().zip(&total).map(|(part, whole)| part - ratio * whole).collect();
        self.estimate(ratio, self.slq.over_probes(&rests).1 / mean_total)
    }

    /// How many eigenvalues are larger than `threshold`. Rules have few nodes: read it with its range.
    pub fn count_above(&self, threshold: f64) -> Count {
        self.count(threshold, 1.0)
    }

    /// How many eigenvalues are smaller than `threshold`.
    pub fn count_below(&self, threshold: f64) -> Count {
        self.count(threshold, -1.0)
    }

    /// The smallest and the largest known value or node, `None` where there are none. Nodes lie *inside* the spectrum:
    /// the true edges are these or further out.
    pub fn edges(&self) -> Option<(f64, f64)> {
        let nodes = self.slq.probes.iter().flat_map(|rule| &rule.nodes).chain(self.known);
        nodes.fold(None, |edges, &value| {
            let (low, high) = edges.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
    }

    fn estimate(&self, value: f64, std_err_numeric: f64) -> Estimate {
        Estimate { value, std_err_numeric, num_matvecs: self.slq.num_matvecs }
    }

    /// One sample of `Σ f(λᵢ)` per probe.
    fn sums(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let known: f64 = self.known.iter().map(|&value| f(value)).sum();
        let sum = |rule: &Quadrature| -> f64 { rule.nodes.iter().zip(&rule.weights).map(|(&x, w)| w * f(x)).sum() };
        self.slq.probes.iter().map(|rule| known + self.slq.dim as f64 * sum(rule)).collect()
    }

    /// Above the threshold for `sign` 1, below it for −1.
    fn count(&self, threshold: f64, sign: f64) -> Count {
        let beyond = |value: f64| sign * (value - threshold) > 0.0;
        let estimate = self.trace_of(|value| f64::from(u8::from(beyond(value))));
        let (mut fewer, mut more) = (0.0, 0.0);
        for rule in self.slq.probes.iter().filter(|rule| !rule.exact) {
            // The measure beyond the threshold is at most the weight from the last node before it on, and at least the
            // weight from the second node beyond it on.
            let pairs = || rule.nodes.iter().zip(&rule.weights);
            let nearest = |outside: bool| {
                let side = pairs().filter(|(node, _)| beyond(**node) == outside);
                let closest = side.min_by(|a, b| (a.0 - threshold).abs().total_cmp(&(b.0 - threshold).abs()));
                closest.map_or(0.0, |(_, weight)| *weight)
            };
            fewer += nearest(true);
            more += nearest(false);
        }
        let scale = self.slq.dim as f64 / self.slq.probes.len() as f64;
        Count { estimate, quadrature_range: [estimate.value - scale * fewer, estimate.value + scale * more] }
    }
}

impl SlqReport {
    /// How far the last quarter of the steps moved the mean measure over the probes: `∫ |F − G| dλ` (the Wasserstein
    /// distance of order 1) over the mean `|λ|`; 0 of a spectrum that is known, NaN where no shorter rules are.
    ///
    /// Where errors fall like `1/m`, as for measures with mass near a point, three times as much is left.
    pub fn change(&self) -> f64 {
        if self.source.is_spectrum() { 0.0 } else { change(&self.shorter, &self.probes) }
    }
}

/// See [`SlqReport::change`].
pub(super) fn change(shorter: &[Quadrature], rules: &[Quadrature]) -> f64 {
    if shorter.is_empty() { f64::NAN } else { relative_distance(&mean(shorter), &mean(rules)) }
}

/// Nodes with their weights averaged over the probes.
fn mean(rules: &[Quadrature]) -> Vec<(f64, f64)> {
    let share = 1.0 / rules.len() as f64;
    rules.iter().flat_map(|rule| rule.nodes.iter().copied().zip(rule.weights.iter().map(move |w| w * share))).collect()
}

/// `∫ |F − G| dλ` of two measures of mass 1, over the mean `|λ|` of the second.
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
    use crate::operator::DenseOperator;
    use crate::operator::symmetric_eigen;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::with_spectrum;
    use crate::spectral::vectors::rademacher_block;
    use crate::spectral::{SlqParams, slq};
    use candle_core::{DType, Device};
    use nalgebra::{DMatrix, DVector};

    fn run(operator: &DenseOperator, num_probes: usize, num_steps: usize, seed: u64) -> SlqReport {
        let params = SlqParams { num_probes, num_steps, ..SlqParams::default() };
        slq(operator, &params, &mut stream(seed, Purpose::Probes), &mut ()).unwrap()
    }

    /// Sinks below zero, a bulk, five outliers: 30 distinct values.
    fn spectrum() -> Vec<f64> {
        (0..30).map(|i| if i < 5 { 8.0 - f64::from(i) } else { 0.1 * f64::from(i - 12) }).collect()
    }

    /// `√(2(‖F‖_F² − Σ Fᵢᵢ²)/p)` for `F = f(A)`: the exact standard error of `p` Rademacher probes.
    fn exact_std_error(operator: &DenseOperator, f: impl Fn(f64) -> f64, num_probes: usize) -> f64 {
        let (values, vectors) = symmetric_eigen(operator.matrix().clone());
        let mapped = DVector::from_iterator(values.len(), values.into_iter().map(f));
        let matrix = &vectors * DMatrix::from_diagonal(&mapped) * vectors.transpose();
        (2.0 * (matrix.norm_squared() - matrix.diagonal().norm_squared()) / num_probes as f64).sqrt()
    }

    #[test]
    fn sums_lie_within_their_exact_standard_errors() {
        type Function = fn(f64) -> f64;
        type Measured = fn(&SpectralMeasure) -> Estimate;
        let cases: [(Function, Measured); 4] = [
            (|value| value * value * value, |measure| measure.trace_of(|value| value.powi(3))),
            (f64::abs, |measure| measure.nuclear_norm()),
            (|value| (1.0 + value.abs() / 0.5).ln(), |measure| measure.log_determinant(0.5)),
            (|value| value.max(0.0) / (value.max(0.0) + 0.3), |measure| measure.effective_dimension(0.3)),
        ];
        let operator = with_spectrum(&spectrum(), DType::F64, 5);
        for (f, measured) in cases {
            let truth: f64 = spectrum().into_iter().map(f).sum();
            let std_error = exact_std_error(&operator, f, 20);
            let mut squares = 0.0;
            for seed in 0..20 {
                // All steps: the rules are exact, so that the probes are the only error.
                let estimate = measured(&SpectralMeasure::of(&run(&operator, 20, 30, seed)));
                assert!((estimate.value - truth).abs() <= 4.0 * std_error);
                squares += estimate.std_err_numeric.powi(2) / 20.0;
                assert_eq!(estimate.num_matvecs, 600);
            }
            // s² over 20·19 degrees of freedom: relative deviation √(2/380) = 0.07 for normal samples.
            assert!((squares / std_error.powi(2) - 1.0).abs() < 4.0 * 0.07, "{squares} {std_error}");
        }
    }

    #[test]
    fn a_diagonal_matrix_gives_every_measure_exactly() {
        // Σ|λ| = 12, Σλ² = 50, Σ|λ⁻| = 3.
        let diagonal = vec![6.0, 3.0, 0.0, -1.0, -2.0];
        let operator = DenseOperator::new(DMatrix::from_diagonal(&diagonal.clone().into()), DType::F64);
        let report = run(&operator, 2, 5, 1);
        let measure = SpectralMeasure::of(&report);
        let dimension = 6.0 / 7.0 + 3.0 / 4.0;
        for (estimate, truth) in [
            (trace_of(&report, |value| value), 6.0),
            (measure.frobenius_norm(), 50.0_f64.sqrt()),
            (measure.nuclear_norm(), 12.0),
            (measure.log_determinant(1.0), 168.0_f64.ln()),
            (measure.effective_dimension(1.0), dimension),
            (measure.negative_mass(), 0.25),
            (measure.count_above(0.5).estimate, 2.0),
            (measure.count_below(-1.5).estimate, 1.0),
        ] {
            // Nodes and weights are exact to a few n·ε·‖A‖, and |f′| ≤ 12.
            assert!((estimate.value - truth).abs() < 1e-12 && estimate.std_err_numeric < 1e-12, "{estimate:?} {truth}");
        }
        let (low, high) = measure.edges().unwrap();
        assert!((low + 2.0).abs() < 1e-13 && (high - 6.0).abs() < 1e-13);
        assert_eq!(measure.count_above(0.5).quadrature_range, [measure.count_above(0.5).estimate.value; 2]);
    }

    #[test]
    fn errors_of_the_root_and_of_the_ratio_are_their_spread_over_seeds() {
        let operator = with_spectrum(&spectrum(), DType::F64, 5);
        let norm = spectrum().iter().map(|value| value * value).sum::<f64>().sqrt();
        let negative: f64 = spectrum().iter().map(|value| (-value).max(0.0)).sum();
        let mass = negative / spectrum().iter().map(|value| value.abs()).sum::<f64>();
        for (measured, truth) in [
            ((|measure| measure.frobenius_norm()) as fn(&SpectralMeasure) -> Estimate, norm),
            (|measure| measure.negative_mass(), mass),
        ] {
            let seeds = 200;
            let (mut squares, mut claimed) = (0.0, 0.0);
            for seed in 0..seeds {
                let report = run(&operator, 30, 30, seed);
                let estimate = measured(&SpectralMeasure::of(&report));
                squares += (estimate.value - truth).powi(2);
                claimed += estimate.std_err_numeric.powi(2);
            }
            // 200 squared errors: relative deviation √(2/200) = 0.1; the linearisation itself drops terms of relative
            // size 1/30.
            assert!((squares / claimed - 1.0).abs() < 4.0 * 0.1 + 1.0 / 30.0, "{}", squares / claimed);
        }
    }

    #[test]
    fn known_values_take_their_share_of_the_error_away() {
        // The rules see the part that is not known, a diagonal, without error.
        let rest = DenseOperator::new(DMatrix::from_diagonal(&vec![0.5, 0.25, -0.25, 0.0].into()), DType::F64);
        let report = run(&rest, 3, 4, 2);
        let measure = SpectralMeasure { slq: &report, known: &[100.0, -50.0] };
        for (estimate, truth) in [
            (measure.trace_of(|value| value), 50.5),
            (measure.nuclear_norm(), 151.0),
            (measure.negative_mass(), 50.25 / 151.0),
            (measure.count_above(0.1).estimate, 3.0),
        ] {
            assert!((estimate.value - truth).abs() < 1e-12 && estimate.std_err_numeric < 1e-12);
        }
        assert_eq!(measure.edges().unwrap(), (-50.0, 100.0));
    }

    #[test]
    fn the_range_of_a_count_holds_what_each_probe_truly_sees() {
        let operator = with_spectrum(&spectrum(), DType::F64, 5);
        let (values, vectors) = symmetric_eigen(operator.matrix().clone());
        let starts = rademacher_block((4, 30), DType::F64, &Device::Cpu, &mut stream(3, Purpose::Probes)).unwrap();
        let starts = starts.to_vec2::<f64>().unwrap();
        let report = run(&operator, 4, 6, 3);
        let measure = SpectralMeasure::of(&report);
        for threshold in [-1.0, -0.33, 0.0, 0.45, 1.1, 3.5, 6.5, 9.0] {
            // Mean over probes of Σ (uᵢᵀz)² over the eigenvalues beyond the threshold.
            let beyond = |sign: f64| -> f64 {
                let over = (0..30).filter(|&i| sign * (values[i] - threshold) > 0.0);
                over.flat_map(|i| starts.iter().map(move |start| (i, start)))
                    .map(|(i, start)| vectors.column(i).dot(&DVector::from_column_slice(start)).powi(2) / 4.0)
                    .sum()
            };
            let counts = [(measure.count_above(threshold), 1.0), (measure.count_below(threshold), -1.0)];
            for (count, truth) in counts.map(|(count, sign)| (count, beyond(sign))) {
                let [low, high] = count.quadrature_range;
                assert!(low - 1e-10 <= truth && truth <= high + 1e-10, "{threshold}: {low} {truth} {high}");
            }
        }
    }

    #[test]
    fn the_zero_operator_and_a_single_probe_are_not_special() {
        let zero = DenseOperator::new(DMatrix::zeros(4, 4), DType::F64);
        let mut report = run(&zero, 2, 4, 1);
        let measure = SpectralMeasure::of(&report);
        for estimate in [measure.frobenius_norm(), measure.negative_mass(), measure.effective_dimension(1.0)] {
            assert_eq!((estimate.value, estimate.std_err_numeric), (0.0, 0.0));
        }
        report.probes.truncate(1);
        assert!(SpectralMeasure::of(&report).nuclear_norm().std_err_numeric.is_nan());
        report.probes.clear();
        assert!(SpectralMeasure::of(&report).edges().is_none());
    }

    #[test]
    fn the_distance_is_the_work_of_moving_mass() {
        // Half of the mass moves by 2, against a mean |λ| of 1.
        let (at_zero, spread) = (vec![(0.0, 1.0)], vec![(0.0, 0.5), (2.0, 0.5)]);
        assert_eq!(relative_distance(&at_zero, &spread), 1.0);
        assert_eq!(relative_distance(&spread, &spread), 0.0);
        assert_eq!(relative_distance(&at_zero, &at_zero), 0.0);
    }
}
