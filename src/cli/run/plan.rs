//! From cells to command lines: every option is parsed as its command would, before anything runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde_json::{Value, json};

use super::super::{Cli, Command};
use crate::Result;
use crate::checkpoint::TensorFile;
use crate::data::DataSpec;
use crate::experiment::{Cell, Experiment, ExperimentError, Plan, ResolvedStep, Settings, StepKind, arguments};
use crate::path_text::{from_text, to_text};
use crate::plan::{SessionArgs, TrainArgs, command_line, is_architecture};

/// The cells of `experiment`, checked, with so many threads for each run unless the file says otherwise, and so many for each
/// rank of a step that ranks can share.
///
/// # Errors
/// [`ExperimentError`] with file, cell and option for the first step that its command would refuse.
pub(in super::super) fn plan(
    experiment: &Experiment,
    folder: &Path,
    threads: usize,
    rank_threads: usize,
) -> Result<Plan> {
    // The commands work in the experiment's folder: a path from here would lead them elsewhere.
    let directory = std::path::absolute(experiment.directory()).unwrap_or_else(|_| experiment.directory());
    let translator = Translator { experiment, directory, program: Cli::command(), threads, rank_threads };
    Plan::new(experiment, folder, &mut |cell| Ok(translator.steps(cell)?))
}

struct Translator<'a> {
    experiment: &'a Experiment,
    directory: PathBuf,
    program: clap::Command,
    threads: usize,
    rank_threads: usize,
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
        let threads = if kind.is_shared() { self.rank_threads } else { self.threads };
        let threads = toml::Value::Integer(i64::try_from(threads).unwrap_or(1));
        settings.entry("threads".into()).or_insert(threads);
        self.complete_paths(&mut settings);
        let arguments: Vec<OsString> =
            arguments(&settings).iter().map(|argument| from_text(argument).into_os_string()).collect();
        let (configuration, go_on) = match parse(kind, &arguments)? {
            Command::Train(args) => (self.training(&args.train, trained_on)?, "--resume"),
            Command::Analyze(mut args) => {
                args.survey.check()?;
                let configuration = self.measured(&args.session, json!(args.survey), trained_on.as_ref())?;
                // Power iteration keeps no states.
                args.resume = true;
                (configuration, if args.saving().is_ok() { "--resume" } else { "--force" })
            }
            Command::Sharpness(args) => {
                args.measures.check()?;
                (self.measured(&args.session, json!(args.measures), trained_on.as_ref())?, "--force")
            }
            Command::Llc(args) => {
                args.options.check()?;
                (self.measured(&args.session, json!(args.options), trained_on.as_ref())?, "--resume")
            }
            Command::Evaluate(args) => {
                args.options.check()?;
                for rows in &args.options.ood {
                    self.check_place(rows.source().cloned().map(DataSpec::new).as_ref())?;
                }
                (self.measured(&args.session(0), json!(args.options), trained_on.as_ref())?, "--force")
            }
            Command::Langevin(args) => (json!(args.study.plan()?), "--force"),
            other => return Err(Refusal { reason: format!("{other:?} is not a step"), hint: None }),
        };
        Ok(ResolvedStep { configuration, arguments, go_on })
    }

    fn training(&self, args: &TrainArgs, trained_on: &mut Option<DataSpec>) -> Result<Value, Refusal> {
        let mut plan = args.plan()?;
        self.check_place(plan.data.as_ref())?;
        if let Some(path) = plan.init.take() {
            plan.init_sha256 = Some(TensorFile::read(&path)?.sha256);
        }
        *trained_on = plan.data.clone();
        Ok(json!(plan))
    }

    /// What decides the numbers of a command that measures `what` on a checkpoint, with the rows that it was trained on unless
    /// the options name others.
    fn measured(&self, args: &SessionArgs, what: Value, trained_on: Option<&DataSpec>) -> Result<Value, Refusal> {
        self.check_place(args.data.spec(None).as_ref())?;
        let spec = args.data.spec(trained_on.cloned()).map(|spec| spec.resolved());
        Ok(json!({"what": what, "data": spec, "session": args}))
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

    /// Refuses data that are not where they are said to be: better now than in every run.
    fn check_place(&self, spec: Option<&DataSpec>) -> Result<(), Refusal> {
        let Some(spec) = spec else { return Ok(()) };
        match spec.source.path().map(|place| self.directory.join(place)).filter(|path| !path.exists()) {
            None => Ok(()),
            Some(path) => Err(Refusal {
                reason: format!("data {}: there is no {}", spec.source, path.display()),
                hint: Some(
                    "paths are relative to the folder of the experiment file; {data} stands for the folder that FLATNESS_DATA \
                     names"
                        .into(),
                ),
            }),
        }
    }
}

/// The command as `flatness` reads it; folder and checkpoint stand for those that the runner adds.
fn parse(kind: StepKind, arguments: &[OsString]) -> Result<Command, Refusal> {
    let checkpoint = kind.needs_checkpoint().then_some("checkpoint");
    let start = ["flatness", kind.name()].into_iter().chain(checkpoint).chain(["--out=folder"]);
    let cli = command_line::<Cli>(start.map(OsString::from).chain(arguments.iter().cloned())).map_err(|error| {
        let text = error.render().to_string();
        // What follows is the usage.
        let words = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        let line = |words: &str| words.split_whitespace().collect::<Vec<_>>().join(" ");
        match words.split_once("\nhint: ") {
            Some((reason, hint)) => Refusal { reason: line(reason), hint: Some(line(hint)) },
            None => Refusal { reason: line(words), hint: None },
        }
    })?;
    Ok(cli.command)
}
