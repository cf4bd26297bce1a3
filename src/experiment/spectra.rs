//! Spectra of the groups of an experiment, from the raw quadrature of their analyses.

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
/// over five decades: `n` times the share of the quadrature weight above it (stochastic Lanczos quadrature, Ubaru et al. 2017).
pub fn spectra(plan: &Plan) -> Vec<GroupSpectrum> {
    let counted: Vec<Option<Counts>> = plan.cells.iter().map(|cell| Counts::read(plan, cell)).collect();
    let largest = counted.iter().flatten().map(Counts::largest).fold(0.0, f64::max);
    if largest <= 0.0 {
        return Vec::new();
    }
    let place = |index: usize| 1.2 * largest * 10f64.powf(DECADES * (index as f64 / (PLACES - 1) as f64 - 1.0));
    let labels: Vec<String> = plan.cells.iter().map(|cell| cell.cell.group()).collect();
    let group = |name: &str| {
        let own: Vec<&Counts> = labels
            .iter()
            .zip(&counted)
            .filter(|(label, _)| *label == name)
            .filter_map(|(_, counts)| counts.as_ref())
            .collect();
        let point = |index: usize| {
            let above: Vec<f64> = own.iter().map(|counts| counts.above(place(index))).collect();
            let mean = above.iter().sum::<f64>() / above.len() as f64;
            let (low, high) = above.iter().fold((f64::INFINITY, 0.0f64), |(low, high), n| (low.min(*n), high.max(*n)));
            (place(index), mean, low, high)
        };
        let points = (0..PLACES).map(point).filter(|(_, mean, ..)| *mean > 0.0);
        GroupSpectrum { name: name.to_owned(), points: if own.is_empty() { Vec::new() } else { points.collect() } }
    };
    names(labels.iter().map(String::as_str)).into_iter().map(group).filter(|group| !group.points.is_empty()).collect()
}

/// Nodes of one network's Hessian, each with the number of eigenvalues that it stands for.
struct Counts(Vec<(f64, f64)>);

impl Counts {
    fn read(plan: &Plan, cell: &PlannedCell) -> Option<Self> {
        let folder = &plan.step(cell, StepKind::Analyze).filter(|step| is_complete(&step.folder))?.folder;
        let table = read_table(&folder.join("density_nodes.parquet")).ok()?;
        let of_hessian = |row: &usize| table.text(column::OPERATOR, *row) == Curvature::Hessian.name();
        let own: Vec<usize> = (0..table.num_rows()).filter(of_hessian).collect();
        let probes = table.counts(column::PROBE);
        let num_probes = own.iter().filter_map(|row| probes.get(*row)).max()? + 1;
        let each = table.configuration["num_params"].as_f64()? / num_probes as f64;
        let node = |row| (table.number(column::NODE, row), each * table.number(column::WEIGHT, row));
        Some(Self(own.into_iter().map(node).collect()))
    }

    fn largest(&self) -> f64 {
        self.0.iter().map(|(node, _)| *node).fold(0.0, f64::max)
    }

    fn above(&self, place: f64) -> f64 {
        self.0.iter().filter(|(node, _)| *node >= place).map(|(_, count)| count).sum()
    }
}
