//! What a survey will cost, from one timed product and one timed gradient.

use std::time::Instant;

use candle_core::{DType, Tensor};

use super::GramSize;
use super::memory::basis_bytes;
use crate::curvature::{Curvature, CurvatureOperator, ExactParams};
use crate::objective::Objective;
use crate::operator::LinearOperator;
use crate::plan::{AnalysisOptions, EigenMethod};
use crate::spectral::{DenseReport, SpectralError};
use crate::{Observer, Result};

/// What an analysis will need.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CostEstimate {
    /// Products with all operators together: see [`typical_matvecs`]; and as many as a trace may take.
    pub matvecs: usize,
    /// Seconds of the survey of one operator.
    pub survey_seconds: f64,
    /// Seconds of one product, when [`Self::block_size`] are computed together as in the survey.
    pub seconds_per_matvec: f64,
    /// Number of vectors in the timed block product.
    pub block_size: usize,
    /// Seconds of one gradient.
    pub seconds_per_gradient: f64,
    /// Number of forward passes for slices and plane.
    pub evaluations: usize,
    /// Seconds of one forward pass over the rows.
    pub seconds_per_evaluation: f64,
    /// Seconds of the whole analysis.
    pub seconds: f64,
    /// Seconds that this estimate took.
    pub measuring_seconds: f64,
    /// Peak memory of parameters, sums, micro-batches and Krylov bases together; the program itself, the data and the
    /// allocator's reserve are not included.
    pub memory_bytes: usize,
}

impl CostEstimate {
    /// Times one forward pass, one gradient and one block product of the Hessian at `theta`, after an untimed forward
    /// pass that warms up threads and caches.
    ///
    /// Products of the GGN, which are cheaper, are counted like those of the Hessian, and an exact trace as one gradient per
    /// output. Cost: two forward passes, a gradient, and a block product.
    ///
    /// # Errors
    /// [`SpectralError::TooMany`] for more eigenpairs than parameters, [`SpectralError::TooFewProbes`] below 2 probes; a
    /// loss or product that is not finite; an interruption.
    pub fn measure(
        objective: &Objective<'_>,
        theta: &Tensor,
        options: &AnalysisOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let dim = options.dim(objective.network().space())?;
        check(options, dim)?;
        let theta = objective.place(theta)?;
        let started = Instant::now();
        objective.evaluate(&theta, observer)?;
        let (seconds_per_evaluation, _) = timed(|| objective.evaluate(&theta, observer))?;
        let (seconds_per_gradient, _) = timed(|| objective.gradient(&theta, observer))?;
        let operator = CurvatureOperator::new(objective, &theta, Curvature::Hessian)?;
        let block_size = operator.block_size().min(options.num_probes);
        // Which vectors they are takes no time.
        let block = Tensor::ones((block_size, objective.dim()), operator.dtype(), operator.device())?;
        let (seconds, product) = timed(|| operator.multiply(&block, observer))?;
        if !product.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite() {
            return Err(SpectralError::NonFinite { method: "estimate", matvec: 1 }.into());
        }
        let seconds_per_matvec = seconds / block_size as f64;
        let matvecs = typical_matvecs(options, dim).saturating_add(trace_matvecs(objective, options, dim));
        let evaluations = evaluations(options);
        let grams = gram_sizes(objective, options)?;
        let backward = 1 + exact_traces(options) * ExactParams::default().max_columns.min(objective.cost().outputs);
        let gradients = backward as f64 + grams.iter().map(|size| size.gradients(objective.num_rows())).sum::<f64>();
        let seconds = seconds_per_gradient * gradients
            + algebra_seconds(options, &grams, dim)
            + seconds_per_matvec * matvecs as f64
            + seconds_per_evaluation * evaluations as f64;
        Ok(Self {
            survey_seconds: seconds_per_matvec * survey_matvecs(options, dim) as f64,
            matvecs,
            seconds_per_matvec,
            block_size,
            seconds_per_gradient,
            evaluations,
            seconds_per_evaluation,
            seconds,
            measuring_seconds: started.elapsed().as_secs_f64(),
            memory_bytes: memory_bytes(objective, options, &grams, dim),
        })
    }
}

impl CostEstimate {
    /// The time of one survey when the whole analysis has `max_time_s`: the share that it has without a limit. What follows
    /// a survey that time ended has as many products as that, so it shrinks alike.
    pub fn survey_time_s(&self, max_time_s: f64) -> f64 {
        let left = (max_time_s - self.measuring_seconds).max(0.0);
        left * (self.survey_seconds / self.seconds).clamp(0.0, 1.0)
    }
}

