//! `flatness quickstart`: three optimisers on noisy glyphs, analyzed and compared.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::analyze::{Destination, analyze_session};
use super::answer;
use super::figure_args::FigureArgs;
use super::output::{Existing, claim};
use super::provenance::Provenance;
use super::session::Session;
use super::state::Saving;
use super::train::save_run;
use super::{CliError, INTERRUPTED, Ui};
use crate::checkpoint::Checkpoint;
use crate::data::{DataSpec, Glyphs, LabelNoise, Split, Subset};
use crate::formats::family;
use crate::objective::{Execution, ObjectiveOptions};
use crate::plan::{AnalysisOptions, ComputeArgs, EigenMethod, RESULT, TrainConfig};
use crate::report::figures::{Target, write_comparison, write_training_curves};
use crate::report::page::{Card, Figure, Page, Part, Section, runs_table};
use crate::report::{terminal, write_run_json};
use crate::train::{TrainOutcome, TrainStop, Training, train};
use crate::vocabulary::{Quantity, Scope, SummaryRow};
use crate::{Error, Result};

/// Arguments of `quickstart`.
#[derive(Debug, Args)]
pub(super) struct QuickstartArgs {
    /// Seed of everything
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    pub(super) compute: ComputeArgs,
    #[command(flatten)]
    figures: FigureArgs,
    /// Result folder
    #[arg(help_heading = RESULT, long, value_name = "DIR", default_value = "reports/quickstart")]
    out: PathBuf,
    /// Overwrite an existing result
    #[arg(help_heading = RESULT, long)]
    force: bool,
}

/// The methods compared, in the form of `--optimizer`.
const METHODS: [&str; 3] = ["sgd:momentum=0", "sam:rho=0.1,momentum=0", "fsgld:beta_inverse=1e-5"];
const MODEL: &str = "cnn:8-16";
const NOISE: f64 = 0.2;
const EPOCHS: usize = 20;
const TRAIN_ROWS: usize = 1_000;
const LEARNING_RATE: f64 = 0.3;
const BATCH_SIZE: usize = 32;
/// Rows of the curvature estimates: a seeded part of the training rows, wrong labels included.
const ANALYZED_ROWS: usize = 500;

