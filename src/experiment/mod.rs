//! Many runs: a grid of settings as data, the folders of its runs, what state they are in, and what they came to.
//!
//! A *cell* is one point of the grid: a variant, a value on each axis, a seed. Its steps live in a *run folder*, which
//! cells of equal training share, so that an axis over options of the analysis trains once. Folders are found by a hash
//! of what decides their numbers; states are read from the folders alone.

mod error;
mod execute;
mod file;
mod grid;
mod identity;
mod plan;
mod results;
mod spectra;
mod state;
mod sweeps;
mod tables;

pub use error::ExperimentError;
pub use execute::{Ended, Pool, execute};
pub use file::{Experiment, Settings, StepKind};
pub use grid::{Cell, arguments};
pub use identity::identity;
pub use plan::{Plan, PlannedCell, ResolvedStep, Run, Step};
pub use results::{CellResult, collect, group_summaries};
pub use spectra::spectra;
pub use state::{Failure, State};
pub use sweeps::{Sweep, over_epochs, sweeps};
pub use tables::{write_cells, write_combined, write_means};
