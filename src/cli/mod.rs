//! The command line: one file per subcommand; translates arguments, no numerics.

mod analyze;
mod answer;
mod check;
mod compare;
mod convert;
mod error;
mod estimate;
mod evaluate;
mod examples;
mod figure_args;
mod info;
mod landscape;
mod landscape_args;
mod langevin;
mod llc;
mod manual;
mod matvec;
mod output;
mod overlap;
mod provenance;
mod quickstart;
mod run;
mod session;
mod sharpness;
mod state;
mod status;
mod train;
mod ui;
mod verify;

use std::ffi::OsString;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::{Parser, Subcommand};

pub use error::CliError;
pub use session::Session;
pub use ui::{Audience, Ui};
use ui::{Manners, duration};

use crate::kernels::keep_freed_memory;
use crate::objective::Execution;
use crate::plan::{Given, Precision, SessionArgs, command_line};
use crate::team::{check as check_team, team};
use crate::{Error, Result, Workers};

/// How flat is this minimum, how sure are we, and is it flatter than that one?
#[derive(Debug, Parser)]
#[command(name = "flatness", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    manners: Manners,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Eigenvalues, trace, spectral density and loss slices of a checkpoint, as tables and figures
    #[command(after_help = examples::ANALYZE)]
    Analyze(analyze::AnalyzeArgs),
    /// How much the loss rises around a minimum: at worst, on average, relative to the weights
    #[command(after_help = examples::SHARPNESS)]
    Sharpness(sharpness::SharpnessArgs),
    /// Local learning coefficient of a minimum: how many directions the loss determines, by Langevin chains around it
    #[command(after_help = examples::LLC)]
    Llc(llc::LlcArgs),
    /// Likelihood, calibration, detection of errors and of foreign rows, by one network or the average of several
    #[command(after_help = examples::EVALUATE)]
    Evaluate(evaluate::EvaluateArgs),
    /// Loss and accuracy along lines and over planes: random, eigenvectors, between minima, along a training
    #[command(after_help = examples::LANDSCAPE)]
    Landscape(landscape_args::LandscapeArgs),
    /// Products, time and memory that `analyze` will need, from one timed product
    #[command(after_help = examples::ESTIMATE)]
    Estimate(estimate::EstimateArgs),
    /// Groups of minima over their seeds: means, paired differences, tests, and a verdict with its conditions
    #[command(after_help = examples::COMPARE)]
    Compare(compare::CompareArgs),
    /// Train a network and write a checkpoint
    #[command(after_help = examples::TRAIN, after_long_help = examples::train())]
    Train(train::TrainCommand),
    /// Train SGD, SAM and fSGLD on noisy glyphs, analyze all three and compare (under a minute)
    Quickstart(quickstart::QuickstartArgs),
    /// Train and analyze a grid of settings from one file, several at a time
    #[command(after_help = examples::RUN)]
    Run(run::RunArgs),
    /// How far the runs of an experiment have come
    Status(status::StatusArgs),
    /// SGLD and fSGLD on small potentials, whose laws are known: step size, coupling, mass that moves to flat wells
    Langevin(langevin::LangevinCommand),
    /// Products of the Hessian or GGN with your own vectors
    Matvec(matvec::MatvecArgs),
    /// How much the eigenspaces of two analyses have in common
    Overlap(overlap::OverlapArgs),
    /// Test gradients and Hessian products on your own model and data
    Check(check::CheckArgs),
    /// Whether results are still what their run.json says: files, checkpoints, data
    Verify(verify::VerifyArgs),
    /// Architecture, parameters and training facts of a checkpoint, without data
    #[command(after_help = examples::INFO)]
    Info(info::InfoArgs),
    /// Weights with their architecture or program as one .safetensors file
    Convert(convert::ConvertArgs),
    /// Completions of options and commands for a shell, on stdout
    Completions(manual::CompletionsArgs),
    /// Manual pages for man, as files
    Man(manual::ManArgs),
}

impl Command {
    /// Takes networks and rows in memory; other commands than those on networks have no use for them.
    fn receive(&mut self, mut given: Vec<Given>) {
        let session = match self {
            Self::Analyze(args) => &mut args.session,
            Self::Sharpness(args) => &mut args.session,
            Self::Llc(args) => &mut args.session,
            Self::Estimate(args) => &mut args.session,
            Self::Matvec(args) => &mut args.session,
            Self::Check(args) => &mut args.session,
            Self::Evaluate(args) => {
                args.given = given;
                return;
            }
            Self::Landscape(args) => {
                args.given = given;
                return;
            }
            _ => return,
        };
        session.given = given.pop();
    }

    /// How much of the machine it may use.
    fn execution(&self) -> Execution {
        let compute = match self {
            Self::Analyze(args) => &args.session.compute,
            Self::Sharpness(args) => &args.session.compute,
            Self::Llc(args) => &args.session.compute,
            Self::Evaluate(args) => &args.compute,
            Self::Landscape(args) => &args.compute,
            Self::Estimate(args) => &args.session.compute,
            Self::Train(args) => &args.train.compute,
            Self::Quickstart(args) => &args.compute,
            Self::Matvec(args) => &args.session.compute,
            Self::Check(args) => &args.session.compute,
            Self::Langevin(args) => return Execution { threads: args.study.threads, ..Execution::default() },
            Self::Compare(_)
            | Self::Run(_)
            | Self::Status(_)
            | Self::Overlap(_)
            | Self::Verify(_)
            | Self::Info(_)
            | Self::Convert(_)
            | Self::Completions(_)
            | Self::Man(_) => return Execution::default(),
        };
        compute.execution()
    }
}

