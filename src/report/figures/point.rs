//! Positions on a sheet.

/// A position in points from the upper left corner.
pub type Point = (f64, f64);
