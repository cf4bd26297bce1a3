//! Estimates against quadrature, closed forms and long reference chains.

mod behaviour;
mod networks;
mod potentials;

use super::{Chain, Dynamics, Energy, Estimate, Rise, Schedule, Watch, sample};
use crate::team::Alone;
use crate::{Result, Workers};

/// Many copies of a potential side by side around 0, which have the law of one: `λ̂` of all is that of one, times their number.
struct Copies {
    potential: Potential,
    zeros: Vec<f64>,
}

/// `L(w)` of one copy.
#[derive(Clone, Copy)]
enum Potential {
    /// `h x²/2`, the given curvatures one after another.
    Quadratic(&'static [f64]),
    /// `x⁴`.
    Quartic,
    /// `x² y²`.
    Cross,
}

impl Copies {
    fn new(potential: Potential, count: usize) -> Self {
        let dim = match potential {
            Potential::Quadratic(curvatures) => curvatures.len(),
            Potential::Quartic => 1,
            Potential::Cross => 2,
        };
        Self { potential, zeros: vec![0.0; dim * count] }
    }
}

impl Energy for Copies {
    fn minimum(&self) -> &[f64] {
        &self.zeros
    }

    fn rise(&self, place: &[f64], _: u64) -> Result<Option<Rise>> {
        let (loss, gradient) = match self.potential {
            Potential::Quadratic(curvatures) => {
                let pairs = || place.iter().zip(curvatures.iter().cycle());
                (pairs().map(|(x, h)| 0.5 * h * x * x).sum(), pairs().map(|(x, h)| h * x).collect())
            }
            Potential::Quartic => {
                (place.iter().map(|x| x.powi(4)).sum(), place.iter().map(|x| 4.0 * x.powi(3)).collect())
            }
            Potential::Cross => {
                let pairs = || place.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                let slopes = pairs().flat_map(|(x, y)| [2.0 * x * y * y, 2.0 * x * x * y]);
                (pairs().map(|(x, y)| x * x * y * y).sum(), slopes.collect())
            }
        };
        Ok(Some(Rise { loss, gradient }))
    }
}

/// Four chains.
fn schedule(steps: usize, seed: u64) -> Schedule {
    Schedule { chains: 4, steps, seed, at_a_time: 2, workers: Workers::new(2).unwrap(), team: &Alone }
}

fn chains(energy: &impl Energy, dynamics: Dynamics, schedule: &Schedule) -> Vec<Chain> {
    sample(energy, &dynamics, schedule, Watch { setting: 0, store: &mut (), observer: &mut () }).unwrap()
}

fn estimate(energy: &impl Energy, dynamics: Dynamics, burn_in: usize, draws: usize) -> Estimate {
    Estimate::of(&chains(energy, dynamics, &schedule(burn_in + draws, 1)), dynamics, burn_in)
}
