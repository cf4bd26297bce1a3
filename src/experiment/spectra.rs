//! Spectra of the groups of an experiment, from the cumulative distributions of their analyses.

use super::plan::names;
use super::{Plan, PlannedCell, StepKind};
use crate::report::figures::GroupSpectrum;
use crate::report::is_complete;
use crate::report::tables::{column, read_table};
use crate::vocabulary::Curvature;

/// Number of points of a curve.
const PLACES: usize = 160;
/// Decades below the largest eigenvalue that are shown.
const DECADES: f64 = 5.0;

/// For each group of cells that differ only in the seed, the number of eigenvalues of the Hessian above each of 160 places
/// over five decades, with what quadrature and probes leave open in any of its networks.
pub fn spectra(plan: &Plan) -> Vec<GroupSpectrum> {
    let counted: Vec<Option<Cumulative>> = plan.cells.iter().map(|cell| Cumulative::read(plan, cell)).collect();
    let largest = counted.iter().flatten().map(Cumulative::largest).fold(0.0, f64::max);
    if largest <= 0.0 {
        return Vec::new();
    }
    let place = |index: usize| 1.2 * largest * 10f64.powf(DECADES * (index as f64 / (PLACES - 1) as f64 - 1.0));
    let labels: Vec<String> = plan.cells.iter().map(|cell| cell.cell.group()).collect();
    let group = |name: &str| {
        let own = labels.iter().zip(&counted).filter(|(label, _)| *label == name);
        let own: Vec<&Cumulative> = own.filter_map(|(_, counts)| counts.as_ref()).collect();
        let point = |index: usize| {
            let above: Vec<[f64; 3]> = own.iter().map(|counts| counts.above(place(index))).collect();
            let mean = above.iter().map(|[number, ..]| number).sum::<f64>() / above.len() as f64;
            let low = above.iter().map(|[_, low, _]| *low).fold(f64::INFINITY, f64::min);
            (place(index), mean, low, above.iter().map(|[.., high]| *high).fold(0.0, f64::max))
        };
        let points = (0..PLACES).map(point).filter(|(_, mean, ..)| *mean > 0.0);
        GroupSpectrum { name: name.to_owned(), points: if own.is_empty() { Vec::new() } else { points.collect() } }
    };
    names(labels.iter().map(String::as_str)).into_iter().map(group).filter(|group| !group.points.is_empty()).collect()
}

/// Eigenvalues of one network's Hessian above ascending points.
struct Cumulative {
    num_params: f64,
    points: Vec<Point>,
}

/// A point with the share of eigenvalues up to it, and its 95 % band.
struct Point {
    value: f64,
    share: f64,
    low: f64,
    high: f64,
}

impl Cumulative {
    fn read(plan: &Plan, cell: &PlannedCell) -> Option<Self> {
        let folder = &plan.step(cell, StepKind::Analyze).filter(|step| is_complete(&step.folder))?.folder;
        let table = read_table(&folder.join("distribution.parquet")).ok()?;
        let of_hessian = |row: &usize| {
            table.text(column::OPERATOR, *row) == Curvature::Hessian.name() && table.text(column::SCOPE, *row) == "all"
        };
        let point = |row| {
            let number = |name: &str| table.number(name, row);
            Point { value: number(column::VALUE), share: number("share"), low: number("low"), high: number("high") }
        };
        let points = (0..table.num_rows()).filter(of_hessian).map(point).collect();
        Some(Self { num_params: table.configuration["num_params"].as_f64()?, points })
    }

    /// The largest point with eigenvalues above it.
    fn largest(&self) -> f64 {
        let occupied = self.points.iter().rev().find(|point| point.share < 1.0);
        occupied.map_or(0.0, |point| point.value)
    }

    /// How many eigenvalues are larger than `place`, at least and at most. The share grows from point to point: between two
    /// it lies between theirs, and the first number is interpolated.
    fn above(&self, place: f64) -> [f64; 3] {
        let next = self.points.partition_point(|point| point.value <= place);
        let (below, above) = (next.checked_sub(1).and_then(|index| self.points.get(index)), self.points.get(next));
        let share = match (below, above) {
            (Some(a), Some(b)) => a.share + (b.share - a.share) * (place - a.value) / (b.value - a.value),
            (Some(_), None) => 1.0,
            _ => 0.0,
        };
        let most = above.map_or(1.0, |point| point.high);
        [share, most, below.map_or(0.0, |point| point.low)].map(|share| self.num_params * (1.0 - share).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_points_the_band_holds_what_both_allow() {
        let point = |value, share, low, high| Point { value, share, low, high };
        let points = vec![point(-1.0, 0.0, 0.0, 0.1), point(1.0, 0.5, 0.4, 0.6), point(3.0, 0.9, 0.8, 1.0)];
        let spectrum = Cumulative { num_params: 100.0, points };
        let near = |found: [f64; 3], expected: [f64; 3]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}, not {expected:?}");
        };
        near(spectrum.above(-2.0), [100.0, 90.0, 100.0]);
        near(spectrum.above(2.0), [30.0, 0.0, 60.0]);
        near(spectrum.above(4.0), [0.0, 0.0, 20.0]);
        assert_eq!(spectrum.largest(), 3.0);
    }
}
