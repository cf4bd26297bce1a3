//! The standard survey of a minimum: both ends of the spectrum, trace, density, slices.

use candle_core::{DType, Tensor};

use super::{AnalysisReport, OperatorKind, SliceKind, SpectrumReport, SummaryRow};
use crate::curvature::{Curvature, CurvatureOperator, Evaluation, LinearOperator, Objective};
use crate::landscape::{Line, filter_normalised, line, orthogonalise, plane};
use crate::random::{Purpose, stream, substream};
use crate::spectral::{
    Axis, DensityParams, EigenParams, EigenReport, EigenpairsReport, PowerParams, SlqParams, SlqReport, TraceReport,
    density, eigenpairs, power, slq,
};
use crate::{Error, Observer, Result};

/// How eigenpairs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EigenMethod {
    /// Thick-restart block Lanczos.
    Lanczos,
    /// Power iteration with deflation.
    Power,
}

/// What to compute, and how well.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AnalysisOptions {
    /// Which matrices.
    pub operators: Vec<OperatorKind>,
    /// Largest eigenvalues.
    pub top: usize,
    /// Smallest eigenvalues.
    pub bottom: usize,
    /// How to find them.
    pub method: EigenMethod,
    /// Residual norm over the largest `|λ|` at which a pair counts as converged.
    pub tolerance: f64,
    /// Products spent on eigenpairs at most, per operator.
    pub max_matvecs: usize,
    /// Probes of trace and density.
    pub num_probes: usize,
    /// Lanczos steps per probe.
    pub num_steps: usize,
    /// Points of a 1-D slice; 0 leaves slices out.
    pub slice_points: usize,
    /// Random filter-normalised lines.
    pub random_lines: usize,
    /// Points along one side of the plane; 0 leaves it out.
    pub plane_points: usize,
    /// Seed of all random choices.
    pub seed: u64,
}

impl Default for AnalysisOptions {
    fn default() -> Self {
        Self {
            operators: vec![OperatorKind::Hessian],
            top: 5,
            bottom: 3,
            method: EigenMethod::Lanczos,
            tolerance: 1e-4,
            max_matvecs: 1_000,
            num_probes: 8,
            num_steps: 32,
            slice_points: 21,
            random_lines: 2,
            plane_points: 15,
            seed: 0,
        }
    }
}

/// Fills `report` step by step; whatever is finished stays in it when an error or an interruption ends the run.
///
/// # Errors
/// More eigenpairs than parameters; a product or loss that is not finite; an interruption.
pub fn analyze(
    objective: &Objective<'_>,
    theta: &Tensor,
    options: &AnalysisOptions,
    report: &mut AnalysisReport,
    observer: &mut dyn Observer,
) -> Result<()> {
    let theta = objective.place(theta)?;
    let gradient = objective.gradient(&theta, observer)?;
    report.summary = at_the_point(&gradient.evaluation, &gradient.gradient, &theta)?;
    for &operator in &options.operators {
        let spectrum = spectrum(objective, &theta, operator, options, observer)?;
        let interrupted = spectrum.slq.interrupted;
        report.summary.extend(headlines(&spectrum));
        report.spectra.push(spectrum);
        if interrupted {
            return Err(Error::Interrupted);
        }
    }
    slices(objective, &theta, options, report, &gradient.evaluation, observer)
}

fn spectrum(
    objective: &Objective<'_>,
    theta: &Tensor,
    kind: OperatorKind,
    options: &AnalysisOptions,
    observer: &mut dyn Observer,
) -> Result<SpectrumReport> {
    let curvature = match kind {
        OperatorKind::Hessian => Curvature::Hessian,
        OperatorKind::Ggn => Curvature::Ggn,
    };
    let operator = CurvatureOperator::new(objective, theta, curvature)?;
    let memory_bytes = objective.options().execution.memory_bytes / 2;
    let mut rng = stream(options.seed, Purpose::Eigenpairs);
    let (top, bottom, max_matvecs) = (options.top, options.bottom, options.max_matvecs);
    let pairs: EigenpairsReport = match options.method {
        EigenMethod::Lanczos => {
            let tolerance = options.tolerance;
            let params = EigenParams { top, bottom, tolerance, max_matvecs, memory_bytes, ..EigenParams::default() };
            eigenpairs(&operator, &params, &mut rng, observer)?
        }
        EigenMethod::Power => {
            let params = PowerParams { top, bottom, tolerance: options.tolerance, max_matvecs };
            power(&operator, &params, &mut rng, observer)?
        }
    };
    if pairs.top.interrupted {
        return Err(Error::Interrupted);
    }
    let num_steps = options.num_steps.min(operator.dim());
    let params = SlqParams { num_probes: options.num_probes, num_steps, memory_bytes };
    let slq = match slq(&operator, &params, &mut stream(options.seed, Purpose::Probes), observer) {
        // The eigenpairs are finished and stay.
        Err(Error::Interrupted) => no_density(operator.dim()),
        Ok(slq) if slq.interrupted => no_density(operator.dim()),
        slq => slq?,
    };
    let axes = if slq.interrupted { Vec::new() } else { vec![Axis::Linear, Axis::SignedLog] };
    let params = |axis| DensityParams { axis, ..DensityParams::default() };
    let densities = axes.into_iter().map(|axis| density(&slq, &params(axis))).collect();
    let trace = slq.trace.clone();
    Ok(SpectrumReport {
        operator: kind,
        scope: "all".into(),
        top: pairs.top,
        bottom: pairs.bottom,
        trace,
        slq,
        densities,
    })
}

