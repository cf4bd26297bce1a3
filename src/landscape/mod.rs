//! Loss surfaces through a minimum: directions, lines and planes.

mod directions;
mod slices;

pub use directions::{filter_normalised, orthogonalise};
pub use slices::{Line, line, plane};
