//! What the user sees: results on stdout, words and progress bars on stderr.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use serde_json::Value;

use crate::visible::{visible, visible_lines};
use crate::{Observer, Step};

/// Is shown the steps of a command.
pub type Audience = Arc<dyn Fn(&Step) + Send + Sync>;

/// The two output streams, and whether the user has asked to stop.
pub struct Ui {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Whether stderr is a terminal: bars are drawn only there.
    interactive: bool,
    interrupted: Arc<AtomicBool>,
    manners: Manners,
    /// Sees every step, where a program wants to show them itself.
    audience: Option<Audience>,
    /// The first failure to write. A closed pipe is none: the reader has seen enough.
    failure: Option<io::Error>,
}

/// How a command speaks.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Manners {
    /// Print the answer as JSON on stdout: whole tables where the command writes some (docs/results.md)
    #[arg(long, global = true, help_heading = OUTPUT)]
    json: bool,
    /// No notes and no progress bars, only the answer and errors
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = OUTPUT)]
    quiet: bool,
    /// Also say how the work was cut and how long each part took
    #[arg(long, short, global = true, help_heading = OUTPUT)]
    verbose: bool,
}

/// Heading of options on what a command says and writes.
pub(super) const OUTPUT: &str = "Output";

impl Ui {
    /// The process's own streams; a command stops when `interrupted` is set.
    pub fn process(interrupted: Arc<AtomicBool>) -> Self {
        let interactive = io::stderr().is_terminal();
        let (out, err) = (Box::new(io::stdout()), Box::new(io::stderr()));
        Self { out, err, interactive, interrupted, manners: Manners::default(), audience: None, failure: None }
    }

    /// Given streams and stop flag, no bars: for tests.
    pub fn captured(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, interrupted: Arc<AtomicBool>) -> Self {
        let manners = Manners::default();
        Self { out, err, interactive: false, interrupted, manners, audience: None, failure: None }
    }

    /// Says nothing, as ranks that another leads.
    pub fn silent(interrupted: Arc<AtomicBool>) -> Self {
        Self::captured(Box::new(io::sink()), Box::new(io::sink()), interrupted)
    }

    /// Shows every step to `audience`.
    pub fn watched_by(self, audience: Audience) -> Self {
        Self { audience: Some(audience), ..self }
    }

    /// Speaks in that manner from now on.
    pub(super) fn behave(&mut self, manners: Manners) {
        self.manners = manners;
    }

    /// The answer for programs: with `--json` it stands in place of all lines for people.
    pub(super) fn answer(&mut self, answer: &Value) {
        if self.manners.json {
            let written = writeln!(self.out, "{answer:#}");
            self.keep(written);
        }
    }

    /// Whether an answer for programs is wanted.
    pub(super) fn wants_json(&self) -> bool {
        self.manners.json
    }

    /// A line of results.
    ///
    /// Names in it may come from strangers: what a terminal would obey is written out.
    pub fn print(&mut self, line: &str) {
        if self.manners.json {
            return;
        }
        let written = writeln!(self.out, "{}", visible(line));
        self.keep(written);
    }

    /// Several lines of results, such as a table.
    pub fn print_lines(&mut self, lines: &str) {
        if self.manners.json {
            return;
        }
        let written = writeln!(self.out, "{}", visible_lines(lines));
        self.keep(written);
    }

    /// A line of words, as [`Ui::print`].
    pub fn say(&mut self, line: &str) {
        if !self.manners.quiet {
            self.insist(line);
        }
    }

    /// A line of words that `--quiet` does not suppress.
    pub(super) fn insist(&mut self, lines: &str) {
        // In one piece, whoever else writes to the terminal.
        let written = self.err.write_all(format!("{}\n", visible_lines(lines)).as_bytes());
        self.keep(written);
    }

    /// A line of words that `--verbose` adds.
    pub(super) fn detail(&mut self, line: &str) {
        if self.manners.verbose {
            self.say(line);
        }
    }

    /// A line for each note.
    pub fn notes(&mut self, notes: &[String]) {
        notes.iter().for_each(|note| self.say(&format!("note: {note}")));
    }

