//! `flatness train`: from data and an architecture to a checkpoint.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::answer;
use super::figure_args::FigureArgs;
use super::output::{Claim, Existing, claim, remove_outdated};
use super::provenance::Provenance;
use super::{INTERRUPTED, Ui};
use crate::Result;
use crate::checkpoint::{CheckpointError, TensorFile};
use crate::data::{DataSpec, Dataset, Split};
use crate::plan::{CONFIG_FILE, PlanError, TrainArgs, TrainConfig, TrainPlan};
use crate::report::figures::Style;
use crate::report::tables::{Column, write_table};
use crate::report::write_run_json;
use crate::team::team;
use crate::train::{
    EvaluationRow, SampleFolder, SnapshotFolder, StateFolder, TrainOutcome, TrainStop, Training, save, train,
};

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(super) struct TrainCommand {
    #[command(flatten)]
    pub(super) train: TrainArgs,
    #[command(flatten)]
    figures: FigureArgs,
}

pub(super) fn run(command: &TrainCommand, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let provenance = Provenance::new(arguments);
    let (args, style) = (&command.train, command.figures.style());
    let mut plan = args.plan()?;
    let spec = plan.data.clone().ok_or(PlanError::NoTrainingData)?;
    let claim = claim(&args.out, Existing::of(args.force, args.resume))?;
    let init = plan.init.as_deref().map(TensorFile::read).transpose()?;
    plan.init_sha256 = init.as_ref().map(|file| file.sha256.clone());
    let leads = team().leads();
    let is_begun = leads && args.resume && claim.holds(CONFIG_FILE);
    let checked = if is_begun { same_plan(&plan, &args.out) } else { Ok(()) };
    if team().of_leader(checked.map(|()| is_begun && claim.is_complete()))? {
        ui.say(&claim.complete_already(&args.out));
        answer::result(&args.out, &spec.source_name(), ui)?;
        return Ok(0);
    }
    let memory_bytes = plan.train.execution.memory_bytes;
    let data = spec.load_within(memory_bytes)?;
    ui.notes(&data.notes);
    let architecture = plan.network(&data, init.as_ref())?;
    check_size(plan.model_name(), architecture.param_space()?.dim(), memory_bytes)?;
    let test = test_rows(&spec, memory_bytes)?;
    for warning in plan.train.optimizer.warnings() {
        ui.say(&format!("warning: {warning}"));
    }
    if let Some(words) = temperature(&plan.train, data.len()) {
        ui.say(&words);
    }
    let folder = claim.path().to_owned();
    let mut states = StateFolder::new(&folder, args.save_every, args.resume);
    let (snapshots, samples) = (SnapshotFolder::new(&folder, &spec), SampleFolder::new(&folder, &spec));
    let (mut claim, mut output) = (Some(claim), None);
    // What is refused leaves an earlier result as it was.
    let mut begin = || {
        output = claim.take().map(Claim::begin).transpose()?;
        if leads && !args.resume {
            StateFolder::new(&folder, args.save_every, false).clear();
            snapshots.clear();
            samples.clear();
        }
        if leads { plan.write(&folder) } else { Ok(()) }
    };
    let training = Training {
        test: test.as_ref(),
        init: init.as_ref(),
        states: Some(&mut states),
        snapshots: leads.then_some(&snapshots),
        samples: leads.then_some(&samples),
        begins: Some(&mut begin),
        ..Training::new(&plan.train, architecture, &data)
    };
    let outcome = train(training, &mut ui.progress());
    if outcome.is_err() && output.is_some() && leads && !states.holds_state() {
        // Before the first epoch is finished, nothing is worth keeping.
        let _ = std::fs::remove_file(folder.join(CONFIG_FILE));
        snapshots.clear();
        samples.clear();
    }
    let outcome = outcome?;
    if !leads {
        return Ok(0);
    }
    let mut written = snapshots.files();
    written.extend(samples.file());
    written.push(folder.join(CONFIG_FILE));
    let destination = Destination { folder: &folder, style, resumed_from: states.resumed_from, written };
    finish(&outcome, &spec, destination, &provenance)?;
    tell(&outcome, &states, ui);
    answer::result(&folder, &spec.source_name(), ui)?;
    end(outcome, states, &args.out, ui)
}

