//! Many runs: a grid of settings as data, the folders of its runs, their states and their results.
//!
//! A *cell* is one point of the grid: a variant, a value on each axis, a seed. Its steps are in a *run folder*. Cells with
//! equal training share one, so that an axis over options of the analysis trains only once. Folders are found by a hash of
//! everything that determines their numbers; states are read from the folders alone.

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
pub use results::{CellResult, collect, group_summaries, of_analysis};
pub use spectra::spectra;
pub use state::{Failure, State};
pub use sweeps::{Sweep, over_epochs, sweeps};
pub use tables::{folder_column, write_cells, write_combined, write_means};
