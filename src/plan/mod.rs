//! What a command does, as data. The command line, the steps of experiment files and `config.toml` all make these structs;
//! names, defaults and help texts of options stand here only.

mod compute;
mod data;
mod evaluate;
mod given;
mod landscape;
mod langevin;
mod llc;
mod loss;
mod model;
mod parse;
mod session;
mod sharpness;
mod survey;
mod train;

use std::path::PathBuf;

pub use compute::{ComputeArgs, Precision};
pub use data::DataArgs;
pub use evaluate::{EvaluateOptions, OutsideRows};
pub use given::Given;
pub use landscape::{Shape, ShapeArgs};
pub use langevin::LangevinArgs;
pub use llc::LlcOptions;
pub use loss::LossArgs;
pub use model::{ModelArgs, is_architecture};
pub(crate) use parse::{command_line, number_of, parsed, parsed_by, word};
pub use session::{DefaultRows, L2Term, SessionArgs};
pub use sharpness::{AverageParams, PacBayesParams, Passes, SharpnessOptions, WorstParams};
pub use survey::{AnalysisOptions, DENSE_DIM, EigenMethod};
pub use train::{CONFIG_FILE, NormStatistics, Track, TrainArgs, TrainConfig, TrainPlan};

/// Heading of the options on where a result goes.
pub(crate) const RESULT: &str = "Result";

/// A plan that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The value of an option does not make sense.
    #[error("{option} {value}: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A configuration that cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A list of tracked numbers that cannot be read.
    #[error("unknown curvature to track: `{text}`")]
    Track {
        /// What was written.
        text: String,
    },
    /// Nothing says what to train.
    #[error("--model is missing: nothing says which network to train")]
    NoModel,
    /// Nothing says which data to train on.
    #[error("--data is missing: nothing says which data to train on")]
    NoTrainingData,
    /// A program whose training mode is unknown.
    #[error("this program was exported in eval mode only: what its module does in training alone is not in it")]
    EvalExport,
}

impl PlanError {
    /// [`PlanError::Option`].
    pub fn option(option: &'static str, value: impl ToString, reason: impl Into<String>) -> Self {
        Self::Option { option, value: value.to_string(), reason: reason.into() }
    }

    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Option { .. } => return None,
            Self::File { .. } => "compare it with config.toml in the folder of a run".into(),
            Self::Track { .. } => "examples: top:1,trace  top:5  trace".into(),
            Self::NoModel => "name it, such as --model resnet-cifar:20".into(),
            Self::NoTrainingData => "name it, such as --data glyphs".into(),
            Self::EvalExport => {
                "export both modes with tools/export_torch.py, or add --eval-export-ok to train with batch statistics and \
                 dropout alone"
                    .into()
            }
        })
    }
}
