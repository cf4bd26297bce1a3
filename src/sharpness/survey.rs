//! All measures at one minimum.

use candle_core::{DType, Tensor};

use super::average::{Rise, average};
use super::critical::{Update, critical};
use super::norms::{fisher_rao, relative_flatness};
use super::pac_bayes::width;
use super::point::Point;
use super::worst::{Within, Worst, worst};
use crate::curvature::{ExactParams, Preconditioner};
use crate::data::{Dataset, Targets};
use crate::objective::Objective;
use crate::plan::{AverageParams, SharpnessOptions};
use crate::program::{LayerNorm, Loss, Network};
use crate::statistics::Sample;
use crate::vocabulary::{Ball, Direction, Logits, Method, Quantity, Scaling, Sharpness, SummaryRow};
use crate::{Error, Observer, Result, Step};

/// One measure.
#[derive(Debug, Clone, PartialEq)]
pub struct SharpnessRow {
    /// Which measure.
    pub quantity: Sharpness,
    /// Rows that each maximum is for.
    pub batch_size: usize,
    /// The measure.
    pub value: f64,
    /// Standard error of the computation; of a worst case, the spread over restarts.
    pub std_err_numeric: f64,
    /// Standard error from the choice of rows; NaN where unknown.
    pub std_err_data: f64,
    /// How it was found; [`Method::Ascent`] gives a lower bound.
    pub method: Method,
    /// Whether the computation met its tolerance.
    pub converged: bool,
    /// Gradients over the rows that it took.
    pub num_gradients: usize,
    /// Further passes over the rows.
    pub num_evaluations: usize,
    /// Whether comparisons take it, among the many that differ in the radius alone.
    pub is_headline: bool,
    /// Why there is no value, but a bound or nothing; empty where there is one.
    pub reason: String,
}

impl SharpnessRow {
    /// As a headline number, whose name says everything else.
    pub fn summary(&self) -> SummaryRow {
        SummaryRow {
            std_err_numeric: self.std_err_numeric,
            std_err_data: self.std_err_data,
            method: self.method,
            converged: self.converged,
            ..SummaryRow::exact(Quantity::Sharpness(self.quantity), self.value)
        }
    }
}

/// All measures, and how they were defined.
#[derive(Debug, Clone)]
pub struct SharpnessReport {
    /// In a fixed order.
    pub rows: Vec<SharpnessRow>,
}

/// What is measured.
#[derive(Clone, Copy)]
pub struct Minimum<'a> {
    /// The loss over the rows.
    pub objective: &'a Objective<'a>,
    /// The parameters, `[n]`.
    pub theta: &'a Tensor,
    /// The rows of the objective.
    pub data: &'a Dataset,
    /// Of Adam: critical sharpness along its steps, too.
    pub preconditioner: Option<&'a Preconditioner>,
}

/// The parts of a survey.
struct Survey<'a> {
    objective: &'a Objective<'a>,
    theta: Vec<f64>,
    options: &'a SharpnessOptions,
    rows: Vec<SharpnessRow>,
}

/// Measures everything at a minimum. Cost: with the default options about
/// 200 gradients, 1000 passes and 17 products over the rows.
///
/// # Errors
/// A loss at `theta` that is not finite; an interruption.
pub fn survey(
    minimum: Minimum<'_>,
    options: &SharpnessOptions,
    observer: &mut dyn Observer,
) -> Result<SharpnessReport> {
    let Minimum { objective, theta, data, preconditioner } = minimum;
    let theta = theta.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let mut survey = Survey { objective, theta, options, rows: Vec::new() };
    survey.averages(objective, Logits::Raw, observer)?;
    survey.worst_cases(data, objective.network(), Logits::Raw, observer)?;
    let logits_of_a_row = match &data.targets {
        Targets::Classes { .. } => true,
        Targets::Tokens { sample_shape, .. } => sample_shape.is_empty(),
        Targets::Values { sample_shape, .. } => sample_shape.len() == 1,
    };
    if matches!(objective.options().loss, Loss::CrossEntropy(_)) && logits_of_a_row {
        let network = normalised(objective)?;
        let other = Objective::new(&network, data, objective.options().clone())?;
        survey.averages(&other, Logits::Normalised, observer)?;
        survey.worst_cases(data, &network, Logits::Normalised, observer)?;
    }
    survey.widths(observer)?;
    survey.critical(preconditioner, observer)?;
    survey.norms(observer)?;
    Ok(SharpnessReport { rows: survey.rows })
}

/// The same network with logits divided by their standard deviation in each row: a layer norm without weights, whose shift
/// the softmax does not see.
fn normalised(objective: &Objective<'_>) -> Result<Network> {
    let network = objective.network();
    let norm = LayerNorm { normalized_shape: [objective.cost().outputs], eps: 1e-12 };
    let program = network.program().clone().then(norm.into(), "normalised");
    Ok(Network::new(program, network.buffers().clone(), network.about.clone())?)
}

