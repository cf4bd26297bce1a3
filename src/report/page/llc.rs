//! The page of `flatness llc`.

use std::path::Path;

use super::table::plain;
use super::{Card, Figure, Measured, Page, Part, Row, Section, Table, provenance};
use crate::bayes::learning_coefficient::{Estimate, LlcReport};
use crate::report::terminal::measured;

/// The page of `report`, whose figures are in the folder `figures`.
pub fn llc_page(report: &LlcReport, figures: &Path, about: &Measured<'_>) -> Page {
    let settings = "± numeric: standard error over chains and draws. bias: by how much the step size alone raises the number, exact \
                    for a quadratic loss. R̂: whether the chains agree, of the loss and of the distance from the checkpoint. \
                    *: not converged, and no number.";
    let table = Table::new(&COLUMNS, report.estimates.iter().map(row).collect(), settings);
    let faults = report.estimates.iter().filter_map(words).collect();
    let sections = [Section::new(
        "Learning coefficient",
        [
            Figure::one(figures, "llc_traces", "Chains", "Excess loss and distance from the checkpoint, step by step."),
            Figure::one(figures, "llc_sweep", "Step size and localisation", "Bands: ± 1 standard error."),
            table.part(),
            Part::text(faults),
        ],
    )];
    let card = report.headline().and_then(|own| Card::of("learning coefficient".into(), &own.summary()));
    Page {
        title: about.name.into(),
        subtitle: about.statement.into(),
        cards: card.into_iter().chain(report.headline().map(n_beta)).collect(),
        sections: sections.into_iter().flatten().collect(),
        provenance: provenance(about.configuration),
        command: about.command.into(),
    }
}

/// The temperature that the number belongs to.
fn n_beta(own: &Estimate) -> Card {
    Card::new("nβ", format!("{:.1}", own.dynamics.n_beta))
}

/// Why a setting gives no number, and what to change.
fn words(own: &Estimate) -> Option<String> {
    let (gamma, step_size) = (own.dynamics.gamma, own.dynamics.step_size);
    Some(format!("γ {gamma}, step size {step_size:.2e}: {}; {}.", own.fault?, own.advice()?))
}

const COLUMNS: [(&str, bool); 10] = [
    ("γ", true),
    ("step size", true),
    ("value", true),
    ("± numeric", true),
    ("bias", true),
    ("R̂", true),
    ("R̂ of distance", true),
    ("independent draws", true),
    ("burn-in", true),
    ("taken", false),
];

fn row(own: &Estimate) -> Row {
    let [value, error, _] = measured(own.value, [own.std_err, f64::NAN]);
    let cells = vec![
        own.dynamics.gamma.to_string(),
        format!("{:.2e}", own.dynamics.step_size),
        value,
        plain(&error),
        format!("{:.3}", own.step_size_bias),
        format!("{:.3}", own.mixing.r_hat),
        format!("{:.3}", own.r_hat_distance),
        format!("{:.0}", own.mixing.effective_size),
        own.burn_in.to_string(),
        if own.is_headline { "yes".into() } else { String::new() },
    ];
    Row { cells, converged: own.fault.is_none() }
}
