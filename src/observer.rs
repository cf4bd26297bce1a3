//! Progress is observed, never printed: long computations call an [`Observer`] after each step.

use std::ops::ControlFlow;

/// One finished step of a long computation.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is being computed, in words for a progress bar.
    pub task: &'static str,
    /// Steps done, this one included.
    pub done: usize,
    /// Steps in all, as far as known.
    pub total: usize,
    /// Figures of the moment, such as `loss 0.31`; empty where there are none.
    pub message: String,
}

/// Watches a computation and may end it early. It may be called on any thread of a run, on one at a time;
/// others wait meanwhile, so it should return soon and do no work on the run's own pool.
pub trait Observer: Send {
    /// After each step; `Break` ends early: what is usable so far is kept.
    fn on_step(&mut self, _step: &Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Sees nothing, says nothing.
impl Observer for () {}
