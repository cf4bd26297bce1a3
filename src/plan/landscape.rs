//! Which line or plane `landscape` goes along.

use std::path::PathBuf;

use clap::Args;

use super::{PlanError, word};
use crate::landscape::{DirectionKind, Normalisation, PLANE_POINTS};

/// Points along a line and along a side of a plane, where nothing says how many.
const DEFAULT_POINTS: [usize; 2] = [101, PLANE_POINTS];
/// Most points of a line, and along a side of a plane.
pub(super) const MOST_POINTS: [usize; 2] = [10_001, 1_001];

/// Which line or plane.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Line or plane")]
pub struct ShapeArgs {
    /// Directions: random, eigenvectors, between or pca [default: random for one checkpoint, between for more]
    ///
    /// random (scaled as --normalisation says), eigenvectors (of the two largest eigenvalues of the Hessian), between (from A
    /// to B, and to C) or pca (principal directions of a training trajectory)
    #[arg(long, value_name = "KIND", value_parser = word::<DirectionKind>())]
    pub directions: Option<DirectionKind>,
    /// Scaling of random directions: filter, layer or none
    ///
    /// filter (each filter to the norm of the same filter of the weights; biases and normalisation stay fixed; Li et al.
    /// 2018), layer (each tensor of weights to its norm) or none (a standard normal vector over all parameters; Goodfellow
    /// et al. 2015)
    #[arg(long, visible_alias = "normalization", value_name = "SCALING", value_parser = word::<Normalisation>())]
    #[arg(default_value = "filter")]
    pub normalisation: Normalisation,
    /// Take the eigenvectors from a result folder of `analyze`, or from its eigenvectors.safetensors
    #[arg(long, value_name = "DIR")]
    pub eigenvectors: Option<PathBuf>,
    /// Folder with the checkpoints of a training run [default: snapshots beside the checkpoint]
    #[arg(long, value_name = "DIR")]
    pub trajectory: Option<PathBuf>,
    /// Only the line along the first direction, not the plane
    #[arg(long)]
    pub line: bool,
    /// How far to go to each side
    ///
    /// In units of the direction; between minima in units of their distance, from the middle between them (0.5 ends at the
    /// minima)
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub half_width: Option<f64>,
    /// Points along each side, an odd number [default: 25, of a line 101]
    #[arg(long, value_name = "N")]
    pub points: Option<usize>,
    /// Seed of random directions and of the start of an eigenvector search
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
}

/// What the arguments ask for, checked against one another.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What spans it.
    pub kind: DirectionKind,
    /// 1 for a line, 2 for a plane.
    pub dims: usize,
    /// Points along each side.
    pub num_points: usize,
}

impl ShapeArgs {
    /// The shape for so many checkpoints.
    ///
    /// # Errors
    /// [`PlanError::Option`] for options that contradict one another.
    pub fn shape(&self, checkpoints: usize) -> Result<Shape, PlanError> {
        let asked = match (self.directions, &self.eigenvectors, &self.trajectory) {
            (_, Some(_), Some(_)) => {
                return Err(PlanError::option(
                    "--trajectory",
                    "with --eigenvectors",
                    "a frame has one kind of directions",
                ));
            }
            (None, Some(_), None) => DirectionKind::Eigenvectors,
            (None, None, Some(_)) => DirectionKind::Pca,
            (Some(kind), ..) => kind,
            (None, None, None) if checkpoints > 1 => DirectionKind::Between,
            (None, None, None) => DirectionKind::Random,
        };
        let between = asked == DirectionKind::Between;
        let reason = match (between, checkpoints) {
            (true, 1) => Some("needs two or three checkpoints"),
            (false, 2..) => Some("goes through one checkpoint, but several are named"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(PlanError::option("--directions", asked.name(), reason));
        }
        let unused = [
            ("--eigenvectors", self.eigenvectors.is_some() && asked != DirectionKind::Eigenvectors),
            ("--trajectory", self.trajectory.is_some() && asked != DirectionKind::Pca),
        ];
        if let Some((name, _)) = unused.into_iter().find(|(_, unused)| *unused) {
            return Err(PlanError::option(name, "does not belong to", format!("--directions {}", asked.name())));
        }
        let line = if between { checkpoints == 2 } else { self.line };
        if self.line && between && checkpoints == 3 {
            return Err(PlanError::option("--line", "with three checkpoints", "name two of them"));
        }
        let place = usize::from(!line);
        let num_points = self.points.unwrap_or(DEFAULT_POINTS[place]);
        if num_points < 3 || num_points.is_multiple_of(2) || num_points > MOST_POINTS[place] {
            let reason = format!("must be an odd number from 3 to {}", MOST_POINTS[place]);
            return Err(PlanError::option("--points", num_points, reason));
        }
        if let Some(width) = self.half_width.filter(|width| !(*width > 0.0 && width.is_finite())) {
            return Err(PlanError::option("--half-width", width, "must be a number above 0"));
        }
        Ok(Shape { kind: asked, dims: if line { 1 } else { 2 }, num_points })
    }
}
