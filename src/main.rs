//! The process: allocator, signals, panics, exit codes. Everything else is in the library.

mod allocator;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flatness::Error;
use flatness::cli::{FAILED, INTERRUPTED, Ui, run};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    const POLARS: &str = "POLARS_MAX_THREADS";
    if std::env::var_os(POLARS).is_none() {
        // Tables are read and written by polars, on a pool of its own beside that of `--threads`, which waits meanwhile.
        // SAFETY: no other thread has begun.
        unsafe { std::env::set_var(POLARS, "1") };
    }
    let panics = keep_panics();
    let mut ui = Ui::process(stop_at_signals());
    let code = catch_unwind(AssertUnwindSafe(|| run(std::env::args_os(), &mut ui))).unwrap_or_else(|_| {
        let panics = panics.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
        // Libraries have no other way to say that a thread was refused.
        if panics.contains("spawn thread") {
            let error = Error::Threads { reason: "the system refused one".into() };
            ui.complain(&error.to_string(), error.hint().as_deref());
        } else {
            let hint = "report it with the command line; no file was left half-written";
            ui.complain(&format!("a fault of this program: {panics}"), Some(hint));
        }
        FAILED
    });
    ExitCode::from(code)
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
