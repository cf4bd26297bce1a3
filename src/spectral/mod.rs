//! Krylov methods and stochastic estimators: sees [`crate::operator::LinearOperator`] and f64 numbers, never a network.

mod basis;
mod closing;
mod cross_fit;
mod data_error;
mod deflated_trace;
mod dense;
mod density;
mod distribution;
mod eigenpairs;
mod error;
mod functions;
mod gauss;
mod gram;
mod guard;
mod householder;
mod krylov_schur;
mod lanczos;
mod measure;
mod outcome;
mod pairs;
mod power;
mod products;
mod resolution;
mod search;
mod slq;
mod state;
#[cfg(test)]
mod stress;
mod survey;
#[cfg(test)]
mod testing;
mod trace;
mod tridiagonal;
mod vector_kernels;
mod vectors;

pub use cross_fit::{CrossFitParams, CrossFitReport, cross_fit};
pub use data_error::data_std_errors;
pub use deflated_trace::{DeflatedTraceParams, DeflatedTraceReport, Deflation, TraceStop, deflated_trace};
pub use dense::{DenseParams, DenseReport, dense};
pub use density::{Axis, DensityParams, DensityReport, MassShares, Share, density};
pub use distribution::{DistributionReport, distribution};
pub use eigenpairs::{eigenpairs, eigenpairs_from};
pub use error::SpectralError;
pub use functions::{Estimate, SpectralMeasure};
pub use gram::{Factored, GramParams, GramReport, RowBlocks, gram};
pub use measure::{Quadrature, RuleSource, SlqReport};
pub use outcome::{Stop, SurveyOutcome, SurveyReport};
pub use pairs::{EigenParams, EigenReport, EigenpairsReport};
pub use power::{PowerParams, power};
pub use slq::{SlqParams, slq};
pub use state::{Store, SurveyState};
pub use survey::{SurveyParams, survey};
pub use trace::{TraceParams, TraceReport, hutchinson};

pub use crate::vocabulary::End;
