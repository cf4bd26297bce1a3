//! What the runs of an experiment will take: a few steps of each kind of training, and single passes of each kind of
//! measurement, are timed on weights that those steps leave.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io::sink;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::ui::duration;
use super::super::{Cli, Command, Ui};
use crate::analysis::{CostEstimate, fit};
use crate::checkpoint::TensorFile;
use crate::data::{DataSpec, Split};
use crate::experiment::{Run, Step as RunStep, StepKind};
use crate::kernels::DEFAULT_MEMORY;
use crate::objective::{Objective, ObjectiveOptions};
use crate::optim::Schedule;
use crate::plan::{
    AnalysisOptions, Passes, PlanError, Precision, SessionArgs, TrainArgs, TrainConfig, TrainPlan, command_line,
};
use crate::program::Loss;
use crate::report::figures::Style;
use crate::report::is_complete;
use crate::train::{Training, save, train};
use crate::{Error, Observer, Result, Step};

/// Steps of a training that are timed; the first of them warms up.
const TIMED_STEPS: usize = 3;

/// What a step of a run takes.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    seconds: f64,
    /// Without data, program and the allocator's reserve.
    memory_bytes: usize,
}

/// A short training of some kind: its times, and the weights that it left.
#[derive(Debug, Clone)]
struct Trained {
    checkpoint: PathBuf,
    step_seconds: f64,
    /// Of a forward pass.
    seconds_per_row: f64,
    memory_bytes: usize,
    /// Samples of the weights that the whole training leaves.
    samples: usize,
}

/// Costs that are known so far: trainings that differ only in numbers such as the learning rate take the same time.
struct Costs {
    /// Speaks to nobody: what a step notes, it notes when it runs.
    ui: Ui,
    folder: TempDir,
    rows: HashMap<String, usize>,
    trained: HashMap<String, Trained>,
    measured: HashMap<String, Cost>,
}

/// What is left of `runs`, `jobs` at a time on all cores, in words. Cost: three steps of each kind of training, and some passes
/// over the rows of each kind of measurement.
///
/// # Errors
/// What the steps refuse, such as data that cannot be read.
pub(super) fn words(runs: &[&Run], jobs: usize, ui: &mut Ui) -> Result<String> {
    let mut costs = Costs::new(ui.stop_flag())?;
    let mut by_kind: BTreeMap<StepKind, f64> = BTreeMap::new();
    let mut memory_bytes = 0;
    for run in runs {
        for (kind, cost) in costs.of(run)? {
            *by_kind.entry(kind).or_default() += cost.seconds;
            memory_bytes = memory_bytes.max(cost.memory_bytes);
        }
    }
    if by_kind.is_empty() {
        return Ok("left: nothing that can be estimated".to_owned());
    }
    let parts: Vec<String> =
        by_kind.iter().map(|(kind, seconds)| format!("{} {}", kind.name(), duration(*seconds))).collect();
    let (all, memory) = (duration(by_kind.values().sum()), (jobs * memory_bytes).div_ceil(1 << 20));
    Ok(format!(
        "left: about {all} ({}) and {memory} MiB (data and program not counted); kinds of training timed: {}",
        parts.join(", "),
        costs.trained.len(),
    ))
}

impl Costs {
    /// None so far; a stopped program stops the timing too.
    fn new(interrupted: Arc<AtomicBool>) -> Result<Self> {
        let path = std::env::temp_dir();
        let folder = tempfile::tempdir_in(&path).map_err(|source| Error::Io { path, source })?;
        let ui = Ui::captured(Box::new(sink()), Box::new(sink()), interrupted);
        Ok(Self { ui, folder, rows: HashMap::new(), trained: HashMap::new(), measured: HashMap::new() })
    }

    /// What is left of `run`, by kind of step. Steps that start from no training have no estimate.
    fn of(&mut self, run: &Run) -> Result<Vec<(StepKind, Cost)>> {
        let mut costs = Vec::new();
        if run.steps.iter().all(|step| is_complete(&step.folder)) {
            return Ok(costs);
        }
        let mut trained = None;
        for step in &run.steps {
            let line = std::iter::once(OsString::from("flatness")).chain(step.arguments.iter().cloned());
            let refused = |error: clap::Error| PlanError::option("--dry-run", step.name(), error.to_string());
            let command = command_line::<Cli>(line).map_err(refused)?.command;
            let cost = match (command, &trained) {
                (Command::Train(args), _) => {
                    let (own, cost) = self.training(&args.train, step)?;
                    trained = Some(own);
                    cost
                }
                (command, Some((kind, weights))) => self.measurement(command, step, kind, weights)?,
                (_, None) => continue,
            };
            if !is_complete(&step.folder) {
                costs.push((step.kind, cost));
            }
        }
        Ok(costs)
    }

