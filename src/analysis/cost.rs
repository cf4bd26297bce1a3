//! What a survey will cost, from one timed product and one timed gradient.

use std::time::Instant;

use candle_core::{DType, Tensor};

use super::{AnalysisOptions, EigenMethod};
use crate::curvature::{Curvature, CurvatureOperator, LinearOperator, Objective};
use crate::models::BatchNormMode;
use crate::spectral::{EigenParams, SpectralError};
use crate::{Observer, Result};

/// Basis vectors that [`crate::spectral::eigenpairs`] holds beyond the wanted ones before a restart.
const SPARE_VECTORS: usize = 150;

/// What [`super::analyze`] needs, before it runs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CostEstimate {
    /// Products with the operators, all of them: see [`typical_matvecs`].
    pub matvecs: usize,
    /// Of those, the ones spent on eigenpairs: a guess, where the others are certain.
    pub eigenpair_matvecs: usize,
    /// Of one product among [`Self::block_size`] that are taken together, as the probes' are.
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
    /// Products of the GGN, which have less to do, are counted as those of the Hessian. Eigenpairs are found with blocks
    /// of two, whose vectors cost about a fifth more than those of the probes' blocks ([`EigenParams::default`] has the
    /// measurement); that is counted. Cost: two forward passes, a gradient, and a block product.
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
        check(options, objective.dim())?;
        let theta = objective.place(theta)?;
        let started = Instant::now();
        objective.evaluate(&theta, observer)?;
        let (seconds_per_evaluation, _) = timed(|| objective.evaluate(&theta, observer))?;
        let (seconds_per_gradient, _) = timed(|| objective.gradient(&theta, observer))?;
        let operator = CurvatureOperator::new(objective, &theta, Curvature::Hessian)?;
        let block_size = operator.block_size().min(options.num_probes);
        // Which vectors they are takes no time.
        let block = Tensor::ones((block_size, objective.dim()), operator.dtype(), operator.device())?;
        let (seconds, product) = timed(|| operator.apply(&block, observer))?;
        if !product.block.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite() {
            return Err(SpectralError::NonFinite { method: "estimate", matvec: 1 }.into());
        }
        let seconds_per_matvec = seconds / block_size as f64;
        let (eigenpair_matvecs, probe_matvecs) = typical_matvecs(options, objective.dim());
        let evaluations = evaluations(options);
        let slower = if block_size > EigenParams::default().block { PAIR_OVERHEAD } else { 1.0 };
        Ok(Self {
            matvecs: eigenpair_matvecs.saturating_add(probe_matvecs),
            eigenpair_matvecs,
            seconds_per_matvec,
            block_size,
            seconds_per_gradient,
            evaluations,
            seconds_per_evaluation,
            seconds: seconds_per_gradient
                + seconds_per_matvec * (slower * eigenpair_matvecs as f64 + probe_matvecs as f64)
                + seconds_per_evaluation * evaluations as f64,
            measuring_seconds: started.elapsed().as_secs_f64(),
            memory_bytes: memory_bytes(objective, options),
        })
    }
}

/// Cost of a vector in a product of two over that in a product of eight.
const PAIR_OVERHEAD: f64 = 1.19;

/// Products that eigenpairs typically take, and those of the probes, over all operators of `options` in dimension `dim`.
///
/// `5 (top + bottom) + 20` for the pairs of an operator, where the spectrum is like a network's (see
/// [`crate::spectral::eigenpairs`]), never more than `max_matvecs` nor than the whole space and a closing product; power
/// iteration takes what it may. `num_probes · num_steps` for trace and density.
pub fn typical_matvecs(options: &AnalysisOptions, dim: usize) -> (usize, usize) {
    let wanted = options.top.saturating_add(options.bottom).min(dim);
    let most = options.max_matvecs.max(2 * wanted);
    let pairs = match options.method {
        _ if wanted == 0 => 0,
        EigenMethod::Lanczos => (5 * wanted + 20).min(dim + wanted).min(most),
        EigenMethod::Power => most,
    };
    let each = |matvecs: usize| matvecs.saturating_mul(options.operators.len());
    (each(pairs), each(options.num_probes.saturating_mul(options.num_steps.clamp(1, dim.max(1)))))
}

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

/// The larger of the needs of eigenpairs and of probes.
fn memory_bytes(objective: &Objective<'_>, options: &AnalysisOptions) -> usize {
    let (dim, element) = (objective.dim(), objective.options().dtype.size_in_bytes());
    let execution = objective.options().execution;
    // As `analyze` divides it.
    let for_bases = execution.memory_bytes / 2 / (dim * element).max(1);
    let wanted = options.top + options.bottom;
    let pair_vectors = (5 * wanted + 20).min(wanted + SPARE_VECTORS).min(dim).min(for_bases.max(wanted));
    let block = objective.block_size().min(options.num_probes);
    let steps = options.num_steps.clamp(1, dim.max(1));
    let probe_vectors = (block * steps).min(for_bases.max(2 * block));
    let pairs = bytes_of_product(objective, EigenParams::default().block) + pair_vectors * dim * element;
    let probes = bytes_of_product(objective, block) + probe_vectors * dim * element;
    // The parameters, and the gradient beside them.
    2 * dim * element + if wanted > 0 { pairs.max(probes) } else { probes }
}

/// Vectors, their products and the sum in f64; for each worker a micro-batch with its activations, and a gradient.
fn bytes_of_product(objective: &Objective<'_>, directions: usize) -> usize {
    let (dim, element) = (objective.dim(), objective.options().dtype.size_in_bytes());
    let execution = objective.options().execution;
    let has_batch_norm = objective.network().architecture.has_batch_norm();
    let whole_batch = objective.options().batch_norm == BatchNormMode::Train && has_batch_norm;
    let rows =
        if whole_batch { objective.num_rows() } else { objective.micro_batch(directions).min(objective.num_rows()) };
    let each = element * (1 + directions) * (dim + rows * objective.cost().activations);
    let workers = if whole_batch { 1 } else { execution.threads.min(execution.memory_bytes / each.max(1)).max(1) };
    directions * dim * (2 * element + 8) + workers * each
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::OperatorKind;

    #[test]
    fn the_typical_count_is_five_a_pair_and_twenty_more_within_its_bounds() {
        let options = AnalysisOptions::default();
        assert_eq!(typical_matvecs(&options, 1_000_000), (5 * 8 + 20, 8 * 32));
        let both = AnalysisOptions { operators: vec![OperatorKind::Hessian, OperatorKind::Ggn], ..options.clone() };
        assert_eq!(typical_matvecs(&both, 1_000_000), (120, 512));
        // Never more than the whole space and a closing product; steps as many as dimensions.
        assert_eq!(typical_matvecs(&options, 21), (21 + 8, 8 * 21));
        let capped = AnalysisOptions { max_matvecs: 30, ..options.clone() };
        assert_eq!(typical_matvecs(&capped, 1_000_000).0, 30);
        let power = AnalysisOptions { method: EigenMethod::Power, ..options.clone() };
        assert_eq!(typical_matvecs(&power, 1_000_000).0, 1_000);
        let none = AnalysisOptions { top: 0, bottom: 0, ..options };
        assert_eq!(typical_matvecs(&none, 1_000_000), (0, 256));
    }

    #[test]
    fn slices_and_plane_are_counted() {
        assert_eq!(evaluations(&AnalysisOptions::default()), 21 * (5 + 2) + 15 * 15);
    }
}
