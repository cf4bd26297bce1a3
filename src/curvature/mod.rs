//! Hessian, Gauss-Newton, Fisher and covariance matrices of an objective as linear operators; exact traces; what an
//! optimiser preconditions them by; operators made from a gradient that the user supplies.

mod error;
mod exact;
mod finite_difference;
mod kept;
mod operators;
mod outer_rows;
mod pass;
mod preconditioner;
mod row_sums;
mod var_gradient;

pub use error::CurvatureError;
pub use exact::{ExactParams, ExactPart, ExactTrace};
pub use finite_difference::FiniteDifferenceHessian;
pub use operators::CurvatureOperator;
pub use outer_rows::OuterRows;
pub use preconditioner::Preconditioner;
pub use var_gradient::{GradientError, VarGradient};

pub use crate::vocabulary::Curvature;
