//! What the commands on a checkpoint have in common: weights, rows, and how the loss is defined.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{ComputeArgs, DataArgs, Given, LossArgs, ModelArgs, Precision, word};
use crate::program::BatchNormMode;

/// Whether the L2 term of training belongs to the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum L2Term {
    /// The loss alone.
    #[default]
    Out,
    /// With `wd/2 ‖θ‖²`, `wd` as the checkpoint states it.
    In,
}

impl L2Term {
    fn is_out(&self) -> bool {
        *self == Self::Out
    }
}

/// Rows where the options choose none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultRows {
    /// Those that the checkpoint was trained on, a thousand of them at most.
    #[default]
    Trained,
    /// All test rows, with the labels of the source, where it has a test split.
    Test,
}

/// What defines an objective. As JSON it states what its rows, which stand elsewhere, leave open.
#[derive(Debug, Clone, Args, Serialize)]
pub struct SessionArgs {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub model: ModelArgs,
    #[command(flatten)]
    #[serde(skip)]
    #[allow(missing_docs)]
    pub data: DataArgs,
    #[command(flatten)]
    #[serde(skip)]
    #[allow(missing_docs)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub loss: LossArgs,
    /// Precision of the computation: f32 with sums and scalars in f64, or f64 throughout
    #[arg(help_heading = "Computation", long, visible_alias = "precision", value_name = "DTYPE", value_parser = word::<Precision>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Precision>,
    /// Statistics of batch normalisation: eval or train [default: the architecture's, else eval]
    #[arg(help_heading = "Computation", hide_short_help = true, long, value_name = "MODE", value_parser = word::<BatchNormMode>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<BatchNormMode>,
    /// Whether the L2 term of training belongs to the loss: out or in
    #[arg(help_heading = "Loss", hide_short_help = true, long, value_name = "WHERE", value_parser = word::<L2Term>(), default_value = "out")]
    #[serde(skip_serializing_if = "L2Term::is_out")]
    pub l2: L2Term,
    /// Rows where the options choose none.
    #[arg(skip)]
    #[serde(skip)]
    pub default_rows: DefaultRows,
    /// What a program passed in memory, in place of files.
    #[arg(skip)]
    #[serde(skip)]
    pub given: Option<Given>,
}
