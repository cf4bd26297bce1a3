//! `flatness run`: many trainings and analyses from one file.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::answer;
use super::compare::HowArgs;
use super::figure_args::FigureArgs;
use super::output::{Claim, Existing, check_place, claim, resolve, share};
use super::provenance::Provenance;
use super::ui::duration;
use super::{INTERRUPTED, Ui};
use crate::experiment::{
    CellResult, Ended, Experiment, ExperimentError, Plan, Pool, Run, State, arguments, collect, execute,
    group_summaries,
};
use crate::files::write_atomic;
use crate::plan::{PlanError, number_of};
use crate::report::{terminal, write_run_json};
use crate::team::check_startable;
use crate::visible::visible;
use crate::{Error, Result};

mod cost;
mod plan;
mod report;
mod slurm;

pub(super) use plan::plan;
use report::{Outcome, Written};

/// Which experiment, and where its results are.
#[derive(Debug, Args)]
pub(super) struct ExperimentArgs {
    /// The experiment as .toml (docs/experiments.md)
    pub(super) file: PathBuf,
    /// Merge in the table [profile.P] of the file
    #[arg(long, value_name = "P")]
    pub(super) profile: Option<String>,
    /// Folder of results [default: notebooks-out/NAME, or NAME-P with a profile]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

impl ExperimentArgs {
    /// The experiment, and its absolute folder of results.
    pub(super) fn read(&self) -> Result<(Experiment, PathBuf)> {
        let experiment = Experiment::read(&self.file, self.profile.as_deref())?;
        let folder = self.out.clone().unwrap_or_else(|| Path::new("notebooks-out").join(experiment.folder_name()));
        check_place(&folder)?;
        let folder = resolve(&folder).map_err(|source| Error::Io { path: folder, source })?;
        Ok((experiment, folder))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EmitArg {
    /// An sbatch script of an array job with a task for each run
    Slurm,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) experiment: ExperimentArgs,
    /// Runs at a time; each has its share of the cores, unless the file says threads
    #[arg(long, value_name = "N", value_parser = number_of(1, 1024), default_value_t = 1)]
    jobs: usize,
    /// MPI ranks of each analyze, sharpness, llc and evaluate step, started by srun in a job of Slurm and else by mpirun
    #[arg(long, value_name = "N", value_parser = number_of(1, 1024), default_value_t = 1)]
    ranks: usize,
    /// Folder of figures and page [default: reports/NAME, as --out; DIR/report with --out DIR]
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Only the I-th of N parts of the runs, for array jobs
    #[arg(long, value_name = "I/N")]
    cell: Option<String>,
    /// Try failed steps again
    #[arg(long)]
    retry_failed: bool,
    /// List the runs with their commands, say what they will take, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a script, and do nothing
    #[arg(long, value_enum, value_name = "KIND")]
    emit: Option<EmitArg>,
    /// How the figures of the report are set; those of a run are set by its steps
    #[command(flatten)]
    figures: FigureArgs,
}

impl RunArgs {
    /// `(1, 1)` unless a part is asked for.
    fn part(&self) -> Result<(usize, usize)> {
        let Some(text) = &self.cell else { return Ok((1, 1)) };
        let numbers = text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
        match numbers {
            Some((part, parts)) if part >= 1 && part <= parts => Ok((part, parts)),
            _ => Err(PlanError::option("--cell", text, "must be I/N with I from 1 to N, such as 3/10").into()),
        }
    }

    /// Absolute.
    fn report_folder(&self, experiment: &Experiment) -> Result<PathBuf> {
        let beside = || self.experiment.out.as_ref().map(|out| out.join("report"));
        let default = || Path::new("reports").join(experiment.folder_name());
        let folder = self.report.clone().or_else(beside).unwrap_or_else(default);
        resolve(&folder).map_err(|source| Error::Io { path: folder, source })
    }

    fn threads(&self) -> usize {
        (std::thread::available_parallelism().map_or(1, usize::from) / self.jobs).max(1)
    }