/// What an interruption leaves of trace and density.
fn no_density(dim: usize) -> SlqReport {
    let (trace, std_err_numeric, std_err_data) = (f64::NAN, f64::NAN, f64::NAN);
    let trace = TraceReport { trace, std_err_numeric, std_err_data, samples: Vec::new(), num_matvecs: 0 };
    SlqReport {
        probes: Vec::new(),
        dim,
        num_steps: 0,
        num_matvecs: 0,
        trace,
        full_orthogonality: true,
        interrupted: true,
    }
}

fn slices(
    objective: &Objective<'_>,
    theta: &Tensor,
    options: &AnalysisOptions,
    report: &mut AnalysisReport,
    here: &Evaluation,
    observer: &mut dyn Observer,
) -> Result<()> {
    let num_points = options.slice_points;
    if let Some(spectrum) = report.spectra.first().filter(|_| num_points > 0) {
        let norm = theta.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        let top = &spectrum.top;
        for (index, &curvature) in top.ritz_values.clone().iter().enumerate() {
            let direction = top.vectors.get(index)?;
            let half_width = reach(curvature, here.loss, norm);
            let kind = SliceKind::Eigenvector;
            let slice = Line { kind, index, direction: &direction, half_width, num_points, curvature };
            report.slices.push(line(objective, theta, &slice, observer)?);
        }
    }
    let random = |index: usize| {
        let mut rng = substream(options.seed, Purpose::Directions, index as u64);
        filter_normalised(&objective.network().space, theta, &mut rng)
    };
    if num_points > 0 {
        for index in 0..options.random_lines {
            let (kind, direction, curvature) = (SliceKind::RandomFilter, random(index)?, f64::NAN);
            let slice = Line { kind, index, direction: &direction, half_width: 1.0, num_points, curvature };
            report.slices.push(line(objective, theta, &slice, observer)?);
        }
    }
    if options.plane_points > 0 {
        let (first, second) = (random(0)?, random(1)?);
        let second = orthogonalise(&first, &second)?;
        report.slices.push(plane(objective, theta, [&first, &second], (1.0, options.plane_points), observer)?);
    }
    Ok(())
}

/// How far to follow an eigenvector: until the parabola has risen by the loss itself (at least 0.5), at most half of
/// `‖θ‖`.
fn reach(curvature: f64, loss: f64, norm: f64) -> f64 {
    let rise = loss.abs().max(0.5);
    (2.0 * rise / curvature.abs()).sqrt().min(0.5 * norm.max(1e-3))
}

fn at_the_point(evaluation: &Evaluation, gradient: &Tensor, theta: &Tensor) -> Result<Vec<SummaryRow>> {
    let norm = |tensor: &Tensor| -> Result<f64> {
        Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
    };
    let mut rows =
        vec![SummaryRow { std_err_data: evaluation.loss_std_err, ..SummaryRow::exact("loss", evaluation.loss) }];
    if !evaluation.accuracy.is_nan() {
        rows.push(SummaryRow {
            std_err_data: evaluation.accuracy_std_err,
            ..SummaryRow::exact("accuracy", evaluation.accuracy)
        });
    }
    rows.push(SummaryRow::exact("gradient_norm", norm(gradient)?));
    rows.push(SummaryRow::exact("parameter_norm", norm(theta)?));
    Ok(rows)
}

fn headlines(spectrum: &SpectrumReport) -> Vec<SummaryRow> {
    let extreme = |quantity: &str, end: &EigenReport| {
        Some(SummaryRow {
            operator: spectrum.operator.name().into(),
            std_err_numeric: *end.residual_norms.first()?,
            std_err_data: *end.std_err_data.first()?,
            method: end.method.into(),
            converged: *end.converged.first()?,
            num_matvecs: end.num_matvecs,
            ..SummaryRow::exact(quantity, *end.ritz_values.first()?)
        })
    };
    let trace = &spectrum.trace;
    let finished = !spectrum.slq.interrupted;
    let trace = SummaryRow {
        operator: spectrum.operator.name().into(),
        std_err_numeric: trace.std_err_numeric,
        std_err_data: trace.std_err_data,
        method: "hutchinson".into(),
        num_matvecs: trace.num_matvecs,
        ..SummaryRow::exact("trace", trace.trace)
    };
    let ends = [extreme("lambda_max", &spectrum.top), extreme("lambda_min", &spectrum.bottom)];
    ends.into_iter().flatten().chain(finished.then_some(trace)).collect()
}
