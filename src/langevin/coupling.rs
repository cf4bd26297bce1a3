//! The law of fSGLD against `β`, with the coupling of `σ` to it and without.

use super::study::{Measured, Stretch, chain_mean, law, measure, stationary};
use super::{Dynamics, Energy, LangevinError, Potential, StudyOptions};
use crate::optim::coupled_sigma;
use crate::{Observer, Result};

/// How `σ` follows from `β`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coupling {
    /// `σ = β^{−(1+η)/4}`; the theory asks for `0 < η < 1`.
    Coupled {
        /// `η`.
        eta: f64,
    },
    /// The same at every `β`; 0 is SGLD.
    Fixed {
        /// `σ`.
        sigma: f64,
    },
}

impl Coupling {
    /// The couplings that a study compares.
    pub const ALL: [Self; 7] = [
        Self::Fixed { sigma: 0.0 },
        Self::Coupled { eta: -0.5 },
        Self::Coupled { eta: 0.1 },
        Self::Coupled { eta: 0.5 },
        Self::Coupled { eta: 0.9 },
        Self::Coupled { eta: 1.5 },
        Self::Fixed { sigma: 0.3 },
    ];

    /// `σ` at `beta`.
    pub fn sigma(self, beta: f64) -> f64 {
        match self {
            Self::Coupled { eta } => coupled_sigma(1.0 / beta, eta),
            Self::Fixed { sigma } => sigma,
        }
    }

    /// In a table or legend.
    pub fn name(self) -> String {
        match self {
            Self::Coupled { eta } => format!("η = {eta}"),
            Self::Fixed { sigma: 0.0 } => "SGLD".into(),
            Self::Fixed { sigma } => format!("σ = {sigma}"),
        }
    }
}

/// One coupling at one `β`.
#[derive(Debug, Clone, PartialEq)]
pub struct CouplingRow {
    /// How `σ` was set.
    pub coupling: Coupling,
    /// Step size, `β`, `σ`.
    pub dynamics: Dynamics,
    /// Distance of the samples from the laws of `u` and of `v`.
    pub to_plain: Measured,
    /// As above.
    pub to_flatness: Measured,
    /// Share of the mass on the flat side with its standard error, among the samples.
    pub flat_share: (f64, f64),
    /// The same share of the laws of `u`, `v` and the smoothed `u`, by quadrature.
    pub law_shares: [f64; 3],
    /// `E u − min u` among the samples with its standard error.
    pub excess_risk: (f64, f64),
    /// The same under the law of `v`.
    pub law_excess_risk: f64,
}

/// Inverse temperatures.
const BETAS: [f64; 5] = [1.0, 4.0, 16.0, 64.0, 256.0];
/// Step size times the steepest curvature: its bias is below that of the step size study's smallest but one.
const RELATIVE_STEP: f64 = 0.0625;
/// Time that chains have to forget that they began with exact draws.
const BURN_IN: f64 = 8.0;

/// For each coupling and each of five `β`, chains that begin with exact draws from the law of the mean drift, so that the
/// mass of either side is right at any `β`, and then move for 8 units of time: what the discrete chain keeps of that law,
/// and how far it is from `exp(−β v)` and `exp(−β u)`.
///
/// Cost: `35 · chains · 128 k` steps, `k` the steepest curvature, and three laws each.
///
/// # Errors
/// Settings out of range; an interruption.
pub fn coupling(
    potential: &Potential,
    options: &StudyOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<CouplingRow>> {
    options.check()?;
    let options = StudyOptions { snapshots: 1, ..*options };
    let mut rows = Vec::new();
    for (place, coupling) in Coupling::ALL.into_iter().enumerate() {
        for (index, beta) in BETAS.into_iter().enumerate() {
            let number = (1_000 + 10 * place + index) as u64;
            let step_size = RELATIVE_STEP / potential.steepest();
            let dynamics = Dynamics { step_size, beta, sigma: coupling.sigma(beta) };
            rows.push(row(potential, &Case { coupling, dynamics, number }, &options, observer)?);
        }
    }
    Ok(rows)
}

/// One coupling at one `β`, with a number of its own for its random streams.
struct Case {
    coupling: Coupling,
    dynamics: Dynamics,
    number: u64,
}

fn row(potential: &Potential, case: &Case, options: &StudyOptions, observer: &mut dyn Observer) -> Result<CouplingRow> {
    let &Case { coupling, ref dynamics, number } = case;
    let laws = [Energy::Plain, Energy::Flatness, Energy::Smoothed].map(|energy| law(potential, energy, dynamics));
    let [plain, flatness, smoothed] = laws;
    let (plain, flatness, smoothed) = (plain?, flatness?, smoothed?);
    let dim = potential.dim();
    let stretch = Stretch { start: &smoothed, burn_in: BURN_IN, spacing: BURN_IN, stream: number };
    let snapshots = stationary(potential, dynamics, &stretch, options, observer)?;
    let last = snapshots.last().ok_or(LangevinError::Setting {
        name: "number of snapshots",
        value: 0.0,
        reason: "must be 1 or more",
    })?;
    let flat = |x: &[f64]| f64::from(u8::from(potential.is_flat_side(x)));
    Ok(CouplingRow {
        coupling,
        dynamics: *dynamics,
        to_plain: measure(&snapshots, &plain, dim, options.seed, 2 * number),
        to_flatness: measure(&snapshots, &flatness, dim, options.seed, 2 * number + 1),
        flat_share: chain_mean(last, dim, flat),
        law_shares: [&plain, &flatness, &smoothed].map(|law| law.mean(flat)),
        excess_risk: chain_mean(last, dim, |x| potential.value(x)),
        law_excess_risk: flatness.mean(|x| potential.value(x)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coupled_sigma_by_hand() {
        assert_eq!(Coupling::Coupled { eta: 1.0 }.sigma(16.0), 0.25);
        assert_eq!(Coupling::Fixed { sigma: 0.3 }.sigma(16.0), 0.3);
        // 1/β is exact for a power of 2: the same bits as β^{−(1+η)/4}.
        for (coupling, beta) in Coupling::ALL.into_iter().flat_map(|coupling| BETAS.map(|beta| (coupling, beta))) {
            if let Coupling::Coupled { eta } = coupling {
                assert_eq!(coupling.sigma(beta), beta.powf(-(1.0 + eta) / 4.0), "{eta} {beta}");
            }
        }
    }

    #[test]
    fn samples_keep_the_shares_of_the_law_of_the_mean_drift() {
        let options = StudyOptions { chains: 4_096, snapshots: 1, seed: 5, threads: 2 };
        let well = Potential::double_well();
        for coupling in [Coupling::Fixed { sigma: 0.0 }, Coupling::Coupled { eta: 0.5 }] {
            let dynamics = Dynamics { step_size: 0.0078, beta: 1.0, sigma: 0.5 * coupling.sigma(1.0) };
            let row = row(&well, &Case { coupling, dynamics, number: 3 }, &options, &mut ()).unwrap();
            let (share, std_err) = row.flat_share;
            // Beside chance, a step of λk = 1/16 shifts laws by a percent.
            assert!((share - row.law_shares[2]).abs() < 4.0 * std_err + 0.01, "{row:?}");
            assert!((row.excess_risk.0 - 0.5).abs() < 0.3, "{row:?}");
        }
    }
}
