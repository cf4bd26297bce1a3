//! Work outside the interpreter's lock: Ctrl-C ends it, and errors and faults become exceptions.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use flatness::{Error, Observer, Step};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// How often a waiting call looks for Ctrl-C.
const WATCH: Duration = Duration::from_millis(50);
/// Stack of the thread that works, as a main thread has.
const STACK_BYTES: usize = 8 << 20;

/// Set when the user has asked to stop.
pub type Stop = Arc<AtomicBool>;

/// Ends a computation where its flag is set.
pub struct Stoppable(pub Stop);

impl Observer for Stoppable {
    fn on_step(&mut self, _: &Step) -> ControlFlow<()> {
        if self.0.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The result of `work`, which runs on a thread of its own without the interpreter's lock. At Ctrl-C its flag is set.
///
/// # Errors
/// `KeyboardInterrupt` then, whatever it still gives; `FlatnessError` for its errors and for a panic.
pub fn outside<T: Send>(py: Python<'_>, work: impl FnOnce(Stop) -> flatness::Result<T> + Send) -> PyResult<T> {
    let (result, interruption) = run(py, work);
    interruption.map_or(result, Err)
}

/// The same for work that keeps what is finished, and says so: its result comes first.
///
/// # Errors
/// As [`outside`], but `KeyboardInterrupt` only where there is no result.
pub fn outside_to_the_end<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(Stop) -> flatness::Result<T> + Send,
) -> PyResult<T> {
    let (result, interruption) = run(py, work);
    result.map_err(|error| interruption.unwrap_or(error))
}

/// What the work gives, and the exception of a signal that came meanwhile.
fn run<T: Send>(py: Python<'_>, work: impl FnOnce(Stop) -> flatness::Result<T> + Send) -> (PyResult<T>, Option<PyErr>) {
    let (stop, done, caller) = (Stop::default(), AtomicBool::new(false), std::thread::current());
    let mut interruption = None;
    let worked = std::thread::scope(|scope| {
        let (stop_of_work, done) = (stop.clone(), &done);
        let work = move || {
            let _wakes = Wakes { done, caller };
            work(stop_of_work)
        };
        let thread = std::thread::Builder::new().name("flatness".into()).stack_size(STACK_BYTES);
        let working = thread.spawn_scoped(scope, work).map_err(|error| Error::Threads { reason: error.to_string() })?;
        while !done.load(Ordering::SeqCst) {
            py.detach(|| std::thread::park_timeout(WATCH));
            if let Err(error) = py.check_signals() {
                stop.store(true, Ordering::SeqCst);
                interruption.get_or_insert(error);
            }
        }
        Ok(working.join())
    });
    let result = match worked {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(Error::Interrupted))) => Err(PyKeyboardInterrupt::new_err("interrupted")),
        Ok(Ok(Err(error))) | Err(error) => Err(exception(py, &error.to_string(), error.hint().as_deref())),
        Ok(Err(panic)) => Err(fault(py, &*panic)),
    };
    (result, interruption)
}

/// Wakes the waiting thread when the work ends, also by a panic.
struct Wakes<'a> {
    done: &'a AtomicBool,
    caller: Thread,
}

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        self.caller.unpark();
    }
}

/// The package's exception.
pub fn exception(py: Python<'_>, message: &str, hint: Option<&str>) -> PyErr {
    let made = py.import("flatness._errors").and_then(|module| module.getattr("FlatnessError")?.call1((message, hint)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// A panic: a fault of this program, not of its user.
fn fault(py: Python<'_>, panic: &dyn std::any::Any) -> PyErr {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".into());
    exception(py, &format!("a fault of flatness: {words}"), Some("please report it with the call that led to it"))
}
