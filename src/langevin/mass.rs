//! Mass that moves from the sharp side to the flat one.

use super::study::{chain_mean, law, steps};
use super::{Dynamics, Energy, Potential, Schedule, StudyOptions, sample};
use crate::vocabulary::Sampler;
use crate::{Observer, Result};

/// One method at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct MassRow {
    /// Which sampler.
    pub method: Sampler,
    /// Step size, `β`, `σ`.
    pub dynamics: Dynamics,
    /// Steps since the start.
    pub step: usize,
    /// Share of the chains on the flat side, and its standard error.
    pub flat_share: (f64, f64),
}

/// What the method's laws have on the flat side, by quadrature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MassLimit {
    /// Which sampler.
    pub method: Sampler,
    /// Of `exp(−β u)` for SGLD, of `exp(−β v)` for fSGLD.
    pub target: f64,
    /// Of the law of the mean drift.
    pub drift: f64,
}

/// Points in time.
const TIMES: usize = 40;

/// All chains begin at the sharp minimum; the share on the flat side over `time` units, for SGLD and fSGLD at the same
/// step size, `β` and number of chains.
///
/// # Errors
/// Settings out of range; an interruption.
pub fn mass(
    potential: &Potential,
    dynamics: &Dynamics,
    time: f64,
    options: &StudyOptions,
    observer: &mut dyn Observer,
) -> Result<(Vec<MassRow>, Vec<MassLimit>)> {
    options.check()?;
    let (mut rows, mut limits) = (Vec::new(), Vec::new());
    for (place, (method, sigma)) in Sampler::ALL.into_iter().zip([0.0, dynamics.sigma]).enumerate() {
        let dynamics = Dynamics { sigma, ..*dynamics };
        let steps = steps(time / TIMES as f64, dynamics.step_size);
        let schedule = Schedule {
            chains: options.chains,
            steps,
            snapshots: TIMES,
            start: None,
            seed: options.seed,
            stream: 2_000 + place as u64,
            threads: options.threads,
        };
        let flat = |x: &[f64]| f64::from(u8::from(potential.is_flat_side(x)));
        for (index, places) in sample(potential, &dynamics, &schedule, observer)?.iter().enumerate() {
            let flat_share = chain_mean(places, potential.dim(), flat);
            rows.push(MassRow { method, dynamics, step: (index + 1) * steps, flat_share });
        }
        let share = |energy| Ok::<_, crate::Error>(law(potential, energy, &dynamics)?.mean(flat));
        limits.push(MassLimit { method, target: share(Energy::Flatness)?, drift: share(Energy::Smoothed)? });
    }
    Ok((rows, limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_mass_moves_to_the_flat_side_with_fsgld_and_to_what_quadrature_says() {
        let ring = Potential::ring();
        let dynamics = Dynamics { step_size: 0.004, beta: 8.0, sigma: 0.2 };
        let options = StudyOptions { chains: 2_048, snapshots: 1, seed: 2, threads: 2 };
        let (rows, limits) = mass(&ring, &dynamics, 40.0, &options, &mut ()).unwrap();
        let last = |method| rows.iter().rfind(|row| row.method == method).unwrap().flat_share;
        for limit in &limits {
            // Around the ring takes about β = 8 units of time; the step of λk = 1/16 shifts laws by a percent.
            let (share, std_err) = last(limit.method);
            assert!((share - limit.drift).abs() < 4.0 * std_err + 0.01, "{limit:?} {share} {std_err}");
        }
        assert!(last(Sampler::Fsgld).0 > last(Sampler::Sgld).0 + 0.05);
        assert_eq!(limits[0].target, limits[0].drift);
    }
}
