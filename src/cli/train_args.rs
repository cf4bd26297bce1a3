//! The options of `train`, and the plan that they make with a file.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use super::args::{ComputeArgs, DataArgs, DtypeArg, argument, path_text};
use super::figure_args::FigureArgs;
use super::loss::LossArgs;
use super::train_plan::{FILE, TrainPlan};
use crate::Result;
use crate::optim::{Decay, OptimizerConfig};
use crate::train::{NormStatistics, Precision, TrainConfig};

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// Weights to begin with and their network, such as net.pt2: the same as --init
    #[arg(value_name = "FILE", conflicts_with_all = ["init", "model"])]
    network: Option<PathBuf>,
    /// mlp:512-512, cnn:8-16, resnet-cifar:20, resnet18, vit:patch=4, or a .json, .toml or .pt2 file (docs/models.md)
    #[arg(long, value_name = "MODEL", value_parser = path_text())]
    model: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    /// A run's config.toml: its settings, where no option says otherwise
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    pub(super) compute: ComputeArgs,
    #[command(flatten)]
    pub(super) figures: FigureArgs,
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Overwrite an existing result
    #[arg(long)]
    pub(super) force: bool,
    /// Go on from the state in --out, to the same bits; needs no other option then
    #[arg(long, conflicts_with = "force")]
    pub(super) resume: bool,
    /// Epochs between two states for --resume
    #[arg(long, value_name = "E", default_value_t = 1)]
    pub(super) save_every: usize,
}

/// The update rule.
#[derive(Debug, Args)]
struct MethodArgs {
    /// sgd, adamw, sgld, fsgld, rwp, sam or asam, with settings such as sam:rho=0.1 or fsgld:beta_inverse=1e-8,eta=0.1
    /// [default: sgd]
    #[arg(long, value_name = "METHOD")]
    optimizer: Option<String>,
    /// Momentum of the methods over SGD, as in sgd:momentum=M
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Passes over the data [default: 10]
    #[arg(long, value_name = "E")]
    epochs: Option<usize>,
    /// Rows per step [default: 64]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// Learning rate [default: 0.05]
    #[arg(long, value_name = "LR", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// constant, cosine, multi_step:30-60,gamma=0.1 or cyclical:cycles=4, each with warmup=E [default: cosine]
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,
    /// L2 coefficient [default: 0.0005]
    #[arg(long, value_name = "WD", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Which parameters decay: all, or weights (neither biases nor normalisation) [default: all]
    #[arg(long, value_name = "PART")]
    decay: Option<Decay>,
    /// Largest norm of a gradient; longer ones are scaled down
    #[arg(long, value_name = "C", allow_negative_numbers = true)]
    clip_norm: Option<f64>,
    /// Random changes of the training images, such as crop:4,flip or random_resized_crop:224,flip
    #[arg(long, value_name = "HOW")]
    augment: Option<String>,
    #[command(flatten)]
    loss: LossArgs,
    /// Seed of weights, order of rows, augmentation and noise [default: 0]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Precision of the weights [default: f32]
    #[arg(long, value_enum)]
    dtype: Option<DtypeArg>,
}

/// Where to begin, and what to train.
#[derive(Debug, Args)]
struct PartArgs {
    /// Initial weights; the last linear layer may have another number of classes
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Train a program that was exported in eval mode alone: with batch statistics and dropout, but without what else
    /// the module does in training only, such as stochastic depth
    #[arg(long)]
    eval_export_ok: bool,
    /// Names of the tensors to train, such as head.*,blocks.*.attn.*; the others stay as they begin
    #[arg(long, value_name = "GLOBS", value_delimiter = ',')]
    train_only: Vec<String>,
    /// Also keep an exponential moving average of the weights with this decay, such as 0.999
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    ema: Option<f64>,
    /// Also keep the mean of the weights over the ends of the epochs from this one on
    #[arg(long, value_name = "E")]
    swa_from: Option<usize>,
    /// Statistics of batch normalisation in the checkpoint: reestimated at its weights, or the running ones
    /// [default: reestimated]
    #[arg(long, value_name = "WHICH")]
    norm_statistics: Option<NormStatistics>,
}

