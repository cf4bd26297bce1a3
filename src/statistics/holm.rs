//! Correction for multiple tests.

/// Adjusted `p` values of a family of tests (Holm 1979): rejecting those of at most `α` keeps the probability of any false
/// rejection in the family below `α`, however the tests depend on each other. NaN is not counted as a test and stays.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).filter(|&index| !p_values[index].is_nan()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![f64::NAN; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, &index) in order.iter().enumerate() {
        largest = largest.max((p_values[index] * (order.len() - rank) as f64).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 0.01·4; max(0.04, 0.02·3); max(0.06, 0.03·2); 0.5.
        let adjusted = holm(&[0.03, 0.01, f64::NAN, 0.5, 0.02]);
        assert!(adjusted[2].is_nan());
        let expected = [(0, 0.06), (1, 0.04), (3, 0.5), (4, 0.06)];
        assert!(expected.iter().all(|(index, p)| (adjusted[*index] - p).abs() < 1e-15), "{adjusted:?}");
        assert_eq!(holm(&[0.7, 0.6]), [1.0, 1.0]);
    }
}
