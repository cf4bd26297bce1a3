//! Arguments of `flatness analyze` and `flatness estimate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::argument;
use super::figure_args::FigureArgs;
use super::session::SessionArgs;
use super::state::Saving;
use crate::Result;
use crate::analysis::{AnalysisOptions, EigenMethod};
use crate::vocabulary::Curvature;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OperatorArg {
    /// Second derivative of the mean loss
    Hessian,
    /// Generalised Gauss-Newton; of cross-entropy the exact Fisher matrix too
    Ggn,
    /// Hessian and GGN
    Both,
    /// Hessian minus GGN
    Residual,
    /// Second moment of the per-sample gradients
    EmpiricalFisher,
    /// The same at labels drawn from the model
    McFisher,
    /// Covariance of the per-sample gradients
    GradientCovariance,
}

impl OperatorArg {
    fn kinds(self) -> Vec<Curvature> {
        match self {
            Self::Hessian => vec![Curvature::Hessian],
            Self::Ggn => vec![Curvature::Ggn],
            Self::Both => vec![Curvature::Hessian, Curvature::Ggn],
            Self::Residual => vec![Curvature::Residual],
            Self::EmpiricalFisher => vec![Curvature::EmpiricalFisher],
            Self::McFisher => vec![Curvature::McFisher],
            Self::GradientCovariance => vec![Curvature::GradientCovariance],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MethodArg {
    /// All eigenvalues of the matrix, by a product for each parameter
    Dense,
    /// All eigenvalues of a sum of outer products, by a backward pass for each
    Gram,
    /// A survey of both ends and the density
    Lanczos,
    /// Power iteration for the ends
    Power,
}

/// Most points of a slice, and along a side of the plane.
const MAX_POINTS: [usize; 2] = [10_001, 1_001];

/// What to compute and how well: arguments of `analyze`, and of `estimate`, which says what they cost.
#[derive(Debug, Args)]
pub(super) struct SurveyArgs {
    /// Which curvature; several with commas between
    #[arg(long, value_enum, value_delimiter = ',', default_value = "hessian")]
    operator: Vec<OperatorArg>,
    /// Which parameters: all, layer:NAME, kind:weight|bias|norm or params:GLOB
    #[arg(long, value_name = "SCOPE", default_value = "all")]
    scope: String,
    /// Largest eigenvalues
    #[arg(long, value_name = "K", default_value_t = AnalysisOptions::default().top)]
    top: usize,
    /// Smallest eigenvalues: the most negative ones, where there are any
    #[arg(long, value_name = "K", default_value_t = AnalysisOptions::default().bottom)]
    bottom: usize,
    /// How eigenvalues are found [default: gram for ggn, Fisher matrices and covariance up to 5000 counted outputs or rows,
    /// dense up to 4096 parameters, where --max-matvecs, --max-time and --memory allow it, else lanczos]
    #[arg(long, value_enum)]
    pub(super) method: Option<MethodArg>,
    /// Residual over largest |eigenvalue| at which a pair has converged
    #[arg(long, alias = "tolerance", value_name = "R", default_value_t = AnalysisOptions::default().eigen_tolerance)]
    #[arg(allow_negative_numbers = true)]
    eig_tol: f64,
    /// Numeric error of a trace over its value that is small enough
    #[arg(long, value_name = "R", default_value_t = AnalysisOptions::default().trace_tolerance)]
    #[arg(allow_negative_numbers = true)]
    trace_tol: f64,
    /// Change of the density by the last quarter of the steps (W1 over mean |eigenvalue|) that is small enough
    #[arg(long, value_name = "R", default_value_t = AnalysisOptions::default().density_tolerance)]
    #[arg(allow_negative_numbers = true)]
    density_tol: f64,
    /// Products spent at most on each survey and its trace; each layer, subset and half has as many [default: 1000]
    #[arg(long, value_name = "N")]
    pub(super) max_matvecs: Option<usize>,
    /// Seconds spent at most on each survey (--method lanczos)
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub(super) max_time: Option<f64>,
    /// Start vectors of the survey, in lock-step
    #[arg(long, value_name = "P", default_value_t = AnalysisOptions::default().num_probes)]
    probes: usize,
    /// Lanczos steps for the sake of the density at most; up to twice as many where eigenvalues beyond 1 % of the largest
    /// cannot be located by then
    #[arg(long, value_name = "M", default_value_t = AnalysisOptions::default().num_steps)]
    steps: usize,
    /// The largest eigenvalue of the block of each layer in the scope too
    #[arg(long)]
    layers: bool,
    /// Largest eigenvalue and trace of the first operator on subsets of the rows too, with a verdict on how many are enough
    #[arg(long)]
    subset_study: bool,
    /// Leave out the cross-fitted largest eigenvalue
    #[arg(long)]
    no_cross_fit: bool,
    /// Points of a loss slice; 0 draws none
    #[arg(long, value_name = "N", default_value_t = AnalysisOptions::default().slice_points)]
    slice_points: usize,
    /// Points along a side of the loss plane; 0 draws none
    #[arg(long, value_name = "N", default_value_t = AnalysisOptions::default().plane_points)]
    plane_points: usize,
    /// Seed of probes, start vectors, directions and shards
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(super) seed: u64,
}

/// Arguments of `analyze`.
#[derive(Debug, Args)]
pub(super) struct AnalyzeArgs {
    #[command(flatten)]
    pub(super) session: SessionArgs,
    #[command(flatten)]
    pub(super) survey: SurveyArgs,
    #[command(flatten)]
    pub(super) figures: FigureArgs,
    /// Go on from the state that a killed or interrupted run of the same command left in the result folder (budgets and
    /// threads may differ)
    #[arg(long)]
    pub(super) resume: bool,
    /// Seconds between two states for --resume, at least
    #[arg(long, value_name = "S", default_value_t = 30.0, allow_negative_numbers = true)]
    save_every: f64,
    /// Result folder [default: reports/NAME]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Overwrite an existing result
    #[arg(long)]
    pub(super) force: bool,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    pub(super) json: bool,
}

impl SurveyArgs {
    fn operators(&self) -> Vec<Curvature> {
        let mut kinds: Vec<Curvature> = Vec::new();
        for kind in self.operator.iter().flat_map(|operator| operator.kinds()) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// Checked, without a look at the files.
    pub(super) fn options(&self) -> Result<AnalysisOptions> {
        let tolerances =
            [("--eig-tol", self.eig_tol), ("--trace-tol", self.trace_tol), ("--density-tol", self.density_tol)];
        for (name, tolerance) in tolerances {
            if !(tolerance > 0.0 && tolerance < 1.0) {
                return Err(argument(name, &tolerance.to_string(), "must be between 0 and 1"));
            }
        }
        self.max_time.map_or(Ok(()), |seconds| check_seconds("--max-time", seconds))?;
        match self.method {
            Some(MethodArg::Power) if self.max_time.is_some() => {
                return Err(argument("--max-time", "with --method power", "only lanczos watches the time"));
            }
            Some(MethodArg::Dense) if self.max_time.is_some() => {
                return Err(argument("--max-time", "with --method dense", "only lanczos watches the time"));
            }
            Some(MethodArg::Gram) if self.max_time.is_some() => {
                return Err(argument("--max-time", "with --method gram", "only lanczos watches the time"));
            }
            _ => {}
        }
        if self.steps == 0 {
            return Err(argument("--steps", "0", "at least one Lanczos step is needed"));
        }
        if self.probes < 2 {
            return Err(argument("--probes", &self.probes.to_string(), "a standard error needs 2 probes or more"));
        }
        let points = [("--slice-points", self.slice_points), ("--plane-points", self.plane_points)];
        for ((name, points), most) in points.into_iter().zip(MAX_POINTS) {
            if points > most {
                return Err(argument(name, &points.to_string(), &format!("must be at most {most}")));
            }
        }
        Ok(AnalysisOptions {
            operators: self.operators(),
            scope: self.scope.parse()?,
            top: self.top,
            bottom: self.bottom,
            method: match self.method {
                Some(MethodArg::Dense) => EigenMethod::Dense,
                Some(MethodArg::Lanczos | MethodArg::Gram) | None => EigenMethod::Lanczos,
                Some(MethodArg::Power) => EigenMethod::Power,
            },
            eigen_tolerance: self.eig_tol,
            trace_tolerance: self.trace_tol,
            density_tolerance: self.density_tol,
            max_matvecs: self.max_matvecs.unwrap_or(AnalysisOptions::default().max_matvecs),
            max_time_s: self.max_time,
            num_probes: self.probes,
            num_steps: self.steps,
            layers: self.layers,
            subset_study: self.subset_study,
            cross_fit: !self.no_cross_fit,
            slice_points: self.slice_points,
            plane_points: self.plane_points,
            seed: self.seed,
            ..AnalysisOptions::default()
        })
    }
}

impl AnalyzeArgs {
    /// When states are written and taken up.
    pub(super) fn saving(&self) -> Result<Saving> {
        check_seconds("--save-every", self.save_every)?;
        if self.resume && self.survey.method == Some(MethodArg::Power) {
            return Err(argument("--resume", "with --method power", "only dense, gram and lanczos keep states"));
        }
        Ok(Saving { every: Duration::from_secs_f64(self.save_every), resume: self.resume })
    }
}

fn check_seconds(name: &'static str, seconds: f64) -> Result<()> {
    if (0.0..1e9).contains(&seconds) {
        return Ok(());
    }
    Err(argument(name, &seconds.to_string(), "must be a number of seconds, 0 or more"))
}
