//! The largest eigenvalue, cross-fitted between two halves of the rows.

use super::SpectrumReport;
use super::task::Task;
use crate::operator::{LinearOperator, Restricted};
use crate::random::{Purpose, substream};
use crate::spectral::{CrossFitParams, cross_fit};
use crate::vocabulary::{Method, Quantity, SummaryRow};
use crate::{Observer, Result};

/// Minimum number of shards: each half needs two for a spread.
const FEWEST_SHARDS: usize = 4;
/// Random stream of the additional start directions.
const STREAM: u64 = 1 << 32;

/// The Rayleigh quotient of the top eigenvector of each half of the rows on the other half. It is biased downwards, whereas
/// `lambda_max` is biased upwards if rows are few: see [`cross_fit`]. `None` for too few shards or coupled rows.
///
/// Cost: about ten products with each half, since the eigenvector of all rows is close to those of the halves.
pub(super) fn cross_fitted(
    task: Task<'_>,
    spectrum: Option<&SpectrumReport>,
    observer: &mut dyn Observer,
) -> Result<Option<SummaryRow>> {
    let Task { objective, options, .. } = task;
    let shards = objective.num_shards();
    let spectrum = spectrum.filter(|spectrum| !spectrum.top.ritz_values.is_empty());
    let (Some(spectrum), false) = (spectrum, shards < FEWEST_SHARDS || objective.couples_rows()) else {
        return Ok(None);
    };
    let top = &spectrum.top;
    let ranges = task.ranges()?;
    let halves = [objective.part(0..shards / 2)?, objective.part(shards / 2..shards)?];
    let (a, b) = (task.operator_of(&halves[0])?, task.operator_of(&halves[1])?);
    let operators = [Restricted::new(&a, ranges.clone())?, Restricted::new(&b, ranges)?];
    let params = CrossFitParams { max_matvecs: options.budget(), ..CrossFitParams::default() };
    let mut rng = substream(options.seed, Purpose::Eigenpairs, STREAM);
    let halves: [&dyn LinearOperator; 2] = [&operators[0], &operators[1]];
    let report = cross_fit(halves, &params, Some(&top.vectors.narrow(0, 0, 1)?), &mut rng, observer)?;
    Ok(Some(SummaryRow {
        operator: Some(task.curvature),
        scope: options.scope.clone(),
        std_err_data: report.cross_fitted_std_err[0],
        method: Method::CrossFit,
        converged: report.converged[0],
        num_matvecs: report.num_matvecs,
        ..SummaryRow::exact(Quantity::LambdaMaxCrossFitted, report.cross_fitted[0])
    }))
}
