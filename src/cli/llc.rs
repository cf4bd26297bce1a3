//! `flatness llc`: the local learning coefficient of a minimum.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use clap::Args;
use serde_json::{Value, json};

use super::Ui;
use super::analyze::checkpoint_name;
use super::answer;
use super::figure_args::FigureArgs;
use super::output::{Existing, claim, remove_outdated};
use super::provenance::Provenance;
use super::session::share_rows;
use super::state::{Saving, seconds};
use crate::bayes::learning_coefficient::{Chain, ChainStore, LlcReport, Visit, survey};
use crate::checkpoint::{read_state, write_state};
use crate::files::make_folder;
use crate::objective::Objective;
use crate::plan::{LlcOptions, Precision, RESULT, SessionArgs, parsed_by};
use crate::report::figures::{Target, write_llc as write_figures};
use crate::report::page::{Measured, llc_page};
use crate::report::tables::write_llc as write_tables;
use crate::report::{terminal, write_run_json};
use crate::team::team;
use crate::{Error, Result, path_text};

/// Arguments of `llc`.
#[derive(Debug, Args)]
pub(super) struct LlcArgs {
    #[command(flatten)]
    pub(super) session: SessionArgs,
    #[command(flatten)]
    pub(super) options: LlcOptions,
    #[command(flatten)]
    figures: FigureArgs,
    /// Result folder [default: reports/NAME-llc]
    #[arg(help_heading = RESULT, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the chains that a killed or interrupted run of the same command left in the result folder
    #[arg(help_heading = RESULT, long)]
    resume: bool,
    /// Minimum number of seconds between two states for --resume
    #[arg(help_heading = RESULT, hide_short_help = true, long, value_name = "S", value_parser = parsed_by(seconds), default_value = "5", allow_negative_numbers = true)]
    save_every: Duration,
    /// Overwrite an existing result
    #[arg(help_heading = RESULT, long)]
    force: bool,
}

pub(super) fn run(args: &LlcArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let (options, style) = (&args.options, args.figures.style());
    options.check()?;
    let name = checkpoint_name(&args.session.model.checkpoint);
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(format!("{name}-llc")));
    let provenance = Provenance::new(arguments);
    let claim = claim(&folder, Existing::of(args.force, args.resume))?;
    let mut session = args.session.open(Precision::F32, ui)?;
    session.options.seed = options.seed;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    let mut configuration = session.configuration(&objective);
    configuration["llc"] = json!(options);
    share_rows(&objective, &configuration)?;
    let statement = session.statement();
    if claim.is_complete_for_all()? {
        claim.same_configuration(&configuration)?;
        ui.say(&claim.complete_already(&folder));
        answer::result(&folder, &statement, ui)?;
        return Ok(0);
    }
    let output = claim.begin()?;
    let saving = Saving { every: args.save_every, resume: args.resume };
    let mut states = ChainFiles::new(output.path(), &configuration, session.options.execution.memory_bytes, saving);
    let outcome = survey(&objective, &session.checkpoint.theta, options, &mut states, &mut ui.progress());
    states.tell(ui);
    if let Err(Error::Interrupted) = outcome {
        ui.say("interrupted: repeat the command with --resume to continue");
    }
    let report = outcome?;
    if !team().leads() {
        return Ok(0);
    }
    let mut written = write_tables(&report, &configuration, output.path())?;
    let figures = output.path().join("figures");
    make_folder(&figures)?;
    let drawn = write_figures(&report, &statement, Target::new(&figures, style))?.finish(&figures)?;
    remove_outdated(output.path(), &[], &["llc_traces", "llc_sweep"], &drawn);
    written.extend(drawn);
    let command = provenance.command();
    let about = Measured { name: &name, statement: &statement, configuration: &configuration, command: &command };
    written.push(output.path().join("report.html"));
    llc_page(&report, &figures, &about).write(&output.path().join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(true);
    run["threads"] = json!(session.options.execution.threads);
    run["checkpoint"] = json!(path_text::to_text(&session.checkpoint.path));
    run["configuration"] = configuration;
    write_run_json(output.path(), &run, &written)?;
    states.remove(report.estimates.len());
    tell(&report, ui);
    ui.print(&statement);
    answer::result(&folder, &statement, ui)?;
    ui.say(&format!("wrote {}", folder.display()));
    Ok(0)
}

