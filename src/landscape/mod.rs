//! Loss surfaces: directions, lines and planes through a minimum, between minima and along a training run.

mod directions;
mod error;
mod frame;
mod grid;
mod points;
mod slices;
mod survey;
#[cfg(test)]
mod tests;
mod trajectory;

pub use directions::{Normalisation, slope};
pub(crate) use directions::{filter_normalised, orthogonalise};
pub use error::LandscapeError;
pub use frame::{Buffers, DirectionFacts, DirectionKind, Frame, Mark};
pub use grid::Grid;
pub use points::{PointStore, Statistics, Surface, Watch};
pub use slices::{Line, SliceKind, SliceReport, line, plane};
pub use survey::{Barrier, LandscapeReport, barrier, survey};
pub(crate) use trajectory::path_point;
pub use trajectory::{PathPoint, principal};

/// Points along each side of a plane, unless something else is asked for.
pub(crate) const PLANE_POINTS: usize = 25;
