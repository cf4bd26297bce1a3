//! The local learning coefficient of a minimum `w*` (Lau et al. 2023), `λ̂ = nβ (E L(w) − L(w*))` under the localised posterior
//! `exp(−nβ L(w) − γ/2 ‖w − w*‖²)`, by several chains of stochastic gradient Langevin dynamics.
//!
//! At a minimum where the loss is quadratic it is half the number of directions that the loss determines, `Σ ½ nβh/(nβh + γ)`
//! over the eigenvalues `h` of the Hessian; where the loss is degenerate it is smaller.

mod chain;
mod energy;
mod estimate;
mod sampler;
mod survey;
mod sweep;
#[cfg(test)]
mod tests;

pub use chain::{Chain, ChainStore, Visit};
pub use energy::{Energy, LossEnergy, Rise};
pub use estimate::{Estimate, Fault};
pub use sampler::{Dynamics, Schedule, Watch, sample};
pub use survey::{LlcReport, survey};
