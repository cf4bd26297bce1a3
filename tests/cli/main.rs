//! The command line, driven in process: what it refuses, what it leaves, and what it computes.

mod budgets;
mod compare;
mod curvatures;
mod dense;
mod estimate;
mod evaluate;
mod experiments;
mod gram;
mod hostile;
mod inputs;
mod interrupts;
mod landscape;
mod langevin;
mod llc;
mod manners;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(unix)]
mod owners;
mod pages;
#[cfg(unix)]
mod paths;
mod preconditioned;
mod programs;
mod refusals;
mod results;
#[cfg(unix)]
mod resume;
#[cfg(unix)]
mod runs;
mod samples;
mod sharpness;
mod support;
mod threads;
mod train_resume;
mod training;
mod verify;
mod visible;
