//! `flatness analyze`: from a checkpoint to tables and figures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::args::{DtypeArg, argument};
use super::output::{check_folder, claim_folder, remove_outdated};
use super::session::{Session, SessionArgs};
use super::{INTERRUPTED, Ui};
use crate::analysis::{AnalysisOptions, AnalysisReport, EigenMethod, OperatorKind, SpectrumReport, analyze};
use crate::checkpoint::write_tensors;
use crate::curvature::Objective;
use crate::report::{save_analysis, terminal, write_run_json};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OperatorArg {
    Hessian,
    Ggn,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    Lanczos,
    Power,
}

/// Most points of a slice, and along a side of the plane.
const MAX_POINTS: [usize; 2] = [10_001, 1_001];

/// Arguments of `analyze`.
#[derive(Debug, Args)]
pub(super) struct AnalyzeArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// Which curvature
    #[arg(long, value_enum, default_value_t = OperatorArg::Hessian)]
    operator: OperatorArg,
    /// Largest eigenvalues
    #[arg(long, value_name = "K", default_value_t = AnalysisOptions::default().top)]
    top: usize,
    /// Most negative eigenvalues
    #[arg(long, value_name = "K", default_value_t = AnalysisOptions::default().bottom)]
    bottom: usize,
    /// How eigenpairs are found
    #[arg(long, value_enum, default_value_t = MethodArg::Lanczos)]
    method: MethodArg,
    /// Residual over largest |eigenvalue| at which a pair has converged
    #[arg(long, value_name = "R", default_value_t = AnalysisOptions::default().tolerance)]
    tolerance: f64,
    /// Products spent on eigenpairs at most
    #[arg(long, value_name = "N", default_value_t = AnalysisOptions::default().max_matvecs)]
    max_matvecs: usize,
    /// Random probes of trace and density
    #[arg(long, value_name = "P", default_value_t = AnalysisOptions::default().num_probes)]
    probes: usize,
    /// Lanczos steps per probe
    #[arg(long, value_name = "M", default_value_t = AnalysisOptions::default().num_steps)]
    steps: usize,
    /// Points of a loss slice; 0 draws none
    #[arg(long, value_name = "N", default_value_t = AnalysisOptions::default().slice_points)]
    slice_points: usize,
    /// Points along a side of the loss plane; 0 draws none
    #[arg(long, value_name = "N", default_value_t = AnalysisOptions::default().plane_points)]
    plane_points: usize,
    /// Seed of probes, start vectors, directions and shards
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Result folder [default: reports/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite an existing result
    #[arg(long)]
    force: bool,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl AnalyzeArgs {
    fn options(&self) -> Result<AnalysisOptions> {
        if !(self.tolerance > 0.0 && self.tolerance < 1.0) {
            return Err(argument("--tolerance", &self.tolerance.to_string(), "must be between 0 and 1"));
        }
        if self.steps == 0 {
            return Err(argument("--steps", "0", "at least one Lanczos step is needed"));
        }
        if self.probes < 2 {
            return Err(argument("--probes", &self.probes.to_string(), "a standard error needs 2 probes or more"));
        }
        let points = [("--slice-points", self.slice_points), ("--plane-points", self.plane_points)];
        for ((name, points), most) in points.into_iter().zip(MAX_POINTS) {
            if points > most {
                return Err(argument(name, &points.to_string(), &format!("must be at most {most}")));
            }
        }
        Ok(AnalysisOptions {
            operators: match self.operator {
                OperatorArg::Hessian => vec![OperatorKind::Hessian],
                OperatorArg::Ggn => vec![OperatorKind::Ggn],
                OperatorArg::Both => vec![OperatorKind::Hessian, OperatorKind::Ggn],
            },
            top: self.top,
            bottom: self.bottom,
            method: match self.method {
                MethodArg::Lanczos => EigenMethod::Lanczos,
                MethodArg::Power => EigenMethod::Power,
            },
            tolerance: self.tolerance,
            max_matvecs: self.max_matvecs,
            num_probes: self.probes,
            num_steps: self.steps,
            slice_points: self.slice_points,
            plane_points: self.plane_points,
            seed: self.seed,
            ..AnalysisOptions::default()
        })
    }
}

/// Refuses more eigenpairs than the operator has.
fn check_counts(options: &AnalysisOptions, dim: usize) -> Result<()> {
    let (top, bottom) = (options.top, options.bottom);
    if top.saturating_add(bottom) <= dim {
        return Ok(());
    }
    let reason = format!("with --bottom {bottom} that is more than the model's {dim} parameters: ask for {dim} in all");
    Err(argument("--top", &top.to_string(), &reason))
}

pub(super) fn run(args: &AnalyzeArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let options = args.options()?;
    let name = checkpoint_name(&args.session.model.checkpoint);
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(&name));
    check_folder(&folder, args.force)?;
    let mut session = args.session.open(DtypeArg::F32, ui)?;
    session.options.seed = args.seed;
    check_counts(&options, session.checkpoint.network.space.dim())?;
    let _claimed = claim_folder(&folder, args.force)?;
    let (report, code) = analyze_session(&session, &options, &name, &folder, Provenance::new(arguments), ui)?;
    if args.json {
        ui.print(&summary_json(&report));
    } else {
        ui.print(&terminal::summary_table(&report.summary));
        ui.print(&report.statement);
        ui.say(&format!("wrote {}", folder.display()));
    }
    Ok(code)
}

