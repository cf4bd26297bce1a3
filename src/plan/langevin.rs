//! What `langevin` studies.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::compute::threads;
use super::{PlanError, word};
use crate::Result;
use crate::langevin::{Coupling, Dynamics, Potential, StudyKind, StudyOptions, StudyPlan};
use crate::objective::Execution;

/// A potential by name, with the settings that suit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Named {
    DoubleWell,
    Gaussian,
    Ring,
}

impl Named {
    fn potential(self) -> Potential {
        match self {
            Self::DoubleWell => Potential::double_well(),
            Self::Gaussian => Potential::Gaussian { curvatures: vec![1.0] },
            Self::Ring => Potential::ring(),
        }
    }

    /// `β`, `σ` and the time in which the sides exchange their mass.
    fn defaults(self) -> (f64, f64, f64) {
        match self {
            Self::DoubleWell => (2.0, 0.38, 1_000.0),
            Self::Gaussian => (1.0, 0.3, 20.0),
            Self::Ring => (8.0, 0.2, 80.0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Question {
    Rate,
    Coupling,
    Mass,
    All,
}

/// Arguments of `langevin` that decide its numbers.
#[derive(Debug, Clone, Args)]
pub struct LangevinArgs {
    /// Potential that the chains move on: double-well (a sharp and a flat well of equal depth), gaussian (a parabola of
    /// curvature 1) or ring (a round valley in two dimensions, steeper on one side)
    #[arg(long, value_name = "NAME", value_parser = word::<Named>(), default_value = "double-well")]
    potential: Named,
    /// What to study: rate (error against the step size), coupling (stationary distributions against β, with and without the
    /// coupling), mass (probability that moves to the flat side) or all
    #[arg(long, value_name = "QUESTION", value_parser = word::<Question>(), default_value = "all")]
    study: Question,
    /// Number of independent chains
    #[arg(long, value_name = "N", default_value_t = StudyOptions::default().chains)]
    chains: usize,
    /// Snapshots of the chains in the study of the step size
    #[arg(long, value_name = "N", default_value_t = StudyOptions::default().snapshots)]
    snapshots: usize,
    /// Inverse temperature β in the study of mass [default: 2 double-well, 1 gaussian, 8 ring]
    #[arg(long, value_name = "BETA", allow_negative_numbers = true)]
    beta: Option<f64>,
    /// Perturbation scale σ of fSGLD [default: 0.38 double-well, 0.3 gaussian, 0.2 ring]
    #[arg(long, value_name = "SIGMA", conflicts_with = "eta", allow_negative_numbers = true)]
    sigma: Option<f64>,
    /// Set σ to β^(−(1+η)/4) instead
    #[arg(long, value_name = "ETA", allow_hyphen_values = true)]
    eta: Option<f64>,
    /// Step size λ in the study of mass [default: 1/16 of the inverse of the largest curvature]
    #[arg(long, value_name = "LAMBDA", allow_negative_numbers = true)]
    step_size: Option<f64>,
    /// Simulated time in the study of mass, step size times number of steps [default: 1000 double-well, 20 gaussian, 80 ring]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    time: Option<f64>,
    /// Seed of all random numbers
    #[arg(long, value_name = "S", default_value_t = StudyOptions::default().seed)]
    seed: u64,
    /// Number of worker threads; results do not depend on it
    #[arg(long, value_name = "N", value_parser = threads())]
    #[arg(default_value_t = Execution::default().threads, hide_default_value = true)]
    pub(crate) threads: usize,
}

impl LangevinArgs {
    /// The potential's name.
    pub(crate) fn name(&self) -> String {
        serde_json::json!(self.potential).as_str().unwrap_or_default().into()
    }

    /// What the arguments come to, checked.
    pub(crate) fn plan(&self) -> Result<StudyPlan> {
        let potential = self.potential.potential();
        let (beta, sigma, time) = self.potential.defaults();
        let beta = self.beta.unwrap_or(beta);
        let sigma = self.eta.map(|eta| Coupling::Coupled { eta }.sigma(beta)).or(self.sigma).unwrap_or(sigma);
        let step_size = self.step_size.unwrap_or(0.0625 / potential.steepest());
        let time = self.time.unwrap_or(time);
        if !(time > 0.0 && time / step_size < 1e9) {
            return Err(PlanError::option("--time", time, "must be above 0 and below 1e9 steps").into());
        }
        let options =
            StudyOptions { chains: self.chains, snapshots: self.snapshots, seed: self.seed, threads: self.threads };
        let dynamics = Dynamics { step_size, beta, sigma };
        dynamics.check(&potential)?;
        options.check()?;
        let kinds = match self.study {
            Question::All if self.potential == Named::Gaussian => vec![StudyKind::Rate],
            Question::Coupling | Question::Mass if self.potential == Named::Gaussian => {
                let reason = "a Gaussian has no flat side: study its rate";
                return Err(PlanError::option("--study", "coupling or mass", reason).into());
            }
            Question::Rate => vec![StudyKind::Rate],
            Question::Coupling => vec![StudyKind::Coupling],
            Question::Mass => vec![StudyKind::Mass],
            Question::All => StudyKind::ALL.to_vec(),
        };
        Ok(StudyPlan { potential, kinds, options, dynamics, time })
    }
}
