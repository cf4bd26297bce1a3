//! `flatness evaluate`: how good the probabilities of a network are, or those of an average.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::Ui;
use super::analyze::checkpoint_name;
use super::answer;
use super::figure_args::FigureArgs;
use super::output::{Existing, claim};
use super::provenance::Provenance;
use super::session::{Session, share_rows};
use crate::bayes::{EvaluationError, Model, Score, evaluate, predict};
use crate::checkpoint::{Checkpoint, TensorFile};
use crate::data::{DataSpec, Dataset, NormalisationChoice, Source, Split};
use crate::files::make_folder;
use crate::formats::Architecture;
use crate::objective::Objective;
use crate::plan::{
    ComputeArgs, DataArgs, DefaultRows, EvaluateOptions, Given, L2Term, LossArgs, ModelArgs, OutsideRows, Precision,
    RESULT, SessionArgs, word,
};
use crate::program::BatchNormMode;
use crate::report::figures::{Target, write_evaluation as write_figures};
use crate::report::page::{Measured, evaluation_page};
use crate::report::tables::write_evaluation as write_tables;
use crate::report::{terminal, write_run_json};
use crate::team::team;
use crate::{Result, path_text};

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// One checkpoint, or several whose probabilities are averaged, as of an ensemble of seeds; or samples.safetensors
    #[arg(required = true, num_args = 1.., value_name = "CHECKPOINT")]
    pub(super) checkpoints: Vec<PathBuf>,
    /// Architecture as .json or .toml, or a family such as vit-b16 with --data, for weights that carry none
    #[arg(help_heading = "Network", long, value_name = "FILE")]
    arch: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    pub(super) compute: ComputeArgs,
    #[command(flatten)]
    loss: LossArgs,
    /// Precision of the computation: f32 with sums and scalars in f64, or f64 throughout
    #[arg(help_heading = "Computation", long, visible_alias = "precision", value_name = "DTYPE", value_parser = word::<Precision>())]
    dtype: Option<Precision>,
    #[command(flatten)]
    pub(super) options: EvaluateOptions,
    #[command(flatten)]
    figures: FigureArgs,
    /// Result folder [default: reports/NAME-evaluation]
    #[arg(help_heading = RESULT, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite an existing result
    #[arg(help_heading = RESULT, long)]
    force: bool,
    /// What a program passed in memory, in place of each checkpoint and the data.
    #[arg(skip)]
    pub(super) given: Vec<Given>,
}

impl EvaluateArgs {
    /// What `analyze` would be told of checkpoint `index`.
    pub(super) fn session(&self, index: usize) -> SessionArgs {
        let checkpoint = self.checkpoints.get(index).cloned().unwrap_or_default();
        SessionArgs {
            model: ModelArgs { checkpoint, arch: self.arch.clone(), output: None, weights_key: None },
            data: self.data.clone(),
            compute: self.compute,
            loss: self.loss.clone(),
            dtype: self.dtype,
            batch_norm: Some(BatchNormMode::Eval),
            l2: L2Term::Out,
            default_rows: DefaultRows::Test,
            given: self.given.get(index).cloned(),
        }
    }
}

pub(super) fn run(args: &EvaluateArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let (options, style) = (&args.options, args.figures.style());
    options.check()?;
    let name = checkpoint_name(&args.checkpoints[0]);
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(format!("{name}-evaluation")));
    let provenance = Provenance::new(arguments);
    let claim = claim(&folder, Existing::of(args.force, false))?;
    let session = args.session(0).open(Precision::F32, ui)?;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    share_rows(&objective, &session.configuration(&objective))?;
    let (names, outside) = outside_rows(options, &session)?;
    let mut sources = Vec::new();
    let models = models(args, &session, &mut sources);
    let predicted = predict(models, (&session.data, &outside), &session.options, &mut ui.progress())?;
    let configuration = with_models(session.configuration(&objective), options, &sources, names.iter().zip(&outside));
    // Of all models now.
    share_rows(&objective, &configuration)?;
    if !team().leads() {
        return Ok(0);
    }
    let statement = statement(&session, predicted.models.len());
    let report = evaluate(predicted, &names, options);
    let output = claim.begin()?;
    let mut written = write_tables(&report, &configuration, output.path())?;
    let figures = output.path().join("figures");
    make_folder(&figures)?;
    written.extend(write_figures(&report, &statement, Target::new(&figures, style))?.finish(&figures)?);
    let command = provenance.command();
    let measured = Measured { name: &name, statement: &statement, configuration: &configuration, command: &command };
    written.push(output.path().join("report.html"));
    evaluation_page(&report, &figures, &measured).write(&output.path().join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(true);
    run["threads"] = json!(session.options.execution.threads);
    run["checkpoint"] = json!(path_text::to_text(&session.checkpoint.path));
    run["configuration"] = configuration;
    write_run_json(output.path(), &run, &written)?;
    let summary: Vec<_> = report.scores.iter().map(Score::summary).collect();
    ui.print_lines(&terminal::summary_table(&summary));
    ui.print(&statement);
    answer::result(&folder, &statement, ui)?;
    ui.say(&format!("wrote {}", folder.display()));
    Ok(0)
}

