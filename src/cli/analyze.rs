//! `flatness analyze`: from a checkpoint to tables and figures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::answer;
use super::figure_args::FigureArgs;
use super::output::{Existing, claim, remove_outdated};
use super::provenance::Provenance;
use super::session::{Session, share_rows};
use super::state::{Saving, StateFiles, seconds};
use super::ui::duration;
use super::{INTERRUPTED, Ui};
use crate::analysis::{Analysis, AnalysisReport, CostEstimate, SpectrumReport, fit, unresolved};
use crate::checkpoint::write_tensors;
use crate::objective::Objective;
use crate::plan::{AnalysisOptions, EigenMethod, PlanError, Precision, RESULT, SessionArgs, parsed_by};
use crate::report::figures::Style;
use crate::report::page::analysis_page;
use crate::report::{save_analysis, terminal, write_run_json};
use crate::spectral::Stop;
use crate::team::team;
use crate::vocabulary::Curvature;
use crate::{Error, Result, path_text};

/// Arguments of `analyze`.
#[derive(Debug, Args)]
pub(super) struct AnalyzeArgs {
    #[command(flatten)]
    pub(super) session: SessionArgs,
    #[command(flatten)]
    pub(super) survey: AnalysisOptions,
    #[command(flatten)]
    pub(super) figures: FigureArgs,
    /// Continue from the state that a killed or interrupted run of the same command left in the result folder; budgets and
    /// threads may differ
    #[arg(help_heading = RESULT, long)]
    pub(super) resume: bool,
    /// Minimum number of seconds between two states for --resume
    #[arg(help_heading = RESULT, hide_short_help = true, long, value_name = "S", value_parser = parsed_by(seconds), default_value = "30", allow_negative_numbers = true)]
    save_every: Duration,
    /// Result folder [default: reports/NAME]
    #[arg(help_heading = RESULT, long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Overwrite an existing result
    #[arg(help_heading = RESULT, long)]
    pub(super) force: bool,
}

impl AnalyzeArgs {
    /// When states are written and taken up.
    ///
    /// # Errors
    /// [`PlanError::Option`] for a method that keeps no states.
    pub(super) fn saving(&self) -> Result<Saving> {
        if self.resume && self.survey.method == EigenMethod::Power {
            let reason = "only dense, gram and lanczos keep states";
            return Err(PlanError::option("--resume", "with --method power", reason).into());
        }
        Ok(Saving { every: self.save_every, resume: self.resume })
    }
}

pub(super) fn run(args: &AnalyzeArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let (mut options, saving, style) = (args.survey.clone(), args.saving()?, args.figures.style());
    options.check()?;
    let name = checkpoint_name(&args.session.model.checkpoint);
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(&name));
    let claim = claim(&folder, Existing::of(args.force, args.resume))?;
    let mut session = args.session.open(Precision::F32, ui)?;
    session.options.seed = options.seed;
    if options.operators.contains(&Curvature::PreconditionedHessian) {
        session.read_optimizer(options.optimizer_state.as_deref(), ui)?;
    }
    // Before any work: what it lacks is an error.
    session.preconditioner(&options.scope)?;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    ui.notes(&fit(&mut options, &objective)?);
    let configuration = configuration(&session, &objective, &options);
    share_rows(&objective, &configuration)?;
    if claim.is_complete_for_all()? {
        claim.same_configuration(&configuration)?;
        ui.say(&claim.complete_already(&folder));
        answer::result(&folder, &session.statement(), ui)?;
        return Ok(0);
    }
    let cost = CostEstimate::measure(&objective, &session.checkpoint.theta, &options, &mut ui.progress())?;
    ui.say(&format!("survey: {}", super::estimate::summary(&cost)));
    if let Some(seconds) = options.max_time_s {
        let survey = cost.survey_time_s(seconds);
        options.survey_time_s = Some(survey);
        ui.say(&format!(
            "note: --max-time {}: up to {} for each survey, the rest for what follows",
            duration(seconds),
            duration(survey)
        ));
    }
    ui.detail(&format!(
        "micro-batches of {} rows, blocks of {} vectors, {} threads",
        objective.micro_batch(objective.block_size()),
        objective.block_size(),
        session.options.execution.threads
    ));
    let output = claim.begin()?;
    let destination = Destination { name: &name, written: Vec::new(), folder: output.path(), saving, style };
    let (report, code) = analyze_session(&session, &options, destination, Provenance::new(arguments), ui)?;
    if !team().leads() {
        return Ok(code);
    }
    let lacking = unresolved(&report);
    let (mut whole, layers): (Vec<_>, Vec<_>) =
        report.summary.into_iter().partition(|row| row.scope == options.scope || row.operator.is_none());
    whole.retain(|row| row.converged || row.is_bound());
    ui.print_lines(&terminal::summary_table(&whole));
    for spectrum in &report.spectra {
        let ends = [&spectrum.top, &spectrum.bottom];
        if ends.iter().any(|end| end.ritz_values.len() > 1) {
            ui.print(&format!("{}, {}", spectrum.operator, spectrum.scope));
            ui.print_lines(&terminal::eigenvalue_table(ends));
        }
    }
    lacking.iter().for_each(|words| ui.print(words));
    if !layers.is_empty() {
        ui.say(&format!("{} numbers of single layers are in summary.parquet", layers.len()));
    }
    report.subset_study.verdict().iter().for_each(|words| ui.print(words));
    ui.print(&report.statement);
    answer::result(&folder, &report.statement, ui)?;
    ui.say(&format!("wrote {}", folder.display()));
    Ok(code)
}

