//! An observer to which several threads report their steps.

use std::ops::ControlFlow;
use std::sync::Mutex;

use super::lock::lock;
use crate::{Error, Observer, Result, Step};

/// Counts the steps of several threads for one observer.
pub(super) struct Watch<'a> {
    total: usize,
    /// Steps done, and who hears of them.
    seen: Mutex<(usize, &'a mut dyn Observer)>,
}

impl<'a> Watch<'a> {
    /// `total` steps for `observer`.
    pub(super) fn new(total: usize, observer: &'a mut dyn Observer) -> Self {
        Self { total, seen: Mutex::new((0, observer)) }
    }

    /// A step is done. The observer is called by one thread at a time, with numbers that ascend by one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when it breaks.
    pub(super) fn step(&self) -> Result<()> {
        let mut seen = lock(&self.seen);
        seen.0 += 1;
        let step = Step { task: "rows", done: seen.0, total: self.total, message: String::new() };
        match seen.1.on_step(&step) {
            ControlFlow::Break(()) => Err(Error::Interrupted),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}
