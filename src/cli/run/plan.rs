//! From cells to command lines: every option is parsed as its command would, before anything runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use serde_json::{Map, Value, json};

use super::super::analyze_args::AnalyzeArgs;
use super::super::loss::parse_loss;
use super::super::session::SessionArgs;
use super::super::sharpness::SharpnessArgs;
use super::super::train_args::TrainArgs;
use super::super::train_plan::is_architecture;
use super::super::{Cli, CliError, Command};
use crate::Result;
use crate::checkpoint::TensorFile;
use crate::data::{DataSpec, Source};
use crate::experiment::{Cell, Experiment, ExperimentError, Plan, ResolvedStep, Settings, StepKind, arguments};
use crate::path_text::{from_text, to_text};

/// Options that do not change a number, or that the configuration states in its own words. What is in neither list
/// enters the hash as it is written.
const NO_NUMBERS: [&str; 4] = ["threads", "memory", "device", "save-every"];
const ANALYZED: [&str; 24] = [
    "bottom",
    "data",
    "density-tol",
    "eig-tol",
    "layers",
    "max-matvecs",
    "max-time",
    "method",
    "no-cross-fit",
    "noise",
    "noise-seed",
    "operator",
    "plane-points",
    "probes",
    "rows",
    "scope",
    "seed",
    "slice-points",
    "split",
    "steps",
    "subset",
    "subset-seed",
    "subset-study",
    "trace-tol",
];

/// The same for `sharpness`, whose options state the measures.
const MEASURED: [&str; 20] = [
    "ascent-steps",
    "batch",
    "data",
    "image-size",
    "labels",
    "noise",
    "noise-seed",
    "pairs",
    "relative-sigma",
    "restarts",
    "rho",
    "rho-linf",
    "rows",
    "seed",
    "sigma",
    "skip-broken",
    "split",
    "subset",
    "subset-seed",
    "target",
];

/// The cells of `experiment`, checked, with `threads` threads for each run unless the file says otherwise.
///
/// # Errors
/// [`ExperimentError`] with file, cell and option for the first step that its command would refuse.
pub(in super::super) fn plan(experiment: &Experiment, folder: &Path, threads: usize) -> Result<Plan> {
    // The commands work in the experiment's folder: a path from here would lead them elsewhere.
    let directory = std::path::absolute(experiment.directory()).unwrap_or_else(|_| experiment.directory());
    let translator = Translator { experiment, directory, program: Cli::command(), threads };
    Plan::new(experiment, folder, &mut |cell| Ok(translator.steps(cell)?))
}

struct Translator<'a> {
    experiment: &'a Experiment,
    directory: PathBuf,
    program: clap::Command,
    threads: usize,
}

/// Why a command refuses its arguments.
struct Refusal {
    reason: String,
    hint: Option<String>,
}

impl<E: Into<crate::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        let error = error.into();
        Self { reason: error.to_string(), hint: error.hint() }
    }
}