/// The models one after another; `sources` has the name and hash of each that was read.
fn models<'a>(
    args: &'a EvaluateArgs,
    session: &'a Session,
    sources: &'a mut Vec<(String, String)>,
) -> impl Iterator<Item = Result<Model>> + 'a {
    let expected = &session.checkpoint.network.about.normalisation;
    args.checkpoints.iter().enumerate().flat_map(|(index, path)| named_models(args, index, path)).map(move |found| {
        let (model, checkpoint) = found?;
        if checkpoint.network.about.normalisation != *expected {
            return Err(EvaluationError::OtherInputs { model }.into());
        }
        sources.push((model.clone(), checkpoint.sha256));
        Ok(Model { name: model, network: checkpoint.network, theta: checkpoint.theta })
    })
}

/// Models by name, one in memory at a time.
type Models<'a> = Box<dyn Iterator<Item = Result<(String, Checkpoint)>> + 'a>;

/// The checkpoint at `index`, or the samples in its file.
fn named_models<'a>(args: &'a EvaluateArgs, index: usize, path: &Path) -> Models<'a> {
    let (name, session) = (checkpoint_name(path), args.session(index));
    match samples(&session, path) {
        Err(error) => Box::new(std::iter::once(Err(error))),
        Ok(None) => Box::new(std::iter::once(session.read_checkpoint().map(|checkpoint| (name, checkpoint)))),
        Ok(Some((architecture, file))) => Box::new((0..file.num_samples()).map(move |sample| {
            Ok((format!("{name} {sample}"), Checkpoint::of(file.sample(sample), architecture.clone())?))
        })),
    }
}

/// A file of samples with the architecture of their network; `None` for another file, or a network in memory.
fn samples(session: &SessionArgs, path: &Path) -> Result<Option<(Architecture, TensorFile)>> {
    if session.given.is_some() {
        return Ok(None);
    }
    let file = TensorFile::read(path)?;
    if file.num_samples() == 0 {
        return Ok(None);
    }
    Ok(Some((session.architecture_of(&file)?, file)))
}

/// The sets of other rows with their names.
fn outside_rows(options: &EvaluateOptions, session: &Session) -> Result<(Vec<String>, Vec<Dataset>)> {
    let (mut names, mut sets): (Vec<String>, Vec<Dataset>) = (Vec::new(), Vec::new());
    for rows in &options.ood {
        let (name, set) = match rows {
            OutsideRows::Noise => ("noise".to_owned(), session.data.noise(options.seed)?),
            OutsideRows::Source(source) => foreign(source, session)?,
        };
        let same = names.iter().filter(|own| own.split(" #").next() == Some(&name)).count();
        names.push(if same == 0 { name } else { format!("{name} #{}", same + 1) });
        sets.push(set);
    }
    Ok((names, sets))
}

/// All rows of `source`, of its test split where it has one, as inputs of the network.
fn foreign(source: &Source, session: &Session) -> Result<(String, Dataset)> {
    let (data, memory_bytes) = (&session.data, session.options.execution.memory_bytes);
    let mut spec = DataSpec { normalisation: NormalisationChoice::None, ..DataSpec::new(source.clone()) };
    if source.has_test_split() {
        spec.split = Split::Test;
    }
    if let (Source::Images(_), [_, height, _]) = (source, data.sample_shape.as_slice()) {
        spec.image_size = Some(*height);
    }
    let (name, rows) = (spec.source_name(), spec.load_unlabelled(memory_bytes)?);
    let set = data.foreign(&rows)?.ok_or_else(|| EvaluationError::OutsideShape {
        name: source.to_string(),
        got: rows.sample_shape.clone(),
        expected: data.sample_shape.clone(),
    })?;
    Ok((name, set))
}

/// What is computed, of which models and other rows.
fn with_models<'a>(
    mut configuration: Value,
    options: &EvaluateOptions,
    sources: &[(String, String)],
    outside: impl Iterator<Item = (&'a String, &'a Dataset)>,
) -> Value {
    configuration["evaluation"] = json!(options);
    let model = |(name, sha256): &(String, String)| json!({"name": name, "checkpoint_sha256": sha256});
    configuration["models"] = sources.iter().map(model).collect();
    let set = |(name, set): (&String, &Dataset)| json!({"name": name, "data_sha256": set.sha256, "rows": set.len()});
    configuration["outside"] = outside.map(set).collect();
    configuration
}

/// What the probabilities are of, in one line.
fn statement(session: &Session, models: usize) -> String {
    let rows = session.statement();
    if models == 1 { rows } else { format!("mean probabilities of {models} models; {rows}") }
}