/// Command line and start, for `run.json`.
pub(super) struct Provenance {
    command_line: Vec<String>,
    started: Instant,
    unix_time_s: u64,
}

impl Provenance {
    pub(super) fn new(arguments: &[OsString]) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            command_line: arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            started: Instant::now(),
            unix_time_s: now.map_or(0, |time| time.as_secs()),
        }
    }

    /// What `run.json` starts with.
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "command_line": self.command_line,
            "unix_time_s": self.unix_time_s,
            "elapsed_s": self.started.elapsed().as_secs_f64(),
        })
    }
}

/// Analyzes and writes; an interruption writes what is finished and gives exit code 130.
pub(super) fn analyze_session(
    session: &Session,
    options: &AnalysisOptions,
    name: &str,
    folder: &Path,
    provenance: Provenance,
    ui: &mut Ui,
) -> Result<(AnalysisReport, u8)> {
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    let mut configuration = session.configuration(&objective);
    configuration["analysis"] = json!(options);
    let mut report = AnalysisReport {
        name: name.into(),
        spectra: Vec::new(),
        slices: Vec::new(),
        summary: Vec::new(),
        statement: session.statement(),
        configuration,
    };
    let outcome = analyze(&objective, &session.checkpoint.theta, options, &mut report, &mut ui.progress());
    let code = match outcome {
        Ok(()) => 0,
        Err(Error::Interrupted) if !report.summary.is_empty() => {
            ui.say("interrupted: writing what is finished");
            INTERRUPTED
        }
        Err(error) => return Err(error),
    };
    // Until the last file is there, no run.json says that the result is complete.
    let _ = std::fs::remove_file(folder.join("run.json"));
    let mut written = save_analysis(&report, folder)?;
    if let Some(spectrum) = report.spectra.first() {
        written.push(save_eigenvectors(session, spectrum, folder)?);
    }
    remove_outdated(folder, &written);
    let mut run = provenance.json();
    run["complete"] = json!(code == 0);
    run["threads"] = json!(session.options.execution.threads);
    run["micro_batch"] = json!(objective.micro_batch(objective.block_size()));
    run["block_size"] = json!(objective.block_size());
    run["checkpoint"] = json!(session.checkpoint.path);
    run["stored_dtype"] = json!(session.checkpoint.stored_dtype.as_str());
    run["configuration"] = report.configuration.clone();
    write_run_json(folder, &run)?;
    Ok((report, code))
}

/// Unit eigenvectors as rows, with parameter names and the checkpoint's hash.
fn save_eigenvectors(session: &Session, spectrum: &SpectrumReport, folder: &Path) -> Result<PathBuf> {
    let names: Vec<&str> = session.checkpoint.network.space.tensors().iter().map(|t| t.name.as_str()).collect();
    let metadata = [
        ("flatness.operator", spectrum.operator.name().to_owned()),
        ("flatness.params", json!(names).to_string()),
        ("flatness.checkpoint_sha256", session.checkpoint.sha256.clone()),
        ("flatness.top_eigenvalues", json!(spectrum.top.ritz_values).to_string()),
        ("flatness.bottom_eigenvalues", json!(spectrum.bottom.ritz_values).to_string()),
    ];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let tensors =
        [("top".to_owned(), spectrum.top.vectors.clone()), ("bottom".to_owned(), spectrum.bottom.vectors.clone())];
    let path = folder.join("eigenvectors.safetensors");
    write_tensors(&path, &tensors, &metadata)?;
    Ok(path)
}

/// The name of a result: that of the file, or of its folder where the file is just `checkpoint` or `weights`.
fn checkpoint_name(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match parent {
        Some(parent) if ["checkpoint", "weights", "model"].contains(&stem.as_str()) => parent,
        _ => stem,
    }
}

fn summary_json(report: &AnalysisReport) -> String {
    let number = |value: f64| if value.is_finite() { json!(value) } else { json!(null) };
    let rows: Vec<_> = report
        .summary
        .iter()
        .map(|row| {
            json!({
                "quantity": row.quantity,
                "operator": row.operator,
                "scope": row.scope,
                "value": number(row.value),
                "std_err_numeric": number(row.std_err_numeric),
                "std_err_data": number(row.std_err_data),
                "method": row.method,
                "converged": row.converged,
                "num_matvecs": row.num_matvecs,
            })
        })
        .collect();
    let report = json!({"name": report.name, "statement": report.statement, "summary": rows});
    format!("{report:#}")
}
