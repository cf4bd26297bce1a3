//! Standard errors by drawing rows anew.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::statistics::Sample;

/// Standard deviations of `statistic` over resamples of the rows (Efron 1979), NaN where it is defined on fewer than two of
/// them. It takes how often each row was drawn; rows of each of the `groups`, by their sizes, are drawn apart.
pub(super) fn bootstrap<const K: usize>(
    groups: &[usize],
    resamples: usize,
    mut rng: ChaCha8Rng,
    mut statistic: impl FnMut(&[u32]) -> [f64; K],
) -> [f64; K] {
    let mut counts = vec![0u32; groups.iter().sum()];
    let mut values = vec![Vec::with_capacity(resamples); K];
    for _ in 0..resamples {
        counts.fill(0);
        let mut start = 0;
        for &size in groups {
            for _ in 0..size {
                // The bias of a remainder of 64 bits by so few rows is below 1e-11.
                let row = rng.next_u64() % size as u64;
                counts[start + row as usize] += 1;
            }
            start += size;
        }
        values.iter_mut().zip(statistic(&counts)).for_each(|(values, value)| values.push(value));
    }
    std::array::from_fn(|index| Sample::of(&values[index]).std_dev)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    /// The mean of `n` values has the error `σ/√n` with the deviation `σ` of `n`, not `n − 1`.
    #[test]
    fn the_error_of_a_mean() {
        let values: Vec<f64> = (0..300).map(|i| f64::from(i % 17)).collect();
        let mean = |counts: &[u32]| {
            let sum: f64 = counts.iter().zip(&values).map(|(count, value)| f64::from(*count) * value).sum();
            [sum / values.len() as f64]
        };
        let [found] = bootstrap(&[300], 2000, stream(3, Purpose::Check), mean);
        let sample = Sample::of(&values);
        let expected = sample.std_dev * (299.0f64 / 300.0).sqrt() / 300f64.sqrt();
        // A standard deviation of 2000 draws varies by 1/√4000 of itself.
        assert!((found / expected - 1.0).abs() < 4.0 / 4000f64.sqrt(), "{found} {expected}");
    }

    #[test]
    fn groups_are_drawn_apart() {
        let shares = |counts: &[u32]| [f64::from(counts[..40].iter().sum::<u32>())];
        assert_eq!(bootstrap(&[40, 60], 50, stream(3, Purpose::Check), shares), [0.0]);
        let never = |_: &[u32]| [f64::NAN];
        assert!(bootstrap(&[4], 50, stream(3, Purpose::Check), never)[0].is_nan());
    }
}
