//! From networks and rows to predictions: one pass of each model over all rows.

use candle_core::Tensor;

use super::scores::mean;
use super::{Average, EvaluationError, Predictions, Rows, equal_width, expected_error};
use crate::data::Dataset;
use crate::objective::{Objective, ObjectiveOptions};
use crate::program::Network;
use crate::{Error, Observer, Result, Step};

/// A network with its weights.
pub struct Model {
    /// For tables and messages.
    pub name: String,
    /// The network and its statistics.
    pub network: Network,
    /// All parameters, `[n]`.
    pub theta: Tensor,
}

/// What one model does by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelScores {
    /// Its name.
    pub name: String,
    /// Share of the rows whose label it predicts.
    pub accuracy: f64,
    /// Mean negative log-likelihood.
    pub nll: f64,
    /// Mean Brier score.
    pub brier: f64,
    /// Expected calibration error over bins of equal width.
    pub calibration_error: f64,
}

/// Predictions of the average of some models.
#[derive(Debug, Clone)]
pub struct Predicted {
    /// For the rows with a label.
    pub inside: Predictions,
    /// These labels.
    pub labels: Vec<usize>,
    /// Positions of these rows among all.
    pub positions: Vec<usize>,
    /// For each set of other rows.
    pub outside: Vec<Predictions>,
    /// In the order in which they were added.
    pub models: Vec<ModelScores>,
}

/// Outputs of one model for the rows of a data set.
struct Outputs {
    classes: usize,
    values: Vec<f64>,
    labels: Vec<Option<usize>>,
}

/// Adds up the predictions of `models` for `data` and for the sets `outside`, whose labels do not count. One model is in
/// memory at a time. Cost: a forward pass of each over all rows.
///
/// # Errors
/// [`EvaluationError`]; rows that do not fit a network; an interruption.
pub fn predict(
    models: impl Iterator<Item = Result<Model>>,
    (data, outside): (&Dataset, &[Dataset]),
    options: &ObjectiveOptions,
    observer: &mut dyn Observer,
) -> Result<Predicted> {
    let mut sums: Vec<Average> = Vec::new();
    let (mut labels, mut positions, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for model in models {
        let model = model?;
        for (place, set) in std::iter::once(data).chain(outside).enumerate() {
            let mut found = outputs(&model, set, options, observer)?;
            if place == 0 {
                (positions, labels) =
                    found.labels.iter().enumerate().filter_map(|(row, label)| Some((row, (*label)?))).unzip();
                found.values = positions.iter().flat_map(|row| found.row(*row)).copied().collect();
                scores.push(ModelScores::new(&model.name, &found, &labels));
            }
            match sums.get_mut(place) {
                None => {
                    let mut sum = Average::new(found.classes);
                    sum.add(&found.values);
                    sums.push(sum);
                }
                Some(sum) if sum.classes() == found.classes => sum.add(&found.values),
                Some(sum) => {
                    let (model, got, expected) = (model.name, found.classes, sum.classes());
                    return Err(EvaluationError::OtherClasses { model, got, expected }.into());
                }
            }
        }
        let step = Step { task: "evaluating", done: scores.len(), total: scores.len(), message: model.name };
        if observer.on_step(&step).is_break() {
            return Err(Error::Interrupted);
        }
    }
    if labels.is_empty() {
        return Err(EvaluationError::NoLabels.into());
    }
    let mut finished = sums.into_iter().map(Average::finish);
    let inside = finished.next().ok_or(EvaluationError::NoLabels)?;
    Ok(Predicted { inside, labels, positions, outside: finished.collect(), models: scores })
}

/// The outputs of `model` for all rows of `data`.
fn outputs(model: &Model, data: &Dataset, options: &ObjectiveOptions, observer: &mut dyn Observer) -> Result<Outputs> {
    let objective = Objective::new(&model.network, data, options.clone())?;
    let found = objective.class_outputs(&model.theta, observer)?;
    let found = found.ok_or_else(|| {
        let what = format!("the loss is {} and the outputs are not classes of such labels", options.loss.describe());
        EvaluationError::NoClasses { what }
    })?;
    if let Some(place) = found.outputs.iter().position(|value| !value.is_finite()) {
        let (model, row) = (model.name.clone(), place / found.classes.max(1));
        return Err(EvaluationError::NonFinite { model, row }.into());
    }
    Ok(Outputs { classes: found.classes, values: found.outputs, labels: found.labels })
}

impl Outputs {
    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.classes..(row + 1) * self.classes]
    }
}

impl ModelScores {
    fn new(name: &str, outputs: &Outputs, labels: &[usize]) -> Self {
        let mut alone = Average::new(outputs.classes);
        alone.add(&outputs.values);
        let rows = Rows::new(&alone.finish(), labels);
        let sure = rows.confidences.iter().zip(&rows.correct).map(|(confidence, correct)| (*confidence, *correct, 1.0));
        Self {
            name: name.into(),
            accuracy: mean(&rows.hits()).0,
            nll: mean(&rows.nll).0,
            brier: mean(&rows.brier).0,
            calibration_error: expected_error(&equal_width(sure)),
        }
    }
}