/// Measurements during training.
#[derive(Debug, Args)]
struct WatchArgs {
    /// Epochs between two evaluations on the test rows [default: 1]
    #[arg(long, value_name = "E")]
    evaluate_every: Option<usize>,
    /// Curvature to measure during training, such as top:1,trace
    #[arg(long, value_name = "WHAT")]
    track: Option<String>,
    /// Epochs between two measurements of --track [default: 1]
    #[arg(long, value_name = "E")]
    every: Option<usize>,
    /// Training rows for them, a fixed random choice [default: 500]
    #[arg(long, value_name = "N")]
    track_rows: Option<usize>,
    /// Keep a checkpoint every N epochs, and that of the start, in the folder snapshots of the run
    #[arg(long, value_name = "N")]
    snapshots: Option<usize>,
}

/// Puts the value of an option, where there is one, in the place of another.
fn put<T: Clone>(place: &mut T, option: &Option<T>) {
    if let Some(value) = option {
        *place = value.clone();
    }
}

impl TrainArgs {
    /// Defaults, then the file, then the options; checked.
    pub(super) fn plan(&self) -> Result<TrainPlan> {
        let own = self.out.join(FILE);
        let init = self.network.as_ref().or(self.part.init.as_ref());
        let says_nothing = self.model.is_none() && self.data.data.is_none() && init.is_none();
        let mut plan = match &self.config {
            Some(file) => TrainPlan::read(file)?,
            None if self.resume && says_nothing && own.exists() => TrainPlan::read(&own)?,
            None => TrainPlan::default(),
        };
        if let Some(model) = &self.model {
            plan.set_model(model)?;
        }
        if let Some(init) = init {
            (plan.init, plan.init_sha256) = (Some(init.clone()), None);
        }
        plan.eval_export_ok |= self.part.eval_export_ok;
        plan.data = self.data.spec(plan.data.take())?.map(|spec| spec.resolved());
        self.method.apply(&mut plan.train)?;
        self.part.apply(&mut plan.train);
        self.watch.apply(&mut plan.train)?;
        plan.train.execution = self.compute.execution()?;
        plan.train.check()?;
        if plan.data.is_none() {
            return Err(CliError::NoTrainingData.into());
        }
        if plan.model.is_none() && plan.architecture.is_none() && plan.init.is_none() {
            return Err(CliError::NoModel.into());
        }
        Ok(plan)
    }
}

impl MethodArgs {
    fn apply(&self, config: &mut TrainConfig) -> Result<()> {
        put(&mut config.optimizer, &self.optimizer.as_deref().map(str::parse).transpose()?);
        if let Some(momentum) = self.momentum {
            set_momentum(&mut config.optimizer, momentum)?;
        }
        put(&mut config.epochs, &self.epochs);
        put(&mut config.batch_size, &self.batch_size);
        put(&mut config.learning_rate, &self.learning_rate);
        put(&mut config.schedule, &self.schedule.as_deref().map(str::parse).transpose()?);
        put(&mut config.weight_decay, &self.weight_decay);
        put(&mut config.decay, &self.decay);
        config.clip_norm = self.clip_norm.or(config.clip_norm);
        if let Some(augment) = &self.augment {
            config.augmentation = Some(augment.parse()?);
        }
        config.loss = self.loss.loss(config.loss.take())?;
        put(&mut config.seed, &self.seed);
        let dtype = self.dtype.map(|dtype| match dtype {
            DtypeArg::F32 => Precision::F32,
            DtypeArg::F64 => Precision::F64,
        });
        put(&mut config.dtype, &dtype);
        Ok(())
    }
}

fn set_momentum(optimizer: &mut OptimizerConfig, momentum: f64) -> Result<()> {
    let name = optimizer.name();
    match optimizer.momentum_mut() {
        Some(place) => *place = momentum,
        None => return Err(argument("--momentum", &momentum.to_string(), &format!("{name} has no momentum"))),
    }
    Ok(())
}

impl PartArgs {
    fn apply(&self, config: &mut TrainConfig) {
        if !self.train_only.is_empty() {
            config.train_only = self.train_only.clone();
        }
        config.ema = self.ema.or(config.ema);
        config.swa_from = self.swa_from.or(config.swa_from);
        put(&mut config.norm_statistics, &self.norm_statistics);
    }
}

impl WatchArgs {
    fn apply(&self, config: &mut TrainConfig) -> Result<()> {
        put(&mut config.evaluate_every, &self.evaluate_every);
        if let Some(track) = &self.track {
            config.track = Some(track.parse()?);
        }
        put(&mut config.track_every, &self.every);
        put(&mut config.track_rows, &self.track_rows);
        config.snapshots = self.snapshots.or(config.snapshots);
        Ok(())
    }
}
