//! Runs the steps as processes of their own, several runs at a time; one that fails or is killed does not stop the others.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::state::has_content;
use super::{Failure, Run, State, Step};
use crate::files::{FileError, FolderLock, Sharing, holder, sweep, write_atomic};
use crate::report::is_complete;
use crate::team::{SLURM_TASKS, launcher, slurm_option};
use crate::visible::visible;
use crate::{Error, Result};

/// How runs are executed.
#[derive(Debug)]
pub struct Pool<'a> {
    /// The program whose commands the steps are.
    pub program: PathBuf,
    /// The working directory: relative paths in the settings start here.
    pub directory: PathBuf,
    /// Number of runs at a time.
    pub jobs: usize,
    /// Ranks of a step that ranks can share.
    pub ranks: usize,
    /// Whether failed steps are tried again.
    pub retry_failed: bool,
    /// Once this is set, running steps are asked to stop and no other begins.
    pub stop: &'a AtomicBool,
}

/// A run that has ended, for now.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its index in the list of runs.
    pub run: usize,
    /// The state of all its steps together.
    pub state: State,
    /// Seconds that its steps took now; `None` if there was nothing to do.
    pub seconds: Option<f64>,
}

/// Executes what is left of each run, `jobs` at a time in the given order, and calls `on_end` for each.
///
/// A complete step is skipped, an interrupted one is continued, and a failed one is left alone unless `retry_failed` is set.
/// If a training fails, its analyses are not run; if one of several analyses fails, the others still run. The output of the
/// steps goes to `log.txt` in the run folder. A run also fails if its folder cannot be used.
pub fn execute(runs: &[&Run], pool: &Pool<'_>, on_end: &mut dyn FnMut(Ended)) {
    let next = AtomicUsize::new(0);
    let (sender, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..pool.jobs.clamp(1, runs.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((number, run)) = take(next, runs)
                    && !pool.stop.load(Ordering::SeqCst)
                {
                    let (state, seconds) = run.execute(pool);
                    // The receiver outlives every sender.
                    let _ = sender.send(Ended { run: number, state, seconds });
                }
            });
        }
        drop(sender);
        ended.into_iter().for_each(on_end);
    });
}

fn take<'a>(next: &AtomicUsize, runs: &[&'a Run]) -> Option<(usize, &'a Run)> {
    let number = next.fetch_add(1, Ordering::SeqCst);
    runs.get(number).map(|run| (number, *run))
}

/// How the process of a step ended.
enum StepEnd {
    Complete,
    Failed(String),
    /// Ended by a signal, from outside or from this program: it can be continued.
    Interrupted,
}

impl Run {
    fn execute(&self, pool: &Pool<'_>) -> (State, Option<f64>) {
        std::iter::once(&self.folder)
            .chain(self.steps.iter().map(|step| &step.folder))
            .for_each(|folder| sweep(folder));
        let all: Vec<usize> = (0..self.steps.len()).collect();
        if self.state(&all) == State::Finished {
            return (State::Finished, None);
        }
        let started = Instant::now();
        match self.steps_left(pool) {
            Ok(Some(worked)) => (self.state(&all), worked.then(|| started.elapsed().as_secs_f64())),
            Ok(None) => (State::Running, None),
            Err(error) => {
                let failure = Failure { step: self.name.clone(), reason: error.to_string(), resumed: false };
                (State::Failed(failure), Some(started.elapsed().as_secs_f64()))
            }
        }
    }

    /// Whether any step was started; `None` where another process holds the run.
    fn steps_left(&self, pool: &Pool<'_>) -> Result<Option<bool>> {
        let held = match FolderLock::acquire(&self.folder, Sharing::Alone) {
            Err(FileError::InUse { .. }) => return Ok(None),
            held => held?,
        };
        self.describe()?;
        let mut worked = false;
        for step in &self.steps {
            if is_complete(&step.folder) {
                continue;
            }
            if holder(&step.folder).is_some() {
                return Ok(None);
            }
            let failure = self.failure(step);
            let ended = if failure.is_some() && !pool.retry_failed {
                StepEnd::Failed(String::new())
            } else {
                worked = true;
                self.step_once(step, failure, pool, &held)?
            };
            match ended {
                StepEnd::Complete => {}
                StepEnd::Failed(_) if step.kind.needs_checkpoint() => {}
                StepEnd::Failed(_) | StepEnd::Interrupted => break,
            }
        }
        Ok(Some(worked))
    }

    /// Runs a step and records a failure.
    fn step_once(&self, step: &Step, failure: Option<Failure>, pool: &Pool<'_>, held: &FolderLock) -> Result<StepEnd> {
        self.forget_failure(step);
        let begun = has_content(&step.folder);
        // If continuing has failed, the files that are there may be the cause.
        let afresh = failure.is_some_and(|failure| failure.resumed);
        let ended = self.process(step, begun.then_some(if afresh { "--force" } else { step.go_on }), pool, held)?;
        if let StepEnd::Failed(reason) = &ended {
            let failure = Failure { step: step.name(), reason: reason.clone(), resumed: begun && !afresh };
            self.keep_failure(step, &failure)?;
        }
        Ok(ended)
    }

