//! The page of `flatness langevin`.

use std::path::Path;

use super::table::plain;
use super::{Card, Figure, Page, Part, Row, Section, Table};
use crate::langevin::{CouplingRow, LangevinReport, MassRow, RateRow, SummaryNumber};
use crate::report::terminal::measured;

/// File names, titles and captions of the figures.
const FIGURES: [(&str, &str, &str); 4] = [
    ("laws", "Distributions", "Target densities by quadrature, and final samples of fSGLD."),
    ("rate", "Error against the step size", "Distance between samples and target; hollow: not used in the fit."),
    ("coupling", "Dependence on β", "With σ coupled to β and without; samples of chains, ± 1 standard error."),
    ("mass", "Mass on the flat side", "Share of the chains over time; all start at the sharp minimum."),
];

/// Those of the figures that are in the folder `figures`.
pub fn langevin_figures(figures: &Path) -> Vec<Option<Part>> {
    FIGURES.iter().map(|(name, title, caption)| Figure::one(figures, name, title, caption)).collect()
}

/// The page of `report` on the potential `name`, whose figures are in the folder `figures`; `command` is the command line that made it.
pub fn langevin_page(report: &LangevinReport, name: &str, figures: &Path, command: &str) -> Page {
    let (dynamics, options) = (report.dynamics, report.options);
    let sections = [
        Section::new("Results", langevin_figures(figures).into_iter().chain([summary(report)])),
        Section::folded("Step sizes", [rate(report)]),
        Section::folded("Couplings", [coupling(report)]),
        Section::folded("Mass over time", [mass(report)]),
    ];
    let settings = [
        ("potential", name.to_owned()),
        ("step size", dynamics.step_size.to_string()),
        ("β", dynamics.beta.to_string()),
        ("σ", dynamics.sigma.to_string()),
        ("chains", options.chains.to_string()),
        ("snapshots", options.snapshots.to_string()),
        ("seed", options.seed.to_string()),
    ];
    Page {
        title: format!("SGLD and fSGLD, {}", name.replace('-', " ")),
        subtitle: format!(
            "β {}, σ {}, {} chains, seed {}",
            dynamics.beta, dynamics.sigma, options.chains, options.seed
        ),
        cards: report.summary.iter().filter_map(card).collect(),
        sections: sections.into_iter().flatten().collect(),
        provenance: settings.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        command: command.into(),
    }
}

/// Value and half width of its interval; the latter is empty if the value is exact or the interval unknown.
fn interval(row: &SummaryNumber) -> [String; 2] {
    let known = if row.half_width > 0.0 { row.half_width } else { f64::NAN };
    let [value, half_width, _] = measured(row.value, [known, f64::NAN]);
    [value, half_width]
}

/// A card for a measured number; numbers from quadrature only serve for comparison.
fn card(row: &SummaryNumber) -> Option<Card> {
    let [value, half_width] = interval(row);
    let error = if half_width.is_empty() { half_width } else { format!("{half_width} (95 %)") };
    let measured = !row.value.is_nan() && row.method != "quadrature";
    measured.then(|| Card { label: row.quantity.label(), value, error })
}

fn summary(report: &LangevinReport) -> Option<Part> {
    let rows = report.summary.iter().map(|row| {
        let [value, half_width] = interval(row);
        Row::new([row.quantity.label(), value, plain(&half_width), row.method.replace('_', " ")])
    });
    let columns = [("quantity", false), ("value", true), ("± 95 %", true), ("method", false)];
    Table::new(&columns, rows.collect(), "Main numbers; ±: half the width of the 95 % interval.").part()
}

/// Value and error as two cells of a table.
fn cells(value: f64, error: f64) -> [String; 2] {
    let [value, error, _] = measured(value, [error, f64::NAN]);
    [value, plain(&error)]
}

fn rate(report: &LangevinReport) -> Option<Part> {
    let row = |row: &RateRow| {
        let [w1, error] = cells(row.measured.distances.w1, row.measured.w1_std_err);
        let floor = cells(row.measured.floor.w1, f64::NAN)[0].clone();
        let in_fit = if row.in_fit { "yes" } else { "no" };
        Row::new([row.method.to_string(), row.dynamics.step_size.to_string(), w1, error, floor, in_fit.to_owned()])
    };
    let columns = [
        ("method", false),
        ("step size", true),
        ("W₁", true),
        ("± W₁", true),
        ("W₁ of exact draws", true),
        ("in fit", false),
    ];
    let caption = "Distance between samples and target, and the distance that the same number of exact draws has.";
    Table::new(&columns, report.rate.iter().map(row).collect(), caption).part()
}

fn coupling(report: &LangevinReport) -> Option<Part> {
    let row = |row: &CouplingRow| {
        let settings = [row.coupling.name(), row.dynamics.beta.to_string(), format!("{:.4}", row.dynamics.sigma)];
        let to_law = cells(row.to_flatness.distances.w1, row.to_flatness.w1_std_err);
        let (share, risk) = (cells(row.flat_share.0, row.flat_share.1), cells(row.excess_risk.0, row.excess_risk.1));
        Row::new(settings.into_iter().chain(to_law).chain(share).chain(risk))
    };
    let columns = [
        ("coupling", false),
        ("β", true),
        ("σ", true),
        ("W₁ to exp(−βv)", true),
        ("± W₁", true),
        ("flat share", true),
        ("± share", true),
        ("excess risk", true),
        ("± risk", true),
    ];
    let caption = "Samples of the chains; ±: standard error.";
    Table::new(&columns, report.coupling.iter().map(row).collect(), caption).part()
}

fn mass(report: &LangevinReport) -> Option<Part> {
    let row = |row: &MassRow| {
        let time = cells(row.step as f64 * row.dynamics.step_size, f64::NAN)[0].clone();
        let start = [row.method.to_string(), row.step.to_string(), time];
        Row::new(start.into_iter().chain(cells(row.flat_share.0, row.flat_share.1)))
    };
    let columns = [("method", false), ("step", true), ("time", true), ("flat share", true), ("± share", true)];
    Table::new(&columns, report.mass.iter().map(row).collect(), "Share of the chains on the flat side.").part()
}