    fn training(&mut self, args: &TrainArgs, step: &RunStep) -> Result<((String, Trained), Cost)> {
        let plan = args.plan()?;
        let spec = plan.data.clone().ok_or(PlanError::NoTrainingData)?;
        let test = DataSpec { split: Split::Test, rows: None, subset: None, noise: None, ..spec.clone() };
        let rows = self.rows_of(&spec)?;
        let tested = spec.source.has_test_split() && spec.split != Split::Test;
        let test_rows = if tested { self.rows_of(&test)? } else { 0 };
        let kind = kind_of(&step.configuration);
        let trained = match self.trained.get(&kind) {
            Some(trained) => trained.clone(),
            None => {
                let folder = self.folder.path().join(self.trained.len().to_string());
                let trained = brief(&plan, &spec, folder, &mut self.ui.progress())?;
                self.trained.entry(kind.clone()).or_insert(trained).clone()
            }
        };
        let config = &plan.train;
        let steps = (rows.div_ceil(config.batch_size) * config.epochs) as f64;
        // After the last epoch all weights are evaluated with both statistics.
        let evaluated = (config.epochs.div_ceil(config.evaluate_every) + 2) * test_rows + 2 * rows;
        let seconds = steps * trained.step_seconds + evaluated as f64 * trained.seconds_per_row;
        let memory_bytes = trained.memory_bytes;
        Ok(((kind, trained), Cost { seconds, memory_bytes }))
    }

    fn rows_of(&mut self, spec: &DataSpec) -> Result<usize> {
        let key = without_seeds(json!(spec)).to_string();
        if let Some(rows) = self.rows.get(&key) {
            return Ok(*rows);
        }
        let rows = spec.num_rows(DEFAULT_MEMORY)?;
        self.rows.insert(key, rows);
        Ok(rows)
    }

    /// What `command` takes on the weights of a brief training.
    fn measurement(&mut self, command: Command, step: &RunStep, kind: &str, trained: &Trained) -> Result<Cost> {
        let key = format!("{kind} {} {}", step.kind.name(), without_seeds(step.configuration.clone()));
        if let Some(cost) = self.measured.get(&key) {
            return Ok(*cost);
        }
        let ui = &mut self.ui;
        let cost = match command {
            Command::Analyze(args) => surveyed(&args.session, args.survey.clone(), &trained.checkpoint, ui)?,
            Command::Sharpness(args) => {
                let times = Times::measure(&args.session, None, &trained.checkpoint, ui)?;
                times.of(args.measures.typical_passes())
            }
            Command::Llc(args) => {
                let times = Times::measure(&args.session, args.options.batch, &trained.checkpoint, ui)?;
                times.of(args.options.typical_passes())
            }
            Command::Evaluate(args) => {
                let times = Times::measure(&args.session(0), None, &trained.checkpoint, ui)?;
                let sets = 1 + args.options.ood.len();
                times.of(Passes { evaluations: sets * trained.samples.max(1), ..Passes::default() })
            }
            _ => Cost::default(),
        };
        self.measured.insert(key, cost);
        Ok(cost)
    }
}

/// Trains for [`TIMED_STEPS`] on the first rows, into `folder`.
fn brief(plan: &TrainPlan, spec: &DataSpec, folder: PathBuf, observer: &mut dyn Observer) -> Result<Trained> {
    let config = &plan.train;
    let data = spec.load_within(config.execution.memory_bytes)?;
    let first = (TIMED_STEPS * config.batch_size).min(data.len());
    let data = data.select(&(0..first).collect::<Vec<_>>())?;
    let init = plan.init.as_deref().map(TensorFile::read).transpose()?;
    let architecture = plan.network(&data, init.as_ref())?;
    let short = TrainConfig {
        epochs: 1,
        evaluate_every: 1,
        schedule: Schedule::constant(),
        samples_per_cycle: None,
        swa_from: None,
        track: None,
        snapshots: None,
        ..config.clone()
    };
    let mut watch = Stopwatch { observer, last: Instant::now(), step_seconds: f64::INFINITY };
    let training = Training { test: Some(&data), init: init.as_ref(), ..Training::new(&short, architecture, &data) };
    let outcome = train(training, &mut watch)?;
    save(&outcome, spec, &folder, Style::default())?;
    let evaluated: f64 = outcome.seconds.iter().map(|epoch| epoch.total - epoch.training).sum();
    let loss = outcome.config.loss.clone().unwrap_or(Loss::Mse {});
    let options =
        ObjectiveOptions { dtype: config.dtype.dtype(), execution: config.execution, ..ObjectiveOptions::new(loss) };
    Ok(Trained {
        checkpoint: folder.join("checkpoint.safetensors"),
        step_seconds: watch.step_seconds,
        seconds_per_row: evaluated / first.max(1) as f64,
        memory_bytes: Objective::new(&outcome.network, &data, options)?.training_bytes(config.batch_size),
        samples: config.samples_per_cycle.map_or(0, |each| each * config.schedule.num_cycles()),
    })
}

