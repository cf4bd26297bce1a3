//! The command line, driven in process: what it refuses, what it leaves, and what it computes.

mod estimate;
mod interrupts;
mod refusals;
mod results;
mod support;
mod training;
