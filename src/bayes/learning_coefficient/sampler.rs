//! Localised stochastic gradient Langevin dynamics.

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::{Chain, ChainStore, Energy, Rise, Visit};
use crate::optim::{Draw, Noise, Perturbation};
use crate::random::Purpose;
use crate::team::Team;
use crate::{Error, Observer, Result, Step, Workers};

/// SGLD on `U(w) = nβ L(w) + γ/2 ‖w − w*‖²` (Welling and Teh 2011, localised: Lau et al. 2023):
/// `w ← w − ε/2 ∇U_B(w) + √ε ξ`, `ξ ~ N(0, I)`, in the convention with a half, so that for small `ε` the stationary law
/// approaches `exp(−U)`. Nothing is rejected.
///
/// Where the loss is quadratic and the rows are all, each eigenvalue `a = nβh + γ` of `∇²U` has the stationary variance
/// `1/(a (1 − εa/4))` in place of `1/a`, and `nβ (E L − L(w*))` exceeds `Σ ½ nβh/a` by exactly `ε/8 E⟨∇U, nβ ∇L⟩`. Minibatches
/// add the covariance `C` of `nβ ∇L_B`: the variance is multiplied by `1 + ε/4 C`, and that expression also grows by
/// `ε/8 tr C`, to first order in `ε` no less than what they add to the excess.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Dynamics {
    /// `nβ`.
    pub n_beta: f64,
    /// `γ`.
    pub gamma: f64,
    /// `ε`.
    pub step_size: f64,
}

/// How many chains, and how long.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Independent chains, all of which start at `w*`.
    pub chains: usize,
    /// Steps of each.
    pub steps: usize,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Chains at a time; one leaves the threads to the gradient.
    pub at_a_time: usize,
    /// Threads that share the work.
    pub workers: Workers,
    /// The ranks, each of which takes some of the chains.
    pub team: &'static dyn Team,
}

/// Who keeps the chains of a setting, and who looks on.
pub struct Watch<'a> {
    /// Number of the setting.
    pub setting: usize,
    /// Keeps them.
    pub store: &'a mut dyn ChainStore,
    /// Looks on.
    pub observer: &'a mut dyn Observer,
}

/// Steps of every chain between two looks at the observer.
const ROUND: usize = 8;
/// Steps of a chain for which its random streams have room.
const STREAM: u64 = 1 << 24;

/// Takes all chains from `w*` through their steps, or from where the store has them; ends early when one of them leaves the
/// finite numbers, with the visit at which it did as the last.
///
/// Equal seeds give equal bits, whatever the number of threads and ranks, and the same noise at every setting. Cost: a gradient for
/// each step of a chain.
///
/// # Errors
/// Of the energy; an interruption, after the store has been told.
pub fn sample(energy: &impl Energy, dynamics: &Dynamics, schedule: &Schedule, watch: Watch<'_>) -> Result<Vec<Chain>> {
    let Watch { setting, store, observer } = watch;
    let start = || vec![Chain::at(energy.minimum()); schedule.chains];
    let mut chains = store.load(setting)?.unwrap_or_else(start);
    let (team, own) = (schedule.team, schedule.team.own(chains.len()));
    let noise = Noise { seed: schedule.seed, workers: schedule.workers.clone() };
    while chains.iter().all(|chain| chain.visits.len() < schedule.steps && !chain.is_lost()) {
        let done = chains.iter().map(|chain| chain.visits.len()).max().unwrap_or(0);
        let steps = ROUND.min(schedule.steps - done);
        let before: Vec<usize> = chains.iter().map(|chain| chain.visits.len()).collect();
        let cells: Vec<Mutex<&mut Chain>> = chains[own.clone()].iter_mut().map(Mutex::new).collect();
        let work = |place: usize| {
            // Each is locked once.
            let mut chain = cells[place].lock().unwrap_or_else(PoisonError::into_inner);
            let first = (own.start + place) as u64 * STREAM;
            (0..steps).try_for_each(|_| advance(&mut chain, energy, dynamics, &noise, first))
        };
        let advanced = schedule.workers.map(cells.len(), schedule.at_a_time, work, &mut ());
        drop(cells);
        // Every rank knows what all chains have seen, but the places of its own chains only.
        let seen = |index: usize| chains[index].visits[before[index]..].to_vec();
        let seen = team.gather(advanced.map(|_| own.clone().map(seen).collect::<Vec<_>>()))?;
        for (chain, (before, new)) in chains.iter_mut().zip(before.iter().zip(seen.into_iter().flatten())) {
            chain.visits.truncate(*before);
            chain.visits.extend(new);
        }
        team.hear()?;
        keep(store, setting, &mut chains, (team, false))?;
        let step =
            Step { task: "chains", done: done + steps, total: schedule.steps, message: message(&chains, dynamics) };
        if observer.on_step(&step).is_break() {
            keep(store, setting, &mut chains, (team, true))?;
            return Err(Error::Interrupted);
        }
    }
    keep(store, setting, &mut chains, (team, true))?;
    Ok(chains)
}

