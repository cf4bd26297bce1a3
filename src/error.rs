//! The library's error: each stage has its own enum, joined here so that one `hint` serves the command line.

use std::path::PathBuf;

use crate::bayes::EvaluationError;
use crate::checkpoint::CheckpointError;
use crate::cli::CliError;
use crate::curvature::{CurvatureError, GradientError};
use crate::data::DataError;
use crate::experiment::ExperimentError;
use crate::files::FileError;
use crate::formats::ModelError;
use crate::landscape::LandscapeError;
use crate::langevin::LangevinError;
use crate::objective::ObjectiveError;
use crate::operator::OperatorError;
use crate::optim::{OptimError, SettingError};
use crate::plan::PlanError;
use crate::program::ProgramError;
use crate::report::ReportError;
use crate::spectral::SpectralError;
use crate::team::TeamError;
use crate::train::TrainError;
use crate::vocabulary::{ScopeError, UnknownName};

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong and where; [`Error::hint`] says how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading a data set failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A command cannot be carried out as asked.
    #[error(transparent)]
    Cli(#[from] CliError),
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An architecture cannot be read or does not fit.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A program does not fit its inputs, its weights or its targets.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A scope that does not exist.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A part of an objective that does not exist, or a product that is not finite.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// An operator that cannot be made, or vectors that do not fit it.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A matrix or a trace that the objective does not have.
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
    /// A gradient that the user supplies cannot be used.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// A Krylov method or an estimator was misused or met a non-finite number.
    #[error(transparent)]
    Spectral(#[from] SpectralError),
    /// A setting of a method or of a training is out of its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// An optimiser or schedule cannot be made.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// Training was set up wrongly or left the finite numbers.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A file or folder of results could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A table or figure could not be made.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// An experiment file cannot be used.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// Models or rows that cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// A study of small potentials that cannot be made.
    #[error(transparent)]
    Langevin(#[from] LangevinError),
    /// Directions or checkpoints make no landscape.
    #[error(transparent)]
    Landscape(#[from] LandscapeError),
    /// A plan that cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Ranks that cannot work together.
    #[error(transparent)]
    Team(#[from] TeamError),
    /// A word that is not one of the names.
    #[error(transparent)]
    Name(#[from] UnknownName),
    /// A tensor operation failed inside candle.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Vectors of the wrong length.
    #[error("vectors have shape {got:?}, but the network has {dim} parameters: expected [k, {dim}]")]
    VectorShape {
        /// Their shape.
        got: Vec<usize>,
        /// Number of parameters.
        dim: usize,
    },
    /// The system refused worker threads.
    #[error("cannot start worker threads: {reason}")]
    Threads {
        /// The system's reason.
        reason: String,
    },
    /// The observer asked to stop (Ctrl-C) before anything usable existed.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// How to mend the cause, where the program knows.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Cli(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Program(error) => error.hint(),
            Self::Scope(error) => error.hint(),
            Self::Objective(error) => error.hint(),
            Self::Operator(error) => error.hint(),
            Self::Curvature(error) => error.hint(),
            Self::Gradient(error) => error.hint(),
            Self::Spectral(error) => error.hint(),
            Self::Optim(error) => Some(error.hint()),
            Self::Train(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Report(error) => error.hint(),
            Self::Experiment(error) => error.hint(),
            Self::Evaluation(error) => error.hint(),
            Self::Langevin(error) => error.hint(),
            Self::Landscape(error) => error.hint(),
            Self::Plan(error) => error.hint(),
            Self::Team(error) => error.hint(),
            Self::Name(error) => error.hint(),
            Self::VectorShape { .. } => {
                Some("write the vectors as rows of that length, in the parameter order of `flatness info`".into())
            }
            Self::Threads { .. } => {
                Some("ask for fewer with --threads, or raise the limits of the system (ulimit -u, ulimit -v)".into())
            }
            _ => None,
        }
    }
}
