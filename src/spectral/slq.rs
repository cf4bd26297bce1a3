//! Stochastic Lanczos quadrature: the spectral measure as Gauss rules, one per random probe.

use rand::Rng;

use super::data_error::{join, mean_data_std_error};
use super::lanczos::{Krylov, Reach, lanczos};
use super::measure::FEWEST_STEPS_COMPARED;
use super::trace::mean_and_std_error;
use super::vectors::rademacher_block;
use super::{Quadrature, RuleSource, SlqReport, SpectralError, TraceReport};
use crate::observer::Observer;
use crate::operator::symmetric_eigen;
use crate::operator::{LinearOperator, ShardForms};
use crate::{Error, Result};

const METHOD: &str = "slq";

/// How many probes, how many steps each, and how much memory.
#[derive(Debug, Clone, PartialEq)]
pub struct SlqParams {
    /// Random start vectors, 2 or more.
    pub num_probes: usize,
    /// Lanczos steps per probe, from 1 to the dimension: the rule is exact for polynomials of degree `2·num_steps − 1`.
    pub num_steps: usize,
    /// Bound on the Krylov bases held at a time. Probes that do not fit run in a later group; where not even one
    /// basis fits, see [`RuleSource::ThreeTerm`].
    pub memory_bytes: usize,
}

impl Default for SlqParams {
    fn default() -> Self {
        Self { num_probes: 10, num_steps: 80, memory_bytes: 1 << 30 }
    }
}

