//! A whole landscape: the grid, the marked minima, the barrier between two of them, and the headline numbers.

use serde_json::Value;

use super::frame::{DirectionFacts, DirectionKind, Frame, Mark};
use super::grid::{Grid, convex_share};
use super::points::{Surface, Watch};
use super::trajectory::PathPoint;
use crate::objective::Evaluation;
use crate::statistics::Ratio;
use crate::vocabulary::{Quantity, SummaryRow};
use crate::{Observer, Result};

/// The height of the loss between two minima over the straight line between their losses.
#[derive(Debug, Clone, PartialEq)]
pub struct Barrier {
    /// `max_t L(θ(t)) − ((1 − t) L_A + t L_B)` over the grid's `t` in 0..=1; 0 or more, since both ends count.
    pub height: f64,
    /// Standard error from the choice of rows at fixed `t`, from the paired losses of the rows; the choice of the largest
    /// `t` is not in it.
    pub std_err_data: f64,
    /// Where it is.
    pub t: f64,
    /// Loss at A and B.
    pub ends: (f64, f64),
}

/// What `flatness landscape` found.
#[derive(Debug, Clone)]
pub struct LandscapeReport {
    /// Name for titles.
    pub name: String,
    /// How the directions were made, in one line.
    pub directions: String,
    /// How loss and data were defined, in one line.
    pub statement: String,
    /// One entry for each axis.
    pub facts: Vec<DirectionFacts>,
    /// The coordinates.
    pub grid: Grid,
    /// At each of its points, row by row.
    pub values: Vec<Evaluation>,
    /// Checkpoints in the frame.
    pub marks: Vec<(Mark, Evaluation)>,
    /// The projected trajectory; empty where there is none.
    pub path: Vec<PathPoint>,
    /// Of a line between two minima.
    pub barrier: Option<Barrier>,
    /// Headline numbers.
    pub summary: Vec<SummaryRow>,
    /// The resolved configuration, in every file's metadata.
    pub configuration: Value,
}

impl LandscapeReport {
    /// Before anything is found.
    pub fn empty(name: &str, frame: &Frame, grid: Grid) -> Self {
        Self {
            name: name.into(),
            directions: String::new(),
            statement: String::new(),
            facts: frame.facts.clone(),
            grid,
            values: Vec::new(),
            marks: Vec::new(),
            path: Vec::new(),
            barrier: None,
            summary: Vec::new(),
            configuration: Value::Null,
        }
    }

    /// Losses of the grid.
    pub fn losses(&self) -> Vec<f64> {
        self.values.iter().map(|value| value.loss).collect()
    }

