//! What an analysis computes, and how well.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize, Serializer};

use super::landscape::MOST_POINTS;
use super::parse::with_hint;
use super::{PlanError, number_of, parsed, parsed_by, word};
use crate::autodiff::ParamSpace;
use crate::landscape::PLANE_POINTS;
use crate::vocabulary::{Curvature, Scope};

/// How eigenpairs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EigenMethod {
    /// Whatever counts of parameters and rows speak for: see [`AnalysisOptions::method`].
    #[default]
    Auto,
    /// The matrix itself, by as many products as it has rows: all eigenvalues.
    Dense,
    /// The Gram matrix of a sum of outer products, by a backward pass for each: all eigenvalues.
    Gram,
    /// The survey: thick-restart block Lanczos, and the density from the same products.
    Lanczos,
    /// Power iteration with deflation.
    Power,
}

/// Largest number of parameters for which the matrix is made unless a method is asked for.
pub const DENSE_DIM: usize = 4_096;
/// Products of a survey where nothing says how many.
const MAX_MATVECS: usize = 1_000;

/// What to compute, and how well.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "What to compute")]
pub struct AnalysisOptions {
    /// Curvature matrices, separated by commas
    ///
    /// hessian, ggn (generalised Gauss-Newton; for cross-entropy also the exact Fisher matrix), both (the two), residual
    /// (Hessian − GGN), empirical-fisher (second moment of the per-sample gradients), mc-fisher (the same with labels drawn
    /// from the model), gradient-covariance, preconditioned-hessian (P^-1/2 H P^-1/2 with Adam's P: its eigenvalues are those
    /// of P^-1 H)
    #[arg(long = "operator", value_name = "MATRICES", value_parser = parsed_by(operators), default_value = "hessian")]
    pub operators: ::std::vec::Vec<Curvature>,
    /// State of Adam for preconditioned-hessian [default: optimizer.safetensors beside the checkpoint]
    ///
    /// The folder of a training with adamw, or what torch.save wrote of the state_dict() of Adam or AdamW, alone or in a
    /// checkpoint
    #[arg(long, value_name = "PATH")]
    #[serde(skip)]
    pub optimizer_state: Option<PathBuf>,
    /// Parameters to vary: all, layer:NAME, kind:weight|bias|norm or params:GLOB; the others stay fixed
    #[arg(long, value_name = "SCOPE", value_parser = parsed::<Scope>(), default_value = "all")]
    #[serde(serialize_with = "as_text")]
    pub scope: Scope,
    /// Number of largest eigenvalues
    #[arg(long, value_name = "K", default_value_t = Self::default().top)]
    pub top: usize,
    /// Number of smallest eigenvalues: the most negative ones, where there are any
    #[arg(long, value_name = "K", default_value_t = Self::default().bottom)]
    pub bottom: usize,
    /// How to find eigenvalues: dense, gram, lanczos, power or auto
    ///
    /// dense finds all from the whole matrix, gram all of a sum of outer products from its Gram matrix, lanczos both ends
    /// and the density, power the ends by power iteration. auto takes gram for the GGN, Fisher matrices and the covariance
    /// with up to 5000 counted outputs or rows, dense with up to 4096 parameters, where --max-matvecs, --max-time and
    /// --memory allow it, else lanczos
    #[arg(long, value_name = "METHOD", value_parser = word::<EigenMethod>(), default_value = "auto")]
    pub method: EigenMethod,
    /// Operators whose Gram matrix is made instead
    #[arg(skip)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gram: Vec<Curvature>,
    /// An eigenpair has converged when its residual norm over the largest |eigenvalue| is below this
    #[arg(
        hide_short_help = true,
        long = "eig-tol",
        alias = "tolerance",
        value_name = "R",
        allow_negative_numbers = true
    )]
    #[arg(default_value_t = Self::default().eigen_tolerance)]
    pub eigen_tolerance: f64,
    /// Stop when the relative standard error of the trace (from the probes) is below this
    #[arg(hide_short_help = true, long = "trace-tol", value_name = "R", allow_negative_numbers = true)]
    #[arg(default_value_t = Self::default().trace_tolerance)]
    pub trace_tolerance: f64,
    /// Stop when the last quarter of the steps has changed the density (W₁ distance over mean |eigenvalue|) by less than
    /// this
    #[arg(hide_short_help = true, long = "density-tol", value_name = "R", allow_negative_numbers = true)]
    #[arg(default_value_t = Self::default().density_tolerance)]
    pub density_tolerance: f64,
    /// Maximum number of products for each survey and its trace [default: 1000, and for a trace no more than for its survey]
    ///
    /// Each layer, subset and half of the rows has as many
    #[arg(long, value_name = "N")]
    #[serde(serialize_with = "as_budget")]
    pub max_matvecs: Option<usize>,
    /// Maximum number of seconds for the whole analysis (--method lanczos), of which each survey has its share
    #[arg(hide_short_help = true, long = "max-time", value_name = "S", allow_negative_numbers = true)]
    pub max_time_s: Option<f64>,
    /// Seconds of one survey; `None`: all of `max_time_s`
    #[arg(skip)]
    #[serde(skip)]
    pub survey_time_s: Option<f64>,
    /// Products of a trace that takes probes; `None`: as many as its survey
    #[arg(skip)]
    #[serde(skip)]
    pub trace_matvecs: Option<usize>,
    /// Start vectors of the survey, advanced together
    #[arg(hide_short_help = true, long = "probes", value_name = "P", value_parser = number_of(2, usize::MAX))]
    #[arg(default_value_t = Self::default().num_probes)]
    pub num_probes: usize,
    /// Maximum number of Lanczos steps for the density; up to twice as many where eigenvalues beyond 1 % of the largest one
    /// cannot be located by then
    #[arg(hide_short_help = true, long = "steps", value_name = "M", value_parser = number_of(1, usize::MAX))]
    #[arg(default_value_t = Self::default().num_steps)]
    pub num_steps: usize,
    /// Also find the largest eigenvalue of the diagonal block of each layer in the scope
    #[arg(long)]
    pub layers: bool,
    /// Skip the cross-fitted largest eigenvalue (direction from one half of the rows, value from the other)
    #[arg(hide_short_help = true, long = "no-cross-fit", action = ArgAction::SetFalse)]
    pub cross_fit: bool,
    /// Say how many rows are enough
    ///
    /// Finds the largest eigenvalue and the trace of the first matrix on growing subsets of the rows
    #[arg(long)]
    pub subset_study: bool,
    /// Points of a loss slice; 0 draws none
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = number_of(0, MOST_POINTS[0]))]
    #[arg(default_value_t = Self::default().slice_points)]
    pub slice_points: usize,
    /// Random filter-normalised lines
    #[arg(skip = Self::default().random_lines)]
    pub random_lines: usize,
    /// Points along a side of the loss plane; 0 draws none
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = number_of(0, MOST_POINTS[1]))]
    #[arg(default_value_t = Self::default().plane_points)]
    pub plane_points: usize,
    /// Seed of probes, start vectors, directions and shards
    #[arg(long, value_name = "S", default_value_t = Self::default().seed)]
    pub seed: u64,
}

