//! Numbers along an axis of the grid, as means over the seeds.

use super::plan::names;
use super::results::name_of;
use super::{CellResult, Plan, PlannedCell, State, StepKind};
use crate::report::figures::SweepCurve;
use crate::report::is_complete;
use crate::report::tables::{Table, read_table};
use crate::statistics::Sample;
use crate::vocabulary::{Curvature, Quantity};

/// Numbers that get a figure along each axis; the others are in `means.parquet`.
fn along_axes() -> [String; 2] {
    [Quantity::TestAccuracy.to_string(), name_of(Curvature::Hessian, &Quantity::Trace)]
}

/// The results of the groups along one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// The axis.
    pub axis: String,
    /// Name of a number, with a curve for each group that varies along the axis: name of the group and its points in
    /// ascending order, each with place, mean over the finished seeds and their standard deviation (NaN for one).
    pub quantities: Vec<(String, Vec<SweepCurve>)>,
}

/// A sweep for each axis along which a group has two or more values, all of them numbers.
pub fn sweeps(plan: &Plan, results: &[CellResult]) -> Vec<Sweep> {
    let cells: Vec<(&PlannedCell, &CellResult)> =
        plan.cells.iter().zip(results).filter(|(_, result)| result.state == State::Finished).collect();
    let sweep = |axis: &str| {
        let quantity = |name: String| (name.clone(), groups(&cells, axis, &name));
        let quantities = along_axes().map(quantity).into_iter().filter(|(_, groups)| !groups.is_empty()).collect();
        Sweep { axis: axis.to_owned(), quantities }
    };
    plan.axis_names().into_iter().map(sweep).filter(|sweep| !sweep.quantities.is_empty()).collect()
}

/// Test loss and accuracy over the epochs, for each group of cells that differ only in the seed, as a sweep along `epoch`.
pub fn over_epochs(plan: &Plan) -> Sweep {
    let labels: Vec<String> = plan.cells.iter().map(|cell| cell.cell.group()).collect();
    let metrics: Vec<Option<Table>> = plan.cells.iter().map(|cell| complete_metrics(plan, cell)).collect();
    let groups = |quantity: &str| {
        let group = |group: &str| {
            let tables = labels.iter().zip(&metrics).filter(|(label, _)| *label == group);
            let points: Vec<(f64, f64)> =
                tables.flat_map(|(_, table)| table.iter().flat_map(|table| along(table, quantity))).collect();
            // One epoch is no course.
            Some((group.to_owned(), means(&points))).filter(|(_, points)| points.len() > 1)
        };
        names(labels.iter().map(String::as_str)).into_iter().filter_map(group).collect()
    };
    let names = [Quantity::TestLoss, Quantity::TestAccuracy].map(|quantity| quantity.to_string());
    let quantities = names.map(|name| (name.clone(), groups(&name)));
    let quantities = quantities.into_iter().filter(|(_, groups): &(_, Vec<SweepCurve>)| !groups.is_empty()).collect();
    Sweep { axis: "epoch".into(), quantities }
}

fn complete_metrics(plan: &Plan, cell: &PlannedCell) -> Option<Table> {
    let folder = &plan.step(cell, StepKind::Train).filter(|step| is_complete(&step.folder))?.folder;
    read_table(&folder.join("metrics.parquet")).ok()
}

/// Epochs at which the quantity was measured, and its values.
fn along(table: &Table, quantity: &str) -> Vec<(f64, f64)> {
    let epochs = table.counts("epoch").iter().map(|epoch| *epoch as f64);
    epochs.zip(table.numbers(quantity).iter().copied()).filter(|(_, value)| value.is_finite()).collect()
}

/// Mean and standard deviation at each place, ascending.
fn means(points: &[(f64, f64)]) -> Vec<(f64, f64, f64)> {
    let mut places: Vec<f64> = points.iter().map(|(place, _)| *place).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let mean = |place: f64| {
        let values: Vec<f64> = points.iter().filter(|(other, _)| *other == place).map(|(_, value)| *value).collect();
        let sample = Sample::of(&values);
        (place, sample.mean, sample.std_dev)
    };
    places.into_iter().map(mean).collect()
}

fn groups(cells: &[(&PlannedCell, &CellResult)], axis: &str, quantity: &str) -> Vec<SweepCurve> {
    let others = |cell: &PlannedCell| {
        let mut cell = cell.cell.clone();
        cell.axes.retain(|(name, _)| name != axis);
        cell.group()
    };
    let labels: Vec<String> = cells.iter().map(|(cell, _)| others(cell)).collect();
    let points = |group: &str| -> Option<SweepCurve> {
        let mut own: Vec<(f64, f64)> = Vec::new();
        for ((cell, result), _) in cells.iter().zip(&labels).filter(|(_, label)| *label == group) {
            let value = result.number(quantity);
            own.extend(Some((cell.cell.on_axis(axis)?.parse::<f64>().ok()?, value)).filter(|_| !value.is_nan()));
        }
        let points = means(&own);
        (points.len() > 1).then(|| (group.to_owned(), points))
    };
    names(labels.iter().map(String::as_str)).into_iter().filter_map(points).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Cell;

    #[test]
    fn means_along_an_axis_for_each_of_the_others() {
        let mut plan = Plan { folder: "x".into(), cells: vec![], runs: vec![] };
        let mut results = Vec::new();
        let mut put = |variant: &str, eta: &str, seed, accuracy| {
            let axes = vec![("eta".to_owned(), eta.to_owned())];
            let cell = Cell { variant: variant.into(), axes, seed, settings: Default::default() };
            plan.cells.push(PlannedCell { cell, run: 0, steps: vec![] });
            let numbers = vec![("test_accuracy".to_owned(), accuracy)];
            results.push(CellResult { state: State::Finished, numbers });
        };
        for (eta, seed, accuracy) in [("0.9", 0, 4.0), ("0.1", 0, 1.0), ("0.1", 1, 2.0), ("0.9", 1, f64::NAN)] {
            put("fsgld", eta, seed, accuracy);
        }
        put("sgld", "0.1", 0, 7.0);
        results.push(CellResult { state: State::Pending, numbers: vec![] });
        let sweeps = sweeps(&plan, &results);
        assert_eq!((sweeps.len(), sweeps[0].axis.as_str(), sweeps[0].quantities.len()), (1, "eta", 1));
        let (name, groups) = &sweeps[0].quantities[0];
        // One place is not a sweep: no group for sgld.
        assert_eq!((name.as_str(), groups.len(), groups[0].0.as_str()), ("test_accuracy", 1, "fsgld"));
        let points = &groups[0].1;
        assert_eq!((points[0].0, points[0].1, points[0].2), (0.1, 1.5, 0.5f64.sqrt()));
        assert!((points[1].0, points[1].1) == (0.9, 4.0) && points[1].2.is_nan());
    }
}
