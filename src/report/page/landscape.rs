//! The page of `flatness landscape`.

use std::path::Path;

use super::table::plain;
use super::{Card, Figure, Page, Part, Row, Section, Table, provenance};
use crate::landscape::{DirectionFacts, LandscapeReport, Normalisation};
use crate::report::terminal::measured;
use crate::vocabulary::Quantity;

/// The page of `report`, whose figures are in the folder `figures`; `command` is the command line that made it.
pub fn landscape_page(report: &LandscapeReport, figures: &Path, command: &str) -> Page {
    let marked = "The checkpoints are marked.";
    let loss = [
        Figure::one(figures, "line", "Line", "Loss and accuracy along the line."),
        Figure::one(figures, "contour", "Contours", &format!("Contours of the loss over the plane. {marked}")),
        Figure::one(figures, "surface", "Surface", "The loss over the plane as a surface."),
        Table::of_summary(report.summary.iter(), "All numbers. ± rows: standard error due to the choice of data rows.")
            .part(),
    ];
    let sections = [
        Section::new("Loss", loss),
        Section::new("Checkpoints and directions", [marks(report), directions(report)]),
        Section::folded("The path of the training", [trajectory(report)]),
    ];
    Page {
        title: report.name.clone(),
        subtitle: [report.directions.as_str(), &report.statement].join(" · "),
        cards: cards(report),
        sections: sections.into_iter().flatten().collect(),
        provenance: provenance(&report.configuration),
        command: command.into(),
    }
}

fn cards(report: &LandscapeReport) -> Vec<Card> {
    let losses = report.marks.iter().map(|(mark, _)| Quantity::LossAt(mark.name));
    let others = [Quantity::Barrier, Quantity::DistanceAb, Quantity::GridMinLoss, Quantity::ConvexShare];
    let card = |quantity: Quantity| {
        let row = report.summary.iter().find(|row| row.quantity == quantity && !row.value.is_nan())?;
        Card::of(quantity.label(), row)
    };
    losses.chain(others).filter_map(card).collect()
}

fn marks(report: &LandscapeReport) -> Option<Part> {
    let pair = |value: f64, error: f64| {
        let [value, error, _] = measured(value, [error, f64::NAN]);
        if value == "-" { [String::new(), String::new()] } else { [value, plain(&error)] }
    };
    let rows = report.marks.iter().map(|(mark, value)| {
        let ([loss, loss_error], [accuracy, accuracy_error]) =
            (pair(value.loss, value.loss_std_err), pair(value.accuracy, value.accuracy_std_err));
        let [x, y] = [mark.at.0, mark.at.1].map(|at| format!("{at:.4}"));
        Row::new([mark.name.to_string(), x, y, loss, loss_error, accuracy, accuracy_error])
    });
    let columns = [
        ("checkpoint", false),
        ("x", true),
        ("y", true),
        ("loss", true),
        ("± loss", true),
        ("accuracy", true),
        ("± accuracy", true),
    ];
    Table::new(&columns, rows.collect(), "Checkpoints. ±: standard error due to the choice of data rows.").part()
}

fn directions(report: &LandscapeReport) -> Option<Part> {
    let known = |value: f64, digits: usize| if value.is_nan() { String::new() } else { format!("{value:.digits$}") };
    let row = |(facts, axis): (&DirectionFacts, &str)| {
        let [eigenvalue, residual, rows] = measured(facts.eigenvalue, [facts.std_err_numeric, facts.std_err_data]);
        let eigenvalue = if facts.eigenvalue.is_nan() { String::new() } else { eigenvalue };
        let cells = [
            axis.to_owned(),
            facts.kind.name().to_owned(),
            facts.normalisation.map_or("", Normalisation::name).to_owned(),
            measured(facts.length, [f64::NAN; 2])[0].clone(),
            known(facts.angle_deg, 2),
            known(100.0 * facts.explained_variance, 1),
            eigenvalue,
            plain(&residual),
            plain(&rows),
        ];
        Row { cells: cells.to_vec(), converged: facts.converged }
    };
    let columns = [
        ("axis", false),
        ("kind", false),
        ("normalisation", false),
        ("length", true),
        ("angle in °", true),
        ("variance in %", true),
        ("eigenvalue", true),
        ("residual", true),
        ("± rows", true),
    ];
    let rows = report.facts.iter().zip(["x", "y"]).map(row).collect();
    Table::new(&columns, rows, "Directions. A coordinate of 1 means a distance of one length; *: not converged.").part()
}

fn trajectory(report: &LandscapeReport) -> Option<Part> {
    let number = |value: f64| format!("{value:.4}");
    let rows = report.path.iter().map(|point| {
        let counts = [point.epoch, point.step].map(|count| count.to_string());
        Row::new(counts.into_iter().chain([point.at.0, point.at.1, point.off_plane, point.distance].map(number)))
    });
    let columns =
        [("epoch", true), ("step", true), ("x", true), ("y", true), ("off the plane", true), ("distance", true)];
    let caption = "Checkpoints along the training: their projections onto the plane, and their distances from the plane and from A.";
    Table::new(&columns, rows.collect(), caption).part()
}