fn tell(report: &LlcReport, ui: &mut Ui) {
    let Some(headline) = report.headline() else { return };
    ui.print_lines(&terminal::summary_table(&[headline.summary()]));
    ui.print_lines(terminal::llc_settings(report).trim_end());
    if let (Some(fault), Some(advice)) = (headline.fault, headline.advice()) {
        ui.print(&format!("no number: {fault}; {advice}"));
    } else if report.estimates.len() > 1 {
        let dynamics = headline.dynamics;
        ui.print(&format!(
            "recommended: --gamma {} --step-size {:.2e}: the smallest γ at which chains settle, and there the largest step size \
             that agrees with smaller ones",
            dynamics.gamma, dynamics.step_size
        ));
    }
    ui.print(&format!("nβ = {:.2}; the number belongs to this temperature and this γ", headline.dynamics.n_beta));
}

/// Chains on disk, a file for each setting, with the configuration that they belong to.
struct ChainFiles {
    folder: PathBuf,
    configuration: Value,
    /// A larger state is not written.
    memory_bytes: usize,
    saving: Saving,
    last: Instant,
    /// Settings that an earlier run left.
    resumed: usize,
    /// What went wrong with writing, once.
    complaint: Option<String>,
}

impl ChainFiles {
    fn new(folder: &Path, configuration: &Value, memory_bytes: usize, saving: Saving) -> Self {
        let (folder, configuration) = (folder.to_owned(), configuration.clone());
        Self { folder, configuration, memory_bytes, saving, last: Instant::now(), resumed: 0, complaint: None }
    }

    fn path(&self, setting: usize) -> PathBuf {
        self.folder.join(format!("state-chains-{setting}.safetensors"))
    }

    fn tell(&self, ui: &mut Ui) {
        if self.resumed > 0 {
            ui.say(&format!("note: the chains continue from {}", self.path(self.resumed - 1).display()));
        }
        if let Some(complaint) = &self.complaint {
            ui.say(&format!(
                "note: the chains could not be saved, so --resume would start from the beginning: {complaint}"
            ));
        }
    }

    /// The result is complete: its tables have the draws.
    fn remove(&self, settings: usize) {
        (0..settings).for_each(|setting| _ = std::fs::remove_file(self.path(setting)));
    }

    fn read(&mut self, setting: usize) -> Result<Option<Vec<Chain>>> {
        let path = self.path(setting);
        if !self.saving.resume || !path.exists() {
            return Ok(None);
        }
        let (file, facts) = read_state(&path, &self.configuration)?;
        let chain = |index: u64| {
            let visits = file.get(&format!("visits.{index}"))?.to_vec2::<f64>()?;
            let visit = |row: &Vec<f64>| match row.as_slice() {
                &[rise, square_distance, slope] => Some(Visit { rise, square_distance, slope }),
                _ => None,
            };
            let place = file.get(&format!("place.{index}"))?.to_vec1::<f64>()?;
            Ok(Chain { place, visits: visits.iter().map_while(visit).collect() })
        };
        let chains = (0..facts["chains"].as_u64().unwrap_or(0)).map(chain).collect::<Result<_>>()?;
        self.resumed = setting + 1;
        Ok(Some(chains))
    }

    fn write(&self, setting: usize, chains: &[Chain]) -> Result<()> {
        let numbers = |visit: &Visit| [visit.rise, visit.square_distance, visit.slope];
        let mut tensors = Vec::new();
        for (index, Chain { place, visits }) in chains.iter().enumerate() {
            let values: Vec<f64> = visits.iter().flat_map(numbers).collect();
            tensors.push((format!("place.{index}"), Tensor::new(place.as_slice(), &Device::Cpu)?));
            tensors.push((format!("visits.{index}"), Tensor::from_vec(values, (visits.len(), 3), &Device::Cpu)?));
        }
        write_state(&self.path(setting), &tensors, &self.configuration, &json!({"chains": chains.len()}))
    }
}

impl ChainStore for ChainFiles {
    fn load(&mut self, setting: usize) -> Result<Option<Vec<Chain>>> {
        let found = if team().leads() { self.read(setting) } else { Ok(None) };
        team().of_leader(found)
    }

    fn is_due(&mut self, last: bool) -> bool {
        team().leads() && self.complaint.is_none() && (self.last.elapsed() >= self.saving.every || last)
    }

    fn keep(&mut self, setting: usize, chains: &[Chain]) {
        let bytes: usize = chains.iter().map(|chain| 8 * (chain.place.len() + 3 * chain.visits.len())).sum();
        let outcome = match bytes > self.memory_bytes {
            true => Err(format!("they would take {} MiB, more than --memory", bytes >> 20)),
            false => self.write(setting, chains).map_err(|error| error.to_string()),
        };
        self.complaint = outcome.err();
        self.last = Instant::now();
    }
}
