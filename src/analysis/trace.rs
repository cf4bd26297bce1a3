//! The trace of an operator, exact if the network allows it.

use candle_core::Tensor;

use super::task::Task;
use super::vectors::spans;
use super::{TracePart, TraceSummary};
use crate::autodiff::ParamSpace;
use crate::curvature::{Curvature, CurvatureOperator, ExactParams};
use crate::operator::{LinearOperator, Restricted, ShardForms};
use crate::random::{Purpose, stream};
use crate::spectral::{
    DeflatedTraceParams, Deflation, DenseReport, EigenReport, EigenpairsReport, TraceStop, data_std_errors,
    deflated_trace,
};
use crate::vocabulary::{Method, Scope};
use crate::{Error, Observer, Result};

/// What a trace is computed from.
pub(super) struct TraceTask<'a> {
    pub(super) task: Task<'a>,
    /// Maximum number of products.
    pub(super) budget: usize,
}

/// Probes of the first round; each further round doubles their number.
const FIRST_PROBES: usize = 8;
/// Share of the error over the rows below which that of the probes is negligible: both together are then 3 % larger than it.
const NEGLIGIBLE: f64 = 0.25;

impl TraceTask<'_> {
    /// The trace, by the best method that applies.
    ///
    /// - GGN, and Hessian of a network whose outputs are piecewise affine in each single parameter: exact, by backward
    ///   passes, also by layer.
    /// - Other Hessians: the exact trace of the GGN, and probes for the residual only.
    /// - Other operators, networks that couple rows, and losses that depend on parameters directly: new probes, orthogonal
    ///   to the converged eigenvectors.
    pub(super) fn run(
        &self,
        operator: &dyn LinearOperator,
        pairs: &EigenpairsReport,
        observer: &mut dyn Observer,
    ) -> Result<TraceSummary> {
        let Task { objective, theta, curvature, .. } = self.task;
        let gauss_newton = matches!(curvature, Curvature::Hessian | Curvature::Ggn);
        let (network, loss) = (objective.network(), &objective.options().loss);
        if !gauss_newton || objective.couples_rows() || network.check_loss_of_outputs(loss).is_err() {
            return self.by_probes(operator, Some(pairs), 0.0, observer);
        }
        let exact = self.exact(observer)?;
        if curvature == Curvature::Ggn || objective.diagonal_is_hessian() {
            return Ok(exact);
        }
        let residual = CurvatureOperator::new(objective, theta, Curvature::Residual)?;
        let residual = Restricted::new(&residual, self.task.ranges()?)?;
        let rest = self.by_probes(&residual, None, exact.trace, observer)?;
        let trace = exact.trace + rest.trace;
        let std_err_numeric = exact.std_err_numeric.hypot(rest.std_err_numeric);
        // Both parts see the same rows, so their errors may add up.
        let std_err_data = exact.std_err_data + rest.std_err_data;
        Ok(TraceSummary {
            trace,
            std_err_numeric,
            std_err_data,
            method: Method::ExactGgnHutchinson,
            converged: self.is_resolved(std_err_numeric, trace, std_err_data),
            layers: Vec::new(),
            ..rest
        })
    }

    /// Whether the error of the probes is within the tolerance, or negligible beside that over the rows.
    fn is_resolved(&self, std_err_numeric: f64, trace: f64, std_err_data: f64) -> bool {
        let tolerance = self.task.options.trace_tolerance * trace.abs();
        // Where the error over the rows is unknown, the tolerance decides.
        std_err_numeric <= tolerance.max(NEGLIGIBLE * std_err_data)
    }

    /// The exact trace of the GGN, without products.
    fn exact(&self, observer: &mut dyn Observer) -> Result<TraceSummary> {
        let Task { objective, theta, options, .. } = self.task;
        let layers = options.scope.layers(self.task.space())?;
        let groups: Vec<Vec<usize>> = layers.iter().map(|(_, tensors)| tensors.clone()).collect();
        let params = ExactParams { seed: options.seed, ..ExactParams::default() };
        let exact = objective.exact_trace(theta, &groups, &params, observer)?;
        let whole = exact.total;
        let layers = layers.iter().zip(&exact.groups).map(|((name, _), part)| TracePart {
            scope: Scope::Layer((*name).to_owned()),
            trace: part.trace,
            std_err_numeric: part.std_err_numeric,
            std_err_data: part.std_err_data,
        });
        Ok(TraceSummary {
            trace: whole.trace,
            std_err_numeric: whole.std_err_numeric,
            std_err_data: whole.std_err_data,
            samples: Vec::new(),
            method: if whole.std_err_numeric > 0.0 { Method::RandomColumns } else { Method::Exact },
            converged: whole.std_err_numeric <= options.trace_tolerance * whole.trace.abs(),
            num_matvecs: 0,
            layers: if groups.len() > 1 { layers.collect() } else { Vec::new() },
        })
    }

    /// The trace by new probes, orthogonal to the converged eigenvectors, where `beside` is known of the whole.
    fn by_probes(
        &self,
        operator: &dyn LinearOperator,
        pairs: Option<&EigenpairsReport>,
        beside: f64,
        observer: &mut dyn Observer,
    ) -> Result<TraceSummary> {
        let known = pairs.map_or_else(|| Known::none(operator), |pairs| Known::of(operator, pairs))?;
        let deflation = Deflation { vectors: &known.vectors, values: &known.values, forms: known.forms.as_ref() };
        let params = DeflatedTraceParams {
            num_probes: FIRST_PROBES.min(self.budget).max(2),
            trace_tol: self.task.options.trace_tolerance,
            known: beside,
            max_matvecs: self.budget,
        };
        let mut rng = stream(self.task.options.seed, Purpose::Probes);
        let report = deflated_trace(operator, &deflation, &params, &mut rng, observer)?;
        if report.stop == TraceStop::Interrupted {
            return Err(Error::Interrupted);
        }
        Ok(TraceSummary {
            trace: report.trace,
            std_err_numeric: report.std_err_numeric,
            std_err_data: report.std_err_data,
            samples: report.samples,
            method: if known.values.is_empty() { Method::Hutchinson } else { Method::HutchinsonDeflated },
            converged: self.is_resolved(report.std_err_numeric, report.trace, report.std_err_data),
            num_matvecs: report.num_matvecs,
            layers: Vec::new(),
        })
    }
}