/// Refuses to go on with other settings than those of the run in `folder`.
fn same_plan(plan: &TrainPlan, folder: &Path) -> Result<()> {
    let path = folder.join(CONFIG_FILE);
    let differing = TrainPlan::read(&path)?.differences(plan);
    if differing.is_empty() { Ok(()) } else { Err(CheckpointError::OtherState { path, differing }.into()) }
}

/// The temperature of Langevin noise in both conventions; `None` where there is no noise.
fn temperature(config: &TrainConfig, rows: usize) -> Option<String> {
    let temperature = config.optimizer.for_rows(rows).temperature().filter(|own| own.beta_inverse() > 0.0)?;
    Some(format!(
        "note: the temperature is β⁻¹ = {:.3e} of the mean loss, which is T = {:.3e} of the posterior of {rows} rows",
        temperature.beta_inverse(),
        temperature.of_posterior(rows),
    ))
}

fn tell(outcome: &TrainOutcome, states: &StateFolder, ui: &mut Ui) {
    if let Some(step) = states.resumed_from {
        ui.say(&format!("note: continuing from the state after step {step}"));
    }
    if let Some(complaint) = &states.complaint {
        ui.say(&format!("note: the state could not be saved, so --resume would start from the beginning: {complaint}"));
    }
    if !outcome.fresh.is_empty() {
        ui.say(&format!(
            "note: initialised from scratch (missing or of another shape in --init): {}",
            outcome.fresh.join(", ")
        ));
    }
    ui.print_lines(&epoch_table(outcome));
    if !outcome.evaluations.is_empty() {
        ui.print_lines(&evaluation_table(&outcome.evaluations));
    }
    outcome.stability().iter().for_each(|words| ui.print(words));
}

/// The last words, and the exit code.
fn end(outcome: TrainOutcome, states: StateFolder, folder: &Path, ui: &mut Ui) -> Result<u8> {
    let wrote = format!("wrote {}", folder.join("checkpoint.safetensors").display());
    match outcome.stop {
        TrainStop::Finished => {
            states.clear();
            ui.say(&wrote);
            Ok(0)
        }
        TrainStop::Interrupted => {
            ui.say(&format!("{wrote} from the last finished epoch"));
            ui.say(&format!("interrupted: continue with flatness train --resume --out {}", folder.display()));
            Ok(INTERRUPTED)
        }
        TrainStop::NonFinite(error) => {
            ui.say(&format!("{wrote} from the last epoch in which all numbers were finite"));
            Err(error.into())
        }
    }
}

/// Writes everything but `run.json`: checkpoints, tables, figures; returns their paths.
pub(super) fn save_run(outcome: &TrainOutcome, spec: &DataSpec, folder: &Path, style: Style) -> Result<Vec<PathBuf>> {
    let mut written = save(outcome, spec, folder, style)?;
    let sometimes = ["best.safetensors", "ema.safetensors", "swa.safetensors", "optimizer.safetensors"];
    remove_outdated(folder, &sometimes, &["curvature"], &written);
    let number =
        |value: fn(&crate::train::EpochSeconds) -> f64| Column::Number(outcome.seconds.iter().map(value).collect());
    let timings = [
        ("epoch", Column::Count(outcome.epochs.iter().map(|metrics| metrics.epoch).collect())),
        ("seconds", number(|seconds| seconds.total)),
        ("training_seconds", number(|seconds| seconds.training)),
        ("waiting_seconds", number(|seconds| seconds.waiting)),
    ];
    written.push(folder.join("timings.parquet"));
    write_table(&folder.join("timings.parquet"), &timings, &json!({}))?;
    Ok(written)
}

/// Where a run goes.
struct Destination<'a> {
    folder: &'a Path,
    /// Of its figures.
    style: Style,
    /// The step of the state from which it went on.
    resumed_from: Option<usize>,
    /// What is there already.
    written: Vec<PathBuf>,
}

