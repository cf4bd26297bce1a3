//! What the user sees: results on stdout, words and progress bars on stderr.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::visible::{visible, visible_lines};
use crate::{Observer, Step};

/// The two output streams, and whether the user has asked to stop.
pub struct Ui {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Whether stderr is a terminal: bars are drawn only there.
    interactive: bool,
    interrupted: Arc<AtomicBool>,
    /// The first failure to write. A closed pipe is none: the reader has seen enough.
    failure: Option<io::Error>,
}

impl Ui {
    /// The process's own streams; Ctrl-C (or a termination signal) sets the stop flag, a second one ends at once.
    pub fn process() -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        // Without a handler Ctrl-C still ends the program, and files still appear whole or not at all.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(super::INTERRUPTED));
            }
        });
        let interactive = io::stderr().is_terminal();
        let (out, err) = (Box::new(io::stdout()), Box::new(io::stderr()));
        Self { out, err, interactive, interrupted, failure: None }
    }

    /// Given streams and stop flag, no bars: for tests.
    pub fn captured(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, interrupted: Arc<AtomicBool>) -> Self {
        Self { out, err, interactive: false, interrupted, failure: None }
    }

    /// A line of results.
    ///
    /// Names in it may come from strangers: what a terminal would obey is written out.
    pub fn print(&mut self, line: &str) {
        let written = writeln!(self.out, "{}", visible(line));
        self.keep(written);
    }

    /// Several lines of results, such as a table.
    pub fn print_lines(&mut self, lines: &str) {
        let written = writeln!(self.out, "{}", visible_lines(lines));
        self.keep(written);
    }

    /// A line of words, as [`Ui::print`].
    pub fn say(&mut self, line: &str) {
        let written = writeln!(self.err, "{}", visible(line));
        self.keep(written);
    }

    /// A line for each note.
    pub fn notes(&mut self, notes: &[String]) {
        notes.iter().for_each(|note| self.say(&format!("note: {note}")));
    }

    /// Several lines of words.
    pub fn say_lines(&mut self, lines: &str) {
        let written = writeln!(self.err, "{}", visible_lines(lines));
        self.keep(written);
    }

    /// An error, with how to mend it. Further lines, as in what a reader of TOML says, stand in, so that a name cannot pass
    /// for an error or a hint of its own.
    pub fn complain(&mut self, error: &str, hint: Option<&str>) {
        let error = format!("error: {}", error.replace('\n', "\n  "));
        let hint = hint.map(|hint| format!("hint: {}", hint.replace('\n', "\n  ")));
        // Who finds no memory meanwhile waits, and then has nothing to add.
        let _alone = io::stderr().lock();
        self.say_lines(&error);
        if let Some(hint) = hint {
            self.say_lines(&hint);
        }
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
        Progress { interactive: self.interactive, interrupted: self.interrupted.clone(), bar: None }
    }
}

/// Progress bars, one per task.
pub struct Progress {
    interactive: bool,
    interrupted: Arc<AtomicBool>,
    bar: Option<Running>,
}

struct Running {
    task: &'static str,
    started: Instant,
    shown: Option<ProgressBar>,
}

/// Nothing is drawn for a task that is over sooner.
const PATIENCE: Duration = Duration::from_secs(2);

impl Observer for Progress {
    fn on_step(&mut self, step: &Step) -> ControlFlow<()> {
        // "rows" are the micro-batches inside a product: too fine for a bar, right for noticing Ctrl-C.
        if self.interactive && step.task != "rows" {
            self.draw(step);
        }
        if self.interrupted.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Progress {
    fn draw(&mut self, step: &Step) {
        if self.bar.as_ref().is_none_or(|running| running.task != step.task || step.done <= 1) {
            self.clear();
            self.bar = Some(Running { task: step.task, started: Instant::now(), shown: None });
        }
        let Some(running) = &mut self.bar else { return };
        if running.shown.is_none() && running.started.elapsed() > PATIENCE {
            let bar = ProgressBar::new(step.total as u64).with_elapsed(running.started.elapsed());
            let style = ProgressStyle::with_template("{prefix:>14} [{bar:28}] {pos}/{len} {eta} left  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_prefix(step.task);
            running.shown = Some(bar);
        }
        if let Some(bar) = &running.shown {
            bar.set_length(step.total as u64);
            bar.set_position(step.done as u64);
            bar.set_message(visible(&step.message).into_owned());
        }
        if step.done >= step.total {
            self.clear();
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take().and_then(|running| running.shown) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
