//! The spectrum of one operator: both ends, density, trace.

use super::gram::Outer;
use super::memory::basis_bytes;
use super::task::Task;
use super::trace::{TraceTask, trace_of_diagonal};
use super::{SpectrumReport, Stores, TraceSummary};
use crate::operator::{LinearOperator, Restricted};
use crate::plan::{AnalysisOptions, EigenMethod};
use crate::random::{Purpose, stream};
use crate::spectral::{
    Axis, DenseParams, DensityParams, DensityReport, EigenpairsReport, PowerParams, SlqParams, SlqReport, Stop,
    SurveyOutcome, SurveyParams, SurveyReport, dense, density, distribution, power, slq, survey,
};
use crate::vocabulary::Scope;
use crate::{Error, Observer, Result};

/// The spectrum of the matrix on the parameters of the scope. After an interruption it holds the pairs found so far.
pub(super) fn spectrum(task: Task<'_>, stores: &mut dyn Stores, observer: &mut dyn Observer) -> Result<SpectrumReport> {
    let Task { objective, curvature, options, .. } = task;
    let whole = task.operator()?;
    let restricted;
    let operator: &dyn LinearOperator = match &options.scope {
        Scope::All => &whole,
        _ => {
            restricted = Restricted::new(&whole, task.ranges()?)?;
            &restricted
        }
    };
    let memory_bytes = basis_bytes(objective);
    let mut rng = stream(options.seed, Purpose::Survey);
    let (found, known) = match options.method {
        _ if options.gram.contains(&curvature) => {
            let matrix = Outer::new(&whole, task)?;
            let (found, trace) = matrix.spectrum(operator, &mut rng, &mut *stores.store(curvature.name()), observer)?;
            (found, Some(trace))
        }
        EigenMethod::Lanczos | EigenMethod::Auto | EigenMethod::Gram => {
            let (params, store) = (survey_params(options, memory_bytes), &mut *stores.store(curvature.name()));
            (survey(operator, &params, &mut rng, store, observer)?, None)
        }
        EigenMethod::Power => (by_power(operator, options, memory_bytes, observer)?, None),
        EigenMethod::Dense => {
            let AnalysisOptions { top, bottom, eigen_tolerance, .. } = *options;
            let (params, store) = (DenseParams { top, bottom, eigen_tolerance }, &mut *stores.store(curvature.name()));
            let found = dense(operator, &params, &mut rng, store, observer)?;
            let trace = trace_of_diagonal(&found, &options.scope, task.space())?;
            (found.survey, Some(trace))
        }
    };
    // Power iteration knows nothing yet of the pairs that it has not finished.
    if found.pairs.top.interrupted && known.is_none() && options.method == EigenMethod::Power {
        return Err(Error::Interrupted);
    }
    // Where the closing products of a matrix are cut short, its spectrum is known all the same.
    let interrupted = known.is_none() && found.outcome.stop == Stop::Interrupted;
    let options = &after(options, found.outcome.stop);
    let spent = found.outcome.num_matvecs;
    let budget = options.budget().saturating_sub(spent).min(options.trace_matvecs.unwrap_or(spent));
    let trace = match known {
        Some(trace) => Some(trace),
        None if interrupted => None,
        None => match (TraceTask { task: Task { options, ..task }, budget }).run(operator, &found.pairs, observer) {
            Err(Error::Interrupted) => None,
            trace => Some(trace?),
        },
    };
    let axes = if interrupted { &[][..] } else { &[Axis::Linear, Axis::SignedLog, Axis::LogAbs][..] };
    let params = |axis| DensityParams { axis, ..DensityParams::default() };
    let densities: Vec<DensityReport> = axes.iter().map(|&axis| density(&found.slq, &params(axis))).collect();
    Ok(SpectrumReport {
        operator: curvature,
        scope: options.scope.clone(),
        interrupted: trace.is_none(),
        trace: trace.unwrap_or_else(TraceSummary::unknown),
        top: found.pairs.top,
        bottom: found.pairs.bottom,
        distribution: distribution(&found.slq, &places(&densities)),
        slq: found.slq,
        densities,
        outcome: found.outcome,
        positive: curvature.is_positive(&objective.options().loss),
    })
}

