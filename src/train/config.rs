//! The settings of a training run.

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use super::Track;
use crate::Result;
use crate::data::{Augmentation, Dataset, EpochPlan};
use crate::objective::{Execution, ObjectiveOptions};
use crate::optim::{Decay, OptimizerConfig, Schedule, SettingError};
use crate::program::{BatchNormMode, Loss};
use crate::words::words;

/// Dtype of parameters, activations and gradients; sums over rows are f64 in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Double precision.
    F64,
}

impl Precision {
    /// candle's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}

/// Which statistics of batch normalisation are saved with the final weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormStatistics {
    /// Re-estimated at the final weights: the running averages describe earlier weights, and with fSGLD and RWP
    /// perturbed ones.
    #[default]
    Reestimated,
    /// The running averages of training.
    Running,
}

words!(NormStatistics, "statistics of batch normalisation": Reestimated "reestimated", Running "running");

/// How to train. Everything except `execution` affects the result and is stored in the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Dtype of parameters and activations.
    pub dtype: Precision,
    /// Passes over the training rows; 0 keeps the initial weights.
    pub epochs: usize,
    /// Rows per step; the last batch of an epoch may have fewer.
    pub batch_size: usize,
    /// Seed of initial weights, order of rows, dropout and the optimiser's noise.
    pub seed: u64,
    /// Method and its settings.
    pub optimizer: OptimizerConfig,
    /// `λ`, before the schedule's factor.
    pub learning_rate: f64,
    /// Factor on `λ` over the run.
    pub schedule: Schedule,
    /// `wd` of `wd/2 ‖θ‖²`. It is part of the step, but not of the reported losses.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decay: Decay,
    /// Largest norm of a gradient; a longer one is scaled down to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Random changes of the training images, drawn afresh in each epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
    /// Names of the tensors that are trained, with `*` and `?`; the others keep their initial values. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub train_only: Vec<String>,
    /// `d` of an exponential moving average of the parameters, `m ← d m + (1 − d) θ` after each step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// First epoch whose parameters enter the equal-weight average (Izmailov et al. 2018).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swa_from: Option<usize>,
    /// Which statistics of batch normalisation the checkpoint carries.
    pub norm_statistics: NormStatistics,
    /// Epochs between two evaluations on the test rows; the last epoch is always evaluated.
    pub evaluate_every: usize,
    /// Curvature to measure during training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// Epochs between two measurements of the curvature.
    pub track_every: usize,
    /// The most training rows on which curvature is measured.
    pub track_rows: usize,
    /// Epochs between two checkpoints kept during training, counted from the start, which is kept too; `None` keeps
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<usize>,
    /// Loss of one sample; `None`: the architecture's, else cross-entropy for classes and squared error for values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Threads and memory.
    #[serde(skip)]
    pub execution: Execution,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            dtype: Precision::F32,
            epochs: 10,
            batch_size: 64,
            seed: 0,
            optimizer: OptimizerConfig::default(),
            learning_rate: 0.05,
            schedule: Schedule::cosine(),
            weight_decay: 5e-4,
            decay: Decay::All,
            clip_norm: None,
            augmentation: None,
            train_only: Vec::new(),
            ema: None,
            swa_from: None,
            norm_statistics: NormStatistics::Reestimated,
            evaluate_every: 1,
            track: None,
            track_every: 1,
            track_rows: 500,
            snapshots: None,
            loss: None,
            execution: Execution::default(),
        }
    }
}

impl TrainConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`SettingError`] for the first one out of its range.
    pub fn check(&self) -> Result<()> {
        let (rate, decay) = (self.learning_rate, self.weight_decay);
        SettingError::unless(self.batch_size > 0, "batch_size", self.batch_size as f64, "1 or more")?;
        SettingError::unless(rate > 0.0 && rate.is_finite(), "learning_rate", rate, "a number above 0")?;
        SettingError::unless(decay >= 0.0 && decay.is_finite(), "weight_decay", decay, "0 or more")?;
        let clip = self.clip_norm.unwrap_or(1.0);
        SettingError::unless(clip > 0.0 && clip.is_finite(), "clip_norm", clip, "a number above 0")?;
        let ema = self.ema.unwrap_or(0.5);
        SettingError::unless(ema > 0.0 && ema < 1.0, "ema", ema, "above 0 and below 1")?;
        let from = self.swa_from.unwrap_or(1);
        let within = from >= 1 && from <= self.epochs.max(1);
        SettingError::unless(within, "swa_from", from as f64, "the number of an epoch, counted from 1")?;
        SettingError::unless(self.evaluate_every > 0, "evaluate_every", 0.0, "1 or more")?;
        SettingError::unless(self.track_every > 0, "track_every", 0.0, "1 or more")?;
        SettingError::unless(self.track_rows > 1, "track_rows", self.track_rows as f64, "2 or more")?;
        SettingError::unless(self.snapshots != Some(0), "snapshots", 0.0, "1 or more")?;
        self.loss.as_ref().map_or(Ok(()), Loss::check)?;
        self.optimizer.check()?;
        Ok(self.schedule.check(self.epochs)?)
    }

    pub(super) fn loss_for(&self, described: Option<&Loss>, data: &Dataset) -> Loss {
        let stated = self.loss.as_ref().or(described).cloned();
        stated.or_else(|| Loss::for_labels(&data.targets)).unwrap_or(Loss::Mse {})
    }

    /// The batches of `order` in `epoch`, for the loader.
    pub(super) fn plan(&self, order: Vec<usize>, epoch: usize) -> EpochPlan {
        EpochPlan {
            order,
            batch_size: self.batch_size,
            dtype: self.dtype.dtype(),
            augmentation: self.augmentation.clone(),
            seed: self.seed,
            epoch: epoch as u64,
            threads: self.execution.threads,
        }
    }

    /// The mean loss without the L2 term, whose gradient the optimiser adds.
    pub(super) fn objective(&self, loss: Loss, batch_norm: BatchNormMode) -> ObjectiveOptions {
        ObjectiveOptions {
            dtype: self.dtype.dtype(),
            device: Device::Cpu,
            batch_norm,
            execution: self.execution,
            num_shards: 1,
            ..ObjectiveOptions::new(loss)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_states_only_what_differs() {
        let config: TrainConfig =
            toml::from_str("epochs = 3\n[optimizer]\nkind = \"sam\"\nrho = 0.1\n[schedule]\nkind = \"constant\"")
                .unwrap();
        let expected = TrainConfig {
            epochs: 3,
            optimizer: "sam:rho=0.1".parse().unwrap(),
            schedule: Schedule::constant(),
            ..TrainConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(toml::from_str::<TrainConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert!(toml::from_str::<TrainConfig>("epoch = 3").is_err());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let good = TrainConfig::default;
        let cases = [
            (TrainConfig { batch_size: 0, ..good() }, "train: `batch_size` is 0, but must be 1 or more"),
            (TrainConfig { learning_rate: f64::NAN, ..good() }, "`learning_rate` is NaN"),
            (TrainConfig { weight_decay: -1.0, ..good() }, "`weight_decay` is -1"),
            (TrainConfig { loss: Some(Loss::smoothed(1.0)), ..good() }, "`label_smoothing` is 1"),
            (TrainConfig { optimizer: "sam:rho=-1".parse().unwrap(), ..good() }, "`rho` is -1"),
            (TrainConfig { schedule: "cosine:warmup=10".parse().unwrap(), ..good() }, "`warmup_epochs` is 10"),
        ];
        for (config, message) in cases {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        good().check().unwrap();
    }
}