impl Survey<'_> {
    fn units(&self, scaling: Scaling) -> Vec<f64> {
        scaling.units(self.objective.network().space(), &self.theta)
    }

    fn put(&mut self, row: SharpnessRow, observer: &mut dyn Observer) -> Result<()> {
        self.rows.push(row);
        let step = Step { task: "sharpness", done: self.rows.len(), total: 40, message: String::new() };
        if observer.on_step(&step).is_break() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn row(&self, quantity: Sharpness, rise: Rise) -> SharpnessRow {
        SharpnessRow {
            quantity,
            batch_size: self.objective.num_rows(),
            value: rise.value,
            std_err_numeric: rise.std_err_numeric,
            std_err_data: rise.std_err_data,
            method: Method::Product,
            converged: rise.value.is_finite(),
            num_gradients: 0,
            num_evaluations: 0,
            is_headline: true,
            reason: String::new(),
        }
    }

    fn averages(&mut self, objective: &Objective<'_>, logits: Logits, observer: &mut dyn Observer) -> Result<()> {
        let AverageParams { sigmas, relative_sigmas, pairs } = &self.options.average;
        let diagonal = self.diagonal(logits, observer)?;
        for scaling in Scaling::ALL {
            // The raw form at every σ; the normalised one relative to the weights alone, at the middle σ.
            let sigmas = if scaling == Scaling::None { sigmas } else { relative_sigmas };
            let middle = sigmas.get(sigmas.len() / 2).copied();
            let units = self.units(scaling);
            let trace = diagonal.as_ref().map(|d| d.iter().zip(&units).map(|(d, s)| d * s * s).sum::<f64>());
            for &sigma in sigmas {
                let is_middle = Some(sigma) == middle;
                if logits == Logits::Normalised && !(scaling == Scaling::Element && is_middle) {
                    continue;
                }
                let mut point = Point::new(objective, &self.theta, &units);
                let rise = average(&mut point, sigma, *pairs, self.options.seed, observer)?;
                let num_evaluations = point.num_evaluations;
                let row = SharpnessRow {
                    method: Method::AntitheticPairs,
                    num_evaluations,
                    is_headline: is_middle && scaling != Scaling::Filter && logits == Logits::Raw,
                    ..self.row(Sharpness::Average { scaling, logits, sigma }, rise)
                };
                let ratio = trace
                    .map(|trace| row.over(0.5 * sigma * sigma * trace, Sharpness::AverageRatio { scaling, sigma }));
                self.put(row, observer)?;
                if let Some(ratio) = ratio {
                    self.put(ratio, observer)?;
                }
            }
        }
        Ok(())
    }

    /// The diagonal of the Hessian where it is known exactly.
    fn diagonal(&self, logits: Logits, observer: &mut dyn Observer) -> Result<Option<Vec<f64>>> {
        if logits != Logits::Raw || !self.objective.diagonal_is_hessian() {
            return Ok(None);
        }
        let theta = Tensor::from_vec(self.theta.clone(), self.theta.len(), &candle_core::Device::Cpu)?;
        let diagonal =
            self.objective.exact_diagonal(&self.objective.place(&theta)?, &ExactParams::default(), observer)?;
        Ok(Some(diagonal.to_dtype(DType::F64)?.to_vec1::<f64>()?))
    }

    fn worst_cases(
        &mut self,
        data: &Dataset,
        network: &Network,
        logits: Logits,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let batch = self.options.batch.unwrap_or(data.len()).clamp(1, data.len().max(1));
        let rows: Vec<usize> = (0..data.len() / batch * batch).collect();
        let parts: Vec<Dataset> = rows.chunks(batch).map(|rows| data.select(rows)).collect::<Result<_, _>>()?;
        let options = self.objective.options();
        let objectives: Vec<Objective<'_>> =
            parts.iter().map(|part| Objective::new(network, part, options.clone())).collect::<Result<_>>()?;
        for (ball, radii) in [(Ball::L2, self.options.worst.l2), (Ball::Linf, self.options.worst.linf)] {
            for (scaling, radius) in Scaling::ALL.into_iter().zip(radii) {
                if logits == Logits::Normalised && scaling != Scaling::Element {
                    continue;
                }
                let row = self.worst_case(&objectives, Within { ball, radius }, scaling, logits, observer)?;
                self.put(row, observer)?;
            }
        }
        Ok(())
    }

    fn worst_case(
        &self,
        objectives: &[Objective<'_>],
        within: Within,
        scaling: Scaling,
        logits: Logits,
        observer: &mut dyn Observer,
    ) -> Result<SharpnessRow> {
        let (units, Within { ball, radius }) = (self.units(scaling), within);
        let (mut found, mut num_gradients, mut num_evaluations) = (Vec::<Worst>::new(), 0, 0);
        for objective in objectives {
            let mut point = Point::new(objective, &self.theta, &units);
            found.push(worst(&mut point, within, &self.options.worst, self.options.seed, observer)?);
            num_gradients += point.num_gradients;
            num_evaluations += point.num_evaluations;
        }
        let rises = Sample::of(&found.iter().map(|worst| worst.rise).collect::<Vec<_>>());
        let count = found.len() as f64;
        let spread = found.iter().map(|worst| worst.spread.powi(2)).sum::<f64>().sqrt() / count;
        // One maximum over all rows has no spread over them: its data error stays unknown.
        let std_err_data = if found.len() > 1 { rises.std_err() } else { f64::NAN };
        let rise = Rise { value: rises.mean, std_err_numeric: spread, std_err_data };
        // Passes over a batch count for their share of the rows.
        let share = |count: usize| count.div_ceil(objectives.len().max(1));
        Ok(SharpnessRow {
            batch_size: objectives.first().map_or(0, Objective::num_rows),
            method: Method::Ascent,
            converged: found.iter().all(|worst| worst.converged),
            num_gradients: share(num_gradients),
            num_evaluations: share(num_evaluations),
            is_headline: ball == Ball::L2 || scaling != Scaling::Filter && logits == Logits::Raw,
            ..self.row(Sharpness::WorstCase { ball, scaling, logits, rho: radius }, rise)
        })
    }

    fn widths(&mut self, observer: &mut dyn Observer) -> Result<()> {
        for scaling in Scaling::ALL {
            let units = self.units(scaling);
            let mut point = Point::new(self.objective, &self.theta, &units);
            let found = width(&mut point, &self.options.pac_bayes, self.options.seed, observer)?;
            let num_evaluations = point.num_evaluations;
            let rise = Rise { value: found.sigma, std_err_numeric: found.std_err, std_err_data: f64::NAN };
            let row = SharpnessRow {
                method: Method::Bisection,
                converged: found.converged,
                num_evaluations,
                is_headline: scaling != Scaling::Filter,
                ..self.row(Sharpness::PacBayes { scaling }, rise)
            };
            self.put(row, observer)?;
        }
        Ok(())
    }

    fn critical(&mut self, preconditioner: Option<&Preconditioner>, observer: &mut dyn Observer) -> Result<()> {
        let units = self.units(Scaling::None);
        let mut point = Point::new(self.objective, &self.theta, &units);
        let gradient = point.gradient(&vec![0.0; self.theta.len()], observer)?.map(|(_, gradient)| gradient);
        let gradient = gradient.unwrap_or_default();
        let mut updates = vec![(Direction::Gradient, gradient.clone())];
        if let Some(preconditioner) = preconditioner {
            updates.push((Direction::Adam, preconditioner.direction(&gradient)?));
        }
        let mut rows = Vec::new();
        for (direction, update) in updates {
            let slope = gradient.iter().zip(&update).map(|(slope, update)| slope * update).sum();
            let before = point.num_evaluations;
            let found = critical(&mut point, Update { direction: &update, slope }, observer)?;
            rows.push(SharpnessRow {
                method: Method::Bisection,
                converged: found.converged,
                num_gradients: point.num_gradients,
                num_evaluations: point.num_evaluations - before,
                reason: found.reason,
                ..self.row(Sharpness::Critical { direction }, found.sharpness)
            });
        }
        rows.into_iter().try_for_each(|row| self.put(row, observer))
    }

    fn norms(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let rise = fisher_rao(self.objective, &self.theta, observer)?;
        self.put(self.row(Sharpness::FisherRao, rise), observer)?;
        let SharpnessOptions { probes, seed, .. } = *self.options;
        let Some(rise) = relative_flatness(self.objective, &self.theta, probes, seed, observer)? else {
            return Ok(());
        };
        let converged = rise.std_err_numeric <= 0.1 * rise.value.abs();
        let row =
            SharpnessRow { method: Method::RandomSigns, converged, ..self.row(Sharpness::RelativeFlatness, rise) };
        self.put(row, observer)
    }
}

impl SharpnessRow {
    /// An average rise over what curvature alone makes of it.
    fn over(&self, expected: f64, quantity: Sharpness) -> Self {
        Self {
            quantity,
            value: self.value / expected,
            std_err_numeric: self.std_err_numeric / expected.abs(),
            // Both sides see the same rows.
            std_err_data: f64::NAN,
            is_headline: false,
            ..self.clone()
        }
    }
}
