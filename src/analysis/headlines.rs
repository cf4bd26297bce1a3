//! Headline numbers of a point and of a spectrum: the rows of `summary.parquet`.

use candle_core::{DType, Tensor};

use super::SpectrumReport;
use crate::Result;
use crate::objective::{GradientReport, Objective};
use crate::program::Loss;
use crate::spectral::{EigenReport, Estimate, SpectralMeasure};
use crate::vocabulary::{Quantity, Scope, SummaryRow};

/// The effective dimension counts eigenvalues above this share of the largest.
pub(super) const SHARE_OF_LARGEST: f64 = 1e-3;

/// Error of the quadrature for the sum of a function of slope 1, relative to the sum of |λ|: three times the change of the
/// measure in the last quarter of the steps, since the error falls like 1/m. The sum itself may by chance change less than
/// the measure, so its own change would be too small an error.
const LEFT_OPEN: f64 = 3.0;
/// Maximum error of the quadrature, relative to the value.
pub(super) const CONVERGED: f64 = 0.1;

/// Loss, accuracy, likelihood and norms.
pub(super) fn at_the_point(
    objective: &Objective<'_>,
    report: &GradientReport,
    theta: &Tensor,
) -> Result<Vec<SummaryRow>> {
    let evaluation = &report.evaluation;
    let norm = |tensor: &Tensor| -> Result<f64> {
        Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
    };
    let mut rows = vec![SummaryRow {
        std_err_data: evaluation.loss_std_err,
        ..SummaryRow::exact(Quantity::Loss, evaluation.loss)
    }];
    if !evaluation.accuracy.is_nan() {
        rows.push(SummaryRow {
            std_err_data: evaluation.accuracy_std_err,
            ..SummaryRow::exact(Quantity::Accuracy, evaluation.accuracy)
        });
    }
    if let (Some(scores), Loss::CrossEntropy(_)) = (&report.scores, &objective.options().loss) {
        let (nll, std_err_data) = (scores.nll(), scores.nll_std_err());
        rows.push(SummaryRow { std_err_data, ..SummaryRow::exact(Quantity::Nll, nll) });
        let perplexity = nll.exp();
        rows.push(SummaryRow {
            std_err_data: perplexity * std_err_data,
            ..SummaryRow::exact(Quantity::Perplexity, perplexity)
        });
    }
    rows.push(SummaryRow::exact(Quantity::GradientNorm, norm(&report.gradient)?));
    rows.push(SummaryRow::exact(Quantity::ParameterNorm, norm(theta)?));
    Ok(rows)
}

/// The numbers of one spectrum.
pub(super) fn of_spectrum(spectrum: &SpectrumReport) -> Vec<SummaryRow> {
    let row = |quantity: Quantity, value| SummaryRow {
        operator: Some(spectrum.operator),
        scope: spectrum.scope.clone(),
        ..SummaryRow::exact(quantity, value)
    };
    let extreme = |quantity: Quantity, end: &EigenReport| {
        Some(SummaryRow {
            std_err_numeric: *end.residual_norms.first()?,
            std_err_data: *end.std_err_data.first()?,
            method: end.method,
            converged: *end.converged.first()?,
            num_matvecs: end.num_matvecs,
            ..row(quantity, *end.ritz_values.first()?)
        })
    };
    let extremes = [extreme(Quantity::LambdaMax, &spectrum.top), extreme(Quantity::LambdaMin, &spectrum.bottom)];
    let mut rows: Vec<SummaryRow> = extremes.into_iter().flatten().collect();
    if !spectrum.interrupted {
        let trace = &spectrum.trace;
        let part = |scope: &Scope, value, std_err_numeric, std_err_data| SummaryRow {
            scope: scope.clone(),
            std_err_numeric,
            std_err_data,
            method: trace.method,
            converged: trace.converged,
            num_matvecs: trace.num_matvecs,
            ..row(Quantity::Trace, value)
        };
        rows.push(part(&spectrum.scope, trace.trace, trace.std_err_numeric, trace.std_err_data));
        let layers = trace.layers.iter();
        rows.extend(layers.map(|layer| part(&layer.scope, layer.trace, layer.std_err_numeric, layer.std_err_data)));
    }
    if !spectrum.slq.interrupted {
        let measure = SpectralMeasure::of(&spectrum.slq);
        let open = LEFT_OPEN * spectrum.slq.change();
        let method = spectrum.slq.source.method();
        let estimate = |quantity: Quantity, estimate: Estimate, quadrature: f64| SummaryRow {
            std_err_numeric: estimate.std_err_numeric.hypot(quadrature),
            method,
            converged: quadrature <= CONVERGED * estimate.value.abs(),
            num_matvecs: estimate.num_matvecs,
            ..row(quantity, estimate.value)
        };
        let nuclear = measure.nuclear_norm();
        let norm = measure.frobenius_norm();
        // Two steps are exact for squares.
        let left_open = if spectrum.slq.num_steps < 2 { open * norm.value } else { 0.0 };
        rows.push(estimate(Quantity::FrobeniusNorm, norm, left_open));
        rows.push(estimate(Quantity::NuclearNorm, nuclear, open * nuclear.value));
        if !spectrum.positive {
            rows.push(estimate(Quantity::NegativeMass, measure.negative_mass(), open));
        }
        if let Some(&largest) = spectrum.top.ritz_values.first().filter(|largest| **largest > 0.0) {
            let threshold = SHARE_OF_LARGEST * largest;
            // λ/(λ + c) has slope 1/c at most.
            let quadrature = (open * nuclear.value / threshold).min(spectrum.slq.dim as f64);
            rows.push(estimate(Quantity::EffectiveDimension, measure.effective_dimension(threshold), quadrature));
        }
    }
    rows
}
