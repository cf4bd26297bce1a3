//! `flatness train`: from data and an architecture to a checkpoint.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::analyze::Provenance;
use super::args::{ComputeArgs, DataArgs, DtypeArg, argument, parse_loss};
use super::output::{check_folder, claim_folder};
use super::{CliError, INTERRUPTED, Ui};
use crate::Result;
use crate::data::{DataSpec, Dataset, Source, Split, Targets};
use crate::models::{Architecture, family};
use crate::optim::OptimizerConfig;
use crate::report::write_run_json;
use crate::train::{Precision, TrainConfig, TrainOutcome, save, train};

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// mlp:512-512, cnn:8-16, resnet-cifar:20, resnet18, vit:patch=4, or a .json or .toml file (docs/models.md)
    #[arg(long, value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    data: DataArgs,
    /// sgd, sgld, fsgld or sam, with settings such as sam:rho=0.1 or fsgld:beta_inverse=1e-8,eta=0.1
    #[arg(long, value_name = "METHOD", default_value = "sgd")]
    optimizer: String,
    /// Momentum of sgd and sam
    #[arg(long, value_name = "M")]
    momentum: Option<f64>,
    /// Passes over the data
    #[arg(long, value_name = "E", default_value_t = TrainConfig::default().epochs)]
    epochs: usize,
    /// Rows per step
    #[arg(long, value_name = "B", default_value_t = TrainConfig::default().batch_size)]
    batch_size: usize,
    /// Learning rate
    #[arg(long, value_name = "LR", default_value_t = TrainConfig::default().learning_rate)]
    learning_rate: f64,
    /// constant, cosine[:warmup=E] or multi_step:30-60[,gamma=0.1]
    #[arg(long, value_name = "SCHEDULE", default_value = "cosine")]
    schedule: String,
    /// L2 coefficient
    #[arg(long, value_name = "WD", default_value_t = TrainConfig::default().weight_decay)]
    weight_decay: f64,
    /// cross-entropy[:smoothing], mse or bce [default: by the kind of targets]
    #[arg(long, value_name = "LOSS")]
    loss: Option<String>,
    /// Seed of weights, order of rows and noise
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Precision of the weights
    #[arg(long, value_enum, default_value_t = DtypeArg::F32)]
    dtype: DtypeArg,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Folder of the checkpoint and its metrics
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Overwrite an existing result
    #[arg(long)]
    force: bool,
}

impl TrainArgs {
    fn config(&self) -> Result<TrainConfig> {
        let mut optimizer: OptimizerConfig = self.optimizer.parse()?;
        match (&mut optimizer, self.momentum) {
            (_, None) => {}
            (OptimizerConfig::Sgd(sgd), Some(momentum)) => sgd.momentum = momentum,
            (OptimizerConfig::Sam(sam), Some(momentum)) => sam.momentum = momentum,
            (other, Some(momentum)) => {
                let reason = format!("{} has no momentum", other.name());
                return Err(argument("--momentum", &momentum.to_string(), &reason));
            }
        }
        let config = TrainConfig {
            dtype: match self.dtype {
                DtypeArg::F32 => Precision::F32,
                DtypeArg::F64 => Precision::F64,
            },
            epochs: self.epochs,
            batch_size: self.batch_size,
            seed: self.seed,
            optimizer,
            learning_rate: self.learning_rate,
            schedule: self.schedule.parse()?,
            weight_decay: self.weight_decay,
            loss: self.loss.as_deref().map(parse_loss).transpose()?,
            execution: self.compute.execution()?,
        };
        config.check()?;
        Ok(config)
    }
}

pub(super) fn run(args: &TrainArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let provenance = Provenance::new(arguments);
    let config = args.config()?;
    let spec = args.data.spec(None)?;
    let spec = spec.ok_or(CliError::NoTrainingData)?;
    check_folder(&args.out, args.force)?;
    let data = spec.load()?;
    let architecture = read_model(&args.model, &data)?;
    check_size(&args.model, architecture.param_space()?.dim(), config.execution.memory_bytes)?;
    let test = test_rows(&spec)?;
    let _claimed = claim_folder(&args.out, args.force)?;
    let outcome = train(&config, architecture, &data, test.as_ref(), &mut ui.progress())?;
    finish(&outcome, &spec, &args.out, &provenance)?;
    ui.print(&epoch_table(&outcome));
    ui.say(&format!("wrote {}", args.out.join("checkpoint.safetensors").display()));
    if outcome.interrupted {
        ui.say("interrupted: the checkpoint is that of the last finished epoch");
        return Ok(INTERRUPTED);
    }
    Ok(0)
}

/// Writes checkpoint, metrics and `run.json`.
pub(super) fn finish(outcome: &TrainOutcome, spec: &DataSpec, folder: &Path, provenance: &Provenance) -> Result<()> {
    save(outcome, spec, folder)?;
    let mut run = provenance.json();
    run["complete"] = json!(!outcome.interrupted);
    run["epoch_seconds"] = json!(outcome.epoch_seconds);
    run["threads"] = json!(outcome.config.execution.threads);
    run["train"] = json!(outcome.config);
    run["data"] = json!(spec.resolved());
    run["data_sha256"] = json!(outcome.data_sha256);
    write_run_json(folder, &run)?;
    Ok(())
}

/// Whether a model's name is that of a file.
pub(super) fn is_description(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json" || extension == "toml")
}

/// A family's short form, or a file.
pub(super) fn read_model(text: &str, data: &Dataset) -> Result<Architecture> {
    let path = Path::new(text);
    if is_description(path) {
        return Ok(Architecture::read(path)?);
    }
    let outputs = match &data.targets {
        Targets::Classes { num_classes, .. } => *num_classes,
        Targets::Values { outputs, .. } => *outputs,
    };
    Ok(family(text, &data.sample_shape, outputs)?)
}

/// Refuses a model without parameters, and one whose training alone exceeds the memory to plan with: weights, gradient,
/// momentum and update, in f64.
fn check_size(model: &str, dim: usize, memory_bytes: usize) -> Result<()> {
    if dim == 0 {
        return Err(argument("--model", model, "has no parameters to train"));
    }
    if dim.saturating_mul(32) > memory_bytes {
        let reason = format!("its {dim} parameters do not fit the memory: choose a smaller model, or raise --memory");
        return Err(argument("--model", model, &reason));
    }
    Ok(())
}

/// The source's test rows with clean labels; none for a file of tensors.
fn test_rows(spec: &DataSpec) -> Result<Option<Dataset>> {
    if matches!(spec.source, Source::Tensors(_)) || spec.split == Split::Test {
        return Ok(None);
    }
    let test = DataSpec { split: Split::Test, rows: None, subset: None, noise: None, ..spec.clone() };
    test.load().map(Some)
}

fn epoch_table(outcome: &TrainOutcome) -> String {
    let mut lines = vec!["epoch  learning rate  train loss  accuracy  test loss  accuracy  seconds".to_owned()];
    let number = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") };
    for (metrics, seconds) in outcome.epochs.iter().zip(&outcome.epoch_seconds) {
        lines.push(format!(
            "{:>5}  {:>13.4e}  {:>10}  {:>8}  {:>9}  {:>8}  {seconds:>7.1}",
            metrics.epoch,
            metrics.learning_rate,
            number(metrics.train_loss),
            number(metrics.train_accuracy),
            number(metrics.test_loss),
            number(metrics.test_accuracy),
        ));
    }
    lines.join("\n")
}
