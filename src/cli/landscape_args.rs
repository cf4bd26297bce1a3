//! Arguments of `flatness landscape`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::figure_args::FigureArgs;
use super::state::{Saving, seconds};
use crate::landscape::Statistics;
use crate::plan::{
    ComputeArgs, DataArgs, DefaultRows, Given, L2Term, LossArgs, ModelArgs, Precision, RESULT, SessionArgs, ShapeArgs,
    parsed_by, word,
};
use crate::program::BatchNormMode;

/// Arguments of `landscape`.
#[derive(Debug, Args)]
pub(super) struct LandscapeArgs {
    /// One checkpoint to look around, two for the line between them, three for the plane through them
    #[arg(required = true, num_args = 1..=3, value_name = "CHECKPOINT")]
    pub(super) checkpoints: Vec<PathBuf>,
    /// Architecture as .json or .toml, or a family such as vit-b16 with --data, for weights that carry none
    #[arg(long, value_name = "FILE")]
    arch: Option<PathBuf>,
    #[command(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    pub(super) compute: ComputeArgs,
    #[command(flatten)]
    pub(super) shape: ShapeArgs,
    #[command(flatten)]
    loss: LossArgs,
    /// Precision of the computation: f32 with sums and scalars in f64, or f64 throughout
    #[arg(help_heading = "Computation", long, visible_alias = "precision", value_name = "DTYPE", value_parser = word::<Precision>())]
    dtype: Option<Precision>,
    /// Statistics of batch normalisation at the points: eval (the stored ones; between minima interpolated like the
    /// parameters) or reestimate (from the chosen rows at each point)
    #[arg(help_heading = "Computation", long, value_name = "MODE", value_parser = word::<Statistics>(), default_value = "eval")]
    pub(super) batch_norm: Statistics,
    /// Whether the L2 term of training belongs to the loss: out or in
    #[arg(help_heading = "Loss", long, value_name = "WHERE", value_parser = word::<L2Term>(), default_value = "out")]
    l2: L2Term,
    #[command(flatten)]
    pub(super) figures: FigureArgs,
    /// Result folder
    #[arg(help_heading = RESULT, long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Continue from the points that a killed or interrupted run of the same command left in the result folder
    #[arg(help_heading = RESULT, long)]
    pub(super) resume: bool,
    /// Minimum number of seconds between two states for --resume
    #[arg(help_heading = RESULT, hide_short_help = true, long, value_name = "S", value_parser = parsed_by(seconds), default_value = "5", allow_negative_numbers = true)]
    save_every: Duration,
    /// Overwrite an existing result
    #[arg(help_heading = RESULT, long)]
    pub(super) force: bool,
    /// What a program passed in memory, in place of each checkpoint and the data.
    #[arg(skip)]
    pub(super) given: Vec<Given>,
}

impl LandscapeArgs {
    /// What `analyze` would be told of checkpoint `index`.
    pub(super) fn session(&self, index: usize) -> SessionArgs {
        let checkpoint = self.checkpoints.get(index).cloned().unwrap_or_default();
        SessionArgs {
            model: ModelArgs { checkpoint, arch: self.arch.clone(), output: None, weights_key: None },
            data: self.data.clone(),
            compute: self.compute,
            loss: self.loss.clone(),
            dtype: self.dtype,
            // New statistics are estimated at each point; the loss itself never couples the rows.
            batch_norm: Some(BatchNormMode::Eval),
            l2: self.l2,
            default_rows: DefaultRows::Trained,
            given: self.given.get(index).cloned(),
        }
    }

    /// When points are written and taken up.
    pub(super) fn saving(&self) -> Saving {
        Saving { every: self.save_every, resume: self.resume }
    }
}
