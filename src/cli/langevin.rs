//! `flatness langevin`: SGLD and fSGLD where their laws are known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Ui;
use super::answer;
use super::figure_args::FigureArgs;
use super::output::{Existing, claim, remove_outdated};
use super::provenance::Provenance;
use crate::Result;
use crate::files::make_folder;
use crate::langevin::LangevinReport;
use crate::plan::{LangevinArgs, RESULT};
use crate::report::figures::{Target, write_langevin as write_figures};
use crate::report::page::langevin_page;
use crate::report::tables::write_langevin as write_tables;
use crate::report::{terminal, write_run_json};

/// Arguments of `langevin`.
#[derive(Debug, Clone, Args)]
pub(super) struct LangevinCommand {
    #[command(flatten)]
    pub(super) study: LangevinArgs,
    #[command(flatten)]
    figures: FigureArgs,
    /// Folder of the result [default: reports/langevin-POTENTIAL]
    #[arg(help_heading = RESULT, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite an existing result
    #[arg(help_heading = RESULT, long)]
    force: bool,
}

pub(super) fn run(args: &LangevinCommand, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let (plan, style, name) = (args.study.plan()?, args.figures.style(), args.study.name());
    let configuration = json!(plan);
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(format!("langevin-{name}")));
    let provenance = Provenance::new(arguments);
    let claim = claim(&folder, Existing::of(args.force, false))?;
    let report = LangevinReport::new(plan, &mut ui.progress())?;
    let output = claim.begin()?;
    let mut written = write_tables(&report, &configuration, output.path())?;
    let figures = output.path().join("figures");
    make_folder(&figures)?;
    let drawn = write_figures(&report, Target::new(&figures, style))?.finish(&figures)?;
    remove_outdated(output.path(), &[], &["rate", "coupling", "mass", "laws"], &drawn);
    written.extend(drawn);
    written.push(output.path().join("report.html"));
    langevin_page(&report, &name, &figures, &provenance.command()).write(&output.path().join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(true);
    run["threads"] = json!(report.options.threads);
    run["configuration"] = configuration;
    write_run_json(output.path(), &run, &written)?;
    let rows: Vec<_> = report.summary.iter().map(|row| (&row.quantity, row.value, row.half_width)).collect();
    ui.print_lines(terminal::interval_table(&rows).trim_end());
    answer::result(&folder, "", ui)?;
    ui.say(&format!("wrote {}", folder.display()));
    Ok(0)
}
