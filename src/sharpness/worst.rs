//! How much the loss rises at worst in a ball.

use rand_distr::{Distribution, StandardNormal};

use super::point::Point;
use crate::kernels::norm_of;
use crate::plan::WorstParams;
use crate::random::{Purpose, substream};
use crate::vocabulary::Ball;
use crate::{Observer, Result};

impl Ball {
    /// The steepest step of length `step`, `None` where there is no slope.
    fn ascent(self, gradient: &[f64], step: f64) -> Option<Vec<f64>> {
        let length = norm_of(gradient);
        if !(length > 0.0 && length.is_finite()) {
            return None;
        }
        Some(match self {
            Self::L2 => gradient.iter().map(|slope| step * slope / length).collect(),
            Self::Linf => {
                gradient.iter().map(|slope| if *slope == 0.0 { 0.0 } else { step * slope.signum() }).collect()
            }
        })
    }

    fn project(self, delta: &mut [f64], radius: f64) {
        match self {
            Self::L2 => {
                let length = norm_of(delta);
                if length > radius {
                    delta.iter_mut().for_each(|value| *value *= radius / length);
                }
            }
            Self::Linf => delta.iter_mut().for_each(|value| *value = value.clamp(-radius, radius)),
        }
    }
}

/// The perturbations `‖δ‖ ≤ ρ`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within {
    pub(super) ball: Ball,
    /// `ρ`.
    pub(super) radius: f64,
}

/// What ascents found: a lower bound of the maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Worst {
    pub(super) rise: f64,
    /// Standard deviation over the restarts.
    pub(super) spread: f64,
    /// The last quarter of the steps of the best ascent added less than 1 %.
    pub(super) converged: bool,
}

/// The highest point that ascents find. Each steps along the gradient (its sign for the largest entry) and projects back
/// onto the ball; the first step is `ρ`, so that the ascent along the gradient begins with SAM's own perturbation, and a
/// step that does not climb is taken back and halved.
pub(super) fn worst(
    point: &mut Point<'_>,
    within: Within,
    params: &WorstParams,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Worst> {
    let still = vec![0.0; point.dim()];
    let base = point.loss(&still, observer)?;
    let mut rises = Vec::with_capacity(params.restarts);
    let mut best = Worst { rise: 0.0, spread: f64::NAN, converged: false };
    for restart in 0..params.restarts.max(1) {
        let start = if restart == 0 { still.clone() } else { within.random(point.dim(), seed, restart) };
        let climbed = climb(point, within, start, params.steps, observer)?;
        let rise = climbed.last().map_or(0.0, |top| top - base);
        if rise >= best.rise {
            let before = climbed.get(climbed.len() * 3 / 4).map_or(base, |top| *top) - base;
            best = Worst { rise, converged: rise.is_finite() && rise - before <= 0.01 * rise, ..best };
        }
        rises.push(rise);
    }
    best.spread = crate::statistics::Sample::of(&rises).std_dev;
    Ok(best)
}

impl Within {
    /// A point on the rim of the ball.
    fn random(self, dim: usize, seed: u64, restart: usize) -> Vec<f64> {
        let mut rng = substream(seed, Purpose::SharpnessStart, restart as u64);
        let draws: Vec<f64> = (0..dim).map(|_| StandardNormal.sample(&mut rng)).collect();
        self.ball.ascent(&draws, self.radius).unwrap_or(draws)
    }
}

/// The highest loss so far after each gradient.
fn climb(
    point: &mut Point<'_>,
    Within { ball, radius }: Within,
    mut here: Vec<f64>,
    steps: usize,
    observer: &mut dyn Observer,
) -> Result<Vec<f64>> {
    let mut step = radius;
    let mut tops = Vec::with_capacity(steps + 1);
    let Some((mut top, mut gradient)) = point.gradient(&here, observer)? else { return Ok(vec![f64::INFINITY]) };
    tops.push(top);
    for _ in 1..steps.max(2) {
        let Some(ascent) = ball.ascent(&gradient, step) else { break };
        let mut next: Vec<f64> = here.iter().zip(&ascent).map(|(here, ascent)| here + ascent).collect();
        ball.project(&mut next, radius);
        match point.gradient(&next, observer)? {
            Some((loss, slopes)) if loss > top => (here, top, gradient) = (next, loss, slopes),
            Some(_) => step *= 0.5,
            None => return Ok(vec![f64::INFINITY]),
        }
        tops.push(top);
    }
    Ok(tops)
}