/// Everything that decides the numbers.
fn configuration(session: &Session, objective: &Objective<'_>, options: &AnalysisOptions) -> serde_json::Value {
    let mut configuration = session.configuration(objective);
    configuration["analysis"] = json!(options);
    configuration
}

/// Figures that are drawn where there is something to draw.
const FIGURES: [&str; 8] = [
    "spectrum",
    "density_linear",
    "density_signed_log",
    "density_log_abs",
    "distribution",
    "subset_study",
    "slices",
    "plane",
];

/// Where a result goes.
pub(super) struct Destination<'a> {
    /// Its name in titles.
    pub(super) name: &'a str,
    /// What the command has written there before.
    pub(super) written: Vec<PathBuf>,
    pub(super) folder: &'a Path,
    pub(super) saving: Saving,
    /// Of its figures.
    pub(super) style: Style,
}

/// Analyzes and writes; an interruption writes what is finished and gives exit code 130.
pub(super) fn analyze_session(
    session: &Session,
    options: &AnalysisOptions,
    destination: Destination<'_>,
    provenance: Provenance,
    ui: &mut Ui,
) -> Result<(AnalysisReport, u8)> {
    let Destination { name, written: earlier, folder, saving, style } = destination;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    let configuration = configuration(session, &objective, options);
    let mut report = AnalysisReport { statement: session.statement(), configuration, ..AnalysisReport::empty(name) };
    let memory_bytes = session.options.execution.memory_bytes;
    let mut states = StateFiles::new(folder, &report.configuration, memory_bytes, saving);
    let preconditioner = session.preconditioner(&options.scope)?;
    let (theta, preconditioner) = (&session.checkpoint.theta, preconditioner.as_ref());
    let analysis = Analysis { objective: &objective, theta, options, preconditioner };
    let outcome = analysis.run(&mut report, &mut states, &mut ui.progress());
    states.tell(ui);
    let code = match outcome {
        Ok(()) => 0,
        Err(Error::Interrupted) if !report.summary.is_empty() => {
            ui.say("interrupted: writing the parts that are finished");
            INTERRUPTED
        }
        Err(error) => return Err(error),
    };
    if !team().leads() {
        return Ok((report, code));
    }
    let mut written = save_analysis(&report, folder, style)?;
    if let Some(spectrum) = report.spectra.first() {
        written.push(save_eigenvectors(session, spectrum, folder)?);
    }
    remove_outdated(folder, &["eigenvectors.safetensors"], &FIGURES, &written);
    let page = folder.join("report.html");
    analysis_page(&report, &folder.join("figures"), &provenance.command()).write(&page)?;
    written.push(page);
    if code == 0 {
        states.remove();
    }
    for spectrum in &report.spectra {
        if spectrum.outcome.memory_bound && spectrum.outcome.num_restarts > 0 {
            ui.say(&format!(
                "note: --memory has room for a basis of {} vectors of the {}, so the survey restarted {} times; more memory would save products",
                spectrum.outcome.basis_rows,
                spectrum.operator.name(),
                spectrum.outcome.num_restarts
            ));
        }
        if let Stop::MaxTime { max_matvecs } = spectrum.outcome.stop {
            let name = spectrum.operator.name();
            ui.say(&format!("note: --max-time ended the {name}; --max-matvecs {max_matvecs} gives the same numbers"));
        }
    }
    let mut run = provenance.json();
    run["complete"] = json!(code == 0);
    run["threads"] = json!(session.options.execution.threads);
    run["micro_batch"] = json!(objective.micro_batch(objective.block_size()));
    run["block_size"] = json!(objective.block_size());
    run["checkpoint"] = json!(path_text::to_text(&session.checkpoint.path));
    run["stored_dtype"] = json!(session.checkpoint.stored_dtype.as_str());
    run["configuration"] = report.configuration.clone();
    run["surveys"] = report.spectra.iter().map(survey_json).collect();
    written.extend(earlier);
    write_run_json(folder, &run, &written)?;
    Ok((report, code))
}