    /// Position and loss of the smallest finite loss on the grid.
    pub fn lowest(&self) -> Option<((f64, f64), f64)> {
        let points = self.grid.points().into_iter().zip(self.losses());
        points.filter(|(_, loss)| loss.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Fills `report` with values on its grid, at the marks, and the barrier of a line between minima.
///
/// # Errors
/// As [`Surface::evaluate`].
pub fn survey(
    surface: &Surface<'_>,
    frame: &Frame,
    report: &mut LandscapeReport,
    Watch { store, observer }: Watch<'_>,
) -> Result<()> {
    surface.slopes(&mut report.facts, observer)?;
    report.values = surface.evaluate(&report.grid.points(), Watch { store, observer: &mut *observer })?;
    let at: Vec<(f64, f64)> = frame.marks.iter().map(|mark| mark.at).collect();
    let values = surface.evaluate(&at, Watch { store: &mut (), observer: &mut *observer })?;
    report.marks = frame.marks.iter().cloned().zip(values).collect();
    if let ([(_, a), (_, b)], true) = (report.marks.as_slice(), report.grid.is_line()) {
        report.barrier = barrier(&report.grid.x, &report.losses(), (a.loss, b.loss));
    }
    if let Some(barrier) = &mut report.barrier {
        barrier.std_err_data = barrier_error(surface, barrier.t, observer)?;
    }
    report.summary = summary(report);
    Ok(())
}

/// The barrier (Frankle et al. 2020; Garipov et al. 2018) of losses along `t`, without its error; `None` where the ends
/// have no finite loss.
pub fn barrier(t: &[f64], losses: &[f64], ends: (f64, f64)) -> Option<Barrier> {
    if !(ends.0.is_finite() && ends.1.is_finite()) {
        return None;
    }
    let between = t.iter().zip(losses).filter(|(t, _)| (0.0..=1.0).contains(*t));
    let over = between.map(|(t, loss)| (*t, loss - ((1.0 - t) * ends.0 + t * ends.1)));
    // Both ends are on the curve, whether or not the grid has them.
    let (t, height) = over
        .filter(|(_, height)| !height.is_nan())
        .fold((0.0, 0.0), |best, next| if next.1 > best.1 { next } else { best });
    Some(Barrier { height, std_err_data: f64::NAN, t, ends })
}

/// Standard error over the rows of the mean of `ℓ(θ(t)) − (1 − t) ℓ(A) − t ℓ(B)`.
fn barrier_error(surface: &Surface<'_>, t: f64, observer: &mut dyn Observer) -> Result<f64> {
    let mut rows = |x: f64| surface.row_losses((x, 0.0), observer);
    let (a, b, top) = (rows(0.0)?, rows(1.0)?, rows(t)?);
    let over = top.iter().zip(a.iter().zip(&b)).map(|(top, (a, b))| top - (1.0 - t) * a - t * b);
    let rows = over.zip(surface.row_weights()?).map(|(over, weight)| Ratio::of(over, weight));
    Ok(rows.fold(Ratio::default(), Ratio::merge).std_err())
}

fn summary(report: &LandscapeReport) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    let mut add = |quantity: Quantity, value: f64, std_err_data: f64| {
        rows.push(SummaryRow { std_err_data, ..SummaryRow::exact(quantity, value) });
    };
    for (mark, value) in &report.marks {
        add(Quantity::LossAt(mark.name), value.loss, value.loss_std_err);
        add(Quantity::AccuracyAt(mark.name), value.accuracy, value.accuracy_std_err);
    }
    if let Some(barrier) = &report.barrier {
        add(Quantity::Barrier, barrier.height, barrier.std_err_data);
        add(Quantity::BarrierT, barrier.t, f64::NAN);
    }
    let explained = [Quantity::ExplainedVarianceX, Quantity::ExplainedVarianceY];
    for (facts, explained) in report.facts.iter().zip(explained) {
        match facts.kind {
            DirectionKind::Between if report.grid.is_line() => add(Quantity::DistanceAb, facts.length, f64::NAN),
            DirectionKind::Pca => add(explained, facts.explained_variance, f64::NAN),
            _ => {}
        }
    }
    let losses = report.losses();
    if let Some(((x, y), loss)) = report.lowest() {
        add(Quantity::GridMinLoss, loss, f64::NAN);
        add(Quantity::GridMinX, x, f64::NAN);
        if !report.grid.is_line() {
            add(Quantity::GridMinY, y, f64::NAN);
        }
    }
    let finite = || losses.iter().copied().filter(|loss| loss.is_finite());
    add(Quantity::GridMaxLoss, finite().fold(f64::NAN, f64::max), f64::NAN);
    add(Quantity::FiniteShare, finite().count() as f64 / losses.len().max(1) as f64, f64::NAN);
    add(Quantity::ConvexShare, convex_share(&report.grid, &losses), f64::NAN);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_barrier_is_the_largest_height_over_the_straight_line() {
        let t = [-0.5, 0.0, 0.25, 0.5, 1.0, 1.5];
        // Over the line from 1 to 3: −0.5 at 0.25, 0.75 at 0.5. What lies outside does not count.
        let losses = [90.0, 1.0, 1.0, 2.75, 3.0, 90.0];
        let found = barrier(&t, &losses, (1.0, 3.0)).unwrap();
        assert_eq!((found.height, found.t), (0.75, 0.5));
        // A valley has none.
        assert_eq!(barrier(&t, &[9.0, 1.0, 0.0, 0.0, 3.0, 9.0], (1.0, 3.0)).unwrap().height, 0.0);
        assert_eq!(barrier(&t, &[9.0, 1.0, f64::INFINITY, 0.0, 3.0, 9.0], (1.0, 3.0)).unwrap().height, f64::INFINITY);
        assert!(barrier(&t, &losses, (f64::INFINITY, 1.0)).is_none());
    }
}
