//! A minimum with its rows, where losses and gradients are asked for at perturbed weights.

use candle_core::{DType, Device, Tensor};

use crate::objective::Objective;
use crate::program::ProgramError;
use crate::{Error, Observer, Result};

/// The objective at a fixed `θ`, and what it has cost.
pub(super) struct Point<'a> {
    pub(super) objective: &'a Objective<'a>,
    /// `[n]`.
    pub(super) theta: &'a [f64],
    /// `s` of a perturbation `s ⊙ δ`, `[n]`.
    pub(super) units: &'a [f64],
    pub(super) num_gradients: usize,
    pub(super) num_evaluations: usize,
}

impl<'a> Point<'a> {
    pub(super) fn new(objective: &'a Objective<'a>, theta: &'a [f64], units: &'a [f64]) -> Self {
        Self { objective, theta, units, num_gradients: 0, num_evaluations: 0 }
    }

    /// Number of parameters.
    pub(super) fn dim(&self) -> usize {
        self.theta.len()
    }

    /// `θ + s ⊙ δ`, summed in f64.
    fn moved(&self, delta: &[f64]) -> Result<Tensor> {
        let values: Vec<f64> =
            self.theta.iter().zip(self.units).zip(delta).map(|((theta, unit), delta)| theta + unit * delta).collect();
        self.objective.place(&Tensor::from_vec(values, self.theta.len(), &Device::Cpu)?)
    }

    /// The mean loss there; infinite where it overflows.
    pub(super) fn loss(&mut self, delta: &[f64], observer: &mut dyn Observer) -> Result<f64> {
        self.num_evaluations += 1;
        let evaluated = self.objective.evaluate(&self.moved(delta)?, observer);
        finite(evaluated.map(|evaluation| evaluation.loss))
    }

    /// Losses of the rows there.
    pub(super) fn row_losses(&mut self, delta: &[f64], observer: &mut dyn Observer) -> Result<Vec<f64>> {
        self.num_evaluations += 1;
        self.objective.row_losses(&self.moved(delta)?, observer)
    }

    /// Weights of the rows in the mean.
    pub(super) fn row_weights(&self) -> Result<Vec<f64>> {
        self.objective.row_weights()
    }

    /// The mean loss there and its gradient in `δ`, `s ⊙ ∇L`; `None` where the loss overflows.
    pub(super) fn gradient(&mut self, delta: &[f64], observer: &mut dyn Observer) -> Result<Option<(f64, Vec<f64>)>> {
        self.num_gradients += 1;
        let report = match self.objective.gradient(&self.moved(delta)?, observer) {
            Ok(report) => report,
            Err(Error::Program(ProgramError::NonFinite { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        let gradient = report.gradient.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let gradient = gradient.iter().zip(self.units).map(|(slope, unit)| slope * unit).collect();
        Ok(Some((report.evaluation.loss, gradient)))
    }
}

fn finite(loss: Result<f64>) -> Result<f64> {
    match loss {
        Err(Error::Program(ProgramError::NonFinite { .. })) => Ok(f64::INFINITY),
        other => other,
    }
}
