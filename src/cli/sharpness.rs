//! `flatness sharpness`: how much the loss rises around a minimum.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Ui;
use super::analyze::checkpoint_name;
use super::answer;
use super::figure_args::FigureArgs;
use super::output::{Existing, claim, remove_outdated};
use super::provenance::Provenance;
use super::session::share_rows;
use crate::files::make_folder;
use crate::objective::Objective;
use crate::plan::{Precision, RESULT, SessionArgs, SharpnessOptions};
use crate::report::figures::{Target, write_sharpness as write_figures};
use crate::report::page::{Measured, sharpness_page};
use crate::report::tables::write_sharpness as write_tables;
use crate::report::{terminal, write_run_json};
use crate::sharpness::{Minimum, SharpnessRow, survey};
use crate::team::team;
use crate::vocabulary::Scope;
use crate::{Result, path_text};

/// Arguments of `sharpness`.
#[derive(Debug, Args)]
pub(super) struct SharpnessArgs {
    #[command(flatten)]
    pub(super) session: SessionArgs,
    #[command(flatten)]
    pub(super) measures: SharpnessOptions,
    #[command(flatten)]
    figures: FigureArgs,
    /// Result folder [default: reports/NAME-sharpness]
    #[arg(help_heading = RESULT, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite an existing result
    #[arg(help_heading = RESULT, long)]
    force: bool,
}

pub(super) fn run(args: &SharpnessArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let (options, style) = (&args.measures, args.figures.style());
    options.check()?;
    let name = checkpoint_name(&args.session.model.checkpoint);
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(format!("{name}-sharpness")));
    let provenance = Provenance::new(arguments);
    let claim = claim(&folder, Existing::of(args.force, false))?;
    let mut session = args.session.open(Precision::F32, ui)?;
    if let Some(path) = &options.optimizer_state {
        session.read_optimizer(Some(path), ui)?;
    }
    let preconditioner = session.preconditioner(&Scope::All)?;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    let (theta, data, preconditioner) = (&session.checkpoint.theta, &session.data, preconditioner.as_ref());
    let minimum = Minimum { objective: &objective, theta, data, preconditioner };
    let mut configuration = session.configuration(&objective);
    configuration["sharpness"] = json!(options);
    share_rows(&objective, &configuration)?;
    let report = survey(minimum, options, &mut ui.progress())?;
    if !team().leads() {
        return Ok(0);
    }
    let output = claim.begin()?;
    let mut written = vec![write_tables(&report.rows, &configuration, output.path())?];
    let figures = output.path().join("figures");
    make_folder(&figures)?;
    let target = Target::new(&figures, style);
    let drawn = write_figures(&report.rows, &session.statement(), target)?.finish(&figures)?;
    remove_outdated(output.path(), &[], &["sharpness_ratio"], &drawn);
    written.extend(drawn);
    let (statement, command) = (session.statement(), provenance.command());
    let measured = Measured { name: &name, statement: &statement, configuration: &configuration, command: &command };
    let page = sharpness_page(&report, &figures, &measured);
    written.push(output.path().join("report.html"));
    page.write(&output.path().join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(true);
    run["threads"] = json!(session.options.execution.threads);
    run["checkpoint"] = json!(path_text::to_text(&session.checkpoint.path));
    run["configuration"] = configuration;
    write_run_json(output.path(), &run, &written)?;
    let summary: Vec<_> = report.rows.iter().map(SharpnessRow::summary).collect();
    ui.print_lines(&terminal::summary_table(&summary));
    ui.print("a worst case is a lower bound; its ± numeric is the spread over its ascents");
    for row in report.rows.iter().filter(|row| !row.reason.is_empty()) {
        ui.print(&format!("{}: {}", row.quantity, row.reason));
    }
    ui.print(&session.statement());
    answer::result(&folder, &session.statement(), ui)?;
    ui.say(&format!("wrote {}", folder.display()));
    Ok(0)
}