/// The trace from the diagonal of the matrix, also by layer.
pub(super) fn trace_of_diagonal(report: &DenseReport, scope: &Scope, space: &ParamSpace) -> Result<TraceSummary> {
    let layers = by_layer(spans(scope, space)?.into_iter());
    let groups: Vec<Vec<usize>> = layers.iter().map(|(_, entries)| entries.clone()).collect();
    let errors = report.shard_diagonals.as_ref().map(|shards| data_std_errors(&shards.sums(&groups)));
    let part = |(index, (layer, entries)): (usize, &(_, Vec<usize>))| {
        let trace = entries.iter().map(|&entry| report.diagonal[entry]).sum();
        let std_err_data = errors.as_ref().map_or(f64::NAN, |errors| errors[index]);
        (*layer, KnownTrace { trace, std_err_data })
    };
    let whole = &report.survey.slq.trace;
    let known = KnownTrace { trace: whole.trace, std_err_data: whole.std_err_data };
    Ok(known.summary(Method::Dense, whole.num_matvecs, layers.iter().enumerate().map(part).collect()))
}

/// Layers with the indices of their entries; `counts` gives the layer of each run of consecutive entries.
pub(super) fn by_layer<'a>(counts: impl Iterator<Item = (&'a str, usize)>) -> Vec<(&'a str, Vec<usize>)> {
    let mut layers: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut start = 0;
    for (layer, count) in counts {
        match layers.iter_mut().find(|(name, _)| *name == layer) {
            Some((_, parts)) => parts.extend(start..start + count),
            None => layers.push((layer, (start..start + count).collect())),
        }
        start += count;
    }
    layers
}

/// An exact trace with its data error.
pub(super) struct KnownTrace {
    pub(super) trace: f64,
    pub(super) std_err_data: f64,
}

impl KnownTrace {
    /// As a summary, with the traces of the layers if there are several.
    pub(super) fn summary(self, method: Method, num_matvecs: usize, layers: Vec<(&str, Self)>) -> TraceSummary {
        let part = |(layer, part): (&str, Self)| TracePart {
            scope: Scope::Layer(layer.to_owned()),
            trace: part.trace,
            std_err_numeric: 0.0,
            std_err_data: part.std_err_data,
        };
        TraceSummary {
            trace: self.trace,
            std_err_numeric: 0.0,
            std_err_data: self.std_err_data,
            samples: Vec::new(),
            method,
            converged: true,
            num_matvecs,
            layers: if layers.len() > 1 { layers.into_iter().map(part).collect() } else { Vec::new() },
        }
    }
}

/// The converged pairs.
struct Known {
    vectors: Tensor,
    values: Vec<f64>,
    forms: Option<ShardForms>,
}

impl Known {
    fn none(operator: &dyn LinearOperator) -> Result<Self> {
        let vectors = Tensor::zeros((0, operator.dim()), operator.dtype(), operator.device())?;
        Ok(Self { vectors, values: Vec::new(), forms: None })
    }

    fn of(operator: &dyn LinearOperator, pairs: &EigenpairsReport) -> Result<Self> {
        let mut known = Self::none(operator)?;
        let mut vectors = vec![known.vectors.clone()];
        let mut forms: Vec<ShardForms> = Vec::new();
        for end in [&pairs.top, &pairs.bottom] {
            let converged: Vec<usize> = (0..end.ritz_values.len()).filter(|&i| end.converged[i]).collect();
            vectors.extend(rows(end, &converged)?);
            known.values.extend(converged.iter().map(|&i| end.ritz_values[i]));
            forms.extend(end.shard_forms.as_ref().map(|forms| forms.select(&converged)));
        }
        known.vectors = Tensor::cat(&vectors, 0)?;
        known.forms = forms.into_iter().reduce(|mut all, more| {
            all.forms.iter_mut().zip(more.forms).for_each(|(all, more)| all.extend(more));
            all
        });
        Ok(known)
    }
}

fn rows(end: &EigenReport, which: &[usize]) -> Result<Vec<Tensor>> {
    which.iter().map(|&row| Ok(end.vectors.narrow(0, row, 1)?)).collect()
}
