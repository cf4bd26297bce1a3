//! A bracket for the largest eigenvalues of the population: one half of the data picks the vectors, the other measures.

use candle_core::Tensor;
use rand::Rng;

use super::EigenReport;
use super::data_error::std_errors_or_nan;
use super::eigenpairs::eigenpairs_from;
use super::pairs::EigenParams;
use super::products::Products;
use crate::observer::Observer;
use crate::operator::LinearOperator;
use crate::{Error, Result};

const METHOD: &str = "cross-fit";

/// How many eigenvalues, how well, and at what cost at most.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossFitParams {
    /// Number of largest algebraic eigenvalues.
    pub top: usize,
    /// Relative residual of each half's eigenvectors. A loose one only weakens the cross-fitted value, by its square.
    pub tolerance: f64,
    /// Products to spend at most in each half, without the `top` ones that measure.
    pub max_matvecs: usize,
    /// Bound on the basis, as in [`EigenParams`].
    pub memory_bytes: usize,
}

impl Default for CrossFitParams {
    fn default() -> Self {
        Self { top: 1, tolerance: 1e-3, max_matvecs: 200, memory_bytes: EigenParams::default().memory_bytes }
    }
}

/// Eigenvalues seen from both sides; all lists have `top` entries, largest first.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossFitReport {
    /// Mean over the halves of their own eigenvalues: biased upwards.
    pub in_sample: Vec<f64>,
    /// Its standard error from the shards of each half, at fixed vectors; NaN without shards.
    pub in_sample_std_err: Vec<f64>,
    /// Mean of `yᵀA'y` over both ways, `y` from one half and `A'` the other: biased downwards.
    pub cross_fitted: Vec<f64>,
    /// Its standard error from the shards of the measuring halves; NaN without shards.
    pub cross_fitted_std_err: Vec<f64>,
    /// Whether the eigenvectors of both halves are within the tolerance.
    pub converged: Vec<bool>,
    /// Products with either half: each costs half as much as one with all the data.
    pub num_matvecs: usize,
}

