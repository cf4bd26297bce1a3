//! What a survey will cost, from one timed product and one timed gradient.

use std::time::Instant;

use candle_core::{DType, Tensor};

use super::GramSize;
use super::spectrum::basis_bytes;
use crate::curvature::{Curvature, CurvatureOperator, ExactParams};
use crate::objective::Objective;
use crate::operator::LinearOperator;
use crate::plan::{AnalysisOptions, EigenMethod};
use crate::spectral::{DenseReport, SpectralError};
use crate::{Observer, Result};

/// What [`super::analyze`] needs, before it runs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CostEstimate {
    /// Products with the operators, all of them: see [`typical_matvecs`].
    pub matvecs: usize,
    /// Of one product among [`Self::block_size`] that are taken together, as the survey's are.
    pub seconds_per_matvec: f64,
    /// Vectors in the timed product.
    pub block_size: usize,
    /// Of one gradient.
    pub seconds_per_gradient: f64,
    /// Forward passes for slices and plane.
    pub evaluations: usize,
    /// Of one forward pass over the rows.
    pub seconds_per_evaluation: f64,
    /// Of the whole survey.
    pub seconds: f64,
    /// Of the timings themselves.
    pub measuring_seconds: f64,
    /// Largest total of parameters, sums, micro-batches and Krylov bases held at a time; the program itself, the data
    /// and the allocator's reserve come on top.
    pub memory_bytes: usize,
}

impl CostEstimate {
    /// Times one forward pass, one gradient and one block product of the Hessian at `theta`, after an untimed forward
    /// pass that wakes threads and caches.
    ///
    /// Products of the GGN, which have less to do, are counted as those of the Hessian; an exact trace as one gradient
    /// for each output. Cost: two forward passes, a gradient, and a block product.
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
        let matvecs = typical_matvecs(options, dim);
        let evaluations = evaluations(options);
        let grams = gram_sizes(objective, options)?;
        let backward = 1 + exact_traces(options) * ExactParams::default().max_columns.min(objective.cost().outputs);
        let gradients = backward as f64 + grams.iter().map(|size| size.gradients(objective.num_rows())).sum::<f64>();
        Ok(Self {
            matvecs,
            seconds_per_matvec,
            block_size,
            seconds_per_gradient,
            evaluations,
            seconds_per_evaluation,
            seconds: seconds_per_gradient * gradients
                + algebra_seconds(options, &grams, dim)
                + seconds_per_matvec * matvecs as f64
                + seconds_per_evaluation * evaluations as f64,
            measuring_seconds: started.elapsed().as_secs_f64(),
            memory_bytes: memory_bytes(objective, (options, &grams), dim),
        })
    }
}

/// Products that the surveys typically take, over all operators of `options` in dimension `dim`.
///
/// A survey ends when both its pairs and its density are done: `6 (top + bottom) + 30` products for the pairs where the
/// spectrum is like a network's, `num_probes · num_steps` for the density, whichever is more; then a closing product for
/// each pair, and two before everything for the guard. Never more than `max_matvecs`; power iteration takes what it may. The
/// matrix itself takes `dim` products in place of those for pairs and density, a Gram matrix none.
/// Cross-fitting and each size of a subset study are counted with what they took on a ResNet-20.
pub fn typical_matvecs(options: &AnalysisOptions, dim: usize) -> usize {
    let wanted = options.top.saturating_add(options.bottom).min(dim);
    let pairs = if wanted == 0 { 0 } else { 6 * wanted + 30 };
    let density = options.num_probes.saturating_mul(options.num_steps);
    let by_method = match options.method {
        EigenMethod::Lanczos | EigenMethod::Auto | EigenMethod::Gram => {
            (2 + pairs.max(density).min(dim)).saturating_add(wanted).min(options.budget())
        }
        EigenMethod::Power => options.budget().saturating_add(density),
        EigenMethod::Dense => 2 + dim + wanted,
    };
    let crossed = if options.cross_fit && options.top > 0 { CROSS_FIT } else { 0 };
    let studied = if options.subset_study { SUBSET_STUDY } else { 0 };
    let of = |kind| if options.gram.contains(kind) { 2 + wanted } else { by_method };
    let each = options.operators.iter().map(|kind| of(kind).saturating_add(crossed));
    each.fold(studied, usize::saturating_add)
}

/// The Gram matrices that will be made.
fn gram_sizes(objective: &Objective<'_>, options: &AnalysisOptions) -> Result<Vec<GramSize>> {
    let sizes = options.gram.iter().map(|&kind| GramSize::of(objective, kind, options));
    Ok(sizes.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Exact traces: with the matrix at hand, its diagonal serves.
fn exact_traces(options: &AnalysisOptions) -> usize {
    let exact = |kind: &&Curvature| matches!(kind, Curvature::Hessian | Curvature::Ggn) && !options.gram.contains(kind);
    if options.method == EigenMethod::Dense { 0 } else { options.operators.iter().filter(exact).count() }
}

/// Of what is done with matrices once their rows are there.
fn algebra_seconds(options: &AnalysisOptions, grams: &[GramSize], dim: usize) -> f64 {
    let matrices = if options.method == EigenMethod::Dense { options.operators.len() - grams.len() } else { 0 };
    let of_gram = |size: &GramSize| decomposition_seconds(size.rows) + product_seconds(size.rows, dim);
    decomposition_seconds(dim) * matrices as f64 + grams.iter().map(of_gram).sum::<f64>()
}

/// All eigenvalues of a matrix in memory: 0.3 s for a dimension of 1,000, 20 s for 4,096, on one thread.
fn decomposition_seconds(dim: usize) -> f64 {
    3e-10 * (dim as f64).powi(3)
}

/// The products of all pairs of `rows` vectors: 40 s for 5,000 of 270,000 numbers, on one thread.
fn product_seconds(rows: usize, dim: usize) -> f64 {
    6e-12 * (rows as f64).powi(2) * dim as f64
}

/// Products with all rows that equal those with the halves.
const CROSS_FIT: usize = 13;
/// Products over five sizes of subsets.
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

/// Parameters and gradient, the basis of a survey with its copy at a restart, and a block product.
fn memory_bytes(objective: &Objective<'_>, (options, grams): (&AnalysisOptions, &[GramSize]), dim: usize) -> usize {
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