/// Where it is due, rank 0 keeps all chains, with the places that the other ranks send.
fn keep(
    store: &mut dyn ChainStore,
    setting: usize,
    chains: &mut [Chain],
    (team, last): (&dyn Team, bool),
) -> Result<()> {
    if !team.decides(store.is_due(last))? {
        return Ok(());
    }
    if team.size() > 1 {
        let (count, dim) = (chains.len(), chains.first().map_or(0, |chain| chain.place.len()));
        let own: Vec<f64> = chains[team.own(count)].iter().flat_map(|chain| &chain.place).copied().collect();
        let own = Tensor::from_vec(own, (team.own(count).len(), dim), &Device::Cpu);
        let places = team.joined_at_leader(own.map_err(Error::from), 0, (DType::F64, &[count, dim]))?;
        if team.leads() {
            for (index, chain) in chains.iter_mut().enumerate() {
                chain.place = places.get(index)?.to_vec1()?;
            }
        }
    }
    if team.leads() {
        store.keep(setting, chains);
    }
    Ok(())
}

/// One step of a chain whose random streams begin with number `first`; none for a chain that is lost.
fn advance(chain: &mut Chain, energy: &impl Energy, dynamics: &Dynamics, noise: &Noise, first: u64) -> Result<()> {
    if chain.is_lost() {
        return Ok(());
    }
    let Dynamics { n_beta, gamma, step_size } = *dynamics;
    let (minimum, index) = (energy.minimum(), first + chain.visits.len() as u64);
    let Some(Rise { loss, gradient }) = energy.rise(&chain.place, index)?.filter(Rise::is_finite) else {
        chain.visits.push(Visit::LOST);
        return Ok(());
    };
    let mut visit = Visit { rise: loss, square_distance: 0.0, slope: 0.0 };
    for ((w, centre), gradient) in chain.place.iter_mut().zip(minimum).zip(&gradient) {
        let (distance, pull) = (*w - centre, n_beta * gradient);
        let slope = pull + gamma * distance;
        visit.square_distance += distance * distance;
        visit.slope += slope * pull;
        *w -= 0.5 * step_size * slope;
    }
    chain.visits.push(visit);
    let draw = Draw { purpose: Purpose::LearningCoefficient, index, law: Perturbation::Gaussian };
    noise.add(&mut chain.place, draw, step_size.sqrt());
    Ok(())
}

/// The excess of the last visits, over all chains.
fn message(chains: &[Chain], dynamics: &Dynamics) -> String {
    let last = chains.iter().filter_map(|chain| chain.visits.last());
    let mean = dynamics.n_beta * last.map(|visit| visit.rise).sum::<f64>() / chains.len() as f64;
    format!("nβ(L − L*) {mean:.3}")
}
