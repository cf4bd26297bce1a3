//! Sums `tr f(A) = Σ f(λᵢ)` over a spectrum, and the measures of curvature that are such sums.

use super::{Quadrature, SlqReport};

/// A number read off a spectrum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Standard error from the random probes; 0 of a spectrum that is known. It does not hold the error of rules that are too
    /// short for `f`: see [`SpectralMeasure`].
    pub std_err_numeric: f64,
    /// Products with the operator that the rules took.
    pub num_matvecs: usize,
}

/// Sums `Σ f(λᵢ)` over a spectrum: `n` times the mean over probes of `Σ w f(node)` (Ubaru, Chen & Saad 2017), where
/// known eigenvalues count with their exact weight.
///
/// Errors: the standard error is that of the probes, from the spread of `f` over the spectrum. A rule of `m` nodes is exact
/// for polynomials of degree `2m − 1` and for the spectrum itself once [`super::Quadrature::exact`]; for smooth `f` its error
/// falls geometrically, for a jump or a kink like `1/m`, and no standard error sees it. Cost: no matvecs.
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
    /// Its rules.
    pub slq: &'a SlqReport,
}

impl<'a> SpectralMeasure<'a> {
    /// The spectrum as the rules alone see it.
    pub fn of(slq: &'a SlqReport) -> Self {
        Self { slq }
    }

    /// `Σ f(λᵢ)`, in the unit of `f`. With rules that miss values near a pole of `f` the result is that of the nodes.
    pub(crate) fn trace_of(&self, f: impl Fn(f64) -> f64) -> Estimate {
        let (mean, std_err) = self.slq.mean_of(f);
        let dim = self.slq.dim as f64;
        self.estimate(dim * mean, dim * std_err)
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

    /// `Σ λ⁺/(λ⁺ + c)` with `λ⁺ = max(λ, 0)`: how many directions are sharper than `c` (MacKay 1992). A negative
    /// eigenvalue counts as 0, as a flat direction does, whereas `λ/(λ + c)` has a pole at `−c`. For `c > 0`.
    pub fn effective_dimension(&self, c: f64) -> Estimate {
        self.trace_of(|value| value.max(0.0) / (value.max(0.0) + c))
    }

    /// `Σ |λ⁻| / Σ |λ|`, from 0 (positive semi-definite) to 1; 0 for the zero operator. The error is the linearised one
    /// of a ratio of means over the same probes (Cochran 1977, section 6.3).
    pub fn negative_mass(&self) -> Estimate {
        let total = self.slq.mean_of(f64::abs).0;
        if total == 0.0 {
            return self.estimate(0.0, 0.0);
        }
        let ratio = self.slq.mean_of(|value| (-value).max(0.0)).0 / total;
        let rest = self.slq.mean_of(|value| (-value).max(0.0) - ratio * value.abs());
        self.estimate(ratio, rest.1 / total)
    }

    /// The smallest and the largest known value or node, `None` where there are none. Nodes lie *inside* the spectrum:
    /// the true edges are these or further out.
    pub fn edges(&self) -> Option<(f64, f64)> {
        let nodes = self.slq.probes.iter().flat_map(|rule| &rule.nodes);
        nodes.fold(None, |edges, &value| {
            let (low, high) = edges.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
    }

    fn estimate(&self, value: f64, std_err_numeric: f64) -> Estimate {
        Estimate { value, std_err_numeric, num_matvecs: self.slq.num_matvecs }
    }
}

impl SlqReport {
    /// How far the last quarter of the steps moved the mean measure over the probes: `∫ |F − G| dλ` (the Wasserstein
    /// distance of order 1) over the mean `|λ|`; 0 of a spectrum that is known, NaN where no shorter rules are.
    ///
    /// Where errors fall like `1/m`, as for measures with mass near a point, three times as much is left.
    pub fn change(&self) -> f64 {
        match (self.source.is_spectrum(), self.shorter.is_empty()) {
            (true, _) => 0.0,
            (false, true) => f64::NAN,
            (false, false) => relative_distance(&mean(&self.shorter), &mean(&self.probes)),
        }
    }
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
    use crate::spectral::{SlqParams, slq};
    use candle_core::DType;
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
        let cases: [(Function, Measured); 3] = [
            (|value| value * value * value, |measure| measure.trace_of(|value| value.powi(3))),
            (f64::abs, |measure| measure.nuclear_norm()),
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
            (measure.trace_of(|value| value), 6.0),
            (measure.frobenius_norm(), 50.0_f64.sqrt()),
            (measure.nuclear_norm(), 12.0),
            (measure.effective_dimension(1.0), dimension),
            (measure.negative_mass(), 0.25),
        ] {
            // Nodes and weights are exact to a few n·ε·‖A‖, and |f′| ≤ 12.
            // The standard error knows nothing of the basis: for probes of random signs it is an upper bound.
            assert!((estimate.value - truth).abs() < 1e-12, "{estimate:?} {truth}");
        }
        let (low, high) = measure.edges().unwrap();
        assert!((low + 2.0).abs() < 1e-13 && (high - 6.0).abs() < 1e-13);
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
    fn the_zero_operator_is_not_special_and_without_rules_nothing_is_known() {
        let zero = DenseOperator::new(DMatrix::zeros(4, 4), DType::F64);
        let mut report = run(&zero, 2, 4, 1);
        let measure = SpectralMeasure::of(&report);
        for estimate in [measure.frobenius_norm(), measure.negative_mass(), measure.effective_dimension(1.0)] {
            assert_eq!((estimate.value, estimate.std_err_numeric), (0.0, 0.0));
        }
        report.probes.clear();
        let measure = SpectralMeasure::of(&report);
        assert!(measure.edges().is_none() && measure.nuclear_norm().std_err_numeric.is_nan());
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
