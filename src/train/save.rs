//! What a finished run leaves in its folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{EpochMetrics, TrainOutcome, TrainStop, evaluate, metrics, track};
use crate::Result;
use crate::checkpoint::{ARCH_KEY, DATA_KEY, OPTIMIZER_FILE, TRAIN_KEY, VERSION_KEY, write_checkpoint};
use crate::data::DataSpec;
use crate::files::make_folder;
use crate::plan::NormStatistics;
use crate::report::figures::{Style, Target, TrackedCurve, TrainingCurve, write_tracked, write_training_curves};
use crate::report::tables::write_table;
use crate::vocabulary::Quantity;

/// Creates `folder`, writes these files into it, each atomically, and returns their paths, the checkpoint first:
///
/// - `checkpoint.safetensors`, and `best`, `ema` and `swa.safetensors` where there are such weights;
/// - `optimizer.safetensors`, the second moments that belong to the checkpoint, where AdamW took the steps;
/// - `metrics.parquet` (a row per epoch), `evaluations.parquet` (a row per final weights, statistics and split),
///   `curvature.parquet` (a row per tracked number);
/// - `figures/training.*`, and `figures/curvature.*` where something was tracked, in the given `style`, with captions.
///
/// `spec` is the specification of the training rows. No file contains times: equal runs give equal bytes.
///
/// # Errors
/// [`crate::report::ReportError`] of the first file that fails; the files before it stay.
pub fn save(outcome: &TrainOutcome, spec: &DataSpec, folder: &Path, style: Style) -> Result<Vec<PathBuf>> {
    let figures = folder.join("figures");
    make_folder(&figures)?;
    let spec = json!(spec.resolved());
    let mut paths = Vec::new();
    let last = [("checkpoint", &outcome.network, &outcome.theta)].into_iter();
    for (name, network, theta) in
        last.chain(outcome.others.iter().map(|(name, network, theta)| (*name, network, theta)))
    {
        let path = folder.join(format!("{name}.safetensors"));
        write_checkpoint(&path, network, theta, &metadata(outcome, name, &spec))?;
        paths.push(path);
    }
    if let Some(moments) = &outcome.moments {
        let path = folder.join(OPTIMIZER_FILE);
        moments.write(&path, &paths[0])?;
        paths.push(path);
    }
    let configuration = json!({
        "train": outcome.config,
        "architecture": outcome.network.about.name,
        "data": spec,
        "data_sha256": outcome.data_sha256,
    });
    let tables = [
        ("metrics", metrics::columns(&outcome.epochs)),
        ("evaluations", evaluate::columns(&outcome.evaluations)),
        ("curvature", track::columns(&outcome.tracked)),
    ];
    for (name, columns) in tables {
        let path = folder.join(format!("{name}.parquet"));
        write_table(&path, &columns, &configuration)?;
        paths.push(path);
    }
    let target = Target::new(&figures, style);
    let mut drawn = write_training_curves(&[outcome.curve()], &outcome.statement(), target)?;
    drawn.extend(write_tracked(&outcome.tracked_curves(), &outcome.statement(), target)?);
    paths.extend(drawn.finish(&figures)?);
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
            train_loss: list(|metrics| metrics.train.loss),
            test_loss: list(|metrics| metrics.test.loss),
            train_accuracy: list(|metrics| metrics.train.accuracy),
            test_accuracy: list(|metrics| metrics.test.accuracy),
        }
    }

    /// The tracked numbers over the epochs, for a figure, and the threshold over the steps.
    pub fn tracked_curves(&self) -> Vec<TrackedCurve> {
        let mut curves: Vec<TrackedCurve> = Vec::new();
        for row in self.tracked.iter().filter(|row| row.quantity != Quantity::StabilityThreshold) {
            let point = (row.epoch as f64, row.value, row.std_err_data);
            let is_its_own =
                |curve: &&mut TrackedCurve| curve.quantity == row.quantity && curve.operator == row.operator;
            match curves.iter_mut().find(is_its_own) {
                Some(curve) => curve.points.push(point),
                None => {
                    let (operator, quantity) = (row.operator, row.quantity.clone());
                    curves.push(TrackedCurve { operator, quantity, points: vec![point] });
                }
            }
        }
        curves.extend(self.threshold_curve());
        curves
    }

    /// The temperature of Langevin noise in both conventions, for `run.json`; null where there is none.
    pub fn temperature(&self) -> serde_json::Value {
        let Some(temperature) = self.config.optimizer.for_rows(self.num_rows).temperature() else {
            return serde_json::Value::Null;
        };
        let (beta_inverse, t) = (temperature.beta_inverse(), temperature.of_posterior(self.num_rows));
        json!({"beta_inverse": beta_inverse, "posterior": t, "rows": self.num_rows})
    }

    /// How it was trained, in one line for captions.
    pub fn statement(&self) -> String {
        let config = &self.config;
        let loss = config.loss.as_ref().map_or(String::new(), |loss| format!("{}, ", loss.describe()));
        format!(
            "{} · {loss}{}, learning rate {}, batch {}, weight decay {}, seed {}",
            self.network.about.name,
            config.optimizer.name(),
            config.learning_rate,
            config.batch_size,
            config.weight_decay,
            config.seed,
        )
    }
}

fn metadata(outcome: &TrainOutcome, weights: &str, spec: &serde_json::Value) -> BTreeMap<String, String> {
    let training = json!({
        "config": outcome.config,
        "weights": if weights == "checkpoint" { "last" } else { weights },
        "norm_statistics": if outcome.running_statistics { NormStatistics::Running } else { NormStatistics::Reestimated },
        "metrics": outcome.epochs.last(),
        "interrupted": outcome.stop != TrainStop::Finished,
        "data_sha256": outcome.data_sha256,
    });
    let entries = [
        (ARCH_KEY, outcome.network.about.description.clone()),
        (DATA_KEY, spec.to_string()),
        (TRAIN_KEY, training.to_string()),
        (VERSION_KEY, env!("CARGO_PKG_VERSION").to_owned()),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
