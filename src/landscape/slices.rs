//! The loss along lines and over planes.

use candle_core::{DType, Tensor};

use crate::analysis::{SliceKind, SliceReport};
use crate::curvature::Objective;
use crate::nn::NnError;
use crate::{Error, Observer, Result, Step};

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
    let x = grid(line.half_width, line.num_points);
    let y = vec![0.0; x.len()];
    let directions = [line.direction, line.direction];
    let mut report = surface(objective, theta, directions, (x, y), observer)?;
    (report.kind, report.direction, report.curvature) = (line.kind, line.index, line.curvature);
    Ok(report)
}

/// Mean loss and accuracy over `θ + x d₁ + y d₂`, `|x|, |y| ≤ half_width`, row by row of `y`.
/// Cost: `num_points²` forward passes over the data.
///
/// # Errors
/// An interruption.
pub fn plane(
    objective: &Objective<'_>,
    theta: &Tensor,
    directions: [&Tensor; 2],
    (half_width, num_points): (f64, usize),
    observer: &mut dyn Observer,
) -> Result<SliceReport> {
    let axis = grid(half_width, num_points);
    let points = axis.iter().flat_map(|&y| axis.iter().map(move |&x| (x, y))).unzip();
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
    (x, y): (Vec<f64>, Vec<f64>),
    observer: &mut dyn Observer,
) -> Result<SliceReport> {
    // Points are made in f64 and rounded once, so that small steps do not vanish in f32 weights.
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64);
    let (theta, first, second) = (wide(theta)?, wide(directions[0])?, wide(directions[1])?);
    let (mut losses, mut accuracies) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    let total = x.len();
    for (index, (&x, &y)) in x.iter().zip(&y).enumerate() {
        let point = ((&theta + (&first * x)?)? + (&second * y)?)?;
        let (loss, accuracy) = match objective.evaluate(&objective.place(&point)?, observer) {
            Ok(evaluation) => (evaluation.loss, evaluation.accuracy),
            Err(Error::Nn(NnError::NonFinite { .. })) => (f64::INFINITY, f64::NAN),
            Err(error) => return Err(error),
        };
        losses.push(loss);
        accuracies.push(accuracy);
        let step = Step { task: "loss slices", done: index + 1, total, message: String::new() };
        if observer.on_step(&step).is_break() {
            return Err(Error::Interrupted);
        }
    }
    Ok(SliceReport {
        kind: SliceKind::RandomPlane,
        direction: 0,
        x,
        y,
        loss: losses,
        accuracy: accuracies,
        curvature: f64::NAN,
    })
}