impl Translator<'_> {
    fn steps(&self, cell: &Cell) -> Result<Vec<ResolvedStep>, ExperimentError> {
        let mut trained_on = None;
        let step = |kind: &StepKind| {
            let settings = self.known(*kind, cell.settings.get(kind).cloned().unwrap_or_default())?;
            self.step(*kind, settings, &mut trained_on).map_err(|Refusal { reason, hint }| ExperimentError::Cell {
                path: self.experiment.path.clone(),
                step: format!("cell `{}`, {}", cell.label(&StepKind::ALL), kind.name()),
                reason,
                hint,
            })
        };
        self.experiment.steps.iter().map(step).collect()
    }

    /// The settings under their options' first names; an option that the command lacks is refused.
    fn known(&self, kind: StepKind, settings: Settings) -> Result<Settings, ExperimentError> {
        let command = self.program.find_subcommand(kind.name());
        let options = || command.into_iter().flat_map(clap::Command::get_arguments);
        let name = |key: &str| {
            let named = options().find(|option| {
                option.get_long() == Some(key) || option.get_all_aliases().is_some_and(|names| names.contains(&key))
            });
            named.and_then(clap::Arg::get_long).map(str::to_owned)
        };
        let rename = |(key, value): (String, toml::Value)| match name(&key) {
            Some(name) => Ok((name, value)),
            None => {
                let place = format!("flatness {}", kind.name());
                let names = options().filter_map(clap::Arg::get_long);
                let all = format!("{place} --help names every option");
                Err(ExperimentError::unknown_key(&self.experiment.path, &place, &key, names, all))
            }
        };
        settings.into_iter().map(rename).collect()
    }

    /// `trained_on` goes from the training to the analyses, as the data do in the checkpoint.
    fn step(
        &self,
        kind: StepKind,
        mut settings: Settings,
        trained_on: &mut Option<DataSpec>,
    ) -> Result<ResolvedStep, Refusal> {
        let threads = toml::Value::Integer(i64::try_from(self.threads).unwrap_or(1));
        settings.entry("threads".into()).or_insert(threads);
        self.complete_paths(&mut settings);
        let arguments: Vec<OsString> =
            arguments(&settings).iter().map(|argument| from_text(argument).into_os_string()).collect();
        let (configuration, go_on) = match parse(kind, &arguments)? {
            Command::Train(args) => (self.training(&args, &settings, trained_on)?, "--resume"),
            Command::Analyze(mut args) => {
                let configuration = self.analysis(&args, &settings, trained_on.clone())?;
                // Power iteration keeps no states.
                args.resume = true;
                (configuration, if args.saving().is_ok() { "--resume" } else { "--force" })
            }
            Command::Sharpness(args) => (self.sharpness(&args, &settings, trained_on.clone())?, "--force"),
            Command::Langevin(args) => (args.configuration()?, "--force"),
            other => return Err(Refusal { reason: format!("{other:?} is no step"), hint: None }),
        };
        Ok(ResolvedStep { configuration, arguments, go_on })
    }

    fn training(
        &self,
        args: &TrainArgs,
        settings: &Settings,
        trained_on: &mut Option<DataSpec>,
    ) -> Result<Value, Refusal> {
        let mut plan = args.plan()?;
        self.check_place(settings)?;
        if let Some(path) = plan.init.take() {
            plan.init_sha256 = Some(TensorFile::read(&path)?.sha256);
        }
        *trained_on = Some(plan.data.clone().ok_or(CliError::NoTrainingData)?);
        Ok(json!(plan))
    }

    fn analysis(
        &self,
        args: &AnalyzeArgs,
        settings: &Settings,
        trained_on: Option<DataSpec>,
    ) -> Result<Value, Refusal> {
        let options = args.survey.options()?;
        args.saving()?;
        let spec = self.session(&args.session, settings, trained_on)?;
        Ok(json!({"analysis": options, "data": spec, "other": rest(settings, &ANALYZED)}))
    }

    fn sharpness(
        &self,
        args: &SharpnessArgs,
        settings: &Settings,
        trained_on: Option<DataSpec>,
    ) -> Result<Value, Refusal> {
        let options = args.measures.options()?;
        let spec = self.session(&args.session, settings, trained_on)?;
        Ok(json!({"sharpness": options, "data": spec, "other": rest(settings, &MEASURED)}))
    }

    /// Checks what commands on a checkpoint have in common; their rows.
    fn session(
        &self,
        args: &SessionArgs,
        settings: &Settings,
        trained_on: Option<DataSpec>,
    ) -> Result<Option<DataSpec>, Refusal> {
        args.compute.execution()?;
        if let Some(loss) = settings.get("loss").and_then(toml::Value::as_str) {
            parse_loss(loss)?;
        }
        let spec = args.data.spec(trained_on)?.map(|spec| spec.resolved());
        self.check_place(settings)?;
        Ok(spec)
    }

    /// Files in the experiment's folder by their whole paths; what enters the hash is their content.
    fn complete_paths(&self, settings: &mut Settings) {
        for key in ["model", "init", "config"] {
            let Some(value) = settings.get_mut(key) else { continue };
            let path = value.as_str().map(Path::new).filter(|path| key != "model" || is_architecture(path));
            if let Some(path) = path.map(|path| self.directory.join(path)) {
                *value = to_text(path).into();
            }
        }
    }

    /// Refuses data that are not where `data` says: better now than in every run.
    fn check_place(&self, settings: &Settings) -> Result<(), Refusal> {
        let text = settings.get("data").and_then(toml::Value::as_str).unwrap_or_default();
        if text.is_empty() {
            return Ok(());
        }
        let source: Source = text.parse()?;
        let Some(path) = source.path().map(|path| self.directory.join(path)).filter(|path| !path.exists()) else {
            return Ok(());
        };
        let reason = format!("data {text}: there is no {}", path.display());
        Err(Refusal { reason, hint: Some("paths are relative to the experiment file's folder".into()) })
    }
}

/// The command as `flatness` reads it; folder and checkpoint stand for those that the runner adds.
fn parse(kind: StepKind, arguments: &[OsString]) -> Result<Command, Refusal> {
    let checkpoint = kind.needs_checkpoint().then_some("checkpoint");
    let start = ["flatness", kind.name()].into_iter().chain(checkpoint).chain(["--out=folder"]);
    let cli = Cli::try_parse_from(start.map(OsString::from).chain(arguments.iter().cloned())).map_err(|error| {
        let text = error.render().to_string();
        // What follows is the usage.
        let words = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        Refusal { reason: words.split_whitespace().collect::<Vec<_>>().join(" "), hint: None }
    })?;
    Ok(cli.command)
}

/// Settings that enter the hash as they are written.
fn rest(settings: &Settings, stated: &[&str]) -> Map<String, Value> {
    let others = settings.iter().filter(|(key, _)| {
        let key = key.as_str();
        !stated.contains(&key) && !NO_NUMBERS.contains(&key)
    });
    others.map(|(key, value)| (key.clone(), json!(value))).collect()
}
