//! What is measured row by row: right answers, likelihood, Brier score.

use super::Predictions;
use crate::statistics::Ratio;

/// Predictions beside the labels, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// The label of each row.
    pub labels: Vec<usize>,
    /// The likeliest class.
    pub predicted: Vec<usize>,
    /// Its probability.
    pub confidences: Vec<f64>,
    /// Whether it is the label.
    pub correct: Vec<bool>,
    /// `−log p` of the label.
    pub nll: Vec<f64>,
    /// `Σ_c (p_c − [c = label])²` (Brier 1950): from 0 to 2, with two classes twice what some call the Brier score.
    pub brier: Vec<f64>,
}

impl Rows {
    /// Of predictions for rows with these labels.
    pub fn new(predictions: &Predictions, labels: &[usize]) -> Self {
        let (predicted, confidences): (Vec<usize>, Vec<f64>) = predictions.choices().into_iter().unzip();
        let log = |(row, label): (&[f64], &usize)| row.get(*label).map_or(f64::NAN, |log| -log);
        let brier = |(row, label): (&[f64], &usize)| {
            let term = |(class, log): (usize, &f64)| (log.exp() - f64::from(u8::from(class == *label))).powi(2);
            row.iter().enumerate().map(term).sum()
        };
        Self {
            correct: predicted.iter().zip(labels).map(|(predicted, label)| predicted == label).collect(),
            nll: predictions.rows().zip(labels).map(log).collect(),
            brier: predictions.rows().zip(labels).map(brier).collect(),
            labels: labels.to_vec(),
            predicted,
            confidences,
        }
    }

    /// Right answers, as numbers.
    pub(super) fn hits(&self) -> Vec<f64> {
        self.correct.iter().map(|correct| f64::from(u8::from(*correct))).collect()
    }
}

/// The mean and its standard error over the rows.
pub(super) fn mean(values: &[f64]) -> (f64, f64) {
    let sum = values.iter().fold(Ratio::default(), |sum, value| sum.merge(Ratio::of(*value, 1.0)));
    (sum.value(), sum.std_err())
}
