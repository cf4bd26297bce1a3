//! All studies of one potential, and their headline numbers.

use super::study::{Stretch, chain_mean, law, stationary};
use super::{
    CouplingRow, Dynamics, Energy, MassLimit, MassRow, Potential, RateFit, RateRow, StudyOptions, coupling, mass, rate,
};
use crate::vocabulary::{Quantity, Sampler};
use crate::{Observer, Result};

/// A kind of study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StudyKind {
    /// Error of the law against the step size.
    Rate,
    /// The law against `β`, coupled and not.
    Coupling,
    /// Mass that moves to the flat side.
    Mass,
}

impl StudyKind {
    /// All, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Rate, Self::Coupling, Self::Mass];
}

/// A headline number with its 95 % interval.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryNumber {
    /// What it measures.
    pub quantity: Quantity,
    /// Its value.
    pub value: f64,
    /// Half the width of its 95 % interval; 0 where it is exact, NaN where that is not known.
    pub half_width: f64,
    /// How it was found.
    pub method: &'static str,
}

/// The results of the studies; a list is empty where its study was not asked for.
#[derive(Debug, Clone)]
pub struct LangevinReport {
    /// The potential on which the chains move.
    pub potential: Potential,
    /// Temperature and perturbation of rate and mass; the step size is that of the study of mass.
    pub dynamics: Dynamics,
    /// Sizes and seed.
    pub options: StudyOptions,
    /// One row per method and step size.
    pub rate: Vec<RateRow>,
    /// One per method.
    pub fits: Vec<RateFit>,
    /// One row per coupling and `β`.
    pub coupling: Vec<CouplingRow>,
    /// One row per method and time.
    pub mass: Vec<MassRow>,
    /// One per method.
    pub limits: Vec<MassLimit>,
    /// Samples of fSGLD at the end, `[chains × dim]`.
    pub samples: Vec<f64>,
    /// Headline numbers.
    pub summary: Vec<SummaryNumber>,
}

/// Inverse temperature of the study of the step size: wells exchange their mass within its burn-in.
const RATE_BETA: f64 = 1.0;

/// Which studies to make, and how.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StudyPlan {
    /// The potential on which the chains move.
    pub potential: Potential,
    /// The studies.
    #[serde(rename = "studies")]
    pub kinds: Vec<StudyKind>,
    /// Sizes and seed.
    pub options: StudyOptions,
    /// Temperature and perturbation of rate and mass; the step size is that of the study of mass.
    #[serde(flatten)]
    pub dynamics: Dynamics,
    /// For how long the study of mass runs.
    pub time: f64,
}

impl LangevinReport {
    /// Makes the studies of `plan`.
    ///
    /// # Errors
    /// Settings out of range; an interruption.
    pub fn new(plan: StudyPlan, observer: &mut dyn Observer) -> Result<Self> {
        let StudyPlan { potential, kinds, dynamics, time, options } = plan;
        dynamics.check(&potential)?;
        options.check()?;
        let mut report = Self {
            potential,
            dynamics,
            options,
            rate: Vec::new(),
            fits: Vec::new(),
            coupling: Vec::new(),
            mass: Vec::new(),
            limits: Vec::new(),
            samples: Vec::new(),
            summary: Vec::new(),
        };
        let Self { potential, .. } = &report;
        let (mut rates, mut masses) = Default::default();
        if kinds.contains(&StudyKind::Rate) {
            rates = rate(potential, RATE_BETA, dynamics.sigma, &options, observer)?;
        }
        if kinds.contains(&StudyKind::Coupling) {
            report.coupling = coupling(potential, &options, observer)?;
        }
        if kinds.contains(&StudyKind::Mass) {
            masses = mass(&report.potential, &dynamics, time, &options, observer)?;
        }
        (report.rate, report.fits) = rates;
        (report.mass, report.limits) = masses;
        report.samples = final_samples(&report.potential, &dynamics, &options, observer)?;
        report.summarise();
        Ok(report)
    }

    fn summarise(&mut self) {
        let mut rows = Vec::new();
        let mut put = |quantity, value, half_width, method| {
            rows.push(SummaryNumber { quantity, value, half_width, method });
        };
        for fit in &self.fits {
            put(Quantity::RateExponent(fit.method), fit.exponent, fit.half_width, "least_squares");
        }
        let last = |method: Sampler| self.mass.iter().rfind(|row| row.method == method).map(|row| row.flat_share);
        for limit in &self.limits {
            let (share, std_err) = last(limit.method).unwrap_or((f64::NAN, f64::NAN));
            put(Quantity::FlatShare(limit.method), share, Z95 * std_err, "chains");
            put(Quantity::FlatShareTarget(limit.method), limit.target, 0.0, "quadrature");
            put(Quantity::FlatShareDrift(limit.method), limit.drift, 0.0, "quadrature");
        }
        if let (Some((plain, plain_err)), Some((flat, flat_err))) = (last(Sampler::Sgld), last(Sampler::Fsgld)) {
            put(Quantity::FlatShareMoved, flat - plain, Z95 * plain_err.hypot(flat_err), "chains");
        }
        let risk = chain_mean(&self.samples, self.potential.dim(), |x| self.potential.value(x));
        put(Quantity::ExcessRisk, risk.0, Z95 * risk.1, "chains");
        self.summary = rows;
    }
}

/// Of the normal distribution: thousands of independent chains.
const Z95: f64 = 1.959_963_984_540_054;

/// Chains of fSGLD that began with exact draws from the law of its mean drift, some time later.
fn final_samples(
    potential: &Potential,
    dynamics: &Dynamics,
    options: &StudyOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<f64>> {
    let start = law(potential, Energy::Smoothed, dynamics)?;
    let options = StudyOptions { snapshots: 1, ..*options };
    let stretch = Stretch { start: &start, burn_in: 8.0, spacing: 8.0, stream: 3_000 };
    let mut snapshots = stationary(potential, dynamics, &stretch, &options, observer)?;
    Ok(snapshots.pop().unwrap_or_default())
}
