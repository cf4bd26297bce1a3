//! The trace of an operator, exact where the network allows it.

use candle_core::Tensor;

use super::vectors::spans;
use super::{TracePart, TraceSummary};
use crate::autodiff::{ParamSpace, Scope};
use crate::curvature::{Curvature, CurvatureOperator, ExactParams};
use crate::objective::Objective;
use crate::operator::{LinearOperator, Restricted, ShardForms};
use crate::plan::AnalysisOptions;
use crate::random::{Purpose, stream};
use crate::spectral::{
    DeflatedTraceParams, Deflation, DenseReport, EigenReport, EigenpairsReport, TraceStop, data_std_errors,
    deflated_trace,
};
use crate::vocabulary::Method;
use crate::{Error, Observer, Result};

/// What the trace of `kind` is computed from.
pub(super) struct TraceTask<'a> {
    pub(super) objective: &'a Objective<'a>,
    pub(super) theta: &'a Tensor,
    pub(super) kind: Curvature,
    pub(super) options: &'a AnalysisOptions,
    /// Products that may be spent.
    pub(super) budget: usize,
}

/// Probes of the first round: each later one doubles their number.
const FIRST_PROBES: usize = 8;

impl TraceTask<'_> {
    /// The trace by the best way there is.
    ///
    /// GGN, and Hessian of a network whose outputs are piecewise affine in each single parameter: exact, by backward
    /// passes, and by layer too. Other Hessians: the exact trace of the GGN, and probes for the residual alone. Other
    /// operators, networks that couple rows, and losses that see parameters past the outputs: fresh probes off the converged eigenpairs.
    pub(super) fn run(
        &self,
        operator: &dyn LinearOperator,
        pairs: &EigenpairsReport,
        observer: &mut dyn Observer,
    ) -> Result<TraceSummary> {
        let gauss_newton = matches!(self.kind, Curvature::Hessian | Curvature::Ggn);
        let (network, loss) = (self.objective.network(), &self.objective.options().loss);
        if !gauss_newton || self.objective.couples_rows() || network.check_loss_of_outputs(loss).is_err() {
            return self.by_probes(operator, Some(pairs), observer);
        }
        let exact = self.exact(observer)?;
        if self.kind == Curvature::Ggn || self.objective.diagonal_is_hessian() {
            return Ok(exact);
        }
        let residual = CurvatureOperator::new(self.objective, self.theta, Curvature::Residual)?;
        let ranges = self.options.scope.resolve(self.objective.network().space())?;
        let residual = Restricted::new(&residual, ranges)?;
        let rest = self.by_probes(&residual, None, observer)?;
        let trace = exact.trace + rest.trace;
        let std_err_numeric = exact.std_err_numeric.hypot(rest.std_err_numeric);
        Ok(TraceSummary {
            trace,
            std_err_numeric,
            // Both parts see the same rows, so their errors may add up.
            std_err_data: exact.std_err_data + rest.std_err_data,
            method: Method::ExactGgnHutchinson,
            converged: std_err_numeric <= self.options.trace_tolerance * trace.abs(),
            layers: Vec::new(),
            ..rest
        })
    }

    /// Of the GGN, without products.
    fn exact(&self, observer: &mut dyn Observer) -> Result<TraceSummary> {
        let layers = self.options.scope.layers(self.objective.network().space())?;
        let groups: Vec<Vec<usize>> = layers.iter().map(|(_, tensors)| tensors.clone()).collect();
        let params = ExactParams { seed: self.options.seed, ..ExactParams::default() };
        let exact = self.objective.exact_trace(self.theta, &groups, &params, observer)?;
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
            converged: whole.std_err_numeric <= self.options.trace_tolerance * whole.trace.abs(),
            num_matvecs: 0,
            layers: if groups.len() > 1 { layers.collect() } else { Vec::new() },
        })
    }

    /// By fresh probes, off the converged pairs.
    fn by_probes(
        &self,
        operator: &dyn LinearOperator,
        pairs: Option<&EigenpairsReport>,
        observer: &mut dyn Observer,
    ) -> Result<TraceSummary> {
        let known = pairs.map_or_else(|| Known::none(operator), |pairs| Known::of(operator, pairs))?;
        let deflation = Deflation { vectors: &known.vectors, values: &known.values, forms: known.forms.as_ref() };
        let params = DeflatedTraceParams {
            num_probes: FIRST_PROBES.min(self.budget).max(2),
            trace_tol: self.options.trace_tolerance,
            max_matvecs: self.budget,
        };
        let mut rng = stream(self.options.seed, Purpose::Probes);
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
            converged: report.stop == TraceStop::Tolerance,
            num_matvecs: report.num_matvecs,
            layers: Vec::new(),
        })
    }
}

/// The trace from the diagonal of the matrix, and by layer too.
pub(super) fn trace_of_diagonal(report: &DenseReport, scope: &Scope, space: &ParamSpace) -> Result<TraceSummary> {
    let layers = by_layer(spans(scope, space)?.into_iter());
    let groups: Vec<Vec<usize>> = layers.iter().map(|(_, entries)| entries.clone()).collect();
    let errors = report.shard_diagonals.as_ref().map(|shards| data_std_errors(&shards.sums(&groups)));
    let part = |(index, (layer, entries)): (usize, &(_, Vec<usize>))| {
        let trace = entries.iter().map(|&entry| report.diagonal[entry]).sum();
        (*layer, (trace, errors.as_ref().map_or(f64::NAN, |errors| errors[index])))
    };
    let whole = &report.survey.slq.trace;
    let known = ((whole.trace, whole.std_err_data), whole.num_matvecs);
    Ok(known_trace(Method::Dense, known, layers.iter().enumerate().map(part).collect()))
}

/// Layers with the numbers of their parts, where each brings some after the other.
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

/// An exact trace and those of its layers, each with its data error.
pub(super) fn known_trace(
    method: Method,
    ((trace, std_err_data), num_matvecs): ((f64, f64), usize),
    layers: Vec<(&str, (f64, f64))>,
) -> TraceSummary {
    let part = |(layer, (trace, std_err_data)): (&str, (f64, f64))| TracePart {
        scope: Scope::Layer(layer.to_owned()),
        trace,
        std_err_numeric: 0.0,
        std_err_data,
    };
    TraceSummary {
        trace,
        std_err_numeric: 0.0,
        std_err_data,
        samples: Vec::new(),
        method,
        converged: true,
        num_matvecs,
        layers: if layers.len() > 1 { layers.into_iter().map(part).collect() } else { Vec::new() },
    }
}

/// The declared set: the converged ones of the pairs asked for.
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