/// Products that the surveys typically take, over all operators of `options` in dimension `dim`.
///
/// A survey ends when both its pairs and its density have converged: `6 (top + bottom) + 30` products for the pairs of a
/// typical network's spectrum, or `num_probes · num_steps` for the density, whichever is more; then a closing product for
/// each pair, and two at the start to test the operator. There are never more than `max_matvecs`, which power iteration may
/// use up. The dense matrix takes `dim` products instead of those for pairs and density, a Gram matrix none. Cross-fitting
/// and each size of a subset study are counted with the products that they took on a ResNet-20.
pub fn typical_matvecs(options: &AnalysisOptions, dim: usize) -> usize {
    let wanted = options.top.saturating_add(options.bottom).min(dim);
    let by_method = survey_matvecs(options, dim);
    let crossed = if options.cross_fit && options.top > 0 { CROSS_FIT } else { 0 };
    let studied = if options.subset_study { SUBSET_STUDY } else { 0 };
    let of = |kind| if options.gram.contains(kind) { 2 + wanted } else { by_method };
    let each = options.operators.iter().map(|kind| of(kind).saturating_add(crossed));
    each.fold(studied, usize::saturating_add)
}

/// Vectors in the basis of a survey that does not restart.
pub(super) fn basis_rows(options: &AnalysisOptions, dim: usize) -> usize {
    let wanted = options.top.saturating_add(options.bottom).min(dim);
    let pairs = if wanted == 0 { 0 } else { 6 * wanted + 30 };
    pairs.max(density_matvecs(options)).min(dim)
}

fn density_matvecs(options: &AnalysisOptions) -> usize {
    options.num_probes.saturating_mul(options.num_steps)
}

/// Products of one survey.
fn survey_matvecs(options: &AnalysisOptions, dim: usize) -> usize {
    let wanted = options.top.saturating_add(options.bottom).min(dim);
    let density = density_matvecs(options);
    match options.method {
        EigenMethod::Lanczos | EigenMethod::Auto | EigenMethod::Gram => {
            (2 + basis_rows(options, dim)).saturating_add(wanted).min(options.budget())
        }
        EigenMethod::Power => options.budget().saturating_add(density),
        EigenMethod::Dense => 2 + dim + wanted,
    }
}

/// Products that traces may take: none where a trace is exact, or comes with the spectrum.
fn trace_matvecs(objective: &Objective<'_>, options: &AnalysisOptions, dim: usize) -> usize {
    let is_exact = |kind| kind == Curvature::Ggn || kind == Curvature::Hessian && objective.diagonal_is_hessian();
    let takes_probes =
        |kind: &&Curvature| options.method != EigenMethod::Dense && !options.gram.contains(kind) && !is_exact(**kind);
    let survey = survey_matvecs(options, dim);
    let each = options.budget().saturating_sub(survey).min(options.trace_matvecs.unwrap_or(survey));
    options.operators.iter().filter(takes_probes).count().saturating_mul(each)
}