/// [`save_run`], then the page, and at the end `run.json`, which lists all files.
fn finish(
    outcome: &TrainOutcome,
    spec: &DataSpec,
    Destination { folder, style, resumed_from, mut written }: Destination<'_>,
    provenance: &Provenance,
) -> Result<()> {
    written.extend(save_run(outcome, spec, folder, style)?);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let page = outcome.page(&name, &spec.source_name(), &folder.join("figures"), &provenance.command());
    written.push(folder.join("report.html"));
    page.write(&folder.join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(outcome.stop == TrainStop::Finished);
    run["stop"] = match &outcome.stop {
        TrainStop::Finished => json!("finished"),
        TrainStop::Interrupted => json!("interrupted"),
        TrainStop::NonFinite(error) => json!(error.to_string()),
    };
    run["resumed_from_step"] = json!(resumed_from);
    run["threads"] = json!(outcome.config.execution.threads);
    run["train"] = json!(outcome.config);
    run["data"] = json!(spec.resolved());
    run["data_sha256"] = json!(outcome.data_sha256);
    run["temperature"] = outcome.temperature();
    write_run_json(folder, &run, &written)?;
    Ok(())
}

/// Refuses a model without parameters, and one whose training alone exceeds the memory to plan with: weights, gradient,
/// momentum and update, in f64.
fn check_size(model: &str, dim: usize, memory_bytes: usize) -> Result<()> {
    if dim == 0 {
        return Err(PlanError::option("--model", model, "has no parameters to train").into());
    }
    if dim.saturating_mul(32) > memory_bytes {
        let reason = format!("its {dim} parameters do not fit the memory: choose a smaller model, or raise --memory");
        return Err(PlanError::option("--model", model, reason).into());
    }
    Ok(())
}

/// The source's test rows with clean labels; none for a file of tensors or tokens.
fn test_rows(spec: &DataSpec, memory_bytes: usize) -> Result<Option<Dataset>> {
    if !spec.source.has_test_split() || spec.split == Split::Test {
        return Ok(None);
    }
    let test = DataSpec { split: Split::Test, rows: None, subset: None, noise: None, ..spec.clone() };
    test.load_within(memory_bytes).map(Some)
}

/// Epochs shown on the terminal at most; the table has them all.
const SHOWN: usize = 15;

fn number(value: f64) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") }
}

fn epoch_table(outcome: &TrainOutcome) -> String {
    let mut lines = vec!["epoch  learning rate  train loss  accuracy  test loss  accuracy  seconds".to_owned()];
    let every = outcome.epochs.len().div_ceil(SHOWN).max(1);
    for (metrics, seconds) in outcome.epochs.iter().zip(&outcome.seconds) {
        if metrics.epoch % every != 0 && metrics.epoch != outcome.epochs.len() {
            continue;
        }
        lines.push(format!(
            "{:>5}  {:>13.4e}  {:>10}  {:>8}  {:>9}  {:>8}  {:>7.1}",
            metrics.epoch,
            metrics.learning_rate,
            number(metrics.train.loss),
            number(metrics.train.accuracy),
            number(metrics.test.loss),
            number(metrics.test.accuracy),
            seconds.total,
        ));
    }
    lines.join("\n")
}

fn evaluation_table(rows: &[EvaluationRow]) -> String {
    let head =
        "final  split  batch norm     loss    accuracy       NLL  calib. error  clean accuracy  wrong labels fitted";
    let mut lines = vec![head.to_owned()];
    for row in rows {
        lines.push(format!(
            "{:<5}  {:<5}  {:<11}  {:>8}  {:>8}  {:>8}  {:>12}  {:>14}  {:>19}",
            row.weights,
            row.split,
            row.batch_norm,
            number(row.scores.loss),
            number(row.scores.accuracy),
            number(row.scores.nll),
            number(row.scores.calibration_error),
            number(row.clean.clean_accuracy),
            number(row.clean.wrong_fitted),
        ));
    }
    lines.join("\n")
}
