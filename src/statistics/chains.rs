//! Whether several chains agree, and how many independent draws theirs are worth.

use super::Sample;

/// What chains of equal length say together about the mean of their numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixing {
    /// Mean over all draws.
    pub mean: f64,
    /// Split R̂ (Gelman et al. 2013): the root of the pooled variance of half chains over the variance within them. 1 where
    /// chains agree and do not drift; NaN where nothing varies.
    pub r_hat: f64,
    /// Independent draws of the same standard error, by Geyer's initial monotone sequence (Geyer 1992) over all half chains
    /// (Vehtari et al. 2021). At most the number of draws.
    pub effective_size: f64,
    /// Standard error of the mean from the pooled variance and the effective size.
    pub std_err_within: f64,
    /// Standard error of the mean over the means of the chains; NaN for a single one.
    pub std_err_between: f64,
    /// Mean of the second halves less that of the first.
    pub drift: f64,
}

impl Mixing {
    /// Of `chains` of at least 4 draws each; of longer ones, the draws in the middle count for the mean alone.
    pub fn of(chains: &[Vec<f64>]) -> Self {
        let length = chains.iter().map(Vec::len).min().unwrap_or(0) / 2;
        let halves: Vec<&[f64]> =
            chains.iter().flat_map(|chain| [&chain[..length], &chain[chain.len() - length..]]).collect();
        let means: Vec<f64> = halves.iter().map(|half| Sample::of(half).mean).collect();
        let within = halves.iter().map(|half| Sample::of(half).std_dev.powi(2)).sum::<f64>() / halves.len() as f64;
        let draws = length as f64;
        let pooled = within * (draws - 1.0) / draws + Sample::of(&means).std_dev.powi(2);
        let std_err_within = std_err(&halves);
        let whole: Vec<f64> = chains.iter().map(|chain| Sample::of(chain).mean).collect();
        let drifts: Vec<f64> = means.chunks_exact(2).map(|pair| pair[1] - pair[0]).collect();
        Self {
            mean: Sample::of(&whole).mean,
            r_hat: (pooled / within).sqrt(),
            effective_size: (pooled / std_err_within.powi(2)).min(draws * halves.len() as f64),
            std_err_within,
            std_err_between: Sample::of(&whole).std_err(),
            drift: Sample::of(&drifts).mean,
        }
    }

    /// The larger of both standard errors: one knows how slowly chains move, the other whether they agree.
    pub fn std_err(&self) -> f64 {
        self.std_err_within.max(self.std_err_between)
    }
}

/// Numbers per half chain from which correlations are taken; longer ones are averaged over blocks, which leaves the variance
/// of the mean as it is.
const MOST_BLOCKS: usize = 2048;

/// Half of a chain, in block means.
struct Blocks {
    values: Vec<f64>,
    mean: f64,
}

impl Blocks {
    fn new(half: &[f64]) -> Self {
        let size = half.len().div_ceil(MOST_BLOCKS).max(1);
        let values: Vec<f64> = half.chunks_exact(size).map(|block| Sample::of(block).mean).collect();
        Self { mean: Sample::of(&values).mean, values }
    }

    /// Autocovariance with the weight `1/n`.
    fn covariance(&self, lag: usize) -> f64 {
        let later = self.values.iter().skip(lag);
        let products = self.values.iter().zip(later).map(|(a, b)| (a - self.mean) * (b - self.mean));
        products.sum::<f64>() / self.values.len() as f64
    }
}

