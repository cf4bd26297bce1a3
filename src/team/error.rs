//! What can go wrong between the ranks of a team.

use std::io::{self, Read, Write};

use super::{SLURM_TASKS, Wire};
use crate::Error;

/// Ranks that cannot work together.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// A rank that cannot go on.
    #[error("rank {rank}: {error}")]
    Rank {
        /// The rank.
        rank: usize,
        /// What it says.
        error: String,
        /// How to mend it.
        hint: Option<String>,
    },
    /// A message that did not go through.
    #[error("a message between ranks was lost: {reason}")]
    Message {
        /// Why.
        reason: String,
    },
    /// Ranks with different versions, data or options.
    #[error("this rank does not compute what rank 0 does: {what} differ")]
    Differ {
        /// In what.
        what: &'static str,
    },
    /// A command that cannot be shared.
    #[error("this command runs in one process, but {ranks} ranks were started")]
    OneProcess {
        /// Their number.
        ranks: usize,
    },
    /// Rows that must go through the network together.
    #[error("{what} couples the rows of a batch, so that {ranks} ranks cannot share them")]
    CoupledRows {
        /// By what.
        what: &'static str,
        /// Number of ranks.
        ranks: usize,
    },
    /// Ranks of a program that cannot hear of each other.
    #[error("{ranks} ranks cannot share the work: this flatness was built without MPI")]
    NotBuilt {
        /// Number of ranks.
        ranks: usize,
    },
    /// Ranks that MPI does not know of.
    #[error("{ranks} processes were started together, but not by the MPI that this flatness was built with")]
    Unheard {
        /// Number of processes.
        ranks: usize,
    },
    /// No program that starts ranks.
    #[error("{ranks} ranks cannot be started: there is no `{program}`")]
    NoLauncher {
        /// What starts ranks here.
        program: &'static str,
        /// Number of ranks.
        ranks: usize,
    },
    /// MPI does not start.
    #[error("MPI cannot start: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
}

impl TeamError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Rank { hint, .. } => return hint.clone(),
            Self::Message { .. } => "see what MPI says above; --resume goes on from the last state".into(),
            Self::Differ { .. } => {
                "start all ranks with one binary, on files that are the same on every machine".into()
            }
            Self::OneProcess { .. } => {
                "start it without mpirun or srun; only train, analyze, sharpness, landscape, llc and evaluate can be shared among ranks"
                    .into()
            }
            Self::CoupledRows { .. } => "start it without mpirun, or analyse with --batch-norm eval".into(),
            Self::NotBuilt { .. } => {
                "build it with `cargo build --release --features mpi` (docs/cluster.md), or run it in one process"
                    .into()
            }
            Self::Unheard { .. } => format!(
                "start ranks by its mpirun, or by `srun --mpi=pmix` (OpenMPI) or `srun --mpi=pmi2` (MPICH); for work of its own \
                 in each process, unset {SLURM_TASKS}"
            ),
            Self::NoLauncher { .. } => {
                "load the MPI that it was built with, so that its programs are on the PATH (docs/cluster.md)".into()
            }
            Self::Start { .. } => "start it by mpirun or srun of the MPI that it was built with".into(),
        })
    }
}

/// Why a rank cannot go on, for the others.
#[derive(Debug)]
pub(super) struct Failure {
    rank: usize,
    /// `None` where the user asked to stop.
    words: Option<(String, Option<String>)>,
}

impl Failure {
    pub(super) fn new(rank: usize, error: &Error) -> Self {
        match error {
            Error::Interrupted => Self { rank, words: None },
            Error::Team(TeamError::Rank { rank, error, hint }) => {
                Self { rank: *rank, words: Some((error.clone(), hint.clone())) }
            }
            error => Self { rank, words: Some((error.to_string(), error.hint())) },
        }
    }

    /// What rank `rank` says.
    #[cfg(feature = "mpi")]
    pub(super) fn in_words(rank: usize, error: &str, hint: Option<&str>) -> Self {
        Self { rank, words: Some((error.to_owned(), hint.map(str::to_owned))) }
    }

    pub(super) fn error(self) -> Error {
        match self.words {
            None => Error::Interrupted,
            Some((error, hint)) => TeamError::Rank { rank: self.rank, error, hint }.into(),
        }
    }
}

impl Wire for Failure {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        self.rank.put(to)?;
        self.words.put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        Ok(Self { rank: usize::get(from)?, words: Option::get(from)? })
    }
}
