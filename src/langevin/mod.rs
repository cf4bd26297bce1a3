//! The theory of SGLD and fSGLD at small scale: chains on potentials whose laws are known by quadrature.

mod coupling;
mod distance;
mod error;
mod law;
mod mass;
mod potential;
mod rate;
mod report;
mod sampler;
mod study;

pub use coupling::{Coupling, CouplingRow, coupling};
pub use distance::{Distances, sliced, to_law};
pub use error::LangevinError;
pub use law::{Energy, Law};
pub use mass::{MassLimit, MassRow, mass};
pub use potential::Potential;
pub use rate::{RateFit, RateRow, rate};
pub use report::{LangevinReport, StudyKind, StudyPlan, SummaryNumber};
pub use sampler::{Dynamics, Schedule, sample};
pub use study::{Measured, StudyOptions};
