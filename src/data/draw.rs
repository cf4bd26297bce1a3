//! Integers and fractions from raw random words, by formulas that no update of a library can change.

use rand::Rng;

use crate::random::uniform;

/// Uniform on `low..high`.
pub(super) fn between(rng: &mut impl Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * uniform(rng) as f32
}

/// Uniform on `0..bound`, up to a bias of `bound / 2⁶⁴`; one word per draw.
pub(super) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// `count` of `0..total` without replacement, ascending (Fisher and Yates, stopped after `count` swaps).
pub(crate) fn choose(rng: &mut impl Rng, total: usize, count: usize) -> Vec<usize> {
    let mut items: Vec<usize> = (0..total).collect();
    for place in 0..count {
        let other = place + below(rng, total - place);
        items.swap(place, other);
    }
    items.truncate(count);
    items.sort_unstable();
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn chosen_rows_are_distinct_ascending_and_uniform() {
        let mut rng = stream(5, Purpose::Check);
        let mut hits = [0u32; 20];
        for _ in 0..4000 {
            let rows = choose(&mut rng, 20, 5);
            assert!(rows.len() == 5 && rows.windows(2).all(|pair| pair[0] < pair[1]));
            rows.iter().for_each(|&row| hits[row] += 1);
        }
        // Each row is in with probability 1/4: 1000 expected, standard deviation sqrt(4000 · 3/16) = 27.4.
        assert!(hits.iter().all(|&count| f64::from(count.abs_diff(1000)) < 4.0 * 27.4), "{hits:?}");
        assert_eq!(choose(&mut rng, 7, 7), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn draws_stay_in_range() {
        let mut rng = stream(6, Purpose::Check);
        assert!((0..1000).all(|_| below(&mut rng, 3) < 3 && (-2.0..=3.0).contains(&between(&mut rng, -2.0, 3.0))));
    }
}
