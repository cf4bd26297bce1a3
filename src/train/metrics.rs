//! What is measured in each epoch.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::data::{Dataset, Targets};
use crate::objective::Evaluation;
use crate::program::ClassScores;
use crate::report::tables::Column;

/// Loss and what the outputs say about classes; NaN where the targets are not classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Mean loss, label smoothing included, weight decay not.
    pub loss: f64,
    /// In 0..=1.
    pub accuracy: f64,
    /// Mean negative log-likelihood in nats: the loss without label smoothing.
    pub nll: f64,
    /// See [`ClassScores::calibration_error`].
    pub calibration_error: f64,
}

impl Scores {
    /// Nothing is known.
    pub const NONE: Self = Self { loss: f64::NAN, accuracy: f64::NAN, nll: f64::NAN, calibration_error: f64::NAN };

    pub(super) fn new(evaluation: &Evaluation, classes: Option<&ClassScores>) -> Self {
        Self {
            loss: evaluation.loss,
            accuracy: evaluation.accuracy,
            nll: classes.map_or(f64::NAN, ClassScores::nll),
            calibration_error: classes.map_or(f64::NAN, ClassScores::calibration_error),
        }
    }
}

/// Predictions against labels that are known to be clean; NaN where none are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanScores {
    /// Share of the rows whose clean label is predicted.
    pub clean_accuracy: f64,
    /// Share of the wrongly labelled rows whose wrong label is predicted: what the network has memorised.
    pub wrong_fitted: f64,
}

impl CleanScores {
    /// Nothing is known.
    pub const NONE: Self = Self { clean_accuracy: f64::NAN, wrong_fitted: f64::NAN };

    /// Of predictions for rows of `data`.
    pub(super) fn new(data: &Dataset, classes: Option<&ClassScores>) -> Self {
        let (Some(classes), Some(clean), Targets::Classes { labels, .. }) =
            (classes, &data.clean_labels, &data.targets)
        else {
            return Self::NONE;
        };
        let known =
            classes.predicted.iter().filter_map(|&(row, class)| Some((class, *clean.get(row)?, *labels.get(row)?)));
        let (mut rows, mut right, mut wrong, mut fitted) = (0usize, 0usize, 0usize, 0usize);
        for (predicted, clean, label) in known {
            rows += 1;
            right += usize::from(predicted == clean);
            wrong += usize::from(label != clean);
            fitted += usize::from(label != clean && predicted == label);
        }
        Self { clean_accuracy: right as f64 / rows as f64, wrong_fitted: fitted as f64 / wrong as f64 }
    }
}

/// The numbers of one epoch. Those on the training rows are means over the steps of the epoch, each at the parameters
/// of its step, in training mode and for fSGLD at the perturbed parameters. Those on the test rows are measured after
/// the epoch, in evaluation mode with the running statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: usize,
    /// Steps since the start.
    pub step: usize,
    /// Of the epoch's last step.
    pub learning_rate: f64,
    /// On the training rows, with the labels trained on.
    pub train: Scores,
    /// On the training rows, with the clean labels.
    pub clean: CleanScores,
    /// On the test rows.
    pub test: Scores,
    /// Mean over the steps of the norm of the gradient, before clipping and without weight decay.
    pub gradient_norm: f64,
    /// `‖θ‖` after the epoch.
    pub weight_norm: f64,
}

impl EpochMetrics {
    /// Names of the columns, in the order of [`EpochMetrics::values`].
    pub const COLUMNS: [&str; 15] = [
        "epoch",
        "step",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "train_nll",
        "train_calibration_error",
        "train_clean_accuracy",
        "train_wrong_fitted",
        "test_loss",
        "test_accuracy",
        "test_nll",
        "test_calibration_error",
        "gradient_norm",
        "weight_norm",
    ];

    /// Everything as numbers.
    pub fn values(&self) -> [f64; 15] {
        let (train, clean, test) = (&self.train, &self.clean, &self.test);
        [
            self.epoch as f64,
            self.step as f64,
            self.learning_rate,
            train.loss,
            train.accuracy,
            train.nll,
            train.calibration_error,
            clean.clean_accuracy,
            clean.wrong_fitted,
            test.loss,
            test.accuracy,
            test.nll,
            test.calibration_error,
            self.gradient_norm,
            self.weight_norm,
        ]
    }

