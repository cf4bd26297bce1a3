//! The largest perturbation that the loss tolerates.

use super::average::draw;
use super::point::Point;
use crate::plan::PacBayesParams;
use crate::statistics::Sample;
use crate::{Observer, Result};

/// `σ` with its standard error, and whether the rise is at the target there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Width {
    pub(super) sigma: f64,
    pub(super) std_err: f64,
    pub(super) converged: bool,
}

/// Halvings of the bracket's logarithm: 0.1 % of σ.
const HALVINGS: usize = 9;
/// Doublings that look for the bracket.
const DOUBLINGS: usize = 24;

/// By bisection with common random numbers. Cost: about `2 · pairs · 16` passes over the rows.
pub(super) fn width(
    point: &mut Point<'_>,
    params: &PacBayesParams,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Width> {
    let base = point.loss(&vec![0.0; point.dim()], observer)?;
    let draws: Vec<Vec<f64>> = (0..params.pairs).map(|pair| draw(point.dim(), seed, pair)).collect();
    let mut rise = |sigma: f64, observer: &mut dyn Observer| -> Result<Sample> {
        let mut means = Vec::with_capacity(draws.len());
        for z in &draws {
            let mut mean = 0.0;
            for sign in [0.5, -0.5] {
                let delta: Vec<f64> = z.iter().map(|z| 2.0 * sign * sigma * z).collect();
                mean += 0.5 * (point.loss(&delta, observer)? - base);
            }
            means.push(mean);
        }
        Ok(Sample::of(&means))
    };
    let borne = |sample: &Sample| sample.mean <= params.target;
    let (mut low, mut high) = (1e-4, 2e-4);
    for _ in 0..DOUBLINGS {
        if !borne(&rise(high, observer)?) {
            break;
        }
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..HALVINGS {
        let middle = (low * high).sqrt();
        if borne(&rise(middle, observer)?) { low = middle } else { high = middle }
    }
    let there = rise(low, observer)?;
    // The rise grows as a power of σ between 1 and 2: its relative error is at most that of the rise.
    let std_err = low * there.std_err() / params.target;
    Ok(Width { sigma: low, std_err, converged: (there.mean - params.target).abs() <= 0.02 * params.target })
}