    fn process(&self, step: &Step, continuation: Option<&str>, pool: &Pool<'_>, held: &FolderLock) -> Result<StepEnd> {
        let path = self.folder.join("log.txt");
        let error = |source| Error::Io { path: path.clone(), source };
        if path.is_symlink() {
            // Neither written through nor followed.
            std::fs::remove_file(&path).map_err(error)?;
        }
        let mut log = OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(error)?;
        let arguments =
            || step.arguments.iter().map(|argument| argument.as_os_str()).chain(continuation.map(AsRef::as_ref));
        let line: Vec<_> = arguments().map(|argument| argument.to_string_lossy()).collect();
        writeln!(log, "$ flatness {}", visible(&line.join(" "))).map_err(error)?;
        let begin = log.metadata().map_err(error)?.len();
        let is_shared = pool.ranks > 1 && step.kind.is_shared();
        let mut command = if is_shared { ranks_of(pool) } else { Command::new(&pool.program) };
        // What started this process did not start that one.
        command.env_remove(SLURM_TASKS).args(arguments()).current_dir(&pool.directory);
        // Its copy of the lock lasts as long as it lives, should this process be killed.
        command.stdin(Stdio::from(held.handle().map_err(error)?));
        command.stdout(Stdio::from(log.try_clone().map_err(error)?));
        command.stderr(Stdio::from(log.try_clone().map_err(error)?));
        // Ctrl-C reaches this process alone, which passes it on once: a second one would end a step before it saves.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let started = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(|source| Error::Io { path: started, source })?;
        // Other signals make what starts ranks end them before they have saved.
        let status = wait(child, pool.stop, if is_shared { "-USR1" } else { "-INT" }).map_err(error)?;
        let complete = is_complete(&step.folder);
        Ok(match status.code() {
            Some(0) if complete => StepEnd::Complete,
            Some(0) => StepEnd::Failed("the process ended without a complete result".into()),
            Some(130) => StepEnd::Interrupted,
            // The exit code of what started the ranks.
            _ if is_shared && pool.stop.load(Ordering::SeqCst) => StepEnd::Interrupted,
            None if is_from_outside(&status) => {
                let _ = writeln!(log, "killed: {status}");
                StepEnd::Interrupted
            }
            _ => StepEnd::Failed(
                last_error(&mut log, begin).unwrap_or_else(|| format!("ended without a message, {status}")),
            ),
        })
    }

    /// Records what the hashes in the folder's names stand for.
    fn describe(&self) -> Result<()> {
        let steps: serde_json::Map<_, _> =
            self.steps.iter().map(|step| (step.name(), step.configuration.clone())).collect();
        let text = json!({"name": self.name, "steps": steps});
        Ok(write_atomic(&self.folder.join("cell.json"), |file| writeln!(file, "{text:#}"))?)
    }
}

/// The beginning of a command that starts the ranks of the program.
fn ranks_of(pool: &Pool<'_>) -> Command {
    let (program, ranks) = (launcher(), pool.ranks.to_string());
    let mut command = Command::new(program);
    if program == "srun" {
        command.args(["--kill-on-bad-exit", "--ntasks", &ranks]).args(slurm_option());
        // srun takes it from the job's script in old versions of Slurm only.
        if let Some(cores) = std::env::var_os("SLURM_CPUS_PER_TASK") {
            command.env("SRUN_CPUS_PER_TASK", cores);
        }
    } else {
        command.args(["-n", &ranks]);
    }
    command.arg(&pool.program);
    command
}

/// Waits until `child` ends; asks it to stop by `signal` once `stop` is set.
fn wait(mut child: Child, stop: &AtomicBool, signal: &str) -> std::io::Result<ExitStatus> {
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if !asked && stop.load(Ordering::SeqCst) {
            asked = true;
            interrupt(&child, signal);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal. The standard library cannot; every Unix has a shell that can.
#[cfg(unix)]
fn interrupt(child: &Child, signal: &str) {
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill \"$1\" \"$2\"", "sh", signal, &child.id().to_string()]).stdin(Stdio::null());
    let _ = kill.status();
}

/// A console sends Ctrl-C to all of its processes.
#[cfg(not(unix))]
fn interrupt(_child: &Child, _signal: &str) {}

/// Whether it was ended by a signal from outside (hang-up, interrupt, kill, terminate), not by a fault of its own.
#[cfg(unix)]
fn is_from_outside(status: &ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(status).is_some_and(|signal| [1, 2, 9, 15].contains(&signal))
}

#[cfg(not(unix))]
fn is_from_outside(_status: &ExitStatus) -> bool {
    false
}

/// The last line of the log from byte `begin` on that is an error, or else the last line.
fn last_error(log: &mut File, begin: u64) -> Option<String> {
    let mut bytes = Vec::new();
    log.seek(SeekFrom::Start(begin)).ok()?;
    log.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = || text.lines().rev().map(str::trim).filter(|line| line.contains(char::is_alphanumeric));
    let line = lines().find_map(|line| line.strip_prefix("error: ")).or_else(|| lines().next())?;
    Some(line.to_owned())
}
