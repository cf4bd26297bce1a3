//! What `analyze` and `compare` compute, as plain structs that `report` turns into tables and figures.

mod check;
pub mod compare;
mod cost;
mod cross;
mod fit;
mod frame;
mod gram;
mod headlines;
mod layers;
mod memory;
mod overlap;
mod preconditioner;
mod run;
mod spectrum;
mod subset_study;
mod task;
mod trace;
mod unresolved;
mod vectors;

pub use check::{CheckOptions, Finding, check, check_inputs, check_outputs};
pub use cost::{CostEstimate, typical_matvecs};
pub use fit::fit;
pub use frame::{FrameTask, Framed, fingerprint, same_data, same_network};
pub use gram::{GRAM_BLOCKS, GRAM_ROWS, GramSize};
pub use overlap::{Overlap, overlap};
pub use run::Analysis;
pub(crate) use run::reach;
pub use subset_study::{SubsetRow, SubsetStudy};
pub use unresolved::unresolved;

use crate::landscape::SliceReport;
use crate::spectral::{DensityReport, DistributionReport, EigenReport, End, SlqReport, Store, SurveyOutcome};
use crate::vocabulary::{Curvature, Method, Scope, SummaryRow};

/// Where surveys keep their states, with one store for each operator; `()` keeps nothing.
pub trait Stores {
    /// The store of the survey `name`.
    fn store(&mut self, name: &str) -> Box<dyn Store + '_>;
}

impl Stores for () {
    fn store(&mut self, _name: &str) -> Box<dyn Store + '_> {
        Box::new(())
    }
}

/// The spectrum of one operator.
#[derive(Debug, Clone)]
pub struct SpectrumReport {
    /// Which curvature.
    pub operator: Curvature,
    /// Part of the parameters.
    pub scope: Scope,
    /// Largest eigenvalues.
    pub top: EigenReport,
    /// Smallest eigenvalues.
    pub bottom: EigenReport,
    /// The trace.
    pub trace: TraceSummary,
    /// Raw nodes and weights.
    pub slq: SlqReport,
    /// Smoothed densities on all axes.
    pub densities: Vec<DensityReport>,
    /// The distribution function at places along the logarithmic axis.
    pub distribution: DistributionReport,
    /// How the survey went.
    pub outcome: SurveyOutcome,
    /// Whether no eigenvalue can be negative, by construction.
    pub positive: bool,
    /// Whether an interruption left the trace, or trace and density, unknown.
    pub interrupted: bool,
}

/// A trace with its errors, and how it was found.
#[derive(Debug, Clone)]
pub struct TraceSummary {
    /// The trace.
    pub trace: f64,
    /// Standard error from random numbers; 0 where none were drawn.
    pub std_err_numeric: f64,
    /// Standard error from the choice of data rows; NaN where unknown.
    pub std_err_data: f64,
    /// One sample per probe; empty where no probes were drawn.
    pub samples: Vec<f64>,
    /// How it was found.
    pub method: Method,
    /// Whether the numeric error is within its tolerance.
    pub converged: bool,
    /// Products with the operator.
    pub num_matvecs: usize,
    /// The parts of the layers, which add up to the trace; empty if they are not known.
    pub layers: Vec<TracePart>,
}

/// One layer's part of a trace.
#[derive(Debug, Clone)]
pub struct TracePart {
    /// The layer.
    pub scope: Scope,
    /// The part.
    pub trace: f64,
    /// As in [`TraceSummary`].
    pub std_err_numeric: f64,
    /// As in [`TraceSummary`]; errors of parts are correlated.
    pub std_err_data: f64,
}

impl TraceSummary {
    /// The trace after an interruption.
    pub(crate) fn unknown() -> Self {
        Self {
            trace: f64::NAN,
            std_err_numeric: f64::NAN,
            std_err_data: f64::NAN,
            samples: Vec::new(),
            method: Method::None,
            converged: false,
            num_matvecs: 0,
            layers: Vec::new(),
        }
    }
}

/// How an eigenvector is distributed over the parameters.
#[derive(Debug, Clone)]
pub struct EigenvectorReport {
    /// Which end.
    pub end: End,
    /// Index at that end, from 0.
    pub index: usize,
    /// Each layer's part, in the order of the network.
    pub layers: Vec<LayerMass>,
    /// `Σ yᵢ⁴`: 1 for a single parameter, `1/n` if all `n` share equally.
    pub inverse_participation: f64,
}

/// A layer's part of an eigenvector.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerMass {
    /// Name of the layer.
    pub layer: String,
    /// `Σ yᵢ²` over it; adds up to 1 over all layers.
    pub mass: f64,
}

/// Everything that `analyze` found on one checkpoint.
#[derive(Debug, Clone)]
pub struct AnalysisReport {
    /// Name for titles and the result folder.
    pub name: String,
    /// One entry per operator asked for.
    pub spectra: Vec<SpectrumReport>,
    /// Eigenvectors by operator.
    pub eigenvectors: Vec<(Curvature, EigenvectorReport)>,
    /// Curvature against the number of rows; empty if not asked for.
    pub subset_study: SubsetStudy,
    /// Lines and planes.
    pub slices: Vec<SliceReport>,
    /// Headline numbers.
    pub summary: Vec<SummaryRow>,
    /// How loss and data were defined, in one line for captions: loss, reduction, rows, batch norm, dtype.
    pub statement: String,
    /// The resolved scientific configuration with data and checkpoint hashes: goes into every file's metadata.
    pub configuration: serde_json::Value,
}

impl AnalysisReport {
    /// A report without results.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.into(),
            spectra: Vec::new(),
            eigenvectors: Vec::new(),
            subset_study: SubsetStudy::default(),
            slices: Vec::new(),
            summary: Vec::new(),
            statement: String::new(),
            configuration: serde_json::Value::Null,
        }
    }
}
