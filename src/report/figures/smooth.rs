//! Values between the points of a grid: cubics that are smooth where the values are, and make no waves beside a cliff.

/// A grid of places and values, row by row.
pub struct Fine {
    /// Ascending, two or more.
    pub x: Vec<f64>,
    /// Ascending, two or more.
    pub y: Vec<f64>,
    /// `y.len() × x.len()` values.
    pub values: Vec<f64>,
    /// Steps of this grid in one of the grid that it was made of, along `x` and `y`.
    pub parts: (usize, usize),
}

/// Steps along a side at least: then straight pieces between them look round in print.
const STEPS: usize = 96;

/// `values` on a finer grid that has the places of the first among its own. Values stay within `0..=1`.
pub fn refined(x: &[f64], y: &[f64], values: &[f64]) -> Fine {
    let parts = [x, y].map(|list| STEPS.div_ceil(list.len().saturating_sub(1).max(1)));
    let rows: Vec<Vec<f64>> = values.chunks(x.len().max(1)).map(|row| refined_line(x, row, parts[0])).collect();
    let width = rows.first().map_or(0, Vec::len);
    let columns: Vec<Vec<f64>> = (0..width)
        .map(|column| refined_line(y, &rows.iter().map(|row| row[column]).collect::<Vec<_>>(), parts[1]))
        .collect();
    let height = columns.first().map_or(0, Vec::len);
    let values = (0..height).flat_map(|row| columns.iter().map(move |column| column[row].clamp(0.0, 1.0)));
    Fine {
        x: refined_line(x, x, parts[0]),
        y: refined_line(y, y, parts[1]),
        values: values.collect(),
        parts: (parts[0], parts[1]),
    }
}

/// A cubic on each piece between two places, cut into `parts`. Slopes are those of the parabola through a point and its
/// neighbours, but at most three times that of the flatter side (Fritsch and Carlson 1980).
fn refined_line(at: &[f64], values: &[f64], parts: usize) -> Vec<f64> {
    let steps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let secants: Vec<f64> = values.windows(2).zip(&steps).map(|(pair, step)| (pair[1] - pair[0]) / step).collect();
    let inner = secants.windows(2).zip(steps.windows(2)).map(|(secant, step)| {
        let most = 3.0 * secant[0].abs().min(secant[1].abs());
        ((step[1] * secant[0] + step[0] * secant[1]) / (step[0] + step[1])).clamp(-most, most)
    });
    let mut slopes: Vec<f64> = vec![0.0];
    slopes.extend(inner);
    slopes.push(0.0);
    // An end bends as its neighbour does.
    let end = |secant: f64, slope: f64| (2.0 * secant - slope).clamp(-3.0 * secant.abs(), 3.0 * secant.abs());
    let last = slopes.len() - 1;
    if let (Some(first_secant), Some(last_secant)) = (secants.first(), secants.last()) {
        let neighbours = if last > 1 { (slopes[1], slopes[last - 1]) } else { (*first_secant, *last_secant) };
        slopes[0] = end(*first_secant, neighbours.0);
        slopes[last] = end(*last_secant, neighbours.1);
    }
    let mut fine = Vec::with_capacity(steps.len() * parts + 1);
    for (index, step) in steps.iter().enumerate() {
        let (from, to) = (values[index], values[index + 1]);
        for part in 0..parts {
            let t = part as f64 / parts as f64;
            let (rise, left, right) = (t * t * (3.0 - 2.0 * t), t * (1.0 - t) * (1.0 - t), t * t * (t - 1.0));
            fine.push(from + rise * (to - from) + step * (left * slopes[index] + right * slopes[index + 1]));
        }
    }
    fine.extend(values.last());
    fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parabolas_are_met_and_cliffs_make_no_waves() {
        let at: Vec<f64> = (0..9).map(|i| -1.0 + 0.25 * f64::from(i)).collect();
        let bowl: Vec<f64> = at.iter().map(|x| x * x).collect();
        let (x, fine) = (refined_line(&at, &at, 12), refined_line(&at, &bowl, 12));
        assert_eq!((x.len(), fine.len()), (97, 97));
        for (x, value) in x.iter().zip(&fine) {
            assert!((value - x * x).abs() < 1e-12, "{x} {value}");
        }
        let cliff: Vec<f64> = at.iter().map(|x| if *x < 0.1 { 0.01 * x } else { 1.0 }).collect();
        let fine = refined_line(&at, &cliff, 12);
        assert!(fine.windows(2).all(|pair| pair[1] >= pair[0] - 1e-12), "{fine:?}");
    }

    #[test]
    fn a_finer_grid_has_the_points_of_the_first() {
        let (x, y) = ([0.0, 1.0, 3.0], [-1.0, 1.0]);
        let values = [0.0, 0.5, 1.0, 0.25, 0.5, 0.0];
        let fine = refined(&x, &y, &values);
        assert_eq!((fine.x.len(), fine.y.len(), fine.values.len()), (97, 97, 97 * 97));
        for (index, value) in values.iter().enumerate() {
            let (column, row) = (fine.parts.0 * (index % 3), fine.parts.1 * (index / 3));
            assert!((fine.x[column] - x[index % 3]).abs() < 1e-12 && (fine.y[row] - y[index / 3]).abs() < 1e-12);
            assert!((fine.values[row * 97 + column] - value).abs() < 1e-12);
        }
    }
}
