//! What `flatness run` makes of all cells: tables, figures, comparison, notebook and page.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::compare::{HowArgs, OfExperiment, of_experiment, statement};
use super::super::output::remove_outdated;
use crate::Result;
use crate::analysis::compare::Comparison;
use crate::experiment::{
    CellResult, Experiment, Plan, StepKind, Sweep, of_analysis, over_epochs, spectra, sweeps, write_cells,
    write_combined, write_means,
};
use crate::files::{FileError, make_folder, write_atomic};
use crate::report::figures::{Captions, Drawn, SPECTRA_CAPTION, Style, SweepPanel, Target, write_spectra, write_sweep};
use crate::report::notebook::{experiment_cells, write_notebook};
use crate::report::page::{Card, Figure, Page, Part, Row, Section, Table, comparison_sections, langevin_figures};
use crate::report::terminal::rounded;
use crate::report::{ReportError, is_complete};
use crate::vocabulary::Quantity;

/// An experiment with what came of it.
pub(super) struct Outcome<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) plan: &'a Plan,
    pub(super) results: &'a [CellResult],
}

/// Files that were written.
#[derive(Default)]
pub(super) struct Written {
    /// Into the folder of results.
    pub(super) results: Vec<PathBuf>,
    /// Into that of figures and page.
    pub(super) report: Vec<PathBuf>,
    /// Figures there, whose captions come last.
    drawn: Drawn,
}

/// Writes the tables of all cells into the folder of results, and returns their paths.
pub(super) fn write_tables(experiment: &Experiment, plan: &Plan, results: &[CellResult]) -> Result<Vec<PathBuf>> {
    let configuration = json!({"profile": experiment.profile, "experiment": experiment.table});
    let cells = plan.folder.join("cells.parquet");
    write_cells(plan, results, &cells, &configuration)?;
    let mut written = vec![cells, write_means(plan, results, &configuration)?];
    written.extend(write_combined(plan, &configuration)?);
    Ok(written)
}

/// Compares the variants where there are two and analyses of them, with the tables beside the others.
pub(super) fn compare(
    plan: &Plan,
    how: &HowArgs,
    folder: &Path,
    style: Style,
    written: &mut Written,
) -> Result<Option<Comparison>> {
    make_folder(folder)?;
    let Some(OfExperiment { comparison, tables, words, drawn }) = of_experiment(&plan.folder, how, folder, style)?
    else {
        return Ok(None);
    };
    written.results.extend(tables);
    written.report.extend(words);
    written.drawn.extend(drawn);
    Ok(Some(comparison))
}