impl Default for AnalysisOptions {
    fn default() -> Self {
        Self {
            operators: vec![Curvature::Hessian],
            optimizer_state: None,
            scope: Scope::All,
            top: 5,
            bottom: 3,
            method: EigenMethod::Auto,
            gram: Vec::new(),
            eigen_tolerance: 1e-4,
            trace_tolerance: 0.01,
            density_tolerance: 0.05,
            max_matvecs: None,
            max_time_s: None,
            survey_time_s: None,
            trace_matvecs: None,
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
    /// Checks every setting.
    ///
    /// # Errors
    /// [`PlanError::Option`] for the first one out of its range.
    pub fn check(&self) -> Result<(), PlanError> {
        let tolerances = [
            ("--eig-tol", self.eigen_tolerance),
            ("--trace-tol", self.trace_tolerance),
            ("--density-tol", self.density_tolerance),
        ];
        if let Some((name, tolerance)) = tolerances.into_iter().find(|(_, value)| !(*value > 0.0 && *value < 1.0)) {
            return Err(PlanError::option(name, tolerance, "must be between 0 and 1"));
        }
        let unused =
            self.optimizer_state.as_ref().filter(|_| !self.operators.contains(&Curvature::PreconditionedHessian));
        if let Some(path) = unused {
            let reason = "is for --operator preconditioned-hessian, which is not among the matrices";
            return Err(PlanError::option("--optimizer-state", path.display(), reason));
        }
        let Some(seconds) = self.max_time_s else { return Ok(()) };
        if !(0.0..1e9).contains(&seconds) {
            return Err(PlanError::option("--max-time", seconds, "must be a number of seconds, 0 or more"));
        }
        if !matches!(self.method, EigenMethod::Auto | EigenMethod::Lanczos) {
            let method = self.method.name();
            return Err(PlanError::option(
                "--max-time",
                format!("with --method {method}"),
                "only lanczos watches the time",
            ));
        }
        Ok(())
    }

    /// Maximum number of products for each operator.
    pub fn budget(&self) -> usize {
        self.max_matvecs.unwrap_or(MAX_MATVECS)
    }

    /// Parameters of the scope.
    ///
    /// # Errors
    /// A scope that holds none.
    pub fn dim(&self, space: &ParamSpace) -> crate::Result<usize> {
        Ok(self.scope.resolve(space)?.into_iter().map(|range| range.len()).sum())
    }
}

impl EigenMethod {
    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dense => "dense",
            Self::Gram => "gram",
            Self::Lanczos => "lanczos",
            Self::Power => "power",
        }
    }
}

/// Matrices by name, each once; `both` are the first two.
fn operators(text: &str) -> Result<Vec<Curvature>, String> {
    let mut operators = Vec::new();
    for word in text.split(',') {
        let named = match word.trim() {
            "both" => vec![Curvature::Hessian, Curvature::Ggn],
            name => vec![name.parse::<Curvature>().map_err(|error| with_hint(&error.into()))?],
        };
        for operator in named {
            if !operators.contains(&operator) {
                operators.push(operator);
            }
        }
    }
    Ok(operators)
}

/// The number that holds, given or not: tables state it either way.
fn as_budget<S: Serializer>(max_matvecs: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    max_matvecs.unwrap_or(MAX_MATVECS).serialize(serializer)
}

fn as_text<S: Serializer>(scope: &Scope, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(scope)
}