/// Exit code of a refused or failed command.
pub const FAILED: u8 = 2;
/// Whether an error was said: where another follows while the process ends, it adds nothing.
pub static COMPLAINED: AtomicBool = AtomicBool::new(false);
/// Exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Runs one command line (the program's name first) and gives its exit code; errors go to `ui` in plain words.
pub fn run(arguments: impl IntoIterator<Item = OsString>, ui: &mut Ui) -> u8 {
    let code = ended(arguments, ui);
    match ui.flush() {
        Ok(()) => code,
        Err(error) => {
            ui.insist(&format!("error: cannot write the output: {error}"));
            ui.insist("hint: redirect it to a place with free space; result files are not affected");
            FAILED
        }
    }
}

fn ended(arguments: impl IntoIterator<Item = OsString>, ui: &mut Ui) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match command_line::<Cli>(&arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            ui.insist(error.render().to_string().trim_end());
            return FAILED;
        }
        Err(help) => {
            ui.print_lines(help.render().to_string().trim_end());
            return 0;
        }
    };
    ui.behave(cli.manners);
    let started = Instant::now();
    let ended = carry_out(cli.command, &arguments, ui);
    ui.detail(&format!("took {}{}{}", duration(started.elapsed().as_secs_f64()), peak_memory(), talk()));
    match ended {
        Ok(code) => code,
        Err(error) => {
            report(&error, ui);
            if matches!(error, Error::Interrupted) {
                return INTERRUPTED;
            }
            team().give_up(&error.to_string(), error.hint().as_deref());
            FAILED
        }
    }
}

/// Runs one command (the program's name first) for a program that passes networks and rows in memory, in place of the
/// checkpoints and the data that its arguments name; gives the exit code.
///
/// # Errors
/// What the command line would say on stderr.
pub fn call(arguments: &[OsString], given: Vec<Given>, ui: &mut Ui) -> Result<u8> {
    let mut cli = command_line::<Cli>(arguments).map_err(said)?;
    ui.behave(cli.manners);
    cli.command.receive(given);
    carry_out(cli.command, arguments, ui)
}

/// Options that define an objective, without a program's name.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct SessionLine {
    #[command(flatten)]
    session: SessionArgs,
    /// Seed of the assignment of rows to shards
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

/// An objective's parts, from a network and rows in memory and the options of `analyze` on data, loss and computation, after
/// a name for the network.
///
/// # Errors
/// As [`call`].
pub fn open(arguments: &[OsString], given: Given, ui: &mut Ui) -> Result<Session> {
    let SessionLine { mut session, seed } = command_line::<SessionLine>(arguments).map_err(said)?;
    session.given = Some(given);
    let mut opened = session.open(Precision::F32, ui)?;
    opened.options.seed = seed;
    keep_freed_memory(opened.options.execution.memory_bytes);
    Ok(opened)
}

/// What the parser says, without the usage.
fn said(error: clap::Error) -> CliError {
    let text = error.render().to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or_default();
    CliError::Arguments { words: said.trim_start_matches("error: ").trim_end().to_owned() }
}

/// Runs a command on the pool from beginning to end: what it computes, and what a library computes for it, runs on these
/// threads and no others, whoever cuts the work.
fn carry_out(command: Command, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let is_shared = matches!(
        command,
        Command::Train(_)
            | Command::Analyze(_)
            | Command::Sharpness(_)
            | Command::Llc(_)
            | Command::Landscape(_)
            | Command::Evaluate(_)
    );
    check_team(is_shared)?;
    let execution = command.execution();
    keep_freed_memory(execution.memory_bytes);
    Workers::new(execution.threads)?.install(|| dispatch(command, arguments, ui))
}

/// `, 1.2 s with other ranks`, where there are some.
fn talk() -> String {
    let seconds = team().talked().as_secs_f64();
    if team().size() > 1 { format!(", {} with other ranks", duration(seconds)) } else { String::new() }
}

/// `, peak memory 512 MiB`, where the system says it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kibibytes.map_or(String::new(), |kibibytes| format!(", peak memory {} MiB", kibibytes >> 10))
}

/// What went wrong, and how to mend it.
fn report(error: &Error, ui: &mut Ui) {
    ui.complain(&error.to_string(), error.hint().as_deref());
}

fn dispatch(command: Command, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    match command {
        Command::Analyze(args) => analyze::run(&args, arguments, ui),
        Command::Compare(args) => compare::run(&args, arguments, ui),
        Command::Sharpness(args) => sharpness::run(&args, arguments, ui),
        Command::Llc(args) => llc::run(&args, arguments, ui),
        Command::Evaluate(args) => evaluate::run(&args, arguments, ui),
        Command::Landscape(args) => landscape::run(&args, arguments, ui),
        Command::Estimate(args) => estimate::run(&args, ui),
        Command::Train(args) => train::run(&args, arguments, ui),
        Command::Quickstart(args) => quickstart::run(&args, arguments, ui),
        Command::Run(args) => run::run(&args, arguments, ui),
        Command::Status(args) => status::run(&args, ui),
        Command::Langevin(args) => langevin::run(&args, arguments, ui),
        Command::Matvec(args) => matvec::run(&args, ui),
        Command::Overlap(args) => overlap::run(&args, ui),
        Command::Verify(args) => verify::run(&args, ui),
        Command::Check(args) => check::run(&args, ui),
        Command::Info(args) => info::run(&args, ui),
        Command::Convert(args) => convert::run(&args, ui),
        Command::Completions(args) => manual::completions(&args, ui),
        Command::Man(args) => manual::pages(&args, ui),
    }
}
