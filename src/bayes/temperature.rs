//! The temperature that makes probabilities fit labels best.

use super::Predictions;
use super::average::log_sum;

/// A fitted temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    /// `T`.
    pub value: f64,
    /// Its standard error over the rows that it was fitted on.
    pub std_err: f64,
    /// Whether the likelihood has its maximum there. It has none where all rows are right, nor where an even
    /// prediction is better than any of this order.
    pub converged: bool,
}

/// Inverse temperatures that are looked at.
const RANGE: (f64, f64) = (1e-4, 1e4);
/// Halvings of that range, in logarithms: to the last bit.
const STEPS: usize = 100;

/// The `T` with the largest likelihood of `labels` under the softmax of `log p / T`. In `b = 1/T` the mean negative
/// log-likelihood is convex, with the slope `E_p[z] − z_label` in each row and the curvature `Var_p[z]`, `z = log p`; so the
/// zero of the slope is found by bisection. The error is that of an M-estimator, `√(Σ slope²) / Σ curvature`.
pub fn fit_temperature(predictions: &Predictions, labels: &[usize]) -> Temperature {
    let slopes = |b: f64| -> Vec<(f64, f64)> {
        predictions.rows().zip(labels).map(|(row, label)| slope(row, *label, b)).collect()
    };
    let rises = |b: f64| slopes(b).iter().map(|(slope, _)| slope).sum::<f64>() > 0.0;
    let (mut low, mut high) = RANGE;
    let converged = !labels.is_empty() && !rises(low) && rises(high);
    for _ in 0..STEPS {
        let middle = (low * high).sqrt();
        if rises(middle) { high = middle } else { low = middle }
    }
    let b = (low * high).sqrt();
    let rows = slopes(b);
    let squares: f64 = rows.iter().map(|(slope, _)| slope * slope).sum();
    let curvature: f64 = rows.iter().map(|(_, curvature)| curvature).sum();
    let std_err = squares.sqrt() / curvature / (b * b);
    Temperature { value: 1.0 / b, std_err: if converged { std_err } else { f64::NAN }, converged }
}

/// First and second derivative in `b` of `log Σ exp(b z) − b z_label`.
fn slope(row: &[f64], label: usize, b: f64) -> (f64, f64) {
    let scaled: Vec<f64> = row.iter().map(|z| b * z).collect();
    let sum = log_sum(&scaled);
    let weighted = || scaled.iter().zip(row).map(|(scaled, z)| ((scaled - sum).exp(), *z));
    let mean: f64 = weighted().map(|(p, z)| p * z).sum();
    let variance = weighted().map(|(p, z)| p * (z - mean).powi(2)).sum();
    (mean - row.get(label).copied().unwrap_or(f64::NAN), variance)
}

#[cfg(test)]
mod tests {
    use super::super::Average;
    use super::*;
    use crate::random::{Purpose, stream, uniform};

    fn predictions(outputs: &[f64]) -> Predictions {
        let mut one = Average::new(2);
        one.add(outputs);
        one.finish()
    }

    /// Of `n` rows with the outputs `(a, 0)`, `k` are of class 0: the best `1/T` solves `σ(a/T) = k/n`.
    #[test]
    fn equal_rows_have_a_closed_form() {
        let (a, n, k) = (3.0, 50, 40);
        let rows = predictions(&[a, 0.0].repeat(n));
        let labels: Vec<usize> = (0..n).map(|row| usize::from(row >= k)).collect();
        let found = fit_temperature(&rows, &labels);
        let share = k as f64 / n as f64;
        let b = (share / (1.0 - share)).ln() / a;
        assert!((found.value * b - 1.0).abs() < 1e-12 && found.converged, "{found:?}");
        // Slopes −a(1 − s) and a s, curvature a² s (1 − s): the error of b is 1/(a √(n s (1 − s))).
        let std_err = 1.0 / (a * (n as f64 * share * (1.0 - share)).sqrt()) / (b * b);
        assert!((found.std_err / std_err - 1.0).abs() < 1e-9, "{found:?} {std_err}");
    }

    /// Labels drawn at temperature 2 are found to have it, within four standard errors.
    #[test]
    fn a_known_temperature_comes_back() {
        let mut rng = stream(8, Purpose::Check);
        let outputs: Vec<f64> = (0..8000).map(|_| 8.0 * uniform(&mut rng) - 4.0).collect();
        let mut draw = |row: &[f64]| usize::from(uniform(&mut rng) > 1.0 / (1.0 + ((row[1] - row[0]) / 2.0).exp()));
        let labels: Vec<usize> = outputs.chunks(2).map(&mut draw).collect();
        let found = fit_temperature(&predictions(&outputs), &labels);
        assert!((found.value - 2.0).abs() < 4.0 * found.std_err && found.std_err < 0.1, "{found:?}");
    }

    #[test]
    fn rows_that_are_all_right_have_no_best_temperature() {
        let found = fit_temperature(&predictions(&[3.0, 0.0, 2.0, 0.0]), &[0, 0]);
        assert!(!found.converged && found.std_err.is_nan(), "{found:?}");
        assert!(!fit_temperature(&predictions(&[]), &[]).converged);
    }
}
