//! Differences of two groups, with intervals and tests.

use libm::lgamma;
use rand::Rng;

use super::{Exact, Sample, permutation, sign_flip, student_quantile, student_two_sided};

/// `a − b`, with its uncertainty and its size relative to the spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Difference of the means.
    pub difference: f64,
    /// Half the width of its 95 % interval: paired `t`, or Welch's; NaN if a group has one value.
    pub half_width: f64,
    /// Two-sided `p` of the same test.
    pub p_t: f64,
    /// The exact test over all sign patterns, or splits.
    pub exact: Exact,
    /// Hedges' `g`: the difference over the deviation of the differences (paired) or the pooled one, times the
    /// correction for few values (Hedges 1981); NaN for a single degree of freedom, where the correction does not exist.
    pub effect: f64,
    /// Number of pairs, or of values of the smaller group.
    pub count: usize,
}

/// The difference over pairs, such as two methods with the same seeds. `None` for fewer than two pairs.
pub fn paired(a: &[f64], b: &[f64], rng: &mut impl Rng) -> Option<Difference> {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).filter(|d| !d.is_nan()).collect();
    let sample = Sample::of(&differences);
    if sample.count < 2 {
        return None;
    }
    let degrees = sample.count as f64 - 1.0;
    Some(Difference {
        difference: sample.mean,
        half_width: sample.half_width(),
        p_t: two_sided(sample.mean, sample.std_err(), degrees),
        exact: sign_flip(&differences, rng),
        effect: sample.mean / sample.std_dev * correction(degrees),
        count: sample.count,
    })
}

/// The difference of independent groups (Welch 1947). `None` if one has fewer than two values.
pub fn unpaired(a: &[f64], b: &[f64], rng: &mut impl Rng) -> Option<Difference> {
    let known = |values: &[f64]| -> Vec<f64> { values.iter().copied().filter(|value| !value.is_nan()).collect() };
    let (a, b) = (known(a), known(b));
    let (first, second) = (Sample::of(&a), Sample::of(&b));
    if first.count < 2 || second.count < 2 {
        return None;
    }
    let (va, vb) = (first.std_err().powi(2), second.std_err().powi(2));
    let (na, nb) = (first.count as f64 - 1.0, second.count as f64 - 1.0);
    let degrees = (va + vb).powi(2) / (va * va / na + vb * vb / nb);
    let std_err = (va + vb).sqrt();
    let pooled = ((na * first.std_dev.powi(2) + nb * second.std_dev.powi(2)) / (na + nb)).sqrt();
    let difference = first.mean - second.mean;
    Some(Difference {
        difference,
        half_width: if std_err > 0.0 { student_quantile(0.975, degrees) * std_err } else { 0.0 },
        p_t: two_sided(difference, std_err, degrees),
        exact: permutation(&a, &b, rng),
        effect: difference / pooled * correction(na + nb),
        count: first.count.min(second.count),
    })
}

/// Two-sided `p` of the `t` test. Without any spread it is 1 for equal means and 0 for others.
fn two_sided(difference: f64, std_err: f64, degrees: f64) -> f64 {
    match (difference == 0.0, std_err == 0.0) {
        (true, true) => 1.0,
        (false, true) => 0.0,
        _ => student_two_sided(difference / std_err, degrees),
    }
}

/// `Γ(m/2) / (√(m/2) Γ((m−1)/2))` for `m` degrees of freedom, which makes the effect unbiased; NaN for one, where its
/// expectation does not exist.
fn correction(degrees: f64) -> f64 {
    if degrees <= 1.0 {
        return f64::NAN;
    }
    (lgamma(0.5 * degrees) - lgamma(0.5 * (degrees - 1.0))).exp() / (0.5 * degrees).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use rand_distr::{Distribution, StandardNormal};

    /// `scipy.stats.ttest_rel`, `ttest_ind(…, equal_var=False)`, their `confidence_interval()`, and the effect with the
    /// correction by `scipy.special.gammaln`: of the first `n` values.
    #[test]
    fn paired_and_welch_as_scipy_has_them() {
        const A: [f64; 10] = [1.2, 0.8, 1.9, 1.1, 1.6, 2.2, 0.3, 1.45, 0.95, 1.7];
        const B: [f64; 10] = [0.9, 0.7, 1.2, 1.2, 1.0, 1.9, 0.5, 1.15, 1.3, 1.1];
        let mut rng = stream(0, Purpose::Signs);
        let near = |got: f64, expected: f64| {
            let same = (got - expected).abs() < 1e-10 * (1.0 + expected.abs()) || (got.is_nan() && expected.is_nan());
            assert!(same, "{got} {expected}");
        };
        let compare = |found: Difference, [difference, half_width, p, effect]: [f64; 4]| {
            near(found.difference, difference);
            near(found.half_width, half_width);
            near(found.p_t, p);
            near(found.effect, effect);
        };
        for (n, pairs, welch) in SCIPY {
            compare(paired(&A[..n], &B[..n], &mut rng).unwrap(), pairs);
            compare(unpaired(&A[..n], &B[..n], &mut rng).unwrap(), welch);
        }
        compare(unpaired(&A[..5], &[2.0, 1.4, 1.1, 1.7], &mut rng).unwrap(), UNEQUAL);
        assert!(paired(&[1.0], &[2.0], &mut rng).is_none() && unpaired(&A, &[2.0], &mut rng).is_none());
    }

    #[rustfmt::skip]
    const SCIPY: [(usize, [f64; 4], [f64; 4]); 4] = [
        (2, [0.2, 1.2706204736174684, 0.2951672353008663, f64::NAN],
            [0.19999999999999996, 1.383704566014212, 0.4931327081208469, 0.5046265044040321]),
        (3, [0.3666666666666667, 0.7589166067193518, 0.17318936919688827, 0.6771394333820302],
            [0.3666666666666668, 1.17346176783803, 0.38032813466878046, 0.6771394333820302]),
        (5, [0.32, 0.41554025347342693, 0.09930068321372679, 0.7629235632142339],
            [0.32, 0.53106342306223, 0.18943670562399542, 0.8481370396129854]),
        (10, [0.225, 0.25640553279937023, 0.07841563909206828, 0.5736733107019969],
            [0.225, 0.4550460220849011, 0.3096637903980237, 0.4496536531258776]),
    ];
    const UNEQUAL: [f64; 4] = [-0.23, 0.649942012115457, 0.42901993019647344, -0.4938108608714908];

    #[test]
    fn under_the_null_the_tests_keep_their_level() {
        // 10,000 comparisons without any difference: 5 % have a standard error of 0.22 %, and 2.75 of them make 0.6 %.
        let mut rng = stream(11, Purpose::Signs);
        for seeds in [5, 10] {
            let (mut by_t, mut by_signs) = (0, 0);
            for _ in 0..10_000 {
                let mut draw = || -> Vec<f64> { (0..seeds).map(|_| StandardNormal.sample(&mut rng)).collect() };
                let (a, b) = (draw(), draw());
                let difference = paired(&a, &b, &mut rng).unwrap();
                by_t += usize::from(difference.p_t <= 0.05);
                by_signs += usize::from(difference.exact.p <= 0.05);
            }
            assert!((440..=560).contains(&by_t), "{seeds}: {by_t}");
            // At most 5 %; five pairs reach 6.25 % at best and never refuse.
            assert!(by_signs <= 560 && (seeds > 5 || by_signs == 0), "{seeds}: {by_signs}");
        }
    }
}
