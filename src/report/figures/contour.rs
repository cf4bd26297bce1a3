//! Level sets of a function on a grid (marching squares, Lorensen and Cline 1987).

// Not from `contour`: it cuts every saddle the same way (0.13), whatever the values around it.
use super::point::Point;

/// Values on a grid, row by row from the first `y`; all finite.
pub struct Grid<'a> {
    /// Number of columns, 2 or more.
    pub columns: usize,
    /// Number of rows, 2 or more.
    pub rows: usize,
    /// `rows × columns` values.
    pub values: &'a [f64],
}

/// A closed line, in grid units from the first point: column, row.
#[derive(Debug, Clone, PartialEq)]
pub struct Ring {
    /// Corners; the last joins the first.
    pub corners: Vec<Point>,
    /// Whether the values inside are above the level; else the ring is the rim of a hole.
    pub high_inside: bool,
}

impl Ring {
    /// Twice the signed area; positive where column to row turns left.
    fn signed_area(&self) -> f64 {
        let next = self.corners.iter().cycle().skip(1);
        self.corners.iter().zip(next).map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum()
    }

    /// Size of the enclosed area.
    pub fn area(&self) -> f64 {
        0.5 * self.signed_area().abs()
    }
}

/// An edge of the padded grid: from a node (column, row) to the right (`false`) or up (`true`).
type Edge = (usize, usize, bool);

/// All rings around the region where the values are `level` or more. Where the region meets the rim of the grid, its
/// ring follows the rim.
pub fn rings(grid: &Grid, level: f64) -> Vec<Ring> {
    // One layer of low nodes around the grid closes every ring.
    let (columns, rows) = (grid.columns + 2, grid.rows + 2);
    let value = |(column, row): (usize, usize)| {
        let inside = (1..=grid.columns).contains(&column) && (1..=grid.rows).contains(&row);
        inside.then(|| grid.values[(row - 1) * grid.columns + column - 1])
    };
    let high = |node: (usize, usize)| value(node).is_some_and(|v| v >= level);
    let mut next: std::collections::BTreeMap<Edge, Edge> = std::collections::BTreeMap::new();
    for row in 0..rows - 1 {
        for column in 0..columns - 1 {
            // Lower left, lower right, upper right, upper left; edge i leads from corner i to corner i + 1.
            let corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)];
            let edges: [Edge; 4] =
                [(column, row, false), (column + 1, row, true), (column, row + 1, false), (column, row, true)];
            let above = corners.map(high);
            // Walking around the cell, the region is entered at `starts` and left at `ends`.
            let ends: Vec<usize> = (0..4).filter(|i| above[*i] && !above[(i + 1) % 4]).collect();
            let starts: Vec<usize> = (0..4).filter(|i| !above[*i] && above[(i + 1) % 4]).collect();
            let center = corners.map(|corner| value(corner).unwrap_or(f64::NEG_INFINITY)).iter().sum::<f64>() / 4.0;
            for end in &ends {
                // At a saddle the mean decides whether the two high corners are one region.
                let nearest = |start: &&usize| (*start + 4 - end) % 4;
                let chosen =
                    if center >= level { starts.iter().min_by_key(nearest) } else { starts.iter().max_by_key(nearest) };
                if let Some(start) = chosen {
                    next.insert(edges[*end], edges[*start]);
                }
            }
        }
    }
    let place = |(column, row, up): Edge| -> Point {
        let (from, to) = ((column, row), if up { (column, row + 1) } else { (column + 1, row) });
        let share = match (value(from), value(to)) {
            (Some(a), Some(b)) => ((level - a) / (b - a)).clamp(0.0, 1.0),
            // On the rim: the node that exists.
            (Some(_), None) => 0.0,
            _ => 1.0,
        };
        let (x, y) = (column as f64 - 1.0, row as f64 - 1.0);
        if up { (x, y + share) } else { (x + share, y) }
    };
    let mut found = Vec::new();
    while let Some((first, _)) = next.iter().next().map(|(a, b)| (*a, *b)) {
        let mut corners: Vec<Point> = Vec::new();
        let mut edge = first;
        while let Some(following) = next.remove(&edge) {
            let here = place(edge);
            if corners.last() != Some(&here) {
                corners.push(here);
            }
            edge = following;
        }
        let mut ring = Ring { corners, high_inside: true };
        ring.high_inside = ring.signed_area() > 0.0;
        if ring.corners.len() > 2 {
            found.push(ring);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(side: usize, value: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let at = |i: usize| 2.0 * i as f64 / (side - 1) as f64 - 1.0;
        (0..side * side).map(|i| value(at(i % side), at(i / side))).collect()
    }

    #[test]
    fn a_circle_has_its_area() {
        let values = sample(81, |x, y| -(x * x + y * y));
        let found = rings(&Grid { columns: 81, rows: 81, values: &values }, -0.25);
        assert_eq!(found.len(), 1);
        assert!(found[0].high_inside);
        // Radius 1/2 of half-width 1, in cells of 1/40; chords of length ~h lose h²/12 of the area.
        let exact = std::f64::consts::PI * 20.0f64.powi(2);
        assert!((found[0].area() / exact - 1.0).abs() < 2e-3, "{}", found[0].area() / exact);
    }

    #[test]
    fn a_basin_is_a_hole_in_the_region_above() {
        let values = sample(41, |x, y| x * x + y * y);
        let found = rings(&Grid { columns: 41, rows: 41, values: &values }, 0.25);
        let (holes, outer): (Vec<_>, Vec<_>) = found.iter().partition(|ring| !ring.high_inside);
        assert_eq!((holes.len(), outer.len()), (1, 1));
        // The outer ring is the rim of the grid.
        assert!((outer[0].area() - 1600.0).abs() < 1e-9, "{}", outer[0].area());
    }

    #[test]
    fn saddles_and_flat_grids_close_their_rings() {
        let saddle = [1.0, 0.0, 0.0, 1.0];
        let grid = Grid { columns: 2, rows: 2, values: &saddle };
        assert_eq!(rings(&grid, 0.4).len(), 1);
        assert_eq!(rings(&grid, 0.6).len(), 2);
        let flat = [3.0; 6];
        let grid = Grid { columns: 3, rows: 2, values: &flat };
        assert_eq!(rings(&grid, 3.0).len(), 1);
        assert!(rings(&grid, 4.0).is_empty());
    }
}
