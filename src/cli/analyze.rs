//! `flatness analyze`: from a checkpoint to tables and figures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::args::{DtypeArg, argument};
use super::output::{check_folder, claim_folder, is_unfinished, remove_outdated};
use super::session::{Session, SessionArgs};
use super::state::{Saving, StateFiles};
use super::{INTERRUPTED, Ui};
use crate::analysis::{
    AnalysisOptions, AnalysisReport, EigenMethod, OperatorKind, SpectrumReport, Stores, SubsetStudy, analyze,
};
use crate::autodiff::ParamSpace;
use crate::checkpoint::write_tensors;
use crate::curvature::{Objective, Scope};
use crate::report::{save_analysis, terminal, write_run_json};
use crate::spectral::Stop;
use crate::{Error, Observer, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OperatorArg {
    /// Second derivative of the mean loss
    Hessian,
    /// Generalised Gauss-Newton; of cross-entropy the exact Fisher matrix too
    Ggn,
    /// Hessian and GGN
    Both,
    /// Hessian less GGN
    Residual,
    /// Second moment of the per-sample gradients
    EmpiricalFisher,
    /// The same at labels drawn from the model
    McFisher,
    /// Covariance of the per-sample gradients
    GradientCovariance,
}

impl OperatorArg {
    fn kinds(self) -> Vec<OperatorKind> {
        match self {
            Self::Hessian => vec![OperatorKind::Hessian],
            Self::Ggn => vec![OperatorKind::Ggn],
            Self::Both => vec![OperatorKind::Hessian, OperatorKind::Ggn],
            Self::Residual => vec![OperatorKind::Residual],
            Self::EmpiricalFisher => vec![OperatorKind::EmpiricalFisher],
            Self::McFisher => vec![OperatorKind::McFisher],
            Self::GradientCovariance => vec![OperatorKind::GradientCovariance],
        }
    }
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
    /// Which curvature; several with commas between
    #[arg(long, value_enum, value_delimiter = ',', default_value = "hessian")]
    operator: Vec<OperatorArg>,
    /// Which parameters: all, layer:NAME, kind:weight|bias|norm or params:GLOB
    #[arg(long, value_name = "SCOPE", default_value = "all")]
    scope: String,
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
    #[arg(long, alias = "tolerance", value_name = "R", default_value_t = AnalysisOptions::default().eigen_tolerance)]
    eig_tol: f64,
    /// Numeric error of a trace over its value that is small enough
    #[arg(long, value_name = "R", default_value_t = AnalysisOptions::default().trace_tolerance)]
    trace_tol: f64,
    /// Change of the density by the last quarter of the steps (W1 over mean |eigenvalue|) that is small enough
    #[arg(long, value_name = "R", default_value_t = AnalysisOptions::default().density_tolerance)]
    density_tol: f64,
    /// Products spent at most, for each operator
    #[arg(long, value_name = "N", default_value_t = AnalysisOptions::default().max_matvecs)]
    max_matvecs: usize,
    /// Seconds spent at most on the survey of each operator
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    max_time: Option<f64>,
    /// Start vectors of the survey, in lock-step
    #[arg(long, value_name = "P", default_value_t = AnalysisOptions::default().num_probes)]
    probes: usize,
    /// Lanczos steps of the density at most
    #[arg(long, value_name = "M", default_value_t = AnalysisOptions::default().num_steps)]
    steps: usize,
    /// The largest eigenvalue of each layer's own block too
    #[arg(long)]
    layers: bool,
    /// Largest eigenvalue and trace of subsets of the rows too, with a verdict on how many rows are enough
    #[arg(long)]
    subset_study: bool,
    /// Leave out the cross-fitted largest eigenvalue
    #[arg(long)]
    no_cross_fit: bool,
    /// Points of a loss slice; 0 draws none
    #[arg(long, value_name = "N", default_value_t = AnalysisOptions::default().slice_points)]
    slice_points: usize,
    /// Points along a side of the loss plane; 0 draws none
    #[arg(long, value_name = "N", default_value_t = AnalysisOptions::default().plane_points)]
    plane_points: usize,
    /// Seed of probes, start vectors, directions and shards
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Go on from the state that a killed or interrupted run of the same command left in the result folder
    #[arg(long)]
    resume: bool,
    /// Seconds between two states for --resume
    #[arg(long, value_name = "S", default_value_t = 30.0, allow_negative_numbers = true)]
    save_every: f64,
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
    fn operators(&self) -> Vec<OperatorKind> {
        let mut kinds: Vec<OperatorKind> = Vec::new();
        for kind in self.operator.iter().flat_map(|operator| operator.kinds()) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    fn options(&self) -> Result<AnalysisOptions> {
        let tolerances =
            [("--eig-tol", self.eig_tol), ("--trace-tol", self.trace_tol), ("--density-tol", self.density_tol)];
        for (name, tolerance) in tolerances {
            if !(tolerance > 0.0 && tolerance < 1.0) {
                return Err(argument(name, &tolerance.to_string(), "must be between 0 and 1"));
            }
        }
        let times = [("--save-every", Some(self.save_every)), ("--max-time", self.max_time)];
        for (name, seconds) in times {
            if let Some(seconds) = seconds.filter(|seconds| !(0.0..1e9).contains(seconds)) {
                return Err(argument(name, &seconds.to_string(), "must be a number of seconds, 0 or more"));
            }
        }
        let power = [("--max-time", self.max_time.is_some()), ("--resume", self.resume)];
        if let Some((name, _)) = power.into_iter().find(|(_, given)| *given && self.method == MethodArg::Power) {
            return Err(argument(name, "with --method power", "only lanczos watches the time and keeps states"));
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
            operators: self.operators(),
            scope: self.scope.parse()?,
            top: self.top,
            bottom: self.bottom,
            method: match self.method {
                MethodArg::Lanczos => EigenMethod::Lanczos,
                MethodArg::Power => EigenMethod::Power,
            },
            eigen_tolerance: self.eig_tol,
            trace_tolerance: self.trace_tol,
            density_tolerance: self.density_tol,
            max_matvecs: self.max_matvecs,
            max_time_s: self.max_time,
            num_probes: self.probes,
            num_steps: self.steps,
            layers: self.layers,
            subset_study: self.subset_study,
            cross_fit: !self.no_cross_fit,
            slice_points: self.slice_points,
            plane_points: self.plane_points,
            seed: self.seed,
            ..AnalysisOptions::default()
        })
    }
}

/// Refuses more eigenpairs than the operator has.
fn check_counts(options: &AnalysisOptions, space: &ParamSpace) -> Result<()> {
    let dim = options.scope.resolve(space)?.into_iter().map(|range| range.len()).sum();
    let (top, bottom) = (options.top, options.bottom);
    if top.saturating_add(bottom) <= dim {
        return Ok(());
    }
    let reason = format!("with --bottom {bottom} that is more than the {dim} parameters: ask for {dim} in all");
    Err(argument("--top", &top.to_string(), &reason))
}

pub(super) fn run(args: &AnalyzeArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let options = args.options()?;
    let name = checkpoint_name(&args.session.model.checkpoint);
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(&name));
    let saving = Saving { every: Duration::from_secs_f64(args.save_every), resume: args.resume };
    let force = args.force || args.resume && is_unfinished(&folder);
    check_folder(&folder, force)?;
    let mut session = args.session.open(DtypeArg::F32, ui)?;
    session.options.seed = args.seed;
    check_counts(&options, &session.checkpoint.network.space)?;
    let _claimed = claim_folder(&folder, force)?;
    let destination = Destination { name: &name, folder: &folder, saving };
    let (report, code) = analyze_session(&session, &options, destination, Provenance::new(arguments), ui)?;
    if args.json {
        ui.print(&summary_json(&report));
    } else {
        let (whole, layers): (Vec<_>, Vec<_>) = report
            .summary
            .into_iter()
            .partition(|row| row.scope == options.scope.to_string() || row.operator.is_empty());
        ui.print(&terminal::summary_table(&whole));
        if !layers.is_empty() {
            ui.say(&format!("{} numbers of single layers are in summary.parquet", layers.len()));
        }
        report.subset_study.verdict().iter().for_each(|words| ui.print(words));
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

/// Where a result goes.
pub(super) struct Destination<'a> {
    /// Its name in titles.
    pub(super) name: &'a str,
    pub(super) folder: &'a Path,
    pub(super) saving: Saving,
}

/// Analyzes and writes; an interruption writes what is finished and gives exit code 130.
pub(super) fn analyze_session(
    session: &Session,
    options: &AnalysisOptions,
    destination: Destination<'_>,
    provenance: Provenance,
    ui: &mut Ui,
) -> Result<(AnalysisReport, u8)> {
    let Destination { name, folder, saving } = destination;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    let mut configuration = session.configuration(&objective);
    configuration["analysis"] = json!(options);
    let mut report = AnalysisReport {
        name: name.into(),
        spectra: Vec::new(),
        eigenvectors: Vec::new(),
        subset_study: SubsetStudy::default(),
        slices: Vec::new(),
        summary: Vec::new(),
        statement: session.statement(),
        configuration,
    };
    let memory_bytes = session.options.execution.memory_bytes;
    let mut states = StateFiles::new(folder, &report.configuration, memory_bytes, saving);
    let watch: (&mut dyn Stores, &mut dyn Observer) = (&mut states, &mut ui.progress());
    let outcome = analyze(&objective, &session.checkpoint.theta, options, &mut report, watch);
    states.tell(ui);
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
    if code == 0 {
        states.remove();
    }
    for spectrum in &report.spectra {
        if let Stop::MaxTime { max_matvecs } = spectrum.stop {
            let name = spectrum.operator.name();
            ui.say(&format!("note: --max-time ended the {name}; --max-matvecs {max_matvecs} gives the same numbers"));
        }
    }
    let mut run = provenance.json();
    run["complete"] = json!(code == 0);
    run["threads"] = json!(session.options.execution.threads);
    run["micro_batch"] = json!(objective.micro_batch(objective.block_size()));
    run["block_size"] = json!(objective.block_size());
    run["checkpoint"] = json!(session.checkpoint.path);
    run["stored_dtype"] = json!(session.checkpoint.stored_dtype.as_str());
    run["configuration"] = report.configuration.clone();
    run["surveys"] = report.spectra.iter().map(survey_json).collect();
    write_run_json(folder, &run)?;
    Ok((report, code))
}

/// Why and where the survey of an operator ended.
fn survey_json(spectrum: &SpectrumReport) -> serde_json::Value {
    let (stop, reproduced_by) = match spectrum.stop {
        Stop::Converged => ("converged", None),
        Stop::MaxMatvecs => ("max_matvecs", None),
        Stop::MaxTime { max_matvecs } => ("max_time", Some(max_matvecs)),
        Stop::Interrupted => ("interrupted", None),
    };
    json!({
        "operator": spectrum.operator.name(),
        "stop": stop,
        "reproduced_by_max_matvecs": reproduced_by,
        "num_matvecs": spectrum.num_matvecs,
        "density_change": Some(spectrum.slq.change()).filter(|change| change.is_finite()),
    })
}

/// Unit eigenvectors on the scope's parameters as rows, with the names of these and the checkpoint's hash.
fn save_eigenvectors(session: &Session, spectrum: &SpectrumReport, folder: &Path) -> Result<PathBuf> {
    let space = &session.checkpoint.network.space;
    let tensors = spectrum.scope.parse::<Scope>()?.tensors(space)?.into_iter();
    let names: Vec<&str> = tensors.map(|index| space.tensors()[index].name.as_str()).collect();
    let metadata = [
        ("flatness.operator", spectrum.operator.name().to_owned()),
        ("flatness.scope", spectrum.scope.clone()),
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