/// Why and where the survey of an operator ended.
fn survey_json(spectrum: &SpectrumReport) -> serde_json::Value {
    let (stop, reproduced_by) = match spectrum.outcome.stop {
        Stop::Converged => ("converged", None),
        Stop::MaxSteps => ("max_steps", None),
        Stop::MaxMatvecs => ("max_matvecs", None),
        Stop::MaxTime { max_matvecs } => ("max_time", Some(max_matvecs)),
        Stop::Interrupted => ("interrupted", None),
    };
    json!({
        "operator": spectrum.operator.name(),
        "stop": stop,
        "reproduced_by_max_matvecs": reproduced_by,
        "num_matvecs": spectrum.outcome.num_matvecs,
        "basis_rows": spectrum.outcome.basis_rows,
        "memory_bound": spectrum.outcome.memory_bound,
        "num_restarts": spectrum.outcome.num_restarts,
        "density_change": Some(spectrum.slq.change()).filter(|change| change.is_finite()),
    })
}

/// Unit eigenvectors on the scope's parameters as rows, with the names of these and the checkpoint's hash.
fn save_eigenvectors(session: &Session, spectrum: &SpectrumReport, folder: &Path) -> Result<PathBuf> {
    let space = session.checkpoint.network.space();
    let tensors = spectrum.scope.tensors(space)?.into_iter();
    let names: Vec<&str> = tensors.map(|index| space.tensors()[index].name.as_str()).collect();
    let metadata = [
        ("flatness.operator", spectrum.operator.name().to_owned()),
        ("flatness.scope", spectrum.scope.to_string()),
        ("flatness.params", json!(names).to_string()),
        ("flatness.checkpoint_sha256", session.checkpoint.sha256.clone()),
        ("flatness.top_eigenvalues", json!(spectrum.top.ritz_values).to_string()),
        ("flatness.bottom_eigenvalues", json!(spectrum.bottom.ritz_values).to_string()),
    ];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let tensors = [&spectrum.top, &spectrum.bottom].map(|eigen| (eigen.end.name().to_owned(), eigen.vectors.clone()));
    let path = folder.join("eigenvectors.safetensors");
    write_tensors(&path, &tensors, &metadata)?;
    Ok(path)
}

/// The name of a result: that of the file, or of its folder where the file is just `checkpoint` or `weights`.
pub(super) fn checkpoint_name(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match parent {
        Some(parent) if ["checkpoint", "weights", "model"].contains(&stem.as_str()) => parent,
        _ => stem,
    }
}