/// Writes the notebook `NAME.ipynb` for the tables that are there.
pub(super) fn notebook(experiment: &Experiment, plan: &Plan) -> Result<PathBuf> {
    let entries = std::fs::read_dir(&plan.folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let tables = entries.filter(|path| path.extension().is_some_and(|ending| ending == "parquet"));
    let tables: Vec<String> =
        tables.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    let path = plan.folder.join(format!("{}.ipynb", experiment.folder_name()));
    write_notebook(&experiment_cells(&experiment.folder_name(), &tables), &path)?;
    Ok(path)
}

/// Figures, set in a style, and page in a folder.
pub(super) fn write_report(
    outcome: &Outcome<'_>,
    comparison: Option<&Comparison>,
    folder: &Path,
    style: Style,
    written: &mut Written,
) -> Result<()> {
    let Outcome { plan, results, .. } = *outcome;
    let figures = folder.join("figures");
    make_folder(&figures)?;
    let target = Target::new(&figures, style);
    let drawn = &mut written.drawn;
    drawn.extend(write_sweep(&panels(&over_epochs(plan)), "epoch", "epochs", STATEMENT, target)?);
    let sweeps = sweeps(plan, results);
    for sweep in &sweeps {
        drawn.extend(write_sweep(&panels(sweep), &words(&sweep.axis), &along(sweep), STATEMENT, target)?);
    }
    let measured = comparison.and_then(statement).unwrap_or_default();
    drawn.extend(write_spectra(&spectra(plan), &measured, target)?);
    drawn.extend(studies(plan, &figures)?);
    let files = std::mem::take(drawn).finish(&figures)?;
    remove_outdated(folder, &[], &["epochs", "spectra"], &files);
    written.report.extend(files);
    let mut sections = comparison.map(|comparison| comparison_sections(comparison, &figures)).unwrap_or_default();
    let drawn = |name: &str, title: &str, caption: &str| Figure::one(&figures, name, title, caption);
    let mut parts = vec![drawn("epochs", "Over the epochs", STATEMENT), drawn("spectra", "Spectra", SPECTRA_CAPTION)];
    parts.extend(sweeps.iter().map(|sweep| drawn(&along(sweep), &format!("Along {}", words(&sweep.axis)), STATEMENT)));
    parts.extend(langevin_figures(&figures));
    let shown = [Section::new("Figures", parts), Section::new("Means of every group", [means(plan, results)])];
    // After the verdict, before what is folded.
    let place = usize::from(!sections.is_empty());
    sections.splice(place..place, shown.into_iter().flatten());
    let report = folder.join("report.html");
    page(outcome, comparison, sections).write(&report)?;
    written.report.push(report);
    Ok(())
}

/// Figures that `flatness langevin` leaves.
const STUDIES: [&str; 4] = ["laws", "rate", "coupling", "mass"];

/// Copies the figures of the first complete study, with their captions.
fn studies(plan: &Plan, figures: &Path) -> Result<Drawn> {
    let mut copies = Drawn::default();
    let steps = plan.cells.iter().filter_map(|cell| plan.step(cell, StepKind::Langevin));
    let Some(step) = steps.into_iter().find(|step| is_complete(&step.folder)) else { return Ok(copies) };
    let captions = Captions::read(&step.folder.join("figures"));
    for name in STUDIES {
        if let Some(text) = captions.of(name) {
            copies.captions.extend(Captions::of_one(name, text));
        }
        for ending in ["svg", "png", "pdf"] {
            let from = step.folder.join("figures").join(format!("{name}.{ending}"));
            if from.exists() {
                copies.files.push(copy(&from, &figures.join(format!("{name}.{ending}")))?);
            }
        }
    }
    Ok(copies)
}

fn page(outcome: &Outcome<'_>, comparison: Option<&Comparison>, sections: Vec<Section>) -> Page {
    let Outcome { experiment, plan, results } = *outcome;
    let finished = results.iter().filter(|result| result.state.name() == "finished").count();
    let profile = experiment.profile.as_ref().map_or(String::new(), |profile| format!(" --profile {profile}"));
    let file = experiment.path.file_name().unwrap_or_default().to_string_lossy();
    let mut cards = vec![
        Card::new("cells finished", format!("{finished} of {}", plan.cells.len())),
        Card::new("seeds", experiment.seeds.len().to_string()),
    ];
    cards.extend(best(plan, results));
    Page {
        title: experiment.folder_name(),
        subtitle: comparison.and_then(statement).map_or(String::new(), |statement| format!("Curvature of {statement}")),
        cards,
        sections,
        provenance: vec![
            ("experiment".into(), file.clone().into_owned()),
            ("version".into(), env!("CARGO_PKG_VERSION").into()),
        ],
        command: format!("flatness run experiments/{file}{profile}"),
    }
}

/// The group with the highest mean test accuracy.
fn best(plan: &Plan, results: &[CellResult]) -> Option<Card> {
    let groups = crate::experiment::group_summaries(plan, results);
    let accuracies = groups.iter().filter_map(|(label, rows)| {
        rows.iter().find(|row| row.quantity == Quantity::TestAccuracy).map(|row| (label, row))
    });
    let (label, row) = accuracies.max_by(|a, b| a.1.value.total_cmp(&b.1.value))?;
    let (value, spread) = rounded(row.value, row.std_err_numeric);
    let error = spread.map_or(label.clone(), |spread| format!("± {spread} (seeds), {label}"));
    Some(Card { label: "best test accuracy".into(), value, error })
}

/// Means of every group.
fn means(plan: &Plan, results: &[CellResult]) -> Option<Part> {
    let groups = crate::experiment::group_summaries(plan, results);
    let mut quantities: Vec<&Quantity> = Vec::new();
    for row in groups.iter().flat_map(|(_, rows)| rows) {
        if !quantities.contains(&&row.quantity) {
            quantities.push(&row.quantity);
        }
    }
    let row = |(label, rows): &(String, Vec<crate::vocabulary::SummaryRow>)| {
        let cell = |quantity: &&Quantity| {
            let Some(row) = rows.iter().find(|row| row.quantity == **quantity) else { return String::new() };
            let (value, spread) = rounded(row.value, row.std_err_numeric);
            format!("{value}{}", spread.map_or(String::new(), |spread| format!(" ± {spread}")))
        };
        Row::new(std::iter::once(label.clone()).chain(quantities.iter().map(cell)))
    };
    let names: Vec<String> = quantities.iter().map(|name| words(&name.to_string())).collect();
    let columns: Vec<(&str, bool)> =
        std::iter::once(("group", false)).chain(names.iter().map(|name| (name.as_str(), true))).collect();
    let caption = "Over the finished seeds, n of them; ± is their standard deviation.";
    Table::new(&columns, groups.iter().map(row).collect(), caption).part()
}

fn copy(from: &Path, to: &Path) -> Result<PathBuf, ReportError> {
    let error = |source| FileError::Write { path: to.into(), source };
    let bytes = crate::input::read(from).map_err(error)?;
    write_atomic(to, |file| std::io::Write::write_all(file, &bytes))?;
    Ok(to.into())
}

const STATEMENT: &str = "mean over seeds ± 1 standard deviation";

fn along(sweep: &Sweep) -> String {
    format!("along_{}", sweep.axis.replace('.', "_"))
}

fn panels(sweep: &Sweep) -> Vec<SweepPanel> {
    let panel = |(name, groups): &(String, Vec<_>)| SweepPanel { title: words(name), groups: groups.clone() };
    sweep.quantities.iter().map(panel).collect()
}

/// A name of a table as the field writes it.
fn words(name: &str) -> String {
    match name {
        "eta" => "η".into(),
        "sigma" => "σ".into(),
        "rho" => "ρ".into(),
        "beta_inverse" => "β⁻¹".into(),
        other => match (of_analysis(other), Quantity::from(other)) {
            (Some((operator, quantity)), _) => format!("{} of the {}", quantity.label(), operator.title()),
            // The name of an axis begins with its step.
            (None, Quantity::Other(name)) => name.rsplit('.').next().unwrap_or(&name).replace('_', " "),
            (None, quantity) => quantity.label(),
        },
    }
}
