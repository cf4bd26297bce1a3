//! The settings of a training run.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Track;
use crate::Result;
use crate::data::Augmentation;
use crate::objective::Execution;
use crate::optim::{Decay, OptimizerConfig, Schedule, SettingError};
use crate::plan::{Precision, number_of, parsed, word};
use crate::program::Loss;

/// Which statistics of batch normalisation are saved with the final weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormStatistics {
    /// Estimated anew at the final weights: with fSGLD and SAM the running ones belong to perturbed weights, or to
    /// weights on the way.
    #[default]
    Reestimated,
    /// The running averages of training.
    Running,
}

/// How to train. Everything but `execution` decides the result, and is stored in the checkpoint.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Training")]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Precision of parameters and activations: f32 or f64
    #[arg(hide_short_help = true, long, value_name = "DTYPE", value_parser = word::<Precision>(), default_value = "f32")]
    pub dtype: Precision,
    /// Passes over the training rows; 0 keeps the initial weights
    #[arg(long, value_name = "E", default_value_t = Self::default().epochs)]
    pub epochs: usize,
    /// Rows per step
    #[arg(long, value_name = "B", default_value_t = Self::default().batch_size)]
    pub batch_size: usize,
    /// Seed of initial weights, order of rows, augmentation, dropout and noise
    #[arg(long, value_name = "S", default_value_t = Self::default().seed)]
    pub seed: u64,
    /// Optimiser and its settings, such as sam:rho=0.1 or fsgld:beta_inverse=1e-8,eta=0.1
    #[arg(long, value_name = "METHOD", value_parser = parsed::<OptimizerConfig>(), default_value = "sgd")]
    pub optimizer: OptimizerConfig,
    /// Learning rate, before the schedule's factor
    #[arg(long, value_name = "LR", allow_negative_numbers = true, default_value_t = Self::default().learning_rate)]
    pub learning_rate: f64,
    /// Learning rate over the run, such as cosine or multi_step:30-60
    ///
    /// constant, cosine, multi_step:30-60,gamma=0.1 or cyclical:cycles=4,exploration=0.9 (the first nine tenths of each cycle
    /// without Langevin noise), each with warmup=E
    #[arg(long, value_name = "SCHEDULE", value_parser = parsed::<Schedule>(), default_value = "cosine")]
    pub schedule: Schedule,
    /// Samples of the weights in each cycle of a cyclical schedule, kept in samples.safetensors for evaluate
    #[arg(long, value_name = "M", value_parser = number_of(1, 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples_per_cycle: Option<usize>,
    /// L2 coefficient
    ///
    /// wd of the term wd/2 ‖θ‖² in the gradient (for AdamW beside it); reported losses do not contain it
    #[arg(long, value_name = "WD", allow_negative_numbers = true, default_value_t = Self::default().weight_decay)]
    pub weight_decay: f64,
    /// Which parameters decay: all, or weights (neither biases nor normalisation)
    #[arg(hide_short_help = true, long, value_name = "PART", value_parser = word::<Decay>(), default_value = "all")]
    pub decay: Decay,
    /// Largest norm of a gradient; longer ones are scaled down
    #[arg(hide_short_help = true, long, value_name = "C", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Random changes of the training images in each epoch, such as crop:4,flip or random_resized_crop:224,flip
    #[arg(long = "augment", value_name = "HOW", value_parser = parsed::<Augmentation>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
    /// Names of the tensors to train, such as head.*,blocks.*.attn.*; the others keep their initial values
    #[arg(hide_short_help = true, long, value_name = "GLOBS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub train_only: Vec<String>,
    /// Also keep an exponential moving average of the weights, m ← d m + (1 − d) θ after each step, with this d
    #[arg(hide_short_help = true, long, value_name = "D", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Also keep the mean of the weights at the ends of the epochs from this one on (Izmailov et al. 2018)
    #[arg(hide_short_help = true, long, value_name = "E")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swa_from: Option<usize>,
    /// Statistics of batch normalisation in the checkpoint: reestimated at its weights, or the running averages
    #[arg(hide_short_help = true, long, value_name = "WHICH", value_parser = word::<NormStatistics>(), default_value = "reestimated")]
    pub norm_statistics: NormStatistics,
    /// Epochs between two evaluations on the test rows; the last epoch is always evaluated
    #[arg(hide_short_help = true, long, value_name = "E", default_value_t = Self::default().evaluate_every)]
    pub evaluate_every: usize,
    /// Curvature to measure during training, such as top:1,trace
    #[arg(long, value_name = "WHAT", value_parser = parsed::<Track>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// Epochs between two measurements of --track
    #[arg(hide_short_help = true, long = "every", value_name = "E", default_value_t = Self::default().track_every)]
    pub track_every: usize,
    /// Training rows that --track measures on, a fixed random choice
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = Self::default().track_rows)]
    pub track_rows: usize,
    /// Keep a checkpoint every N epochs, and that of the start, in the folder snapshots of the run
    #[arg(hide_short_help = true, long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<usize>,
    /// Loss of one row; `None`: the architecture's, else cross-entropy for classes and squared error for values
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Threads and memory
    #[arg(skip)]
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
            samples_per_cycle: None,
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
