//! Headline numbers of a point and of a spectrum: the rows of `summary.parquet`.

use candle_core::{DType, Tensor};

use super::{SpectrumReport, SummaryRow};
use crate::Result;
use crate::curvature::Evaluation;
use crate::spectral::{EigenReport, Estimate, SlqReport, SpectralMeasure};

/// Effective dimension counts eigenvalues above this share of the largest.
pub(super) const SHARE_OF_LARGEST: f64 = 1e-3;

/// Share of a value that the quadrature may leave open.
const CONVERGED: f64 = 0.1;

/// Loss, accuracy and norms.
pub(super) fn at_the_point(evaluation: &Evaluation, gradient: &Tensor, theta: &Tensor) -> Result<Vec<SummaryRow>> {
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

/// The numbers of one spectrum.
pub(super) fn of_spectrum(spectrum: &SpectrumReport) -> Vec<SummaryRow> {
    let row = |quantity: &str, value| SummaryRow {
        operator: spectrum.operator.name().into(),
        scope: spectrum.scope.clone(),
        ..SummaryRow::exact(quantity, value)
    };
    let extreme = |quantity: &str, end: &EigenReport| {
        Some(SummaryRow {
            std_err_numeric: *end.residual_norms.first()?,
            std_err_data: *end.std_err_data.first()?,
            method: end.method.into(),
            converged: *end.converged.first()?,
            num_matvecs: end.num_matvecs,
            ..row(quantity, *end.ritz_values.first()?)
        })
    };
    let mut rows: Vec<SummaryRow> =
        [extreme("lambda_max", &spectrum.top), extreme("lambda_min", &spectrum.bottom)].into_iter().flatten().collect();
    if !spectrum.interrupted {
        let trace = &spectrum.trace;
        let part = |scope: &str, value, std_err_numeric, std_err_data| SummaryRow {
            scope: scope.to_owned(),
            std_err_numeric,
            std_err_data,
            method: trace.method.into(),
            converged: trace.converged,
            num_matvecs: trace.num_matvecs,
            ..row("trace", value)
        };
        rows.push(part(&spectrum.scope, trace.trace, trace.std_err_numeric, trace.std_err_data));
        let layers = trace.layers.iter();
        rows.extend(layers.map(|layer| part(&layer.scope, layer.trace, layer.std_err_numeric, layer.std_err_data)));
    }
    if !spectrum.slq.interrupted {
        let shorter = SlqReport { probes: spectrum.slq.shorter.clone(), ..spectrum.slq.clone() };
        let estimate = |quantity: &str, of: &dyn Fn(&SpectralMeasure<'_>) -> Estimate| {
            let estimate = of(&SpectralMeasure::of(&spectrum.slq));
            // Where errors fall like 1/m, three times as much is left as the last quarter of the steps changed.
            let quadrature = 3.0 * (estimate.value - of(&SpectralMeasure::of(&shorter)).value).abs();
            SummaryRow {
                std_err_numeric: estimate.std_err_numeric.hypot(quadrature),
                method: "slq".into(),
                converged: quadrature <= CONVERGED * estimate.value.abs(),
                num_matvecs: estimate.num_matvecs,
                ..row(quantity, estimate.value)
            }
        };
        rows.push(estimate("frobenius_norm", &|measure| measure.frobenius_norm()));
        rows.push(estimate("nuclear_norm", &|measure| measure.nuclear_norm()));
        rows.push(estimate("negative_mass", &|measure| measure.negative_mass()));
        if let Some(&largest) = spectrum.top.ritz_values.first().filter(|largest| **largest > 0.0) {
            let threshold = SHARE_OF_LARGEST * largest;
            rows.push(estimate("effective_dimension", &|measure| measure.effective_dimension(threshold)));
        }
    }
    rows
}
