//! The loss along lines and over planes.

use candle_core::{DType, Tensor};

use super::frame::{DirectionFacts, DirectionKind, Frame};
use super::points::{Statistics, Surface, Watch};
use crate::objective::Objective;
use crate::{Observer, Result};

/// What direction a slice follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceKind {
    /// One unit eigenvector.
    Eigenvector,
    /// One random filter-normalised direction (Li et al. 2018).
    RandomFilter,
    /// The plane of two random filter-normalised directions, orthogonalised.
    RandomPlane,
}

impl SliceKind {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eigenvector => "eigenvector",
            Self::RandomFilter => "random_filter",
            Self::RandomPlane => "random_plane",
        }
    }
}

/// Loss and accuracy along a line or over a plane through the checkpoint.
#[derive(Debug, Clone)]
pub struct SliceReport {
    /// What direction.
    pub kind: SliceKind,
    /// Index of the direction within its kind, from 0 (for a plane: 0).
    pub direction: usize,
    /// First coordinate of each point, in units of the direction.
    pub x: Vec<f64>,
    /// Second coordinate; all 0 on a line.
    pub y: Vec<f64>,
    /// Mean loss at each point.
    pub loss: Vec<f64>,
    /// Its standard error over the rows.
    pub std_err_data: Vec<f64>,
    /// Accuracy in 0..=1 at each point; NaN if the targets are not classes.
    pub accuracy: Vec<f64>,
    /// Its standard error over the rows.
    pub accuracy_std_err_data: Vec<f64>,
    /// Slope at 0 along a line: `gᵀd` with the gradient `g` of the loss; NaN for a plane.
    pub slope: f64,
    /// For an eigenvector: its Ritz value, so that the figure can draw `loss + slope x + curvature x²/2`; else NaN.
    pub curvature: f64,
}

/// A line `θ + x d`, `x` from `−half_width` to `half_width`.
pub struct Line<'a> {
    /// What kind of direction.
    pub kind: SliceKind,
    /// Its index within the kind.
    pub index: usize,
    /// `d`, `[n]`.
    pub direction: &'a Tensor,
    /// Largest `|x|`.
    pub half_width: f64,
    /// Points, an odd number, so that `θ` itself is one.
    pub num_points: usize,
    /// `gᵀd` with the gradient `g` at `θ`.
    pub slope: f64,
    /// Its eigenvalue, or NaN.
    pub curvature: f64,
}

/// Mean loss and accuracy along a line. Cost: `num_points` forward passes over the data.
///
/// A loss that overflows at some point is infinite there.
///
/// # Errors
/// An interruption.
pub fn line(
    objective: &Objective<'_>,
    theta: &Tensor,
    line: &Line<'_>,
    observer: &mut dyn Observer,
) -> Result<SliceReport> {
    let points = grid(line.half_width, line.num_points).into_iter().map(|x| (x, 0.0)).collect();
    let directions = [line.direction, line.direction];
    let mut report = surface(objective, theta, directions, points, observer)?;
    (report.kind, report.direction) = (line.kind, line.index);
    (report.slope, report.curvature) = (line.slope, line.curvature);
    Ok(report)
}

/// Mean loss and accuracy over `θ + x d₁ + y d₂`, `|x|, |y| ≤ 1`, row by row of `y`.
/// Cost: `num_points²` forward passes over the data.
///
/// # Errors
/// An interruption.
pub fn plane(
    objective: &Objective<'_>,
    theta: &Tensor,
    directions: [&Tensor; 2],
    num_points: usize,
    observer: &mut dyn Observer,
) -> Result<SliceReport> {
    let axis = grid(1.0, num_points);
    let points = axis.iter().flat_map(|&y| axis.iter().map(move |&x| (x, y))).collect();
    surface(objective, theta, directions, points, observer)
}

fn grid(half_width: f64, num_points: usize) -> Vec<f64> {
    let middle = num_points / 2;
    let step = half_width / middle.max(1) as f64;
    (0..=2 * middle).map(|index| (index as f64 - middle as f64) * step).collect()
}

fn surface(
    objective: &Objective<'_>,
    theta: &Tensor,
    directions: [&Tensor; 2],
    points: Vec<(f64, f64)>,
    observer: &mut dyn Observer,
) -> Result<SliceReport> {
    let facts = DirectionFacts::new(DirectionKind::Random);
    let axes = directions.iter().map(|axis| Ok(axis.to_dtype(DType::F64)?)).collect::<Result<Vec<Tensor>>>()?;
    let frame = Frame::through(theta, axes, vec![facts.clone(), facts])?;
    let values =
        Surface::new(objective, &frame, Statistics::Eval).evaluate(&points, Watch { store: &mut (), observer })?;
    let (x, y) = points.into_iter().unzip();
    Ok(SliceReport {
        kind: SliceKind::RandomPlane,
        direction: 0,
        x,
        y,
        loss: values.iter().map(|value| value.loss).collect(),
        std_err_data: values.iter().map(|value| value.loss_std_err).collect(),
        accuracy: values.iter().map(|value| value.accuracy).collect(),
        accuracy_std_err_data: values.iter().map(|value| value.accuracy_std_err).collect(),
        slope: f64::NAN,
        curvature: f64::NAN,
    })
}
