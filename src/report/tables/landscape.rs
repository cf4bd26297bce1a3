//! The tables of one landscape.

use std::path::{Path, PathBuf};

use super::analysis::summary;
use super::{Columns, count, flag, number, text, write_table};
use crate::landscape::{LandscapeReport, Normalisation};
use crate::report::ReportError;

/// Writes all tables of `report` into `folder`, which exists; returns their paths.
///
/// | table | one row per | notes |
/// |---|---|---|
/// | `slices` | point of the grid | like that of `analyze`, with `std_err_data` of the loss and `accuracy_std_err_data` over the rows; `x` and `y` are in units of the directions |
/// | `directions` | axis | `one_axis_tensors`: whether biases and normalisation are `fixed` or `moved`; `length` is `‖d‖`; `angle_before_deg`: between the two before the second was made orthogonal; `explained_variance` of a trajectory; eigenvalue with its errors; `slope` of the loss along an eigenvector |
/// | `marks` | checkpoint | its coordinates, its own loss and accuracy |
/// | `trajectory` | checkpoint on the way | `x`, `y`: the foot of its perpendicular; `off_plane`: its length; `distance` from A |
/// | `summary` | headline number | |
///
/// # Errors
/// [`ReportError::Table`] or [`ReportError::File`] for the first table that fails.
pub fn write_landscape_tables(report: &LandscapeReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let tables = [
        ("slices", slices(report)),
        ("directions", directions(report)),
        ("marks", marks(report)),
        ("trajectory", trajectory(report)),
        ("summary", summary(&report.summary)),
    ];
    let write = |(name, columns): (&str, Columns)| {
        let path = folder.join(format!("{name}.parquet"));
        write_table(&path, &columns, &report.configuration).map(|()| path)
    };
    tables.into_iter().map(write).collect()
}

fn slices(report: &LandscapeReport) -> Columns {
    let points = report.grid.points();
    let rows: Vec<_> = points.iter().zip(&report.values).collect();
    let shape = if report.grid.is_line() { "line" } else { "plane" };
    let facts = report.facts.first();
    let kind = facts.map_or(String::new(), |facts| format!("{}_{shape}", facts.kind.name()));
    let on_line = facts.filter(|_| report.grid.is_line());
    let [slope, curvature] = on_line.map_or([f64::NAN; 2], |facts| [facts.slope, facts.eigenvalue]);
    vec![
        ("kind", text(&rows, |_| &kind)),
        ("direction", count(&rows, |_| 0)),
        ("x", number(&rows, |(point, _)| point.0)),
        ("y", number(&rows, |(point, _)| point.1)),
        ("loss", number(&rows, |(_, value)| value.loss)),
        ("std_err_data", number(&rows, |(_, value)| value.loss_std_err)),
        ("accuracy", number(&rows, |(_, value)| value.accuracy)),
        ("accuracy_std_err_data", number(&rows, |(_, value)| value.accuracy_std_err)),
        ("slope", number(&rows, |_| slope)),
        ("curvature", number(&rows, |_| curvature)),
    ]
}

fn directions(report: &LandscapeReport) -> Columns {
    let rows: Vec<_> = report.facts.iter().zip(["x", "y"]).collect();
    let fixed = |normalisation: Option<Normalisation>| match normalisation {
        Some(Normalisation::Filter | Normalisation::Layer) => "fixed",
        _ => "moved",
    };
    vec![
        ("axis", text(&rows, |(_, axis)| axis)),
        ("kind", text(&rows, |(facts, _)| facts.kind.name())),
        ("normalisation", text(&rows, |(facts, _)| facts.normalisation.map_or("", Normalisation::name))),
        ("one_axis_tensors", text(&rows, |(facts, _)| fixed(facts.normalisation))),
        ("length", number(&rows, |(facts, _)| facts.length)),
        ("angle_before_deg", number(&rows, |(facts, _)| facts.angle_before_deg)),
        ("angle_deg", number(&rows, |(facts, _)| facts.angle_deg)),
        ("explained_variance", number(&rows, |(facts, _)| facts.explained_variance)),
        ("eigenvalue", number(&rows, |(facts, _)| facts.eigenvalue)),
        ("std_err_numeric", number(&rows, |(facts, _)| facts.std_err_numeric)),
        ("std_err_data", number(&rows, |(facts, _)| facts.std_err_data)),
        ("slope", number(&rows, |(facts, _)| facts.slope)),
        ("converged", flag(&rows, |(facts, _)| facts.converged)),
        ("num_matvecs", count(&rows, |(facts, _)| facts.num_matvecs)),
    ]
}

fn marks(report: &LandscapeReport) -> Columns {
    let rows = &report.marks;
    vec![
        ("name", text(rows, |(mark, _)| mark.name)),
        ("x", number(rows, |(mark, _)| mark.at.0)),
        ("y", number(rows, |(mark, _)| mark.at.1)),
        ("loss", number(rows, |(_, value)| value.loss)),
        ("std_err_data", number(rows, |(_, value)| value.loss_std_err)),
        ("accuracy", number(rows, |(_, value)| value.accuracy)),
        ("accuracy_std_err_data", number(rows, |(_, value)| value.accuracy_std_err)),
    ]
}

fn trajectory(report: &LandscapeReport) -> Columns {
    let rows = &report.path;
    vec![
        ("epoch", count(rows, |point| point.epoch)),
        ("step", count(rows, |point| point.step)),
        ("x", number(rows, |point| point.at.0)),
        ("y", number(rows, |point| point.at.1)),
        ("off_plane", number(rows, |point| point.off_plane)),
        ("distance", number(rows, |point| point.distance)),
    ]
}