/// The Gram matrices that will be made.
fn gram_sizes(objective: &Objective<'_>, options: &AnalysisOptions) -> Result<Vec<GramSize>> {
    let sizes = options.gram.iter().map(|&kind| GramSize::of(objective, kind, options));
    Ok(sizes.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Number of exact traces; a dense matrix gives its trace by its diagonal.
fn exact_traces(options: &AnalysisOptions) -> usize {
    let exact = |kind: &&Curvature| matches!(kind, Curvature::Hessian | Curvature::Ggn) && !options.gram.contains(kind);
    if options.method == EigenMethod::Dense { 0 } else { options.operators.iter().filter(exact).count() }
}

/// Seconds of the decompositions of matrices, once their rows are computed.
fn algebra_seconds(options: &AnalysisOptions, grams: &[GramSize], dim: usize) -> f64 {
    let matrices = if options.method == EigenMethod::Dense { options.operators.len() - grams.len() } else { 0 };
    let of_gram = |size: &GramSize| decomposition_seconds(size.rows) + product_seconds(size.rows, dim);
    decomposition_seconds(dim) * matrices as f64 + grams.iter().map(of_gram).sum::<f64>()
}

/// Seconds of all eigenvalues of a matrix in memory: 0.3 for a dimension of 1,000, 20 for 4,096, on one thread.
fn decomposition_seconds(dim: usize) -> f64 {
    3e-10 * (dim as f64).powi(3)
}

/// Seconds of the inner products of all pairs of `rows` vectors: 40 for 5,000 vectors of 270,000 numbers, on one thread.
fn product_seconds(rows: usize, dim: usize) -> f64 {
    6e-12 * (rows as f64).powi(2) * dim as f64
}

/// Products of cross-fitting, as products with all rows.
const CROSS_FIT: usize = 13;
/// Products of a subset study of five sizes.
const SUBSET_STUDY: usize = 5 * 17;

/// Forward passes of slices and plane.
fn evaluations(options: &AnalysisOptions) -> usize {
    let along = if options.operators.is_empty() { 0 } else { options.top };
    options.slice_points * (along + options.random_lines) + options.plane_points * options.plane_points
}

fn check(options: &AnalysisOptions, dim: usize) -> Result<()> {
    let wanted = options.top.saturating_add(options.bottom);
    if wanted > dim {
        return Err(SpectralError::TooMany { method: "estimate", what: "top + bottom", got: wanted, dim }.into());
    }
    if options.num_probes < 2 {
        return Err(SpectralError::TooFewProbes { method: "estimate", got: options.num_probes }.into());
    }
    Ok(())
}

fn timed<R>(work: impl FnOnce() -> Result<R>) -> Result<(f64, R)> {
    let started = Instant::now();
    let result = work()?;
    Ok((started.elapsed().as_secs_f64(), result))
}

/// Memory of parameters and gradient, of the Krylov basis, and of a block product.
fn memory_bytes(objective: &Objective<'_>, options: &AnalysisOptions, grams: &[GramSize], dim: usize) -> usize {
    let element = objective.options().dtype.size_in_bytes();
    let gram = grams.iter().filter_map(|size| size.blocks).map(|blocks| blocks.memory_bytes).max().unwrap_or(0);
    if grams.len() == options.operators.len() {
        return 2 * objective.dim() * element + gram + objective.product_bytes(1);
    }
    if options.method == EigenMethod::Dense {
        let block = objective.block_size();
        return 2 * objective.dim() * element
            + DenseReport::memory_bytes(dim).max(gram)
            + objective.product_bytes(block);
    }
    let for_bases = basis_bytes(objective) / (dim * element).max(1);
    let wanted = options.top + options.bottom;
    let one = AnalysisOptions { operators: vec![Curvature::Hessian], gram: Vec::new(), ..options.clone() };
    let basis = typical_matvecs(&one, dim).min(dim).min(for_bases.max(wanted + options.num_probes));
    let block = objective.block_size().min(options.num_probes);
    2 * dim * element + (basis * dim * element).max(gram) + objective.product_bytes(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_typical_count_is_that_of_pairs_or_density_within_its_bounds() {
        let plain = AnalysisOptions { cross_fit: false, ..AnalysisOptions::default() };
        let options = AnalysisOptions { top: 5, bottom: 3, num_probes: 4, num_steps: 32, ..plain };
        assert_eq!(typical_matvecs(&options, 1_000_000), 2 + 4 * 32 + 8);
        let both = AnalysisOptions { operators: vec![Curvature::Hessian, Curvature::Ggn], ..options.clone() };
        assert_eq!(typical_matvecs(&both, 1_000_000), 2 * 138);
        let pairs = AnalysisOptions { top: 30, ..options.clone() };
        assert_eq!(typical_matvecs(&pairs, 1_000_000), 2 + 6 * 33 + 30 + 33);
        let crossed = AnalysisOptions { cross_fit: true, ..options.clone() };
        assert_eq!(typical_matvecs(&crossed, 1_000_000), 138 + 13);
        // Never more than the whole space and a closing product.
        assert_eq!(typical_matvecs(&options, 21), 2 + 21 + 8);
        let capped = AnalysisOptions { max_matvecs: Some(30), ..options.clone() };
        assert_eq!(typical_matvecs(&capped, 1_000_000), 30);
        // As many as the matrix has rows, whatever the budget of a survey.
        let dense = AnalysisOptions { method: EigenMethod::Dense, ..options.clone() };
        assert_eq!(typical_matvecs(&dense, 2_000), 2 + 2_000 + 8);
        // A Gram matrix takes the guard's products and those that measure the pairs.
        let gram = AnalysisOptions { gram: vec![Curvature::Ggn], ..both };
        assert_eq!(typical_matvecs(&gram, 1_000_000), 138 + 10);
        let power = AnalysisOptions { method: EigenMethod::Power, ..options };
        assert_eq!(typical_matvecs(&power, 1_000_000), 1_000 + 128);
    }

    #[test]
    fn slices_and_plane_are_counted() {
        assert_eq!(evaluations(&AnalysisOptions::default()), 21 * (5 + 2) + 25 * 25);
    }
}