/// Gauss rules of `Σᵢ (uᵢᵀq)² δ(λ − λᵢ)` for Rademacher probes `q = z/√n` (Golub & Welsch 1969; Ubaru, Chen & Saad
/// 2017); their mean estimates the spectral measure `(1/n) Σ δ(λ − λᵢ)`.
///
/// Nodes and weights are eigenvalues and squared first eigenvector components of each probe's tridiagonal matrix, in
/// f64. The first step gives `zᵀAz = n·α₁`, Hutchinson's trace with both its errors, at no cost. Cost:
/// `num_probes · num_steps` matvecs, groups of up to [`LinearOperator::block_size`] probes sharing each product.
/// A `Break` of the observer keeps the probes and steps made so far.
///
/// ```
/// use candle_core::DType;
/// use flatness::random::{Purpose, stream};
/// use flatness::operator::DenseOperator;
/// use flatness::spectral::{SlqParams, slq};
/// use nalgebra::{DMatrix, DVector};
///
/// # fn main() -> flatness::Result<()> {
/// let valley = DenseOperator::new(DMatrix::from_diagonal(&DVector::from_vec(vec![0.0, 0.0, 0.0, 8.0])), DType::F64);
/// let params = SlqParams { num_steps: 2, ..SlqParams::default() };
/// let report = slq(&valley, &params, &mut stream(0, Purpose::Probes), &mut ())?;
/// // Two distinct eigenvalues: after two steps the rules are exact. A quarter of the mass lies at 8.
/// let rule = &report.probes[0];
/// assert!((rule.nodes[1] - 8.0).abs() < 1e-12 && (rule.weights[1] - 0.25).abs() < 1e-12);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`SpectralError::TooFewProbes`] below 2 probes, [`SpectralError::TooMany`] for more steps than dimensions,
/// [`SpectralError::NonFinite`] at the first product that is not finite.
pub fn slq(
    operator: &dyn LinearOperator,
    params: &SlqParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<SlqReport> {
    let dim = operator.dim();
    if params.num_probes < 2 {
        return Err(SpectralError::TooFewProbes { method: METHOD, got: params.num_probes }.into());
    }
    if params.num_steps > dim {
        return Err(SpectralError::TooMany { method: METHOD, what: "num_steps", got: params.num_steps, dim }.into());
    }
    let num_steps = params.num_steps.max(1);
    let rows_that_fit = params.memory_bytes / (dim * operator.dtype().size_in_bytes());
    let together = (rows_that_fit / num_steps).clamp(1, operator.block_size().max(1));
    // Groups of equal size: a last group of one probe would share its products with nobody.
    let group = params.num_probes.div_ceil(params.num_probes.div_ceil(together));
    let window = rows_that_fit.clamp(2, num_steps.max(2));
    let mut report = Collected::default();
    while report.probes.len() < params.num_probes && !report.interrupted {
        let rows = group.min(params.num_probes - report.probes.len());
        let start = rademacher_block((rows, dim), operator.dtype(), operator.device(), rng)?;
        let reach = Reach { num_steps, window, matvecs_before: report.num_matvecs };
        match lanczos(operator, &start, &reach, observer) {
            Err(Error::Interrupted) if !report.probes.is_empty() => report.interrupted = true,
            run => {
                let run = run?;
                report.interrupted = run.interrupted;
                report.num_matvecs += run.num_matvecs;
                report.samples.extend(run.spaces.iter().map(|space| dim as f64 * space.alphas[0]));
                report.shards.push(run.first_forms);
                report.probes.extend(run.spaces.iter().map(|space| quadrature(space, space.steps())));
                report.shorter.extend(run.spaces.iter().map(|space| quadrature(space, shorter(space))));
            }
        }
    }
    // A break at the very last step cost nothing.
    let complete = |rule: &Quadrature| rule.exact || rule.nodes.len() == num_steps;
    report.interrupted &= report.probes.len() < params.num_probes || !report.probes.iter().all(complete);
    let source = if window >= num_steps { RuleSource::Lanczos } else { RuleSource::ThreeTerm };
    Ok(report.finish(dim, num_steps, source))
}

#[derive(Default)]
struct Collected {
    probes: Vec<Quadrature>,
    shorter: Vec<Quadrature>,
    samples: Vec<f64>,
    shards: Vec<Option<ShardForms>>,
    num_matvecs: usize,
    interrupted: bool,
}

impl Collected {
    fn finish(self, dim: usize, num_steps: usize, source: RuleSource) -> SlqReport {
        let (trace, std_err_numeric) = mean_and_std_error(&self.samples);
        let num_matvecs = self.samples.len();
        // Forms of unit vectors: the trace is `dim` times their mean.
        let std_err_data = dim as f64 * mean_data_std_error(join(self.shards).as_ref());
        let trace = TraceReport { trace, std_err_numeric, std_err_data, samples: self.samples, num_matvecs };
        let Self { probes, mut shorter, num_matvecs, interrupted, .. } = self;
        if probes.iter().any(|rule| !rule.exact && rule.nodes.len() < FEWEST_STEPS_COMPARED) {
            shorter.clear();
        }
        SlqReport { probes, shorter, known: [0, 0], dim, num_steps, num_matvecs, trace, source, interrupted }
    }
}

/// Of the first `steps` steps.
fn quadrature(space: &Krylov, steps: usize) -> Quadrature {
    let (nodes, vectors) = symmetric_eigen(space.tridiagonal().view((0, 0), (steps, steps)).into_owned());
    let weights = vectors.row(0).iter().map(|first| first * first).collect();
    Quadrature { nodes, weights, exact: space.closed && steps == space.steps() }
}

/// Three quarters of the steps; all of a space that closed, to which more steps add nothing.
fn shorter(space: &Krylov) -> usize {
    if space.closed { space.steps() } else { (3 * space.steps() / 4).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{Breaking, Failing, clustered_spectrum, with_spectrum};
    use candle_core::{DType, Device};
    use nalgebra::{DMatrix, DVector};

    fn run(operator: &dyn LinearOperator, num_probes: usize, num_steps: usize) -> SlqReport {
        let params = SlqParams { num_probes, num_steps, ..SlqParams::default() };
        slq(operator, &params, &mut stream(6, Purpose::Probes), &mut ()).unwrap()
    }

    #[test]
    fn the_rules_reproduce_every_moment_up_to_their_degree() {
        let spectrum: Vec<f64> = (0..40).map(|i| 2.0 * f64::from(i) / 39.0 - 1.0).collect();
        let operator = with_spectrum(&spectrum, DType::F64, 8);
        let (probes, steps) = (3, 7);
        let report = run(&operator, probes, steps);
        let starts = rademacher_block((probes, 40), DType::F64, &Device::Cpu, &mut stream(6, Purpose::Probes)).unwrap();
        for (rule, start) in report.probes.iter().zip(starts.to_vec2::<f64>().unwrap()) {
            let unit = DVector::from_vec(start) / 40.0_f64.sqrt();
            let mut power = unit.clone();
            for degree in 0..2 * steps {
                let moment: f64 =
                    rule.nodes.iter().zip(&rule.weights).map(|(node, weight)| weight * node.powi(degree as i32)).sum();
                // ‖A‖ = 1: each of up to 14 products adds at most n·ε.
                assert!((moment - unit.dot(&power)).abs() < 14.0 * 40.0 * f64::EPSILON, "degree {degree}");
                power = operator.matrix() * power;
            }
        }
        assert_eq!(report.num_matvecs, probes * steps);
    }

    #[test]
    fn a_closed_space_gives_the_spectrum_itself() {
        // Rank 2 plus zeros; then all dimensions used; then the zero operator; then n = 1 and 2.
        let mut deficient = vec![0.0; 25];
        deficient[..2].copy_from_slice(&[4.0, -1.0]);
        for (spectrum, steps, distinct) in [
            (deficient, 10, vec![-1.0, 0.0, 4.0]),
            (vec![1.0, 2.0, 3.0, 4.0, 5.0], 5, vec![1.0, 2.0, 3.0, 4.0, 5.0]),
            (vec![0.0; 12], 6, vec![0.0]),
            (vec![-3.0], 1, vec![-3.0]),
            (vec![2.0, 5.0], 2, vec![2.0, 5.0]),
        ] {
            let operator = with_spectrum(&spectrum, DType::F64, 2);
            let report = run(&operator, 4, steps);
            for rule in &report.probes {
                assert!(rule.exact);
                assert!((rule.weights.iter().sum::<f64>() - 1.0).abs() < 1e-14);
                for (node, weight) in rule.nodes.iter().zip(&rule.weights) {
                    // A probe orthogonal to an eigenvector skips it; what it sees is exact up to n·ε·‖A‖.
                    let distance = distinct.iter().map(|value| (value - node).abs()).fold(f64::INFINITY, f64::min);
                    assert!(distance < 1e-13 || *weight < 1e-20, "{node} {weight}");
                }
            }
            // One sample per probe, each exact for the weights it saw: Σ w·node = zᵀAz/n.
            let rule = &report.probes[0];
            let mean: f64 = rule.nodes.iter().zip(&rule.weights).map(|(node, weight)| node * weight).sum();
            assert!((mean * spectrum.len() as f64 - report.trace.samples[0]).abs() < 1e-11);
        }
    }

    #[test]
    fn groups_change_nothing_but_the_memory() {
        let operator = with_spectrum(&clustered_spectrum(64), DType::F32, 5);
        let with = |memory_bytes| {
            let params = SlqParams { num_probes: 5, num_steps: 12, memory_bytes };
            slq(&operator, &params, &mut stream(6, Purpose::Probes), &mut ()).unwrap()
        };
        let (all, single, short) = (with(1 << 20), with(12 * 64 * 4), with(4 * 64 * 4));
        assert_eq!(all.probes, single.probes);
        assert_eq!(all.trace.samples, single.trace.samples);
        assert_eq!([single.source, short.source], [RuleSource::Lanczos, RuleSource::ThreeTerm]);
        // Without the basis copies of converged nodes appear, but the largest stays the largest.
        let top = |report: &SlqReport| report.probes[0].nodes.last().copied().unwrap();
        assert!((top(&all) - top(&short)).abs() < 1e-4 * 100.0);
    }

    #[test]
    fn the_free_trace_carries_both_errors() {
        let shard = |value: f64| (10, DMatrix::from_diagonal_element(6, 6, value));
        let operator = DenseOperator::from_shards(vec![shard(1.0), shard(2.0), shard(6.0)], DType::F64);
        let report = run(&operator, 3, 2);
        assert!((report.trace.trace - 18.0).abs() < 1e-12 && report.trace.std_err_numeric < 1e-12);
        // Shard traces 6, 12, 36: s² = 252.
        assert!((report.trace.std_err_data - 84.0_f64.sqrt()).abs() < 1e-11);
    }

    #[test]
    fn a_few_steps_settle_nothing_unless_the_space_closes() {
        let spectrum: Vec<f64> = (0..40).map(f64::from).collect();
        for (steps, known) in [(1, false), (3, false), (4, true)] {
            let report = run(&with_spectrum(&spectrum, DType::F64, 2), 2, steps);
            assert_eq!((report.change().is_finite(), report.is_settled(1e-9)), (known, false), "{steps}");
        }
        assert!(run(&with_spectrum(&[3.0; 9], DType::F64, 2), 2, 1).is_settled(1e-9));
    }

    #[test]
    fn misuse_is_an_error_and_a_break_is_not() {
        let operator = Failing::new(9, 14, false);
        let fail = |params: &SlqParams| {
            slq(&operator, params, &mut stream(1, Purpose::Probes), &mut ()).unwrap_err().to_string()
        };
        let base = SlqParams { num_probes: 3, num_steps: 6, ..SlqParams::default() };
        assert_eq!(
            fail(&SlqParams { num_steps: 10, ..base.clone() }),
            "slq: num_steps is 10, but the operator has dimension 9"
        );
        assert_eq!(
            fail(&SlqParams { num_probes: 1, ..base.clone() }),
            "slq: 1 probes, but a standard error needs 2 or more"
        );
        assert_eq!(fail(&base), "lanczos: the product with the operator is not finite at matvec 14");
        let kept = slq(&Failing::new(9, 99, false), &base, &mut stream(1, Purpose::Probes), &mut Breaking::after(4));
        let kept = kept.unwrap();
        assert!(kept.interrupted && kept.probes.iter().all(|rule| rule.nodes.len() == 4));
        // At the last step of the first group the second one is missing; at the last step of all, nothing is.
        for (steps, probes, interrupted) in [(6, 2, true), (12, 4, false)] {
            let params = SlqParams { num_probes: 4, memory_bytes: 2 * 6 * 9 * 8, ..base.clone() };
            let mut observer = Breaking::after(steps);
            let sound = Failing::new(9, 999, false);
            let kept = slq(&sound, &params, &mut stream(1, Purpose::Probes), &mut observer).unwrap();
            assert_eq!((kept.probes.len(), kept.interrupted), (probes, interrupted));
        }
    }
}
