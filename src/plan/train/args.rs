//! The options of `train`, and the plan that they make with a file.

use std::path::PathBuf;

use clap::Args;

use super::{CONFIG_FILE, TrainConfig, TrainPlan};
use crate::Result;
use crate::plan::parse::Given;
use crate::plan::{ComputeArgs, DataArgs, LossArgs, PlanError, RESULT, parsed_by};

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    given: Given,
    /// Weights to begin with and their network, such as net.pt2: the same as --init
    #[arg(value_name = "FILE", conflicts_with_all = ["init", "model"])]
    network: Option<PathBuf>,
    /// Network to train, such as resnet-cifar:20 or net.pt2 (docs/models.md)
    ///
    /// A family such as mlp:512-512, cnn:8-16, resnet-cifar:20, resnet18 or vit:patch=4, or a .json, .toml or .pt2 file
    #[arg(help_heading = "Network", long, value_name = "MODEL", value_parser = parsed_by(|text| Ok(text.to_owned())))]
    model: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    /// config.toml of a run: its settings, where no option says otherwise
    #[arg(help_heading = "Training", long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    train: TrainConfig,
    #[command(flatten)]
    loss: LossArgs,
    /// Momentum of SGD and of the methods over it, as in sgd:momentum=M
    #[arg(help_heading = "Training", hide_short_help = true, long, value_name = "M", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Initial weights; the last linear layer may have another number of classes
    #[arg(help_heading = "Network", long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Train a program that was exported in eval mode only: with batch statistics and dropout, but without anything else
    /// that the module does in training mode, such as stochastic depth
    #[arg(help_heading = "Network", hide_short_help = true, long)]
    eval_export_ok: bool,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Folder of the run
    #[arg(help_heading = RESULT, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Overwrite an existing result
    #[arg(help_heading = RESULT, long)]
    pub(crate) force: bool,
    /// Continue from the state in --out, with the same result bit for bit; no other option is needed
    #[arg(help_heading = RESULT, long, conflicts_with = "force")]
    pub(crate) resume: bool,
    /// Epochs between two states for --resume
    #[arg(help_heading = RESULT, hide_short_help = true, long, value_name = "E", default_value_t = 1)]
    pub(crate) save_every: usize,
}

impl TrainArgs {
    /// Defaults, then the file, then the options; checked.
    pub(crate) fn plan(&self) -> Result<TrainPlan> {
        let own = self.out.join(CONFIG_FILE);
        let init = self.network.as_ref().or(self.init.as_ref());
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
        plan.eval_export_ok |= self.eval_export_ok;
        plan.data = self.data.spec(plan.data.take()).map(|spec| spec.resolved());
        let wrong = |reason| PlanError::File { path: self.config.clone().unwrap_or(own.clone()), reason };
        plan.train = self.given.over(&plan.train, &self.train).map_err(wrong)?;
        if let Some(momentum) = self.momentum {
            let name = plan.train.optimizer.name();
            match plan.train.optimizer.momentum_mut() {
                Some(place) => *place = momentum,
                None => return Err(PlanError::option("--momentum", momentum, format!("{name} has no momentum")).into()),
            }
        }
        plan.train.loss = self.loss.loss(plan.train.loss.take())?;
        plan.train.execution = self.compute.execution();
        plan.train.check()?;
        if plan.data.is_none() {
            return Err(PlanError::NoTrainingData.into());
        }
        if plan.model.is_none() && plan.architecture.is_none() && plan.init.is_none() {
            return Err(PlanError::NoModel.into());
        }
        Ok(plan)
    }
}
