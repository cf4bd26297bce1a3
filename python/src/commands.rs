//! Commands of the command line, in process.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flatness::Step;
use flatness::cli::{Audience, Ui};
use flatness::plan::Given;
use pyo3::prelude::*;

use crate::calls::{Stop, outside_to_the_end};
use crate::objective::{Network, Rows};

/// Least time between two reports of progress.
const PACE: Duration = Duration::from_millis(100);

/// What a command writes, kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs one command on networks and rows in memory; gives its exit code and what it prints and says. `progress` is called with
/// the task, the steps done and in all, and figures of the moment.
#[pyfunction]
#[pyo3(signature = (arguments, given, progress=None))]
pub fn call(
    py: Python<'_>,
    arguments: Vec<OsString>,
    given: Vec<(Py<Network>, Py<Rows>)>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(u8, String, String)> {
    let given = given
        .into_iter()
        .map(|(network, rows)| Given { checkpoint: network.get().checkpoint.clone(), data: rows.get().data.clone() });
    let given: Vec<Given> = given.collect();
    let (out, err) = (Kept::default(), Kept::default());
    let (printed, said) = (out.clone(), err.clone());
    let failure = Failure::default();
    let failed = failure.clone();
    let code = outside_to_the_end(py, move |stop| {
        let mut ui = Ui::captured(Box::new(out), Box::new(err), stop.clone());
        if let Some(progress) = progress {
            ui = ui.watched_by(audience(progress, stop, failure));
        }
        flatness::cli::call(&arguments, given, &mut ui)
    });
    crate::ALLOCATOR.release();
    match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => Ok((code?, printed.text(), said.text())),
    }
}

/// The exception of a callable that was told of progress.
type Failure = Arc<Mutex<Option<PyErr>>>;

/// Reports steps to Python, not too often. An exception of the callable ends the work.
fn audience(progress: Py<PyAny>, stop: Stop, failure: Failure) -> Audience {
    let last: Mutex<Option<Instant>> = Mutex::new(None);
    Arc::new(move |step: &Step| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= PACE) || step.done == step.total;
        if !due {
            return;
        }
        *last = Some(Instant::now());
        Python::attach(|py| {
            if let Err(error) = progress.call1(py, (step.task, step.done, step.total, &step.message)) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                stop.store(true, Ordering::SeqCst);
            }
        });
    })
}

/// The command line on the process's own streams, the program's name first; gives its exit code.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<u8> {
    outside_to_the_end(py, move |stop| Ok(flatness::cli::run(arguments, &mut Ui::process(stop))))
}
