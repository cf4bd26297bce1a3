//! Loss surfaces: directions, lines and planes through a minimum, between minima and along a training.

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

pub use directions::{Normalisation, filter_normalised, orthogonalise, random_direction, slope};
pub use error::LandscapeError;
pub use frame::{Buffers, DirectionFacts, DirectionKind, Frame, Mark};
pub use grid::{Grid, convex_share};
pub use points::{LOST, PointStore, Statistics, Surface, Watch};
pub use slices::{Line, line, plane};
pub use survey::{Barrier, LandscapeReport, barrier, survey};
pub use trajectory::{PathPoint, path_point, principal};

/// Points along each side of a plane, unless something else is asked for.
pub const PLANE_POINTS: usize = 25;