/// Places at which the distribution is evaluated, along the logarithmic axis.
fn places(densities: &[DensityReport]) -> Vec<f64> {
    const EVERY: usize = 4;
    let Some(density) = densities.iter().find(|density| density.axis == Axis::LogAbs) else { return Vec::new() };
    let [below, above] = [-density.linear_threshold, density.linear_threshold];
    let sides = [density.values.partition_point(|value| *value < 0.0), density.values.len()];
    let negative = density.values[..sides[0]].iter().step_by(EVERY).copied();
    let positive = density.values[sides[0]..].iter().rev().step_by(EVERY).copied();
    let mut places: Vec<f64> = negative.chain(positive).chain([below, above]).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    places
}

/// The options for what follows a survey that ended by `stop`. One that ran out of time leaves only what the number of
/// products that ends it at the same step would have left, so that this number gives all the same results.
pub(super) fn after(options: &AnalysisOptions, stop: Stop) -> AnalysisOptions {
    let max_matvecs = match stop {
        Stop::MaxTime { max_matvecs } => Some(max_matvecs),
        _ => options.max_matvecs,
    };
    AnalysisOptions { max_matvecs, ..options.clone() }
}

fn survey_params(options: &AnalysisOptions, memory_bytes: usize) -> SurveyParams {
    SurveyParams {
        top: options.top,
        bottom: options.bottom,
        eigen_tolerance: options.eigen_tolerance,
        num_probes: options.num_probes,
        num_steps: options.num_steps,
        density_tolerance: options.density_tolerance,
        max_matvecs: options.budget(),
        max_time: options.survey_time_s.or(options.max_time_s).map(std::time::Duration::from_secs_f64),
        memory_bytes,
    }
}

/// Power iteration for the pairs, and a separate density.
fn by_power(
    operator: &dyn LinearOperator,
    options: &AnalysisOptions,
    memory_bytes: usize,
    observer: &mut dyn Observer,
) -> Result<SurveyReport> {
    let (top, bottom, max_matvecs) = (options.top, options.bottom, options.budget());
    let params = PowerParams { top, bottom, tolerance: options.eigen_tolerance, max_matvecs };
    let pairs: EigenpairsReport = power(operator, &params, &mut stream(options.seed, Purpose::Eigenpairs), observer)?;
    let num_steps = options.num_steps.min(operator.dim());
    let params = SlqParams { num_probes: options.num_probes, num_steps, memory_bytes };
    let slq = match slq(operator, &params, &mut stream(options.seed, Purpose::Probes), observer) {
        // The eigenpairs are finished and stay.
        Err(Error::Interrupted) => SlqReport::none(operator.dim()),
        Ok(slq) if slq.interrupted => SlqReport::none(operator.dim()),
        slq => slq?,
    };
    let density_converged = slq.is_settled(options.density_tolerance);
    let all_pairs = [&pairs.top, &pairs.bottom].into_iter().flat_map(|end| &end.converged).all(|converged| *converged);
    let stop = match (slq.interrupted, all_pairs, density_converged) {
        (true, ..) => Stop::Interrupted,
        (_, false, _) => Stop::MaxMatvecs,
        (_, _, false) => Stop::MaxSteps,
        _ => Stop::Converged,
    };
    let num_matvecs = pairs.top.num_matvecs + slq.num_matvecs;
    let outcome = SurveyOutcome {
        stop,
        density_converged,
        num_steps,
        basis_rows: 0,
        memory_bound: false,
        num_restarts: 0,
        num_matvecs,
    };
    Ok(SurveyReport { pairs, slq, outcome })
}