/// The `top` largest eigenvalues of two independent halves `A₁`, `A₂` of the data: in their own eyes, and in each
/// other's.
///
/// *In-sample*, `λ₁(A₁) = max yᵀA₁y`, is a maximum over the noise too: `E λ₁(A₁) ≥ λ₁(E A₁)` because `λ₁` is convex, by
/// terms of second order in the noise `Δ`, about `Σⱼ E(vⱼᵀΔv₁)²/(λ₁ − λⱼ)`. *Cross-fitted*, `yᵀA₂y` for the top eigenvector `y` of `A₁`,
/// is the Rayleigh quotient of a vector that knows nothing of `A₂`: its expectation given `A₁` is `yᵀAy ≤ λ₁(A)` of the
/// population's `A`. So the two bracket `λ₁(A)` in expectation, and the value from all rows, `λ₁((A₁ + A₂)/2)`, is
/// between the population's and the in-sample one. For the `j`-th value, `j > 1`, only the sums of the first `j` obey these
/// inequalities (Ky Fan 1949): single ones may exchange weight.
///
/// Both ways use the same data twice, but `yᵀA₂y` and `zᵀA₁z` vary with the rows that measure: their errors add as
/// independent ones, and so do those of the in-sample values. They are of first order, at fixed vectors: where the gap
/// to the next eigenvalue is not clear against the noise the vectors move as well, and the true spread is larger.
///
/// `start`, `[k, n]`, are vectors near the answer, such as the top eigenvectors of all rows; they save products and
/// change nothing else. Cost: at most `2 (max_matvecs + top)` products with halves.
///
/// # Errors
/// As [`super::eigenpairs`]; [`Error::VectorShape`] where the halves or `start` differ in dimension,
/// [`Error::Interrupted`] when the observer ends it.
pub fn cross_fit(
    halves: [&dyn LinearOperator; 2],
    params: &CrossFitParams,
    start: Option<&Tensor>,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<CrossFitReport> {
    let [first, second] = halves;
    let shapes = [Some(vec![params.top, second.dim()]), start.map(|start| start.dims().to_vec())];
    if let Some(got) = shapes.into_iter().flatten().find(|shape| shape.len() != 2 || shape[1] != first.dim()) {
        return Err(Error::VectorShape { got, dim: first.dim() });
    }
    let width = start.map_or(0, |start| start.dims()[0]);
    let eigen = EigenParams {
        top: params.top,
        bottom: 0,
        tolerance: params.tolerance,
        max_matvecs: params.max_matvecs,
        block: width.max(EigenParams::default().block),
        memory_bytes: params.memory_bytes,
    };
    let mut one_way = |own: &dyn LinearOperator, other: &dyn LinearOperator| -> Result<OneWay> {
        let in_sample = eigenpairs_from(start, own, &eigen, rng, observer)?.top;
        if in_sample.interrupted {
            return Err(Error::Interrupted);
        }
        let mut products = Products { method: METHOD, operator: other, total: params.top, num_matvecs: 0 };
        if params.top == 0 {
            return Ok(OneWay { in_sample, crossed: Vec::new(), std_errs: Vec::new() });
        }
        let images = products.of(&in_sample.vectors, observer)?;
        let std_errs = std_errors_or_nan(images.shards.as_ref(), params.top);
        Ok(OneWay { in_sample, crossed: images.forms, std_errs })
    };
    let (a, b) = (one_way(first, second)?, one_way(second, first)?);
    let pairs = |a: &[f64], b: &[f64], f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect();
    let mean = |a, b| 0.5 * (a + b);
    let error_of_mean = |a: f64, b: f64| 0.5 * a.hypot(b);
    Ok(CrossFitReport {
        in_sample: pairs(&a.in_sample.ritz_values, &b.in_sample.ritz_values, mean),
        in_sample_std_err: pairs(&a.in_sample.std_err_data, &b.in_sample.std_err_data, error_of_mean),
        cross_fitted: pairs(&a.crossed, &b.crossed, mean),
        cross_fitted_std_err: pairs(&a.std_errs, &b.std_errs, error_of_mean),
        converged: a.in_sample.converged.iter().zip(&b.in_sample.converged).map(|(a, b)| *a && *b).collect(),
        num_matvecs: a.in_sample.num_matvecs + b.in_sample.num_matvecs + 2 * params.top,
    })
}

struct OneWay {
    in_sample: EigenReport,
    crossed: Vec<f64>,
    std_errs: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream, substream};
    use crate::spectral::eigenpairs;
    use crate::spectral::testing::{Breaking, Failing, clustered_spectrum, with_spectrum};
    use candle_core::{DType, Device};
    use nalgebra::DMatrix;
    use rand_distr::{Distribution, StandardNormal};

    fn run(halves: [&dyn LinearOperator; 2], top: usize, start: Option<&Tensor>) -> CrossFitReport {
        let params = CrossFitParams { top, ..CrossFitParams::default() };
        cross_fit(halves, &params, start, &mut stream(1, Purpose::Eigenpairs), &mut ()).unwrap()
    }

    /// Covariance of rows from `N(0, diag(variances))`, in 8 shards of 10.
    fn sample(variances: &[f64], rng: &mut impl Rng) -> DenseOperator {
        let dim = variances.len();
        let shard = |rng: &mut _| {
            let rows: DMatrix<f64> = DMatrix::from_fn(dim, 10, |i, _| {
                let normal: f64 = StandardNormal.sample(rng);
                variances[i].sqrt() * normal
            });
            (10, &rows * rows.transpose() / 10.0)
        };
        DenseOperator::from_shards((0..8).map(|_| shard(rng)).collect(), DType::F64)
    }

    #[test]
    fn in_sample_and_cross_fitted_means_bracket_the_population() {
        let mut variances = vec![1.0; 20];
        variances[..3].copy_from_slice(&[8.0, 3.0, 2.0]);
        let repeats = 400;
        let (mut above, mut below, mut claimed) = (Vec::new(), Vec::new(), 0.0);
        for repeat in 0..repeats {
            let mut rng = substream(7, Purpose::Check, repeat);
            let halves = [sample(&variances, &mut rng), sample(&variances, &mut rng)];
            let report = run([&halves[0], &halves[1]], 1, None);
            above.push(report.in_sample[0] - 8.0);
            below.push(report.cross_fitted[0] - 8.0);
            claimed += report.cross_fitted_std_err[0].powi(2) / repeats as f64;
        }
        let mean_and_error = super::super::trace::mean_and_std_error;
        let ((over, over_error), (under, under_error)) = (mean_and_error(&above), mean_and_error(&below));
        assert!(over > 4.0 * over_error && under < -4.0 * under_error, "{over} {over_error} {under} {under_error}");
        // Variance of the cross-fitted value against the claim: 400 draws, relative deviation √(2/399) = 0.07. The claim is
        // of first order in a noise of relative size √(2/80) = 0.16 of the eigenvalue.
        let variance = under_error.powi(2) * repeats as f64;
        assert!((variance / claimed - 1.0).abs() < 4.0 * 0.07 + 0.16, "{}", variance / claimed);
    }

    #[test]
    fn equal_halves_agree_and_a_start_saves_products() {
        for dtype in [DType::F64, DType::F32] {
            let operator = with_spectrum(&clustered_spectrum(300), dtype, 3);
            let cold = run([&operator, &operator], 2, None);
            let exact = EigenParams { top: 2, bottom: 0, ..EigenParams::default() };
            let known = eigenpairs(&operator, &exact, &mut stream(2, Purpose::Eigenpairs), &mut ()).unwrap().top;
            let warm = run([&operator, &operator], 2, Some(&known.vectors));
            for report in [&cold, &warm] {
                for (i, exact) in [100.0, 90.0].into_iter().enumerate() {
                    // Residuals of 1e-3·100 and gaps of 10: values within 0.1²/10, whichever operator measures.
                    assert!((report.in_sample[i] - exact).abs() <= 1e-3 && report.converged[i]);
                    assert!((report.cross_fitted[i] - report.in_sample[i]).abs() <= 1e-3);
                    assert!(report.cross_fitted_std_err[i].is_nan() && report.in_sample_std_err[i].is_nan());
                }
            }
            assert!(warm.num_matvecs < cold.num_matvecs, "{} {}", warm.num_matvecs, cold.num_matvecs);
        }
    }

    #[test]
    fn halves_that_commute_have_known_values_and_errors() {
        // Half 1 prefers e₁ (5 against 2), half 2 prefers e₂ (4 against 1).
        let shard = |entries: [f64; 3]| (10, DMatrix::from_diagonal(&entries.to_vec().into()));
        let first = DenseOperator::from_shards(vec![shard([4.0, 2.0, 0.0]), shard([6.0, 2.0, 0.0])], DType::F64);
        let second = DenseOperator::from_shards(vec![shard([1.0, 4.0, 0.0]), shard([1.0, 4.0, 0.0])], DType::F64);
        let report = run([&first, &second], 1, None);
        assert!((report.in_sample[0] - 4.5).abs() < 1e-12 && (report.cross_fitted[0] - 1.5).abs() < 1e-12);
        // Shards 4 and 6: s²/2 = 1, halved for the mean of two ways. No shard differs in what crosses over.
        assert!((report.in_sample_std_err[0] - 0.5).abs() < 1e-12 && report.cross_fitted_std_err[0] < 1e-12);
    }

    #[test]
    fn misuse_is_named_and_no_pairs_are_no_error() {
        let (small, large) = (Failing::new(5, usize::MAX, false), Failing::new(6, usize::MAX, false));
        let fail = |halves: [&dyn LinearOperator; 2], top, start: Option<&Tensor>, observer: &mut dyn Observer| {
            let params = CrossFitParams { top, ..CrossFitParams::default() };
            cross_fit(halves, &params, start, &mut stream(1, Purpose::Eigenpairs), observer).unwrap_err().to_string()
        };
        let text = "vectors have shape [1, 6], but the network has 5 parameters: expected [k, 5]";
        assert_eq!(fail([&small, &large], 1, None, &mut ()), text);
        let start = Tensor::zeros((1, 6), DType::F64, &Device::Cpu).unwrap();
        assert_eq!(fail([&small, &small], 1, Some(&start), &mut ()), text);
        let text = "lanczos: top is 7, but the operator has dimension 6";
        assert_eq!(fail([&large, &large], 7, None, &mut ()), text);
        assert_eq!(fail([&large, &large], 1, None, &mut Breaking::after(2)), "interrupted");
        assert!(run([&large, &large], 0, None).in_sample.is_empty());
    }
}