pub(super) fn run(args: &QuickstartArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let provenance = Provenance::new(arguments);
    let (execution, style) = (args.compute.execution(), args.figures.style());
    let existing = Existing::of(args.force, false);
    let whole = claim(&args.out, existing)?;
    let claimed = METHODS.map(|method| {
        let config = config(method, args.seed, execution)?;
        let claim = claim(&whole.inside(config.optimizer.name()), existing)?;
        Ok((config, claim))
    });
    let claimed = claimed.into_iter().collect::<Result<Vec<_>>>()?;
    let whole = whole.begin()?;
    let mut spec = DataSpec::new(Glyphs.into());
    spec.noise = Some(LabelNoise::Symmetric { fraction: NOISE });
    spec.noise_seed = args.seed;
    spec.glyphs.count = Some(TRAIN_ROWS);
    let (mut outcomes, mut runs) = (Vec::new(), Vec::new());
    let mut statement = String::new();
    for (config, claim) in claimed {
        let name = config.optimizer.name();
        let output = claim.begin()?;
        let folder = output.path();
        ui.say(&format!(
            "{name}: {MODEL}, {EPOCHS} epochs on {TRAIN_ROWS} glyphs, {:.0} % wrong labels",
            100.0 * NOISE
        ));
        let outcome = train_one(&config, &spec, ui)?;
        let written = save_run(&outcome, &spec, folder, style)?;
        match &outcome.stop {
            TrainStop::Finished => {}
            TrainStop::Interrupted => return Err(Error::Interrupted),
            TrainStop::NonFinite(error) => return Err(error.clone().into()),
        }
        let session = open(folder, &spec, execution)?;
        let options = AnalysisOptions { method: EigenMethod::Lanczos, seed: args.seed, ..AnalysisOptions::default() };
        let destination = Destination { name, written, folder, saving: Saving::NEVER, style };
        let (report, code) = analyze_session(&session, &options, destination, Provenance::new(arguments), ui)?;
        if code == INTERRUPTED {
            return Err(Error::Interrupted);
        }
        let mut rows = report.summary;
        rows.retain(|row| row.scope == Scope::All && HEADLINES.contains(&row.quantity));
        rows.extend(test_rows(&outcome));
        statement = report.statement;
        runs.push((name.to_owned(), rows));
        outcomes.push(outcome);
    }
    let figures = whole.path().join("figures");
    std::fs::create_dir_all(&figures).map_err(|source| Error::Io { path: figures.clone(), source })?;
    let target = Target::new(&figures, style);
    let mut drawn = write_comparison(&runs, &statement, target)?;
    let curves: Vec<_> = outcomes.iter().map(TrainOutcome::curve).collect();
    let words = format!("{MODEL} on glyphs, {:.0} % wrong labels", 100.0 * NOISE);
    drawn.extend(write_training_curves(&curves, &words, target)?);
    let mut written = drawn.finish(&figures)?;
    written.push(whole.path().join("report.html"));
    page(&runs, &statement, &figures, &provenance.command()).write(&whole.path().join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(true);
    write_run_json(whole.path(), &run, &written)?;
    ui.print_lines(&terminal::comparison_table(&runs));
    ui.print(&statement);
    let folders: Vec<PathBuf> = runs.iter().map(|(name, _)| args.out.join(name)).collect();
    answer::results(&folders, &statement, ui)?;
    ui.say(&format!("wrote {} (report.html, tables, figures/*.svg|png|pdf, run.json)", args.out.display()));
    Ok(0)
}

fn config(method: &str, seed: u64, execution: Execution) -> Result<TrainConfig> {
    Ok(TrainConfig {
        epochs: EPOCHS,
        batch_size: BATCH_SIZE,
        learning_rate: LEARNING_RATE,
        seed,
        optimizer: method.parse()?,
        execution,
        ..TrainConfig::default()
    })
}

fn train_one(config: &TrainConfig, spec: &DataSpec, ui: &mut Ui) -> Result<TrainOutcome> {
    let data = spec.load()?;
    let mut test = DataSpec { split: Split::Test, noise: None, ..spec.clone() };
    test.glyphs.count = None;
    let test = test.load()?;
    let architecture = family(MODEL, &data.sample_shape, data.num_classes().unwrap_or(1))?;
    let training = Training { test: Some(&test), ..Training::new(config, architecture, &data) };
    train(training, &mut ui.progress())
}

/// The checkpoint as it was written, on a part of the training rows.
fn open(folder: &Path, spec: &DataSpec, execution: Execution) -> Result<Session> {
    let path = folder.join("checkpoint.safetensors");
    let checkpoint = Checkpoint::read(&path, None)?;
    let loss = checkpoint.network.about.loss.clone().ok_or(CliError::NoLoss { checkpoint: path })?;
    let spec = DataSpec { subset: Some(Subset { count: ANALYZED_ROWS, seed: 0 }), ..spec.clone() };
    let data = spec.load()?;
    let options = ObjectiveOptions { execution, ..ObjectiveOptions::new(loss) };
    Ok(Session { checkpoint, spec: spec.resolved(), data: data.into(), options, optimizer: None })
}

/// What the comparison shows; the tables of each run have the rest.
const HEADLINES: [Quantity; 8] = [
    Quantity::Loss,
    Quantity::Accuracy,
    Quantity::GradientNorm,
    Quantity::ParameterNorm,
    Quantity::LambdaMax,
    Quantity::LambdaMin,
    Quantity::Trace,
    Quantity::FrobeniusNorm,
];

/// Held-out figures, as rows beside those of the analysis.
fn test_rows(outcome: &TrainOutcome) -> Vec<SummaryRow> {
    let Some(last) = outcome.epochs.last() else { return Vec::new() };
    vec![
        SummaryRow::exact(Quantity::TestLoss, last.test.loss),
        SummaryRow::exact(Quantity::TestAccuracy, last.test.accuracy),
    ]
}

/// Everything on a page, and the pages of the three networks.
fn page(runs: &[(String, Vec<SummaryRow>)], statement: &str, figures: &Path, command: &str) -> Page {
    let compared = "Numbers of the three networks; whiskers: one standard error from the choice of the rows. One seed of each \
                    method says little about the method: flatness run takes several.";
    let links = runs.iter().map(|(name, _)| (format!("Everything about {name}"), format!("{name}/report.html")));
    let sections = [
        Section::new(
            "Three optimisers",
            [
                Figure::one(figures, "comparison", "Comparison", compared),
                Figure::one(figures, "training", "Training", "Loss and accuracy over the epochs."),
                Some(Part::Links(links.collect())),
            ],
        ),
        Section::new("Numbers", [runs_table(runs)]),
    ];
    let card = |(name, rows): &(String, Vec<SummaryRow>)| {
        let row = rows.iter().find(|row| row.quantity == Quantity::LambdaMax)?;
        Card::of(format!("{}, {name}", row.quantity.label()), row)
    };
    Page {
        title: "quickstart".into(),
        subtitle: statement.into(),
        cards: runs.iter().filter_map(card).collect(),
        sections: sections.into_iter().flatten().collect(),
        provenance: vec![
            ("version".into(), env!("CARGO_PKG_VERSION").into()),
            ("model".into(), MODEL.into()),
            ("data".into(), format!("{TRAIN_ROWS} glyphs, {:.0} % wrong labels", 100.0 * NOISE)),
        ],
        command: command.into(),
    }
}
