//! What the theory says, measured: error against step size, the law against `β`, mass that moves to the flat side.

use rand_chacha::ChaCha8Rng;

use super::distance::{self, Distances};
use super::{Dynamics, Energy, LangevinError, Law, Potential, Schedule, sample};
use crate::random::{Purpose, substream};
use crate::{Observer, Result};

/// Size and seed of a study.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct StudyOptions {
    /// Independent chains.
    pub chains: usize,
    /// Snapshots of them that the error against the step size is averaged over.
    pub snapshots: usize,
    /// Of all random numbers.
    pub seed: u64,
    /// Worker threads; no number depends on it.
    #[serde(skip)]
    pub threads: usize,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self { chains: 8_192, snapshots: 16, seed: 0, threads: 1 }
    }
}

impl StudyOptions {
    /// Refuses sizes without sense.
    ///
    /// # Errors
    /// [`LangevinError::Setting`].
    pub fn check(&self) -> Result<(), LangevinError> {
        let within = |name, value: usize, least: usize, most: usize, reason| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(LangevinError::Setting { name, value: value as f64, reason }),
        };
        within("number of chains", self.chains, 2 * BLOCKS, 1 << 24, "must be 32 to 16777216")?;
        within("number of snapshots", self.snapshots, 1, 10_000, "must be 1 to 10000")
    }
}

/// Groups of chains whose spread gives the error of a distance.
const BLOCKS: usize = 16;
/// Directions of a sliced distance.
const DIRECTIONS: usize = 64;

/// A distance with its error, and what chance alone leaves of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Between all samples and the law; sliced from two dimensions on.
    pub distances: Distances,
    /// Standard error of `W₁`: spread over blocks of chains over the root of their number.
    pub w1_std_err: f64,
    /// Distances of as many exact draws from the law.
    pub floor: Distances,
}

/// Snapshots against `law`. `number` keeps the random numbers of several measurements apart.
pub(super) fn measure(snapshots: &[Vec<f64>], law: &Law, dim: usize, seed: u64, number: u64) -> Measured {
    let rng = |part: u64| substream(seed, Purpose::LangevinSlices, 4 * number + part);
    let all: Vec<f64> = snapshots.concat();
    let exact = draws(law, all.len() / dim.max(1), dim, &mut rng(0));
    let other = draws(law, all.len() / dim.max(1), dim, &mut rng(1));
    let against = |samples: &[f64], exact: &[f64]| match dim {
        1 => distance::to_law(&mut samples.to_vec(), law),
        _ => distance::sliced(samples, &exact[..samples.len()], dim, DIRECTIONS, &mut rng(2)),
    };
    let blocks: Vec<f64> = (0..BLOCKS)
        .map(|block| {
            let own = snapshots.iter().flat_map(|places| {
                let chains = places.len() / dim.max(1);
                let (from, to) = (block * chains / BLOCKS, (block + 1) * chains / BLOCKS);
                places[from * dim..to * dim].iter().copied()
            });
            against(&own.collect::<Vec<_>>(), &exact).w1
        })
        .collect();
    let mean = blocks.iter().sum::<f64>() / BLOCKS as f64;
    let variance = blocks.iter().map(|w1| (w1 - mean).powi(2)).sum::<f64>() / (BLOCKS - 1) as f64;
    Measured {
        distances: against(&all, &exact),
        w1_std_err: (variance / BLOCKS as f64).sqrt(),
        floor: against(&other, &exact),
    }
}

fn draws(law: &Law, count: usize, dim: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut places = vec![0.0; count * dim];
    places.chunks_exact_mut(dim.max(1)).for_each(|place| law.draw(rng, place));
    places
}

/// The law of `energy`, or what is missing for it.
pub(super) fn law(potential: &Potential, energy: Energy, dynamics: &Dynamics) -> Result<Law, LangevinError> {
    let dim = potential.dim() as f64;
    let reason = "laws are computed in one and two dimensions";
    Law::new(potential, energy, dynamics.beta, dynamics.sigma).ok_or(LangevinError::Setting {
        name: "dimension",
        value: dim,
        reason,
    })
}

/// Mean over all places of `f`, with the standard error over chains of their last snapshot.
pub(super) fn chain_mean(places: &[f64], dim: usize, f: impl Fn(&[f64]) -> f64) -> (f64, f64) {
    let values: Vec<f64> = places.chunks_exact(dim.max(1)).map(f).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}

/// Steps that make up a stretch of time.
pub(super) fn steps(time: f64, step_size: f64) -> usize {
    (time / step_size).ceil().max(1.0) as usize
}

/// When snapshots of a run are taken, in units of time.
pub(super) struct Stretch<'a> {
    /// Chains begin with exact draws from it.
    pub(super) start: &'a Law,
    /// Before the first snapshot.
    pub(super) burn_in: f64,
    /// Between two.
    pub(super) spacing: f64,
    /// Number of the run among those of a study.
    pub(super) stream: u64,
}

/// The snapshots of one stretch.
pub(super) fn stationary(
    potential: &Potential,
    dynamics: &Dynamics,
    stretch: &Stretch<'_>,
    options: &StudyOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<f64>>> {
    let &Stretch { start, burn_in, spacing, stream } = stretch;
    let skipped = (burn_in / spacing).ceil() as usize;
    let schedule = Schedule {
        chains: options.chains,
        steps: steps(spacing, dynamics.step_size),
        snapshots: skipped + options.snapshots,
        start: Some(start),
        seed: options.seed,
        stream,
        threads: options.threads,
    };
    let mut snapshots = sample(potential, dynamics, &schedule, observer)?;
    Ok(snapshots.split_off(skipped))
}
