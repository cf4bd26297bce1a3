//! The process: allocator, signals, panics, exit codes. Everything else is in the library.

mod allocator;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flatness::Error;
use flatness::cli::{FAILED, INTERRUPTED, Ui, run};
use flatness::team::{lead, team};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator::new();

fn main() -> ExitCode {
    const POLARS: &str = "POLARS_MAX_THREADS";
    if std::env::var_os(POLARS).is_none() {
        // Tables are read and written by polars, on a pool of its own beside that of `--threads`, which waits meanwhile.
        // SAFETY: no other thread has begun.
        unsafe { std::env::set_var(POLARS, "1") };
    }
    let panics = keep_panics();
    let complain = |error: &Error| Ui::process(Arc::default()).complain(&error.to_string(), error.hint().as_deref());
    ExitCode::from(lead(stop_at_signals(), complain, |stop| command(stop, &panics)))
}

/// Carries out the command line, and gives its exit code.
fn command(stop: Arc<AtomicBool>, panics: &Mutex<Vec<String>>) -> u8 {
    let mut ui = if team().leads() { Ui::process(stop) } else { Ui::silent(stop) };
    catch_unwind(AssertUnwindSafe(|| run(std::env::args_os(), &mut ui))).unwrap_or_else(|_| {
        let panics = panics.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
        // Libraries have no other way to say that a thread was refused.
        let (error, hint) = if panics.contains("spawn thread") {
            let error = Error::Threads { reason: "the system refused one".into() };
            (error.to_string(), error.hint().unwrap_or_default())
        } else {
            let hint = "report it with the command line; no file was left half-written";
            (format!("a fault of this program: {panics}"), hint.into())
        };
        ui.complain(&error, Some(&hint));
        team().give_up(&error, Some(&hint));
        FAILED
    })
}

/// Keeps the words of panics: a library's that is caught on the way (some damaged Parquet files) leaves none on stderr.
fn keep_panics() -> Arc<Mutex<Vec<String>>> {
    let panics = Arc::new(Mutex::new(Vec::new()));
    let seen = panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
    }));
    panics
}

/// Set by Ctrl-C or a termination signal; a second one ends the process at once.
fn stop_at_signals() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    // Without a handler Ctrl-C still ends the program, and files still appear whole or not at all.
    let _ = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
    });
    interrupted
}
