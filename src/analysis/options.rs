//! What an analysis computes, and how well.

use serde::{Serialize, Serializer};

use crate::Result;
use crate::autodiff::{ParamSpace, Scope};
use crate::landscape::PLANE_POINTS;
use crate::spectral::Stop;
use crate::vocabulary::Curvature;

/// How eigenpairs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EigenMethod {
    /// The survey: thick-restart block Lanczos, and the density from the same products.
    Lanczos,
    /// Power iteration with deflation.
    Power,
    /// The matrix itself, by as many products as it has rows: all eigenvalues.
    Dense,
}

/// Largest dimension at which the matrix is made unless a method is asked for.
pub const DENSE_DIM: usize = 4_096;

/// What to compute, and how well.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnalysisOptions {
    /// Which matrices.
    pub operators: Vec<Curvature>,
    /// Which parameters; the others stay fixed.
    #[serde(serialize_with = "as_text")]
    pub scope: Scope,
    /// Largest eigenvalues.
    pub top: usize,
    /// Smallest eigenvalues.
    pub bottom: usize,
    /// How to find them.
    pub method: EigenMethod,
    /// Operators whose Gram matrix is made instead: sums of outer products.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gram: Vec<Curvature>,
    /// Residual norm over the largest `|λ|` at which a pair counts as converged.
    pub eigen_tolerance: f64,
    /// Numeric standard error of a trace over its value that is small enough.
    pub trace_tolerance: f64,
    /// Change of the density by the last quarter of its steps (`W₁` over the mean `|λ|`) that is small enough.
    pub density_tolerance: f64,
    /// Products spent at most, per operator.
    pub max_matvecs: usize,
    /// Seconds spent at most on the survey of an operator.
    pub max_time_s: Option<f64>,
    /// Start vectors that go in lock-step.
    pub num_probes: usize,
    /// Lanczos steps of the density at most: see [`crate::spectral::SurveyParams::num_steps`].
    pub num_steps: usize,
    /// Whether each layer gets its own largest eigenvalue.
    pub layers: bool,
    /// Whether the largest eigenvalue is cross-fitted between two halves of the rows.
    pub cross_fit: bool,
    /// Whether largest eigenvalue and trace are found on growing subsets of the rows.
    pub subset_study: bool,
    /// Points of a 1-D slice; 0 leaves slices out.
    pub slice_points: usize,
    /// Random filter-normalised lines.
    pub random_lines: usize,
    /// Points along one side of the plane; 0 leaves it out.
    pub plane_points: usize,
    /// Seed of all random choices.
    pub seed: u64,
}

impl Default for AnalysisOptions {
    fn default() -> Self {
        Self {
            operators: vec![Curvature::Hessian],
            scope: Scope::All,
            top: 5,
            bottom: 3,
            method: EigenMethod::Lanczos,
            gram: Vec::new(),
            eigen_tolerance: 1e-4,
            trace_tolerance: 0.01,
            density_tolerance: 0.05,
            max_matvecs: 1_000,
            max_time_s: None,
            num_probes: 4,
            num_steps: 32,
            layers: false,
            cross_fit: true,
            subset_study: false,
            slice_points: 21,
            random_lines: 2,
            plane_points: PLANE_POINTS,
            seed: 0,
        }
    }
}

impl AnalysisOptions {
    /// Parameters of the scope.
    ///
    /// # Errors
    /// A scope that holds none.
    pub fn dim(&self, space: &ParamSpace) -> Result<usize> {
        Ok(self.scope.resolve(space)?.into_iter().map(|range| range.len()).sum())
    }

    /// For what follows a survey that ended by `stop`. One that ran out of time leaves only what the number of products
    /// that ends it at the same step would have left: so that number gives all the same results.
    pub(super) fn after(&self, stop: Stop) -> Self {
        let max_matvecs = match stop {
            Stop::MaxTime { max_matvecs } => max_matvecs,
            _ => self.max_matvecs,
        };
        Self { max_matvecs, ..self.clone() }
    }
}

fn as_text<S: Serializer>(scope: &Scope, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(scope)
}
