//! What a finished run leaves in its folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{EpochMetrics, TrainOutcome};
use crate::Result;
use crate::checkpoint::{ARCH_KEY, DATA_KEY, TRAIN_KEY, VERSION_KEY, write_checkpoint};
use crate::data::DataSpec;
use crate::report::ReportError;
use crate::report::figures::{TrainingCurve, write_training_curves};
use crate::report::tables::{Column, write_table};

/// Writes `checkpoint.safetensors`, `metrics.parquet` and `figures/training.*` into `folder`, each file atomically, and
/// makes the folder. Returns the paths, the checkpoint first.
///
/// `spec` is the specification of the training rows. Times are in none of the files: equal runs give equal bytes.
///
/// # Errors
/// [`ReportError`] of the first file that fails; the files before it stay.
pub fn save(outcome: &TrainOutcome, spec: &DataSpec, folder: &Path) -> Result<Vec<PathBuf>> {
    let figures = folder.join("figures");
    std::fs::create_dir_all(&figures).map_err(|source| ReportError::Write { path: figures.clone(), source })?;
    let spec = json!(spec.resolved());
    let checkpoint = folder.join("checkpoint.safetensors");
    write_checkpoint(&checkpoint, &outcome.network, &outcome.theta, &metadata(outcome, &spec))?;
    let metrics = folder.join("metrics.parquet");
    let configuration = json!({
        "train": outcome.config,
        "architecture": outcome.network.architecture.name,
        "data": spec,
        "data_sha256": outcome.data_sha256,
    });
    write_table(&metrics, &columns(&outcome.epochs), &configuration)?;
    let mut paths = vec![checkpoint, metrics];
    paths.extend(write_training_curves(&[outcome.curve()], &outcome.statement(), &figures)?);
    Ok(paths)
}

impl TrainOutcome {
    /// Loss and accuracy over the epochs, for a figure; the test's lists are empty where nothing was evaluated.
    pub fn curve(&self) -> TrainingCurve {
        let list = |value: fn(&EpochMetrics) -> f64| -> Vec<f64> {
            let values: Vec<f64> = self.epochs.iter().map(value).collect();
            if values.iter().all(|value| value.is_nan()) { Vec::new() } else { values }
        };
        TrainingCurve {
            name: self.config.optimizer.name().into(),
            epochs: self.epochs.iter().map(|metrics| metrics.epoch as f64).collect(),
            train_loss: list(|metrics| metrics.train_loss),
            test_loss: list(|metrics| metrics.test_loss),
            train_accuracy: list(|metrics| metrics.train_accuracy),
            test_accuracy: list(|metrics| metrics.test_accuracy),
        }
    }

    /// How it was trained, in one line for captions.
    pub fn statement(&self) -> String {
        let config = &self.config;
        let loss = config.loss.map_or(String::new(), |loss| format!("{}, ", loss.describe()));
        format!(
            "{} · {loss}{}, learning rate {}, batch {}, weight decay {}, seed {}",
            self.network.architecture.name,
            config.optimizer.name(),
            config.learning_rate,
            config.batch_size,
            config.weight_decay,
            config.seed,
        )
    }
}

fn metadata(outcome: &TrainOutcome, spec: &serde_json::Value) -> BTreeMap<String, String> {
    let training = json!({
        "config": outcome.config,
        "metrics": outcome.epochs.last(),
        "interrupted": outcome.interrupted,
        "data_sha256": outcome.data_sha256,
    });
    let entries = [
        (ARCH_KEY, outcome.network.architecture.to_json()),
        (DATA_KEY, spec.to_string()),
        (TRAIN_KEY, training.to_string()),
        (VERSION_KEY, env!("CARGO_PKG_VERSION").to_owned()),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn columns(epochs: &[EpochMetrics]) -> Vec<(&'static str, Column)> {
    let count = |value: fn(&EpochMetrics) -> usize| Column::Count(epochs.iter().map(value).collect());
    let number = |value: fn(&EpochMetrics) -> f64| Column::Number(epochs.iter().map(value).collect());
    vec![
        ("epoch", count(|metrics| metrics.epoch)),
        ("step", count(|metrics| metrics.step)),
        ("learning_rate", number(|metrics| metrics.learning_rate)),
        ("train_loss", number(|metrics| metrics.train_loss)),
        ("train_accuracy", number(|metrics| metrics.train_accuracy)),
        ("test_loss", number(|metrics| metrics.test_loss)),
        ("test_accuracy", number(|metrics| metrics.test_accuracy)),
    ]
}