    /// An error, with how to mend it. Further lines, as in what a reader of TOML says, stand in, so that a name cannot pass
    /// for an error or a hint of its own.
    pub fn complain(&mut self, error: &str, hint: Option<&str>) {
        let further = |words: &str| words.replace('\n', "\n  ");
        // Who finds no memory meanwhile waits, and then has nothing to add.
        let _alone = io::stderr().lock();
        let hint = hint.map_or(String::new(), |hint| format!("\nhint: {}", further(hint)));
        self.insist(&format!("error: {}{hint}", further(error)));
        super::COMPLAINED.store(true, Ordering::SeqCst);
    }

    fn keep(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.failure.get_or_insert(error);
        }
    }

    /// Sends out what still waits.
    ///
    /// # Errors
    /// The first failure to write since the last call.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let flushed = [self.out.flush(), self.err.flush()];
        flushed.into_iter().for_each(|flushed| self.keep(flushed));
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Set once the user has asked to stop.
    pub(super) fn stop_flag(&self) -> Arc<AtomicBool> {
        self.interrupted.clone()
    }

    /// An observer that draws a bar for whatever takes longer than two seconds, and stops at Ctrl-C.
    pub fn progress(&self) -> Progress {
        let interactive = self.interactive && !self.manners.quiet;
        let (verbose, interrupted, audience) = (self.manners.verbose, self.interrupted.clone(), self.audience.clone());
        Progress { interactive, verbose, interrupted, audience, bar: None }
    }
}

/// Progress bars, one per task.
pub struct Progress {
    interactive: bool,
    verbose: bool,
    interrupted: Arc<AtomicBool>,
    audience: Option<Audience>,
    bar: Option<Running>,
}

struct Running {
    task: &'static str,
    started: Instant,
    done: usize,
    shown: Option<ProgressBar>,
}

/// `0.80 ms`, `12.4 s`, `7 min`, `3.5 h`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.2} ms", 1e3 * s),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Nothing is drawn for a task that is over sooner, unless it follows one with a bar.
const PATIENCE: Duration = Duration::from_secs(2);

impl Observer for Progress {
    fn on_step(&mut self, step: &Step) -> ControlFlow<()> {
        // "rows" are the micro-batches inside a product: too fine for a bar, right for noticing Ctrl-C.
        if step.task != "rows" {
            if self.interactive || self.verbose {
                self.draw(step);
            }
            if let Some(audience) = &self.audience {
                audience(step);
            }
        }
        if self.interrupted.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Progress {
    fn draw(&mut self, step: &Step) {
        if self.bar.as_ref().is_none_or(|running| running.task != step.task || step.done <= 1) {
            let follows = self.bar.as_ref().is_some_and(|running| running.shown.is_some());
            self.clear();
            let started = Instant::now();
            self.bar = Some(Running { task: step.task, started, done: 0, shown: follows.then(|| bar(step, started)) });
        }
        let Some(running) = &mut self.bar else { return };
        running.done = step.done;
        if self.interactive && running.shown.is_none() && running.started.elapsed() > PATIENCE {
            running.shown = Some(bar(step, running.started));
        }
        if let Some(bar) = &running.shown {
            bar.set_length(step.total as u64);
            bar.set_position(step.done as u64);
            bar.set_message(visible(&step.message).into_owned());
        }
    }

    fn clear(&mut self) {
        let Some(Running { task, started, done, shown }) = self.bar.take() else { return };
        if let Some(bar) = shown {
            bar.finish_and_clear();
        }
        if self.verbose {
            // Beside the bars, which own the terminal's last line.
            let _ = writeln!(io::stderr(), "{task}: {done} steps in {}", duration(started.elapsed().as_secs_f64()));
        }
    }
}

fn bar(step: &Step, started: Instant) -> ProgressBar {
    let bar = ProgressBar::new(step.total as u64).with_elapsed(started.elapsed());
    // A message of training fits into 80 columns; what does not fit is cut, since a line that wraps leaves pieces behind.
    let style = ProgressStyle::with_template("{prefix:>14} [{bar:10}] {pos}/{len} {left} {wide_msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
    bar.set_style(style.with_key("left", left));
    bar.set_prefix(step.task);
    bar
}

/// Time to the end, once there is something to tell it from.
fn left(state: &ProgressState, text: &mut dyn fmt::Write) {
    if state.pos() > 0 {
        let _ = write!(text, "{:#} left", HumanDuration(state.eta()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_a_fitting_unit() {
        let words: Vec<String> = [0.00123, 12.34, 420.0, 12_600.0].into_iter().map(duration).collect();
        assert_eq!(words, ["1.23 ms", "12.3 s", "7 min", "3.5 h"]);
    }
}