/// The shortest time between two steps of a training.
struct Stopwatch<'a> {
    observer: &'a mut dyn Observer,
    last: Instant,
    step_seconds: f64,
}

impl Observer for Stopwatch<'_> {
    fn on_step(&mut self, step: &Step) -> ControlFlow<()> {
        if step.task == "training" {
            self.step_seconds = self.step_seconds.min(self.last.elapsed().as_secs_f64());
            self.last = Instant::now();
        }
        self.observer.on_step(step)
    }
}

/// An analysis, as `flatness estimate` has it.
fn surveyed(session: &SessionArgs, mut options: AnalysisOptions, checkpoint: &Path, ui: &mut Ui) -> Result<Cost> {
    options.check()?;
    let session = on(session, checkpoint).open(Precision::F32, ui)?;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    fit(&mut options, &objective)?;
    let cost = CostEstimate::measure(&objective, &session.checkpoint.theta, &options, &mut ui.progress())?;
    Ok(Cost { seconds: cost.seconds, memory_bytes: cost.memory_bytes })
}

fn on(session: &SessionArgs, checkpoint: &Path) -> SessionArgs {
    let mut session = session.clone();
    session.model.checkpoint = checkpoint.into();
    session
}

/// Seconds of passes over the rows of a measurement, or over `batch` of them.
struct Times {
    gradient: f64,
    evaluation: f64,
    product: f64,
    memory_bytes: usize,
}

impl Times {
    fn measure(args: &SessionArgs, batch: Option<usize>, checkpoint: &Path, ui: &mut Ui) -> Result<Self> {
        let session = on(args, checkpoint).open(Precision::F32, ui)?;
        let rows = batch.unwrap_or(session.data.len()).min(session.data.len());
        let data = session.data.select(&(0..rows).collect::<Vec<_>>())?;
        let objective = Objective::new(&session.checkpoint.network, &data, session.options.clone())?;
        let one = AnalysisOptions { num_probes: 2, ..AnalysisOptions::default() };
        let cost = CostEstimate::measure(&objective, &session.checkpoint.theta, &one, &mut ui.progress())?;
        let (gradient, evaluation) = (cost.seconds_per_gradient, cost.seconds_per_evaluation);
        let memory_bytes = objective.product_bytes(1);
        Ok(Self { gradient, evaluation, product: cost.seconds_per_matvec, memory_bytes })
    }

    fn of(&self, passes: Passes) -> Cost {
        let Passes { gradients, evaluations, products } = passes;
        let seconds =
            gradients as f64 * self.gradient + evaluations as f64 * self.evaluation + products as f64 * self.product;
        Cost { seconds, memory_bytes: self.memory_bytes }
    }
}

/// What decides how long a training takes for each row and epoch: not its seeds, rates and numbers of rows and epochs.
fn kind_of(configuration: &Value) -> String {
    let mut kind = without_seeds(configuration.clone());
    let train = &mut kind["train"];
    let method = &train["optimizer"];
    let method = json!([method["kind"], method["base"], method["num_perturbations"], method["antithetic"]]);
    train["optimizer"] = method;
    for own in ["epochs", "learning_rate", "schedule", "weight_decay", "evaluate_every", "samples_per_cycle"] {
        train[own] = Value::Null;
    }
    for own in ["rows", "subset", "noise"] {
        kind["data"][own] = Value::Null;
    }
    kind.to_string()
}

fn without_seeds(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries = entries.into_iter().filter(|(name, _)| !name.ends_with("seed"));
            entries.map(|(name, value)| (name, without_seeds(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(without_seeds).collect(),
        other => other,
    }
}