    /// The inverse of [`EpochMetrics::values`].
    pub(super) fn from_values(values: [f64; 15]) -> Self {
        let [
            epoch,
            step,
            learning_rate,
            train_loss,
            train_accuracy,
            train_nll,
            train_error,
            clean_accuracy,
            wrong_fitted,
            test_loss,
            test_accuracy,
            test_nll,
            test_error,
            gradient_norm,
            weight_norm,
        ] = values;
        let scores = |loss, accuracy, nll, calibration_error| Scores { loss, accuracy, nll, calibration_error };
        Self {
            epoch: epoch as usize,
            step: step as usize,
            learning_rate,
            train: scores(train_loss, train_accuracy, train_nll, train_error),
            clean: CleanScores { clean_accuracy, wrong_fitted },
            test: scores(test_loss, test_accuracy, test_nll, test_error),
            gradient_norm,
            weight_norm,
        }
    }
}

/// By column, NaN as null.
impl Serialize for EpochMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Self::COLUMNS.len()))?;
        for (index, (name, value)) in Self::COLUMNS.into_iter().zip(self.values()).enumerate() {
            if index < 2 {
                map.serialize_entry(name, &(value as u64))?;
            } else {
                map.serialize_entry(name, &value)?;
            }
        }
        map.end()
    }
}

/// The columns of `metrics.parquet`.
pub(super) fn columns(epochs: &[EpochMetrics]) -> Vec<(&'static str, Column)> {
    let column = |(index, name)| {
        let values = epochs.iter().map(|metrics| metrics.values()[index]);
        let counted = index < 2;
        let column = if counted {
            Column::Count(values.map(|v| v as usize).collect())
        } else {
            Column::Number(values.collect())
        };
        (name, column)
    };
    EpochMetrics::COLUMNS.into_iter().enumerate().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Inputs, TargetBatch};
    use crate::program::{Answers, Loss};
    use candle_core::{Device, Tensor};

    #[test]
    fn values_come_back() {
        let values: [f64; 15] = std::array::from_fn(|index| index as f64 + 1.0);
        let metrics = EpochMetrics::from_values(values);
        assert_eq!(metrics.values(), values);
        assert_eq!((metrics.epoch, metrics.test.nll, metrics.clean.wrong_fitted), (1, 12.0, 9.0));
        let json = serde_json::json!(metrics);
        assert_eq!((&json["epoch"], &json["test_nll"]), (&1.into(), &12.0.into()));
        assert_eq!(columns(&[metrics, metrics]).len(), 15);
    }

    /// Four rows, two of them labelled wrongly; the predictions are 0, 1, 1, 2.
    #[test]
    fn memorised_labels_are_counted_among_the_wrong_ones() {
        let outputs: Vec<f64> = [[1., 0., 0.], [0., 1., 0.], [0., 1., 0.], [0., 0., 1.]].concat();
        let outputs = Tensor::from_vec(outputs, (4, 3), &Device::Cpu).unwrap();
        let labels = vec![0, 1, 2, 2];
        let scores = Answers::read(&Loss::cross_entropy(), &outputs, &TargetBatch::Classes(labels.clone())).unwrap();
        let scores = ClassScores::of(&[0, 1, 2, 3], &scores.unwrap());
        let targets = Targets::Classes { labels, num_classes: 3 };
        let mut data = Dataset::new("test".into(), vec![1], Inputs::Bytes(vec![0; 4]), targets, None).unwrap();
        assert!(CleanScores::new(&data, scores.as_ref()).clean_accuracy.is_nan());
        data.clean_labels = Some(vec![0, 0, 1, 2]);
        let clean = CleanScores::new(&data, scores.as_ref());
        // Rows 1 and 2 are wrong; the network says row 1's wrong label and row 2's clean one.
        assert_eq!(clean, CleanScores { clean_accuracy: 0.75, wrong_fitted: 0.5 });
    }
}
