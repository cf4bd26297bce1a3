//! What `flatness run` makes of all cells: tables, figures, comparison, notebook and page.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::Result;
use crate::experiment::{
    CellResult, Experiment, Plan, Sweep, over_epochs, sweeps, write_cells, write_combined, write_means,
};
use crate::report::ReportError;
use crate::report::figures::{SweepPanel, write_sweep};

/// Writes the tables of all cells into the folder of results.
pub(super) fn write_tables(experiment: &Experiment, plan: &Plan, results: &[CellResult]) -> Result<()> {
    let configuration = json!({"profile": experiment.profile, "experiment": experiment.table});
    write_cells(plan, results, &plan.folder.join("cells.parquet"), &configuration)?;
    write_means(plan, results, &configuration)?;
    write_combined(plan, &configuration)?;
    Ok(())
}

/// Writes the figures into `folder/figures`; returns their paths.
pub(super) fn write_figures(plan: &Plan, results: &[CellResult], folder: &Path) -> Result<Vec<PathBuf>> {
    let figures = folder.join("figures");
    std::fs::create_dir_all(&figures).map_err(|source| ReportError::Write { path: figures.clone(), source })?;
    let mut paths = write_sweep(&panels(&over_epochs(plan)), "epoch", ("epochs", STATEMENT), &figures)?;
    for sweep in sweeps(plan, results) {
        let name = format!("along_{}", sweep.axis.replace('.', "_"));
        paths.extend(write_sweep(&panels(&sweep), &words(&sweep.axis), (&name, STATEMENT), &figures)?);
    }
    Ok(paths)
}

const STATEMENT: &str = "mean over seeds ± 1 standard deviation";

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
        "hessian_trace" => "trace of the Hessian".into(),
        other => other.rsplit('.').next().unwrap_or(other).replace('_', " "),
    }
}
