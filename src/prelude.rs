//! What a program of one's own needs most: `use flatness::prelude::*`.

pub use crate::checkpoint::Checkpoint;
pub use crate::curvature::{Curvature, CurvatureOperator, FiniteDifferenceHessian, VarGradient};
pub use crate::data::{DataSpec, Dataset, RowRange, Source};
pub use crate::formats::family;
pub use crate::objective::{Objective, ObjectiveOptions};
pub use crate::operator::{LinearOperator, Product};
pub use crate::program::Loss;
pub use crate::random::{Purpose, stream};
pub use crate::spectral::{
    Axis, DensityParams, EigenParams, SlqParams, TraceParams, density, eigenpairs, hutchinson, slq,
};
pub use crate::train::initialise;
pub use crate::{Error, Observer, Result, Step};
