//! How every eigenvalue method ends: measured values, true residuals, data errors, sorted into the two ends.

use candle_core::{DType, Tensor};

use super::data_error::{join, std_errors_or_nan};
use super::trace::finite_forms;
use super::vectors::{norms, scale_rows, select_rows};
use super::{EigenReport, EigenpairsReport, End, Quadrature, RuleSource, SlqReport, Stop};
use super::{SurveyOutcome, SurveyReport, TraceReport};
use crate::observer::Observer;
use crate::operator::{LinearOperator, ShardForms};
use crate::vocabulary::Method;
use crate::{Error, Result};

/// Approximate eigenpairs, those of the bottom end first.
pub(super) struct Accepted {
    method: Method,
    vectors: Option<Tensor>,
    values: Vec<f64>,
    residuals: Vec<f64>,
    forms: Option<ShardForms>,
    num_matvecs: usize,
    /// The observer ended the run: no product more.
    pub(super) interrupted: bool,
}

impl Accepted {
    /// Normalises `vectors`, `[k, n]`; values and residual norms are those of the method so far.
    pub(super) fn new(
        method: Method,
        vectors: Option<Tensor>,
        values: Vec<f64>,
        residuals: Vec<f64>,
        num_matvecs: usize,
    ) -> Result<Self> {
        let vectors = vectors.map(|vectors| normalized(&vectors)).transpose()?;
        Ok(Self { method, vectors, values, residuals, forms: None, num_matvecs, interrupted: false })
    }

    /// `θ = yᵀAy`, `‖A y − θ y‖` and the data errors by one product per vector, unless the run was interrupted; an
    /// interruption here leaves everything as it was.
    pub(super) fn measure(&mut self, operator: &dyn LinearOperator, observer: &mut dyn Observer) -> Result<()> {
        let Some(vectors) = self.vectors.as_ref().filter(|_| !self.interrupted) else { return Ok(()) };
        let count = vectors.dims()[0];
        let (mut values, mut residuals, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        while values.len() < count {
            let rows = operator.block_size().clamp(1, count - values.len());
            let block = vectors.narrow(0, values.len(), rows)?;
            let product = match operator.apply(&block, observer) {
                Err(Error::Interrupted) => {
                    self.interrupted = true;
                    self.num_matvecs += values.len();
                    return Ok(());
                }
                result => result?,
            };
            let forms = finite_forms(self.method.name(), &block, &product.block, self.num_matvecs + values.len())?;
            residuals.extend(residual_norms(&block, &product.block, &forms)?);
            values.extend(forms);
            shards.push(product.shards);
        }
        self.num_matvecs += count;
        (self.values, self.residuals) = (values, residuals);
        self.forms = join(shards);
        Ok(())
    }

    /// Top and bottom report; the first `bottom` pairs belong to the bottom end. A pair has converged when its residual
    /// norm is at most `tolerance` times the largest `|θ|` of all.
    pub(super) fn reports(
        &self,
        operator: &dyn LinearOperator,
        bottom: usize,
        tolerance: f64,
    ) -> Result<(EigenReport, EigenReport)> {
        let errors = std_errors_or_nan(self.forms.as_ref(), self.values.len());
        let scale = self.values.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
        let report = |end, range: std::ops::Range<usize>| -> Result<EigenReport> {
            let mut order: Vec<usize> = range.collect();
            let sign = if end == End::Top { -1.0 } else { 1.0 };
            order.sort_by(|&a, &b| (sign * self.values[a]).total_cmp(&(sign * self.values[b])));
            let pick = |values: &[f64]| order.iter().map(|&i| values[i]).collect::<Vec<_>>();
            let vectors = match &self.vectors {
                Some(vectors) if !order.is_empty() => select_rows(vectors, &order)?,
                _ => Tensor::zeros((0, operator.dim()), operator.dtype(), operator.device())?,
            };
            let residual_norms = pick(&self.residuals);
            Ok(EigenReport {
                end,
                ritz_values: pick(&self.values),
                converged: residual_norms.iter().map(|&norm| norm <= tolerance * scale).collect(),
                residual_norms,
                vectors,
                std_err_data: pick(&errors),
                shard_forms: self.forms.as_ref().map(|forms| forms.select(&order)),
                method: self.method,
                num_matvecs: self.num_matvecs,
                interrupted: self.interrupted,
            })
        };
        let split = bottom.min(self.values.len());
        Ok((report(End::Top, split..self.values.len())?, report(End::Bottom, 0..split)?))
    }
}

/// A spectrum that is known.
pub(super) struct Whole {
    pub(super) source: RuleSource,
    /// All eigenvalues.
    pub(super) rule: Quadrature,
    pub(super) trace: TraceReport,
    pub(super) dim: usize,
}

impl Whole {
    /// In the form of a survey, with the pairs at its ends.
    pub(super) fn survey(
        self,
        accepted: &Accepted,
        operator: &dyn LinearOperator,
        bottom: usize,
        tolerance: f64,
    ) -> Result<SurveyReport> {
        let (top, bottom) = accepted.reports(operator, bottom, tolerance)?;
        let outcome = SurveyOutcome {
            stop: if accepted.interrupted { Stop::Interrupted } else { Stop::Converged },
            density_converged: true,
            num_steps: self.dim,
            basis_rows: 0,
            memory_bound: false,
            num_restarts: 0,
            num_matvecs: top.num_matvecs,
        };
        let Self { source, rule, trace, dim } = self;
        let slq = SlqReport {
            probes: vec![rule],
            shorter: Vec::new(),
            known: [0, 0],
            dim,
            num_steps: dim,
            num_matvecs: trace.num_matvecs,
            trace,
            source,
            interrupted: false,
        };
        Ok(SurveyReport { pairs: EigenpairsReport { top, bottom }, slq, outcome })
    }
}

/// `‖A y − θ y‖` per row.
fn residual_norms(vectors: &Tensor, product: &Tensor, values: &[f64]) -> Result<Vec<f64>> {
    norms(&(product - scale_rows(vectors, values)?)?)
}

/// Each row with length 1 and its entry of largest magnitude positive (the first such entry, if several).
fn normalized(vectors: &Tensor) -> Result<Tensor> {
    let lengths = norms(vectors)?;
    let larger = |largest: f64, entry: f64| if entry.abs() > largest.abs() { entry } else { largest };
    let factor = |(row, length): (usize, f64)| {
        let row = vectors.get(row)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        Ok(row.into_iter().fold(0.0, larger).signum() / length)
    };
    scale_rows(vectors, &lengths.into_iter().enumerate().map(factor).collect::<Result<Vec<_>>>()?)
}
