//! Error bars from the choice of data rows: how far the data shards disagree about a number.

use crate::operator::ShardForms;

/// Standard error of each mean form `f̄ᵢ = Σ_s (W_s/W) f_si`, `W = Σ W_s`, under another draw of as many rows:
///
/// `SE² = S/(S−1) · Σ_s (W_s/W)² (f_si − f̄ᵢ)²`,
///
/// the linearised variance of a ratio of sums over independent shards (Cochran 1977, section 6.4), whose weights are drawn
/// with the rows; for equal shards it is the usual `s²/S`. NaN with fewer than two shards. It has `S − 1` degrees of freedom: with few shards read it with
/// Student's `t`. For an eigenvalue, with `f_s = yᵀA_s y` at fixed `y`, it is of first order: the vector also moves,
/// and the largest eigenvalue of a small sample is biased upwards, by terms of second order in the noise.
pub fn data_std_errors(shards: &ShardForms) -> Vec<f64> {
    let (num_shards, shares) = (shards.rows.len() as f64, shards.shares());
    let columns = shards.forms.first().map_or(0, Vec::len);
    (0..columns)
        .map(|i| {
            if num_shards < 2.0 {
                return f64::NAN;
            }
            let mean: f64 = shares.iter().zip(&shards.forms).map(|(share, forms)| share * forms[i]).sum();
            let squares = shares.iter().zip(&shards.forms).map(|(share, forms)| (share * (forms[i] - mean)).powi(2));
            (num_shards / (num_shards - 1.0) * squares.sum::<f64>()).sqrt()
        })
        .collect()
}

/// As [`data_std_errors`] for the mean over all columns (probes) of the forms; NaN without shards.
pub(super) fn mean_data_std_error(shards: Option<&ShardForms>) -> f64 {
    let Some(shards) = shards else { return f64::NAN };
    let means = shards.forms.iter().map(|forms| vec![forms.iter().sum::<f64>() / forms.len() as f64]).collect();
    data_std_errors(&shards.with_forms(means)).first().copied().unwrap_or(f64::NAN)
}

/// As [`data_std_errors`] for `count` vectors; NaN without shards.
pub(super) fn std_errors_or_nan(shards: Option<&ShardForms>, count: usize) -> Vec<f64> {
    shards.map_or_else(|| vec![f64::NAN; count], data_std_errors)
}

/// The forms of the vectors of several products, in order; `None` as soon as one product has none or is cut otherwise.
pub(super) fn join(parts: Vec<Option<ShardForms>>) -> Option<ShardForms> {
    let mut parts = parts.into_iter();
    let mut joined = parts.next()??;
    for part in parts {
        let part = part.filter(|part| part.same_shards(&joined))?;
        joined.forms.iter_mut().zip(part.forms).for_each(|(all, forms)| all.extend(forms));
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn equal_shards_give_the_textbook_error_of_a_mean() {
        let shards = ShardForms::of_rows(vec![5; 3], vec![vec![1.0], vec![2.0], vec![6.0]]);
        // Mean 3, s² = (4 + 1 + 9)/2 = 7, standard error √(7/3).
        assert!((data_std_errors(&shards)[0] - (7.0_f64 / 3.0).sqrt()).abs() < 1e-15);
        let single = ShardForms::of_rows(vec![5], vec![vec![1.0, 2.0]]);
        assert!(data_std_errors(&single).iter().all(|error| error.is_nan()));
        assert!(mean_data_std_error(None).is_nan());
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        // Sums 2, 12, 6 over weights 1, 3, 2: the ratio is 20/6; residuals W_s (f_s − 10/3): −4/3, 2, −2/3.
        let weights = vec![1.0, 3.0, 2.0];
        let shards = ShardForms { rows: vec![5; 3], weights, forms: vec![vec![2.0], vec![4.0], vec![3.0]] };
        let exact = (1.5 * (16.0 / 9.0 + 4.0 + 4.0 / 9.0_f64)).sqrt() / 6.0;
        assert!((data_std_errors(&shards)[0] - exact).abs() < 1e-15);
        // Shards of other weights are other shards.
        let other = ShardForms { weights: vec![1.0, 2.0, 3.0], ..shards.clone() };
        assert!(join(vec![Some(shards), Some(other)]).is_none());
    }

    #[test]
    fn the_variance_is_right_for_unequal_shards() {
        // Rows are N(0, 1), so the weighted mean has variance 1/R exactly.
        let rows: Vec<usize> = (0..10).map(|shard| 100 + 20 * shard).collect();
        let total: usize = rows.iter().sum();
        let mut rng = stream(5, Purpose::Check);
        let repeats = 4_000;
        let (mut mean_square, mut covered) = (0.0, 0);
        for _ in 0..repeats {
            let forms: Vec<Vec<f64>> = rows
                .iter()
                .map(|&rows| {
                    let normal: f64 = StandardNormal.sample(&mut rng);
                    vec![normal / (rows as f64).sqrt()]
                })
                .collect();
            let mean: f64 = rows.iter().zip(&forms).map(|(&r, f)| r as f64 * f[0]).sum::<f64>() / total as f64;
            let error = data_std_errors(&ShardForms::of_rows(rows.clone(), forms))[0];
            mean_square += error * error / repeats as f64;
            // 2.262: the 97.5 % point of Student's t with 9 degrees of freedom.
            covered += usize::from(mean.abs() <= 2.262 * error);
        }
        // SE² has relative deviation √(2/9) per draw, 0.0075 over 4000 draws; the linearisation itself costs about
        // 1 % for shards that differ by a factor of 2.8.
        assert!((mean_square * total as f64 - 1.0).abs() < 4.0 * 0.0075 + 0.01);
        // Binomial: √(0.95·0.05/4000) = 0.0034; unequal shards lose a little coverage.
        assert!((covered as f64 / repeats as f64 - 0.95).abs() < 4.0 * 0.0034 + 0.005);
    }

    #[test]
    fn products_join_only_when_cut_alike() {
        let part = |rows: usize, form| Some(ShardForms::of_rows(vec![rows, 2], vec![vec![form], vec![form]]));
        assert_eq!(join(vec![part(1, 3.0), part(1, 4.0)]).unwrap().forms, [[3.0, 4.0], [3.0, 4.0]]);
        assert!(join(vec![part(1, 3.0), part(2, 4.0)]).is_none());
        assert!(join(vec![part(1, 3.0), None]).is_none());
    }
}
