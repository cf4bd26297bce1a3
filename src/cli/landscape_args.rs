//! Arguments of `flatness landscape`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::{ComputeArgs, DataArgs, DtypeArg, L2Arg, ModelArgs, argument};
use super::figure_args::FigureArgs;
use super::loss::LossArgs;
use super::session::SessionArgs;
use super::state::Saving;
use crate::Result;
use crate::landscape::{DirectionKind, Normalisation, PLANE_POINTS, Statistics};

/// Points along a line and along a side of a plane, where nothing says how many.
const DEFAULT_POINTS: [usize; 2] = [101, PLANE_POINTS];
/// At most.
const MAX_POINTS: [usize; 2] = [10_001, 1_001];

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
    /// Precision of the computation
    #[arg(long, visible_alias = "precision", value_enum)]
    dtype: Option<DtypeArg>,
    /// Statistics of batch normalisation at the points: the stored ones (eval; fixed, and between minima interpolated like
    /// the parameters), or estimated anew at each point from the chosen rows (reestimate)
    #[arg(long, value_name = "WHICH", default_value_t = Statistics::Eval)]
    pub(super) batch_norm: Statistics,
    /// Whether the L2 term belongs to the loss
    #[arg(long, value_enum, default_value_t = L2Arg::Out)]
    l2: L2Arg,
    #[command(flatten)]
    pub(super) figures: FigureArgs,
    /// Result folder
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Go on from the points that a killed or interrupted run of the same command left in the result folder
    #[arg(long)]
    pub(super) resume: bool,
    /// Seconds between two writings of the finished points, at least
    #[arg(long, value_name = "S", default_value_t = 5.0, allow_negative_numbers = true)]
    save_every: f64,
    /// Overwrite an existing result
    #[arg(long)]
    pub(super) force: bool,
}

/// Which line or plane.
#[derive(Debug, Clone, Args)]
pub(super) struct ShapeArgs {
    /// What spans it: random, eigenvectors (of the two largest eigenvalues of the Hessian), between (from A to B and C) or
    /// pca (of a training trajectory) [default: random for one checkpoint, between for two or three]
    #[arg(long, value_name = "KIND")]
    directions: Option<DirectionKind>,
    /// What random directions are scaled to: filter (each filter to the norm of the same filter of the weights; Li et al.
    /// 2018), layer (each tensor of weights to its norm), both with biases and normalisation fixed, or none
    #[arg(long, visible_alias = "normalization", value_name = "HOW", default_value_t = Normalisation::Filter)]
    pub(super) normalisation: Normalisation,
    /// Take the eigenvectors from a result folder of `analyze`, or from its eigenvectors.safetensors
    #[arg(long, value_name = "DIR")]
    pub(super) eigenvectors: Option<PathBuf>,
    /// Folder of the checkpoints of a training, in order of their names [default: snapshots beside the checkpoint]
    #[arg(long, value_name = "DIR")]
    pub(super) trajectory: Option<PathBuf>,
    /// The line along the first direction in place of the plane
    #[arg(long)]
    line: bool,
    /// How far to go to each side: in units of the direction; between minima in units of their distance from the middle
    /// between them (0.5 ends at the minima)
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub(super) half_width: Option<f64>,
    /// Points along each side, an odd number [default: 25, of a line 101]
    #[arg(long, value_name = "N")]
    points: Option<usize>,
    /// Seed of random directions and of the start of an eigenvector search
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(super) seed: u64,
}

/// What the arguments ask for, checked among themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) kind: DirectionKind,
    /// 1 for a line, 2 for a plane.
    pub(super) dims: usize,
    pub(super) num_points: usize,
}

impl ShapeArgs {
    /// For so many checkpoints.
    pub(super) fn shape(&self, checkpoints: usize) -> Result<Shape> {
        let asked = match (self.directions, &self.eigenvectors, &self.trajectory) {
            (_, Some(_), Some(_)) => {
                return Err(argument("--trajectory", "with --eigenvectors", "a frame has one kind of directions"));
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
            return Err(argument("--directions", asked.name(), reason));
        }
        let unused = [
            ("--eigenvectors", self.eigenvectors.is_some() && asked != DirectionKind::Eigenvectors),
            ("--trajectory", self.trajectory.is_some() && asked != DirectionKind::Pca),
        ];
        if let Some((name, _)) = unused.into_iter().find(|(_, unused)| *unused) {
            return Err(argument(name, "is no part of", &format!("--directions {}", asked.name())));
        }
        let line = if between { checkpoints == 2 } else { self.line };
        if self.line && between && checkpoints == 3 {
            return Err(argument("--line", "with three checkpoints", "name two of them"));
        }
        let place = usize::from(!line);
        let num_points = self.points.unwrap_or(DEFAULT_POINTS[place]);
        if num_points < 3 || num_points.is_multiple_of(2) || num_points > MAX_POINTS[place] {
            let reason = format!("must be an odd number from 3 to {}", MAX_POINTS[place]);
            return Err(argument("--points", &num_points.to_string(), &reason));
        }
        if let Some(width) = self.half_width.filter(|width| !(*width > 0.0 && width.is_finite())) {
            return Err(argument("--half-width", &width.to_string(), "must be a number above 0"));
        }
        Ok(Shape { kind: asked, dims: if line { 1 } else { 2 }, num_points })
    }
}

impl LandscapeArgs {
    /// What `analyze` would be told of checkpoint `index`.
    pub(super) fn session(&self, index: usize) -> SessionArgs {
        let checkpoint = self.checkpoints.get(index).cloned().unwrap_or_default();
        SessionArgs {
            model: ModelArgs { checkpoint, arch: self.arch.clone(), output: None, weights_key: None },
            data: self.data.clone(),
            compute: self.compute.clone(),
            loss: self.loss.clone(),
            dtype: self.dtype,
            // New statistics are estimated at each point; the loss itself never couples the rows.
            batch_norm: Some(super::args::BatchNormArg::Eval),
            l2: self.l2,
        }
    }

    /// When points are written and taken up.
    pub(super) fn saving(&self) -> Result<Saving> {
        if !(0.0..1e9).contains(&self.save_every) {
            let reason = "must be a number of seconds, 0 or more";
            return Err(argument("--save-every", &self.save_every.to_string(), reason));
        }
        Ok(Saving { every: Duration::from_secs_f64(self.save_every), resume: self.resume })
    }
}
