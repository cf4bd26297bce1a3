//! How much the loss rises on average under Gaussian perturbations.

use rand_distr::{Distribution, StandardNormal};

use super::point::Point;
use crate::random::{Purpose, substream};
use crate::statistics::{Ratio, Sample};
use crate::{Observer, Result};

/// A mean with its errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rise {
    pub(super) value: f64,
    /// Over the pairs.
    pub(super) std_err_numeric: f64,
    /// Over the rows' own means.
    pub(super) std_err_data: f64,
}

/// The perturbation of pair `pair`, the same at every `σ` and scaling: their differences are then better known than they
/// are.
pub(super) fn draw(dim: usize, seed: u64, pair: usize) -> Vec<f64> {
    let mut rng = substream(seed, Purpose::Sharpness, pair as u64);
    (0..dim).map(|_| StandardNormal.sample(&mut rng)).collect()
}

/// The mean rise over `pairs` pairs. Cost: two passes over the rows for each, and one.
pub(super) fn average(
    point: &mut Point<'_>,
    sigma: f64,
    pairs: usize,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Rise> {
    let still = vec![0.0; point.dim()];
    let base = point.row_losses(&still, observer)?;
    let weights = point.row_weights()?;
    let weight: f64 = weights.iter().sum();
    let mut rows = vec![0.0; base.len()];
    let mut means = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        let z = draw(point.dim(), seed, pair);
        let mut total = 0.0;
        for sign in [1.0, -1.0] {
            let delta: Vec<f64> = z.iter().map(|z| sign * sigma * z).collect();
            for ((row, loss), base) in rows.iter_mut().zip(point.row_losses(&delta, observer)?).zip(&base) {
                let rise = 0.5 * (loss - base);
                *row += rise / pairs as f64;
                total += rise;
            }
        }
        means.push(total / weight);
    }
    let sample = Sample::of(&means);
    let rows = rows.into_iter().zip(weights).map(|(rise, weight)| Ratio::of(rise, weight));
    let std_err_data = rows.fold(Ratio::default(), Ratio::merge).std_err();
    Ok(Rise { value: sample.mean, std_err_numeric: sample.std_err(), std_err_data })
}
