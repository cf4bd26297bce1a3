//! What can go wrong with a landscape.

/// Directions or checkpoints that make no line or plane.
#[derive(Debug, thiserror::Error)]
pub enum LandscapeError {
    /// Minima of two architectures.
    #[error("{first} and {second} are different networks: {what}")]
    OtherNetwork {
        /// The first checkpoint.
        first: String,
        /// The other one.
        second: String,
        /// What differs.
        what: String,
    },
    /// Minima of two training sets.
    #[error("{first} and {second} were trained on different data: {}", differing.join("; "))]
    OtherData {
        /// The first checkpoint.
        first: String,
        /// The other one.
        second: String,
        /// Keys of the data specification with both values.
        differing: Vec<String>,
    },
    /// Minima at one place, or on one line.
    #[error("{what}: they do not span a {shape}")]
    NoSpan {
        /// Which points coincide, or lie on a line.
        what: String,
        /// `line` or `plane`.
        shape: &'static str,
    },
    /// Too few or too still checkpoints for principal directions.
    #[error("principal directions of {count} checkpoints: {reason}")]
    NoTrajectory {
        /// Checkpoints of the trajectory.
        count: usize,
        /// What is missing.
        reason: String,
    },
    /// Eigenvectors of another checkpoint, or too few.
    #[error("eigenvectors in {path}: {reason}")]
    Eigenvectors {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl LandscapeError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::OtherNetwork { .. } => "compare checkpoints of one architecture".into(),
            Self::OtherData { .. } => "name one data set for all of them with --data, and --labels or --noise".into(),
            Self::NoSpan { .. } => "name minima that differ, such as those of two seeds".into(),
            Self::NoTrajectory { .. } => {
                "save checkpoints during training with `flatness train --snapshots 1`, and give their folder to --trajectory"
                    .into()
            }
            Self::Eigenvectors { .. } => {
                "run `flatness analyze --top 2` on this checkpoint first, or leave --eigenvectors out to compute them".into()
            }
        })
    }
}
