//! Worker threads over micro-batches whose results are committed in order.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, PoisonError, mpsc};

use crate::{Error, Observer, Result, Step};

/// How much of the machine a computation may use. Neither figure changes a bit of any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// Worker threads.
    pub threads: usize,
    /// What the engine plans with, in bytes; micro-batches and blocks are chosen to fit it.
    pub memory_bytes: usize,
}

impl Default for Execution {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, memory_bytes: 2 << 30 }
    }
}

struct Turn<C> {
    next: usize,
    stopped: Option<Error>,
    commit: C,
}

/// Calls `work(i)` for `i` in `0..count` on `workers` threads, and `commit(i, result)` in the order of `i`.
///
/// A worker holds its result until its turn, so at most `workers` results exist at a time.
///
/// # Errors
/// The first error of `work` or `commit`, or [`Error::Interrupted`] when the observer breaks.
pub(crate) fn in_order<R>(
    count: usize,
    workers: usize,
    work: impl Fn(usize) -> Result<R> + Sync,
    commit: impl FnMut(usize, R) -> Result<()> + Send,
    observer: &mut dyn Observer,
) -> Result<()> {
    let turn = Mutex::new(Turn { next: 0, stopped: None, commit });
    let (changed, claimed) = (Condvar::new(), Mutex::new(0));
    let lock = || turn.lock().unwrap_or_else(PoisonError::into_inner);
    let stop = |error: Error| {
        lock().stopped.get_or_insert(error);
        changed.notify_all();
    };
    let (done, progress) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, count.max(1)) {
            let done = done.clone();
            scope.spawn(|| {
                let done = done; // moved in, so that the channel closes with the last worker
                // The others would wait for this worker's turn for ever.
                let _guard = OnPanic(|| stop(Error::Interrupted));
                loop {
                    let index = {
                        let mut claimed = claimed.lock().unwrap_or_else(PoisonError::into_inner);
                        *claimed += 1;
                        *claimed - 1
                    };
                    if index >= count || lock().stopped.is_some() {
                        return;
                    }
                    let result = match work(index) {
                        Ok(result) => result,
                        Err(error) => return stop(error),
                    };
                    let mut turn = lock();
                    while turn.next != index && turn.stopped.is_none() {
                        turn = changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
                    }
                    if turn.stopped.is_some() {
                        return;
                    }
                    if let Err(error) = (turn.commit)(index, result) {
                        turn.stopped = Some(error);
                    }
                    turn.next += 1;
                    drop(turn);
                    changed.notify_all();
                    // The receiver outlives the scope; a failed send would only mean nobody watches.
                    let _ = done.send(index);
                }
            });
        }
        drop(done);
        for index in progress {
            let step = Step { task: "rows", done: index + 1, total: count, message: String::new() };
            if let ControlFlow::Break(()) = observer.on_step(&step) {
                stop(Error::Interrupted);
            }
        }
    });
    match turn.into_inner().unwrap_or_else(PoisonError::into_inner).stopped {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Calls its function where a panic drops it.
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_ends_the_other_workers_too() {
        let work = |index: usize| if index == 3 { panic!("fault") } else { Ok(index) };
        let _ = in_order(100, 3, work, |_, _| Ok(()), &mut ());
    }

    #[test]
    fn commits_in_order_whatever_the_number_of_workers() {
        for workers in [1, 2, 7] {
            let mut seen = Vec::new();
            let work = |index: usize| {
                // Early items take longest, so that late ones must wait.
                std::thread::sleep(std::time::Duration::from_micros(200 * (20 - index as u64)));
                Ok(index * index)
            };
            let commit = |index, result| {
                seen.push((index, result));
                Ok(())
            };
            in_order(20, workers, work, commit, &mut ()).unwrap();
            assert_eq!(seen, (0..20).map(|index| (index, index * index)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let work = |index: usize| if index == 3 { Err(Error::Interrupted) } else { Ok(index) };
        let mut committed = 0;
        let commit = |_, _| {
            committed += 1;
            Ok(())
        };
        let result = in_order(100, 2, work, commit, &mut ());
        assert!(matches!(result, Err(Error::Interrupted)));
        assert!(committed <= 3, "{committed} results came after the error");
    }
}
