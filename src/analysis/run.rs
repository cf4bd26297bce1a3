//! The standard survey of a minimum: both ends of the spectrum, trace, density, slices.

use candle_core::{DType, Tensor};

use super::cross::cross_fitted;
use super::headlines::{at_the_point, of_spectrum};
use super::layers::layers;
use super::spectrum::{after, spectrum};
use super::subset_study::subset_study;
use super::vectors::{eigenvectors, gradient_share};
use super::{AnalysisReport, SliceKind, Stores, SummaryRow};
use crate::landscape::{Line, filter_normalised, line, orthogonalise, plane, slope};
use crate::objective::{GradientReport, Objective};
use crate::operator::{extend, restrict};
use crate::plan::AnalysisOptions;
use crate::random::{Purpose, substream};
use crate::vocabulary::Quantity;
use crate::{Error, Observer, Result};

/// Fills `report` step by step; whatever is finished stays in it when an error or an interruption ends the run.
///
/// # Errors
/// More eigenpairs than parameters; a product or loss that is not finite; an interruption.
pub fn analyze(
    objective: &Objective<'_>,
    theta: &Tensor,
    options: &AnalysisOptions,
    report: &mut AnalysisReport,
    (stores, observer): (&mut dyn Stores, &mut dyn Observer),
) -> Result<()> {
    let theta = objective.place(theta)?;
    let gradient = objective.gradient(&theta, observer)?;
    report.summary = at_the_point(objective, &gradient, &theta)?;
    let space = objective.network().space();
    let scoped = restrict(&gradient.gradient.unsqueeze(0)?, &options.scope.resolve(space)?)?;
    for &operator in &options.operators {
        let spectrum = spectrum(objective, &theta, (operator, options), stores, observer)?;
        // What time ended is repeated by a budget, which then holds for everything after it.
        let options = &after(options, spectrum.outcome.stop);
        let interrupted = spectrum.interrupted;
        report.summary.extend(of_spectrum(&spectrum));
        report.summary.push(SummaryRow {
            operator: Some(operator),
            scope: spectrum.scope.clone(),
            ..SummaryRow::exact(Quantity::GradientInTopSpace, gradient_share(&scoped, &spectrum.top)?)
        });
        report.eigenvectors.extend(eigenvectors(&spectrum, &options.scope, space)?.into_iter().map(|v| (operator, v)));
        report.spectra.push(spectrum);
        if interrupted {
            return Err(Error::Interrupted);
        }
        if options.cross_fit {
            report.summary.extend(cross_fitted(
                objective,
                &theta,
                (operator, options),
                report.spectra.last(),
                observer,
            )?);
        }
        if options.subset_study && report.subset_study.rows.is_empty() {
            report.subset_study = subset_study(objective, &theta, (operator, options), observer)?;
            report.subset_study.statement = format!("{}: {}", operator.name(), report.statement);
        }
        if options.layers {
            report.summary.extend(layers(objective, &theta, (operator, options), observer)?);
        }
    }
    slices(objective, (&theta, &gradient), options, report, observer)
}

fn slices(
    objective: &Objective<'_>,
    (theta, gradient): (&Tensor, &GradientReport),
    options: &AnalysisOptions,
    report: &mut AnalysisReport,
    observer: &mut dyn Observer,
) -> Result<()> {
    let num_points = options.slice_points;
    if let Some(spectrum) = report.spectra.first().filter(|_| num_points > 0) {
        let norm = theta.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        let top = &spectrum.top;
        let ranges = options.scope.resolve(objective.network().space())?;
        for (index, &curvature) in top.ritz_values.clone().iter().enumerate() {
            let direction = extend(&top.vectors.narrow(0, index, 1)?, &ranges, theta.dims()[0])?.squeeze(0)?;
            let half_width = reach(curvature, gradient.evaluation.loss, norm);
            let kind = SliceKind::Eigenvector;
            let slope = slope(&gradient.gradient, &direction)?;
            let slice = Line { kind, index, direction: &direction, half_width, num_points, slope, curvature };
            report.slices.push(line(objective, theta, &slice, observer)?);
        }
    }
    let random = |index: usize| {
        let mut rng = substream(options.seed, Purpose::Directions, index as u64);
        filter_normalised(objective.network().space(), theta, &mut rng)
    };
    if num_points > 0 {
        for index in 0..options.random_lines {
            let (kind, direction, curvature) = (SliceKind::RandomFilter, random(index)?, f64::NAN);
            let slope = slope(&gradient.gradient, &direction)?;
            let slice = Line { kind, index, direction: &direction, half_width: 1.0, num_points, slope, curvature };
            report.slices.push(line(objective, theta, &slice, observer)?);
        }
    }
    if options.plane_points > 0 {
        let (first, second) = (random(0)?, random(1)?);
        let second = orthogonalise(&first, &second)?;
        report.slices.push(plane(objective, theta, [&first, &second], options.plane_points, observer)?);
    }
    Ok(())
}

/// How far to follow an eigenvector: until the parabola has risen by the loss itself (at least 0.5), at most half of
/// `‖θ‖`.
pub(crate) fn reach(curvature: f64, loss: f64, norm: f64) -> f64 {
    let rise = loss.abs().max(0.5);
    (2.0 * rise / curvature.abs()).sqrt().min(0.5 * norm.max(1e-3))
}
