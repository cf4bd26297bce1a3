//! Model averages, calibration, learning coefficients: what a posterior says that a single minimum does not.

pub mod learning_coefficient;
