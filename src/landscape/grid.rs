//! Points of a line or plane.

/// Coordinates along each axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// Along the first axis, ascending.
    pub x: Vec<f64>,
    /// Along the second; empty for a line.
    pub y: Vec<f64>,
}

impl Grid {
    /// `num_points`, an odd number, along each axis, evenly from end to end. A line also gets the coordinates of its
    /// `marks`, where it has none so near that only rounding tells them apart.
    pub fn new(reach: &[(f64, f64)], num_points: usize, marks: &[f64]) -> Self {
        let mut axes = reach.iter().map(|ends| even(*ends, num_points));
        let mut grid = Self { x: axes.next().unwrap_or_default(), y: axes.next().unwrap_or_default() };
        if grid.y.is_empty() {
            marks.iter().for_each(|mark| grid.add(*mark));
        }
        grid
    }

    fn add(&mut self, mark: f64) {
        let (Some(first), Some(last)) = (self.x.first().copied(), self.x.last().copied()) else { return };
        let near = 1e-9 * (last - first);
        match self.x.iter_mut().find(|x| (**x - mark).abs() <= near) {
            Some(x) => *x = mark,
            None if mark > first && mark < last => {
                self.x.push(mark);
                self.x.sort_by(f64::total_cmp);
            }
            None => {}
        }
    }

    /// All points, row by row of `y`.
    pub fn points(&self) -> Vec<(f64, f64)> {
        if self.y.is_empty() {
            return self.x.iter().map(|x| (*x, 0.0)).collect();
        }
        self.y.iter().flat_map(|y| self.x.iter().map(move |x| (*x, *y))).collect()
    }

    /// Whether it is a line.
    pub(crate) fn is_line(&self) -> bool {
        self.y.is_empty()
    }
}

fn even((from, to): (f64, f64), num_points: usize) -> Vec<f64> {
    let half = num_points / 2;
    let (middle, step) = (0.5 * (from + to), 0.5 * (to - from) / half.max(1) as f64);
    let at = |index: usize| match index {
        0 if half > 0 => from,
        index if index == 2 * half && half > 0 => to,
        index => middle + (index as f64 - half as f64) * step,
    };
    (0..=2 * half).map(at).collect()
}

/// Share of the inner points at which the second differences are those of a convex function: the second difference on a
/// line, both eigenvalues of the discrete Hessian on a plane of even steps. Points next to a loss that is not finite do
/// not count; NaN where none does.
pub(crate) fn convex_share(grid: &Grid, losses: &[f64]) -> f64 {
    let (mut convex, mut count) = (0usize, 0usize);
    let mut add = |second: f64| {
        if second.is_finite() {
            count += 1;
            convex += usize::from(second >= 0.0);
        }
    };
    if grid.is_line() {
        for (x, loss) in grid.x.windows(3).zip(losses.windows(3)) {
            if let ([a, b, c], [f, g, h]) = (x, loss) {
                add((h - g) / (c - b) - (g - f) / (b - a));
            }
        }
    } else {
        let columns = grid.x.len();
        let step = |axis: &[f64]| if let [a, b, ..] = axis { b - a } else { f64::NAN };
        let (hx, hy) = (step(&grid.x), step(&grid.y));
        for row in 1..grid.y.len().saturating_sub(1) {
            for column in 1..columns.saturating_sub(1) {
                let at = |dx: usize, dy: usize| losses.get((row + dy - 1) * columns + column + dx - 1);
                let value = |dx, dy| at(dx, dy).copied().unwrap_or(f64::NAN);
                let xx = (value(0, 1) - 2.0 * value(1, 1) + value(2, 1)) / (hx * hx);
                let yy = (value(1, 0) - 2.0 * value(1, 1) + value(1, 2)) / (hy * hy);
                let xy = (value(2, 2) - value(2, 0) - value(0, 2) + value(0, 0)) / (4.0 * hx * hy);
                // The smaller eigenvalue.
                add(0.5 * (xx + yy) - (0.5 * (xx - yy)).hypot(xy));
            }
        }
    }
    if count == 0 { f64::NAN } else { convex as f64 / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_middle_are_exact_and_marks_are_on_the_line() {
        let grid = Grid::new(&[(-0.3, 0.3)], 7, &[]);
        assert_eq!((grid.x[0], grid.x[3], grid.x[6]), (-0.3, 0.0, 0.3));
        let grid = Grid::new(&[(-0.2, 1.2)], 5, &[0.0, 1.0, 5.0]);
        assert!(grid.x.contains(&0.0) && grid.x.contains(&1.0) && grid.x.len() == 7, "{:?}", grid.x);
        // 0.5 − 50 · 0.01 is 0 up to rounding: no second point beside it.
        assert_eq!(Grid::new(&[(0.0, 1.0)], 101, &[0.0, 1.0]).x.len(), 101);
        let plane = Grid::new(&[(0.0, 1.0), (2.0, 4.0)], 3, &[0.1]);
        assert_eq!(plane.points()[..4], [(0.0, 2.0), (0.5, 2.0), (1.0, 2.0), (0.0, 3.0)]);
    }

    #[test]
    fn convexity_by_hand() {
        let plane = Grid::new(&[(-1.0, 1.0), (-1.0, 1.0)], 5, &[]);
        let share = |f: fn(f64, f64) -> f64| {
            convex_share(&plane, &plane.points().iter().map(|(x, y)| f(*x, *y)).collect::<Vec<_>>())
        };
        assert_eq!(share(|x, y| x * x + x * y + y * y), 1.0);
        // Positive along both axes, but not between them.
        assert_eq!(share(|x, y| x * x + 3.0 * x * y + y * y), 0.0);
        assert!(share(|_, _| f64::INFINITY).is_nan());
        let line = Grid::new(&[(-1.0, 1.0)], 5, &[]);
        // Convex at −0.5 and 0 (where the second difference of x³ vanishes), concave at 0.5.
        let cubic: Vec<f64> = line.x.iter().map(|x| -x.powi(3)).collect();
        assert!((convex_share(&line, &cubic) - 2.0 / 3.0).abs() < 1e-15);
    }
}
