//! The largest eigenvalue, cross-fitted between two halves of the rows.

use candle_core::Tensor;

use super::{SpectrumReport, SummaryRow};
use crate::curvature::CurvatureOperator;
use crate::objective::Objective;
use crate::operator::{LinearOperator, Restricted};
use crate::plan::AnalysisOptions;
use crate::random::{Purpose, substream};
use crate::spectral::{CrossFitParams, cross_fit};
use crate::vocabulary::{Curvature, Method, Quantity};
use crate::{Error, Observer, Result};

/// Fewest shards whose halves still have a spread.
const FEWEST_SHARDS: usize = 4;
/// Stream of the random directions beside the start vector.
const STREAM: u64 = 1 << 32;

/// Beside `lambda_max`, which is biased upwards where rows are few, the Rayleigh quotient of each half's own top
/// eigenvector on the other half, which is biased downwards: see [`cross_fit`]. None for a few shards or coupled rows.
///
/// Cost: some ten products with each half, since the eigenvector of all rows is near those of the halves.
pub(super) fn cross_fitted(
    objective: &Objective<'_>,
    theta: &Tensor,
    (kind, options): (Curvature, &AnalysisOptions),
    spectrum: Option<&SpectrumReport>,
    observer: &mut dyn Observer,
) -> Result<Option<SummaryRow>> {
    let shards = objective.num_shards();
    let spectrum = spectrum.filter(|spectrum| !spectrum.top.ritz_values.is_empty());
    let (Some(spectrum), false) = (spectrum, shards < FEWEST_SHARDS || objective.couples_rows()) else {
        return Ok(None);
    };
    let top = &spectrum.top;
    let ranges = options.scope.resolve(objective.network().space())?;
    let halves = [objective.part(0..shards / 2)?, objective.part(shards / 2..shards)?];
    let of = |half| Ok::<_, Error>(CurvatureOperator::new(half, theta, kind)?.with_label_seed(options.seed));
    let (a, b) = (of(&halves[0])?, of(&halves[1])?);
    let operators = [Restricted::new(&a, ranges.clone())?, Restricted::new(&b, ranges)?];
    let params = CrossFitParams { max_matvecs: options.budget(), ..CrossFitParams::default() };
    let mut rng = substream(options.seed, Purpose::Eigenpairs, STREAM);
    let halves: [&dyn LinearOperator; 2] = [&operators[0], &operators[1]];
    let report = cross_fit(halves, &params, Some(&top.vectors.narrow(0, 0, 1)?), &mut rng, observer)?;
    Ok(Some(SummaryRow {
        operator: Some(kind),
        scope: options.scope.clone(),
        std_err_data: report.cross_fitted_std_err[0],
        method: Method::CrossFit,
        converged: report.converged[0],
        num_matvecs: report.num_matvecs,
        ..SummaryRow::exact(Quantity::LambdaMaxCrossFitted, report.cross_fitted[0])
    }))
}