    /// Threads of each rank of a step that ranks share: what Slurm gives to each, or a share of the cores.
    fn rank_threads(&self) -> usize {
        let of_slurm = || std::env::var("SLURM_CPUS_PER_TASK").ok()?.parse().ok();
        of_slurm().filter(|_| self.ranks > 1).unwrap_or((self.threads() / self.ranks).max(1))
    }
}

pub(super) fn run(args: &RunArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let provenance = Provenance::new(arguments);
    let ((part, parts), threads) = (args.part()?, args.threads());
    let style = args.figures.style();
    let (experiment, folder) = args.experiment.read()?;
    let plan = plan(&experiment, &folder, threads, args.rank_threads())?;
    let (how, comparable) = comparison_options(&experiment, &plan)?;
    let numbers = plan.part(part, parts);
    let runs: Vec<&Run> = numbers.iter().filter_map(|number| plan.runs.get(*number)).collect();
    if args.emit == Some(EmitArg::Slurm) {
        ui.print_lines(slurm::script(&experiment, args, plan.runs.len()).trim_end());
        return Ok(0);
    }
    if args.dry_run {
        runs.iter().for_each(|run| ui.print_lines(&listed(run)));
        ui.say(&format!("{} cells, {} runs, {} of them in this part", plan.cells.len(), plan.runs.len(), runs.len()));
        let estimate = cost::words(&runs, args.jobs, ui)?;
        ui.print(&estimate);
        return Ok(0);
    }
    check_startable(args.ranks)?;
    let report = args.report_folder(&experiment)?;
    // Parts may run at a time: each of their runs has a lock of its own.
    let _alone = (parts == 1).then(|| claim(&folder, Existing::Replace)?.begin()).transpose()?;
    let _shared = (parts > 1).then(|| share(&folder)).transpose()?;
    let reports = parts == 1 && report != folder;
    let claimed_report = reports.then(|| claim(&report, Existing::Replace)).transpose()?;
    // Until the last file is there, no run.json says what they are.
    let _ = std::fs::remove_file(folder.join("run.json"));
    let mut written = Written::default();
    written.results.push(save_experiment(&experiment, &folder)?);
    let stop = ui.stop_flag();
    let pool = Pool {
        program: std::env::current_exe().map_err(|source| Error::Io { path: "flatness".into(), source })?,
        directory: experiment.directory(),
        jobs: args.jobs,
        ranks: args.ranks,
        retry_failed: args.retry_failed,
        stop: &stop,
    };
    let mut progress = Tally::new(&runs, args.jobs);
    execute(&runs, &pool, &mut |ended| progress.tell(&ended, ui));
    let results = collect(&plan);
    written.results.extend(report::write_tables(&experiment, &plan, &results)?);
    print_means(&plan, &results, ui);
    ui.say(&format!("wrote {} (tables, experiment.toml, a folder for each run)", folder.display()));
    if parts == 1 && results.iter().any(|result| result.state == State::Finished) {
        let _report = claimed_report.map(Claim::begin).transpose()?;
        if !comparable {
            ui.say(
                "note: the groups are not compared, since [compare] names a variant that stands for several of them; \
                 `flatness compare` compares single groups",
            );
        }
        let comparison = if comparable { report::compare(&plan, &how, &report, style, &mut written)? } else { None };
        let outcome = Outcome { experiment: &experiment, plan: &plan, results: &results };
        report::write_report(&outcome, comparison.as_ref(), &report, style, &mut written)?;
        let notebook = report::notebook(&experiment, &plan)?;
        written.results.push(notebook.clone());
        write_run_json(&report, &provenance.json(), &written.report)?;
        for words in comparison.iter().flat_map(|comparison| comparison.verdicts.iter().chain(&comparison.notes)) {
            ui.print(words);
        }
        ui.say(&format!("wrote {} and {} (figures, report.html)", notebook.display(), report.display()));
    }
    let code = progress.close(ui);
    answer::result(&folder, "", ui)?;
    let mut run = provenance.json();
    run["complete"] = json!(parts == 1 && code == 0);
    write_run_json(&folder, &run, &written.results)?;
    let stopped = stop.load(Ordering::SeqCst);
    Ok(if stopped && code != 0 { INTERRUPTED } else { code })
}

/// The table `compare` of the file, as the command reads its options, and whether the groups can be compared.
fn comparison_options(experiment: &Experiment, plan: &Plan) -> Result<(HowArgs, bool)> {
    let how = HowArgs::from_options(&arguments(&experiment.compare));
    let checked = how.and_then(|how| how.check(plan).map(|comparable| (how, comparable)).map_err(|e| e.to_string()));
    checked.map_err(|reason| {
        let path = experiment.path.clone();
        ExperimentError::Setting { path, key: "compare".into(), reason: format!("is refused: {reason}") }.into()
    })
}

/// Name, state and commands of a run.
fn listed(run: &Run) -> String {
    let all: Vec<usize> = (0..run.steps.len()).collect();
    let mut lines = vec![format!("{}  {}", run.name, run.state(&all).name())];
    for step in &run.steps {
        let words: Vec<_> = step.arguments.iter().map(slurm::quoted).collect();
        lines.push(format!("    flatness {}", words.join(" ")));
    }
    lines.join("\n")
}

fn save_experiment(experiment: &Experiment, folder: &Path) -> Result<PathBuf> {
    let name = experiment.path.file_name().unwrap_or_default().to_string_lossy();
    let profile = experiment.profile.as_ref().map_or(String::new(), |profile| format!(" with profile {profile}"));
    let path = folder.join("experiment.toml");
    write_atomic(&path, |file| {
        writeln!(
            file,
            "# {}, as it was run; paths are relative to that file's folder.\n",
            visible(&(name + &*profile))
        )?;
        write!(file, "{}", experiment.table)
    })?;
    Ok(path)
}

/// Groups as columns; under numbers where their labels are too long for that.
fn print_means(plan: &Plan, results: &[CellResult], ui: &mut Ui) {
    let mut groups = group_summaries(plan, results);
    if groups.is_empty() {
        return;
    }
    let numbered = groups.iter().any(|(label, _)| label.chars().count() > 20);
    for (number, (label, _)) in groups.iter_mut().enumerate().filter(|_| numbered) {
        ui.print(&format!("({}) {label}", number + 1));
        *label = format!("({})", number + 1);
    }
    ui.print_lines(terminal::comparison_table(&groups).trim_end());
    ui.print("± is the standard deviation over the n finished seeds");
}

/// What has ended, and how.
struct Tally<'a> {
    runs: &'a [&'a Run],
    jobs: usize,
    started: Instant,
    /// Seconds of those that had something to do.
    worked: Vec<f64>,
    ended: Vec<Ended>,
}

