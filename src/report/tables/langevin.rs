//! The tables of `flatness langevin`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Column, Columns, number, text, write_table};
use crate::langevin::{Coupling, CouplingRow, Dynamics, Energy, LangevinReport, Law, MassRow, RateRow};
use crate::report::ReportError;

/// Writes the tables of `report` into `folder`, which exists; returns their paths.
///
/// | table | one row per | notes |
/// |---|---|---|
/// | `rate` | method and step size | `w1`, `w2` against the law of `energy`; sliced in two dimensions or more; `w1_floor` is the distance of as many exact draws; `in_fit`: the distance exceeds it |
/// | `coupling` | coupling and `beta` | `eta` is null if `sigma` is fixed; shares and risks of the samples, and of laws by quadrature |
/// | `mass` | method and time | share of the chains on the flat side; all start at the sharp minimum |
/// | `samples` | chain | final positions of fSGLD |
/// | `laws` | place | in one dimension: `u`, and the densities of the laws of `u`, `v` and the smoothed `u` |
/// | `summary` | headline number | `half_width` of its 95 % interval |
///
/// # Errors
/// [`ReportError`] for the first table that fails.
pub fn write_langevin(
    report: &LangevinReport,
    configuration: &Value,
    folder: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let summary = vec![
        ("quantity", text(&report.summary, |row| &row.quantity)),
        ("value", number(&report.summary, |row| row.value)),
        ("half_width", number(&report.summary, |row| row.half_width)),
        ("method", text(&report.summary, |row| row.method)),
    ];
    let tables = [
        ("rate", rate(&report.rate)),
        ("coupling", coupling(&report.coupling)),
        ("mass", mass(&report.mass)),
        ("samples", samples(report)),
        ("laws", laws(report)),
        ("summary", summary),
    ];
    let write = |(name, columns): (&str, Columns)| {
        let path = folder.join(format!("{name}.parquet"));
        write_table(&path, &columns, configuration).map(|()| path)
    };
    tables.into_iter().map(write).collect()
}

fn settings<R>(rows: &[R], dynamics: impl Fn(&R) -> Dynamics) -> Columns {
    vec![
        ("step_size", number(rows, |row| dynamics(row).step_size)),
        ("beta", number(rows, |row| dynamics(row).beta)),
        ("sigma", number(rows, |row| dynamics(row).sigma)),
    ]
}

fn rate(rows: &[RateRow]) -> Columns {
    let mut columns = vec![("method", text(rows, |row| row.method))];
    columns.extend(settings(rows, |row| row.dynamics));
    columns.extend([
        ("energy", text(rows, |row| row.energy.name())),
        ("w1", number(rows, |row| row.measured.distances.w1)),
        ("w1_std_err", number(rows, |row| row.measured.w1_std_err)),
        ("w1_floor", number(rows, |row| row.measured.floor.w1)),
        ("w2", number(rows, |row| row.measured.distances.w2)),
        ("w2_floor", number(rows, |row| row.measured.floor.w2)),
        ("in_fit", Column::Flag(rows.iter().map(|row| row.in_fit).collect())),
    ]);
    columns
}

fn coupling(rows: &[CouplingRow]) -> Columns {
    let eta = |row: &CouplingRow| match row.coupling {
        Coupling::Coupled { eta } => eta,
        Coupling::Fixed { .. } => f64::NAN,
    };
    let mut columns = vec![("coupling", text(rows, |row| row.coupling.name())), ("eta", number(rows, eta))];
    columns.extend(settings(rows, |row| row.dynamics));
    columns.extend([
        ("w1_to_u", number(rows, |row| row.to_plain.distances.w1)),
        ("w1_to_u_std_err", number(rows, |row| row.to_plain.w1_std_err)),
        ("w1_to_v", number(rows, |row| row.to_flatness.distances.w1)),
        ("w1_to_v_std_err", number(rows, |row| row.to_flatness.w1_std_err)),
        ("w1_floor", number(rows, |row| row.to_flatness.floor.w1)),
        ("w2_to_u", number(rows, |row| row.to_plain.distances.w2)),
        ("w2_to_v", number(rows, |row| row.to_flatness.distances.w2)),
        ("flat_share", number(rows, |row| row.flat_share.0)),
        ("flat_share_std_err", number(rows, |row| row.flat_share.1)),
        ("flat_share_law_u", number(rows, |row| row.law_shares[0])),
        ("flat_share_law_v", number(rows, |row| row.law_shares[1])),
        ("flat_share_law_u_smoothed", number(rows, |row| row.law_shares[2])),
        ("excess_risk", number(rows, |row| row.excess_risk.0)),
        ("excess_risk_std_err", number(rows, |row| row.excess_risk.1)),
        ("excess_risk_law_v", number(rows, |row| row.law_excess_risk)),
    ]);
    columns
}

fn mass(rows: &[MassRow]) -> Columns {
    let mut columns = vec![("method", text(rows, |row| row.method))];
    columns.extend(settings(rows, |row| row.dynamics));
    columns.extend([
        ("step", Column::Count(rows.iter().map(|row| row.step).collect())),
        ("time", number(rows, |row| row.step as f64 * row.dynamics.step_size)),
        ("flat_share", number(rows, |row| row.flat_share.0)),
        ("flat_share_std_err", number(rows, |row| row.flat_share.1)),
    ]);
    columns
}

fn samples(report: &LangevinReport) -> Columns {
    let dim = report.potential.dim().max(1);
    let axis = |axis: usize| Column::Number(report.samples.iter().skip(axis).step_by(dim).copied().collect());
    let chains = Column::Count((0..report.samples.len() / dim).collect());
    ["x", "y"].into_iter().take(dim).enumerate().fold(vec![("chain", chains)], |mut columns, (index, name)| {
        columns.push((name, axis(index)));
        columns
    })
}

fn laws(report: &LangevinReport) -> Columns {
    let law = |energy| Law::new(&report.potential, energy, report.dynamics.beta, report.dynamics.sigma);
    let density = |energy| match law(energy) {
        Some(law) if report.potential.dim() == 1 => law.density(),
        _ => Vec::new(),
    };
    let [plain, flatness, smoothed] = [Energy::Plain, Energy::Flatness, Energy::Smoothed].map(density);
    vec![
        ("x", number(&plain, |(x, _)| *x)),
        ("u", number(&plain, |(x, _)| report.potential.value(&[*x]))),
        ("density_u", number(&plain, |(_, density)| *density)),
        ("density_v", number(&flatness, |(_, density)| *density)),
        ("density_u_smoothed", number(&smoothed, |(_, density)| *density)),
    ]
}
