//! The standard survey of a minimum: both ends of the spectrum, trace, density, slices.

use candle_core::{DType, Tensor};

use super::cross::cross_fitted;
use super::headlines::{at_the_point, of_spectrum};
use super::layers::layers;
use super::spectrum::{after, spectrum};
use super::subset_study::subset_study;
use super::task::Task;
use super::vectors::{eigenvectors, gradient_share};
use super::{AnalysisReport, Stores};
use crate::curvature::Preconditioner;
use crate::landscape::{Line, SliceKind, filter_normalised, line, orthogonalise, plane, slope};
use crate::objective::{GradientReport, Objective};
use crate::operator::{extend, restrict};
use crate::plan::AnalysisOptions;
use crate::random::{Purpose, substream};
use crate::vocabulary::{Quantity, SummaryRow};
use crate::{Error, Observer, Result};

/// An analysis: of what, and how.
#[derive(Clone, Copy)]
pub struct Analysis<'a> {
    /// The loss over the rows.
    pub objective: &'a Objective<'a>,
    /// The parameters, `[n]`.
    pub theta: &'a Tensor,
    /// What to compute, and how well.
    pub options: &'a AnalysisOptions,
    /// Of the preconditioned Hessian, where it is among the matrices.
    pub preconditioner: Option<&'a Preconditioner>,
}

impl Analysis<'_> {
    /// Fills `report` step by step; whatever is finished stays in it when an error or an interruption ends the run.
    ///
    /// # Errors
    /// More eigenpairs than parameters; a product or loss that is not finite; an interruption.
    pub fn run(self, report: &mut AnalysisReport, stores: &mut dyn Stores, observer: &mut dyn Observer) -> Result<()> {
        let Self { objective, options, preconditioner, .. } = self;
        let theta = &objective.place(self.theta)?;
        let gradient = objective.gradient(theta, observer)?;
        report.summary = at_the_point(objective, &gradient, theta)?;
        let space = objective.network().space();
        let ranges = options.scope.resolve(space)?;
        for &curvature in &options.operators {
            let task = Task { objective, theta, curvature, options, preconditioner };
            let scoped = restrict(&task.scaled(&gradient.gradient.unsqueeze(0)?)?, &ranges)?;
            let spectrum = spectrum(task, stores, observer)?;
            // What time ended is repeated by a budget, which then holds for everything after it.
            let options = &after(options, spectrum.outcome.stop);
            let (task, interrupted) = (Task { options, ..task }, spectrum.interrupted);
            report.summary.extend(of_spectrum(&spectrum));
            report.summary.push(SummaryRow {
                operator: Some(curvature),
                scope: spectrum.scope.clone(),
                ..SummaryRow::exact(Quantity::GradientInTopSpace, gradient_share(&scoped, &spectrum.top)?)
            });
            let vectors = eigenvectors(&spectrum, &options.scope, space)?;
            report.eigenvectors.extend(vectors.into_iter().map(|vector| (curvature, vector)));
            report.spectra.push(spectrum);
            if interrupted {
                return Err(Error::Interrupted);
            }
            if options.cross_fit {
                report.summary.extend(cross_fitted(task, report.spectra.last(), observer)?);
            }
            if options.subset_study && report.subset_study.rows.is_empty() {
                report.subset_study = subset_study(task, observer)?;
                report.subset_study.statement = format!("{curvature}: {}", report.statement);
            }
            if options.layers {
                report.summary.extend(layers(task, observer)?);
            }
        }
        let point = Point { objective, theta, gradient: &gradient, preconditioner };
        point.slices(options, report, observer)
    }
}

/// Where slices start.
struct Point<'a> {
    objective: &'a Objective<'a>,
    theta: &'a Tensor,
    gradient: &'a GradientReport,
    preconditioner: Option<&'a Preconditioner>,
}

impl Point<'_> {
    fn slices(
        &self,
        options: &AnalysisOptions,
        report: &mut AnalysisReport,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Self { objective, theta, gradient, preconditioner } = *self;
        let num_points = options.slice_points;
        if let Some(spectrum) = report.spectra.first().filter(|_| num_points > 0) {
            let norm = theta.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
            let top = &spectrum.top;
            let ranges = options.scope.resolve(objective.network().space())?;
            let task = Task { objective, theta, curvature: spectrum.operator, options, preconditioner };
            for (index, &curvature) in top.ritz_values.clone().iter().enumerate() {
                let direction = extend(&top.vectors.narrow(0, index, 1)?, &ranges, theta.dims()[0])?;
                let direction = task.scaled(&direction)?.squeeze(0)?;
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
}

/// How far to follow an eigenvector: until the parabola has risen by the loss itself (at least 0.5), but at most half of
/// `‖θ‖`.
pub(crate) fn reach(curvature: f64, loss: f64, norm: f64) -> f64 {
    let rise = loss.abs().max(0.5);
    (2.0 * rise / curvature.abs()).sqrt().min(0.5 * norm.max(1e-3))
}