impl<'a> Tally<'a> {
    fn new(runs: &'a [&'a Run], jobs: usize) -> Self {
        Self { runs, jobs, started: Instant::now(), worked: Vec::new(), ended: Vec::new() }
    }

    fn name(&self, ended: &Ended) -> &str {
        self.runs.get(ended.run).map_or("", |run| &run.name)
    }

    /// A line for a run that ended, unless it was finished before.
    fn tell(&mut self, ended: &Ended, ui: &mut Ui) {
        self.ended.push(ended.clone());
        self.worked.extend(ended.seconds);
        let place = format!("{}/{}", self.ended.len(), self.runs.len());
        let words = match (&ended.state, ended.seconds) {
            (State::Finished, None) => return,
            (State::Running, _) => "is run by another process".to_owned(),
            (State::Failed(failure), None) => format!("failed earlier: {}", failure.reason),
            (State::Failed(failure), _) => format!("failed in {}: {}", failure.step, failure.reason),
            (state, seconds) => {
                let seconds = seconds.map_or(String::new(), |seconds| format!(" after {}", duration(seconds)));
                format!("{}{seconds}{}{}", state.name(), self.accuracy(ended), self.left())
            }
        };
        ui.say(&format!("[{place}] {} {words}", self.name(ended)));
    }

    fn accuracy(&self, ended: &Ended) -> String {
        let run = self.runs.get(ended.run).filter(|_| ended.state == State::Finished);
        let accuracy = run.map_or(f64::NAN, |run| run.final_number("test_accuracy"));
        if accuracy.is_nan() { String::new() } else { format!(", test accuracy {accuracy:.4}") }
    }

    /// What the others will take if they are like those before.
    fn left(&self) -> String {
        let left = self.runs.len() - self.ended.len().min(self.runs.len());
        if left == 0 || self.worked.is_empty() {
            return String::new();
        }
        let mean = self.worked.iter().sum::<f64>() / self.worked.len() as f64;
        format!(", about {} left", duration(mean * left.div_ceil(self.jobs) as f64))
    }

    /// Counts, and which failed and why; 0 where all are finished, else 1.
    fn close(&self, ui: &mut Ui) -> u8 {
        let count = |name: &str| self.ended.iter().filter(|ended| ended.state.name() == name).count();
        let not_begun = self.runs.len() - self.ended.len().min(self.runs.len()) + count("pending");
        let counts = [
            (count("finished"), "finished"),
            (count("failed"), "failed"),
            (count("interrupted"), "interrupted"),
            (count("running"), "run by another process"),
            (not_begun, "not begun"),
        ];
        let words = counts.iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}"));
        let words = words.collect::<Vec<_>>().join(", ");
        ui.say(&format!("{} runs: {words} ({})", self.runs.len(), duration(self.started.elapsed().as_secs_f64())));
        for ended in &self.ended {
            if let State::Failed(failure) = &ended.state {
                ui.say(&format!("failed: {} in {}: {}", self.name(ended), failure.step, failure.reason));
            }
        }
        let finished = count("finished") == self.runs.len();
        if count("failed") > 0 {
            ui.say("hint: log.txt in the run's folder has the full output; --retry-failed tries again");
        } else if !finished {
            ui.say("hint: repeat the command to continue with the remaining runs");
        }
        u8::from(!finished)
    }
}