/// `√(v τ/(m n))` over `m` half chains of `n` blocks and pooled variance `v`, `τ = −1 + 2 Σ (ρ₂ₖ + ρ₂ₖ₊₁)` as long as the pairs
/// are positive, each no larger than the one before; at least 1.
fn std_err(halves: &[&[f64]]) -> f64 {
    let halves: Vec<Blocks> = halves.iter().map(|half| Blocks::new(half)).collect();
    let (count, length) = (halves.len() as f64, halves.first().map_or(0, |half| half.values.len()));
    let mean_covariance = |lag| halves.iter().map(|half| half.covariance(lag)).sum::<f64>() / count;
    let (biased, blocks) = (mean_covariance(0), length as f64);
    let within = biased * blocks / (blocks - 1.0);
    let means: Vec<f64> = halves.iter().map(|half| half.mean).collect();
    let pooled = biased + Sample::of(&means).std_dev.powi(2);
    let correlation = |lag: usize| if lag == 0 { 1.0 } else { 1.0 - (within - mean_covariance(lag)) / pooled };
    let (mut time, mut least) = (-1.0, f64::INFINITY);
    for lag in (0..length.saturating_sub(1)).step_by(2) {
        let pair = correlation(lag) + correlation(lag + 1);
        if pair.is_nan() || pair <= 0.0 {
            break;
        }
        least = pair.min(least);
        time += 2.0 * least;
    }
    (pooled * time.max(1.0) / (count * blocks)).sqrt()
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use crate::random::{Purpose, substream};

    /// `x' = ρ x + sqrt(1 − ρ²) ξ` from its stationary law, variance 1, shifted by `shift` and `slope` per step.
    fn chain(correlation: f64, shift: f64, slope: f64, index: u64) -> Vec<f64> {
        let mut rng = substream(3, Purpose::Check, index);
        let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
        let mut x = normal();
        let mut next = || {
            x = correlation * x + (1.0 - correlation * correlation).sqrt() * normal();
            x
        };
        (0..40_000).map(|step| next() + shift + slope * step as f64).collect()
    }

    fn of(correlation: f64, shift: f64, slope: f64) -> Mixing {
        Mixing::of(&[0, 1, 2, 3].map(|index| chain(correlation, shift * index as f64, slope, index)))
    }

    #[test]
    fn the_effective_size_is_that_of_an_autoregression() {
        for correlation in [0.0, 0.5, 0.9] {
            let mixing = of(correlation, 0.0, 0.0);
            // τ = (1 + ρ)/(1 − ρ). A sum of correlations up to some 3τ on both sides has the relative variance 2 (6τ + 1)/n.
            let time = (1.0 + correlation) / (1.0 - correlation);
            let (exact, slack) = (160_000.0 / time, 4.0 * (2.0 * (6.0 * time + 1.0) / 160_000.0f64).sqrt());
            assert!((mixing.effective_size / exact - 1.0).abs() < slack, "{mixing:?}");
            assert!((mixing.r_hat - 1.0).abs() < 0.01, "{mixing:?}");
            assert!(mixing.mean.abs() < 4.0 / exact.sqrt(), "{mixing:?}");
            // The variance is 1.
            assert!((mixing.std_err_within * exact.sqrt() - 1.0).abs() < slack, "{mixing:?}");
        }
    }

    #[test]
    fn chains_that_differ_or_drift_are_told() {
        let apart = of(0.5, 1.0, 0.0);
        // Halves with the means 0, 0, 1, 1, 2, 2, 3, 3 of variance 10/7, around each a variance of 1. The error over chains is
        // that of four means of variance 5/3.
        assert!((apart.r_hat - (1.0f64 + 10.0 / 7.0).sqrt()).abs() < 0.05, "{apart:?}");
        assert!(
            (apart.std_err_between - (5.0f64 / 12.0).sqrt()).abs() < 0.1 && apart.effective_size < 20.0,
            "{apart:?}"
        );
        let drifting = of(0.5, 0.0, 1e-4);
        assert!(drifting.r_hat > 1.3 && (drifting.drift - 2.0).abs() < 0.2, "{drifting:?}");
    }

    #[test]
    fn r_hat_by_hand() {
        // Halves (1, 2), (3, 4), (1, 2), (5, 6): variance within 1/2, of the means (1.5, 3.5, 1.5, 5.5) 11/3; n = 2:
        // R̂² = (1/2·1/2 + 11/3)/(1/2).
        let mixing = Mixing::of(&[vec![1.0, 2.0, 3.0, 4.0], vec![1.0, 2.0, 5.0, 6.0]]);
        assert!((mixing.r_hat - ((0.25f64 + 11.0 / 3.0) / 0.5).sqrt()).abs() < 1e-12);
        assert_eq!((mixing.mean, mixing.drift), (3.0, 3.0));
        assert!(Mixing::of(&[vec![1.0; 8], vec![1.0; 8]]).r_hat.is_nan());
    }
}
