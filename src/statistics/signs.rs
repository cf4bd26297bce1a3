//! Tests that only assume exchangeability; exact if all rearrangements can be enumerated.

use rand::Rng;

/// An exact two-sided `p`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exact {
    /// Share of the rearrangements whose mean difference is at least as large.
    pub p: f64,
    /// The smallest `p` possible with this number of values.
    pub least: f64,
    /// Whether all rearrangements were enumerated; otherwise 100,000 were drawn.
    pub exact: bool,
}

/// Maximum number of pairs for which all sign patterns are enumerated: a million patterns.
const MOST_PAIRS: usize = 20;
/// Maximum number of splits that are enumerated.
const MOST_SPLITS: f64 = 1e6;
const DRAWS: usize = 100_000;

/// Sign-flip test of paired differences (Fisher 1935): under the null hypothesis both signs are equally likely.
pub fn sign_flip(differences: &[f64], rng: &mut impl Rng) -> Exact {
    let sum: f64 = differences.iter().sum();
    let bound = reach(sum, differences);
    let count = differences.len();
    let flipped = |signs: u64| -> f64 {
        differences.iter().enumerate().map(|(i, d)| if signs >> (i % 64) & 1 == 1 { -d } else { *d }).sum()
    };
    if count <= MOST_PAIRS {
        let patterns = 1u64 << count;
        let far = (0..patterns).filter(|signs| flipped(*signs).abs() >= bound).count();
        return Exact { p: far as f64 / patterns as f64, least: 2.0 / patterns as f64, exact: true };
    }
    let drawn = |_| {
        let mut signs = 0;
        differences
            .iter()
            .enumerate()
            .map(|(i, d)| {
                if i % 64 == 0 {
                    signs = rng.next_u64();
                }
                if signs >> (i % 64) & 1 == 1 { -d } else { *d }
            })
            .sum::<f64>()
    };
    of_draws((0..DRAWS).map(drawn).filter(|sum: &f64| sum.abs() >= bound).count())
}

/// Permutation test of the difference of means of two lists: under the null hypothesis all splits are equally likely.
pub fn permutation(a: &[f64], b: &[f64], rng: &mut impl Rng) -> Exact {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let (first, total) = (a.len(), all.iter().sum::<f64>());
    // The difference of means is an increasing function of the sum of the first list.
    let centre = total * first as f64 / all.len() as f64;
    let bound = reach(a.iter().sum::<f64>() - centre, &all);
    let splits = binomial(all.len(), first);
    if splits <= MOST_SPLITS {
        let mut far = 0usize;
        let mut chosen: Vec<usize> = (0..first).collect();
        loop {
            far += usize::from((chosen.iter().map(|i| all[*i]).sum::<f64>() - centre).abs() >= bound);
            if !next_choice(&mut chosen, all.len()) {
                break;
            }
        }
        let mirrored = if first * 2 == all.len() { 2.0 } else { 1.0 };
        return Exact { p: far as f64 / splits, least: mirrored / splits, exact: true };
    }
    let mut shuffled = all;
    let far = (0..DRAWS).filter(|_| {
        for place in 0..first {
            let left = (shuffled.len() - place) as u64;
            shuffled.swap(place, place + (rng.next_u64() % left) as usize);
        }
        (shuffled[..first].iter().sum::<f64>() - centre).abs() >= bound
    });
    of_draws(far.count())
}

/// `|sum|`, less the rounding error of sums in another order, so that equal patterns count as equal.
fn reach(sum: f64, values: &[f64]) -> f64 {
    let size: f64 = values.iter().map(|value| value.abs()).sum();
    sum.abs() - 4.0 * values.len() as f64 * f64::EPSILON * size
}

/// The `p` value with the observed arrangement counted among those drawn (Phipson and Smyth 2010).
fn of_draws(far: usize) -> Exact {
    let count = (DRAWS + 1) as f64;
    Exact { p: (far + 1) as f64 / count, least: 1.0 / count, exact: false }
}

fn binomial(n: usize, k: usize) -> f64 {
    (0..k.min(n - k)).map(|i| (n - i) as f64 / (i + 1) as f64).product::<f64>().round()
}

/// The next combination of `n` indices, in lexicographic order.
fn next_choice(chosen: &mut [usize], n: usize) -> bool {
    let count = chosen.len();
    let Some(place) = (0..count).rev().find(|&i| chosen[i] < n - count + i) else { return false };
    chosen[place] += 1;
    for i in place + 1..count {
        chosen[i] = chosen[i - 1] + 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn exact_values_by_hand() {
        let mut rng = stream(0, Purpose::Signs);
        // All of one sign: only the pattern itself and its mirror image reach as far.
        let five = sign_flip(&[1.0, 2.0, 0.5, 3.0, 0.1], &mut rng);
        assert_eq!(five, Exact { p: 0.0625, least: 0.0625, exact: true });
        // scipy.stats.permutation_test of the mean, permutation_type "samples"; and of |difference of means|, "independent",
        // alternative "greater": 54 of 126 splits.
        let (a, b, c) = ([1.2, 0.8, 1.9, 1.1, 1.6], [0.9, 0.7, 1.2, 1.2, 1.0], [2.0, 1.4, 1.1, 1.7]);
        let paired: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        assert_eq!(sign_flip(&paired, &mut rng).p, 0.1875);
        assert!((permutation(&a, &c, &mut rng).p - 54.0 / 126.0).abs() < 1e-12);
        // Two apart of two: 2 of 6 splits.
        assert_eq!(permutation(&[1.0, 2.0], &[5.0, 6.0], &mut rng).p, 2.0 / 6.0);
    }

    #[test]
    fn drawn_patterns_agree_with_counted_ones() {
        let mut rng = stream(0, Purpose::Signs);
        let differences: Vec<f64> = (0..24).map(|i| (f64::from(i) * 1.7).sin() + 0.25).collect();
        let drawn = sign_flip(&differences, &mut rng);
        // The normal limit of the same statistic: sum over the root of the sum of squares.
        let z = differences.iter().sum::<f64>() / differences.iter().map(|d| d * d).sum::<f64>().sqrt();
        let normal = libm::erfc(z.abs() / std::f64::consts::SQRT_2);
        // 24 flips are near the limit, and 100,000 draws have a standard error below 0.0016.
        assert!(!drawn.exact && (drawn.p - normal).abs() < 0.02, "{drawn:?} {normal}");
    }
}
