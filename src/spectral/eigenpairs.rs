//! Both ends of a spectrum in one run, with true residuals and data errors.

use candle_core::Tensor;
use rand::Rng;

use super::pairs::{EigenParams, EigenpairsReport, check_counts};
use super::search::{METHOD, SPARE_ROWS, Search};
use crate::observer::Observer;
use crate::operator::LinearOperator;
use crate::{Error, Result};

/// The `top` largest and `bottom` smallest eigenvalues of `A` with unit eigenvectors, by thick-restart block Lanczos
/// (Wu & Simon 2000) in Krylov–Schur form (Stewart 2001), from a random normal block.
///
/// The basis is orthogonalised in at least two passes with sums in f64. When it is full it shrinks to the Ritz vectors
/// nearest both ends; converged ones stay in it, so nothing is found twice. When a Krylov space closes (repeated
/// eigenvalues, low rank), random directions fill it up, and a result counts only once these have been followed as far
/// and left it unchanged. With `n` within the basis the whole space is spanned and all pairs are exact.
///
/// One closing product on the accepted vectors gives what is reported: `θ = yᵀAy`, the true residual norm `‖A y − θ y‖`,
/// and the standard error over data shards at fixed `y` ([`super::data_std_errors`]). Signs: the entry of largest
/// magnitude is positive. Cost: at most `max_matvecs` products, and `4 m n` multiplications per product for a basis of
/// `m` vectors. Errors: each `θ` lies within its residual norm `r` of an eigenvalue, and within `r²/gap` where the gap
/// to the others is known.
///
/// Not converged within `max_matvecs` is data: see [`super::EigenReport::converged`]. A `Break` of the observer keeps the Ritz
/// pairs of the moment, without closing product: [`super::EigenReport::interrupted`].
///
/// ```
/// use candle_core::DType;
/// use flatness::random::{Purpose, stream};
/// use flatness::operator::DenseOperator;
/// use flatness::spectral::{EigenParams, eigenpairs};
/// use nalgebra::DMatrix;
///
/// # fn main() -> flatness::Result<()> {
/// // A saddle: curvature 3 along one diagonal, −1 along the other.
/// let saddle = DenseOperator::new(DMatrix::from_row_slice(2, 2, &[1.0, 2.0, 2.0, 1.0]), DType::F64);
/// let params = EigenParams { top: 1, bottom: 1, ..EigenParams::default() };
/// let report = eigenpairs(&saddle, &params, &mut stream(0, Purpose::Eigenpairs), &mut ())?;
/// assert!((report.top.ritz_values[0] - 3.0).abs() < 1e-14);
/// assert!((report.bottom.ritz_values[0] + 1.0).abs() < 1e-14);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`super::SpectralError::TooMany`] if `top`, `bottom` or their sum exceeds the dimension, [`super::SpectralError::NonFinite`] at
/// the first product that is not finite, [`Error::Interrupted`] before the basis holds `top + bottom` vectors.
pub fn eigenpairs(
    operator: &dyn LinearOperator,
    params: &EigenParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<EigenpairsReport> {
    eigenpairs_from(None, operator, params, rng, observer)
}

/// As [`eigenpairs`] from the rows of `start`, `[k, n]`, and random vectors up to the block: few products where `start`
/// is close to the answer. Blocks are then at least as wide as `start`.
///
/// # Errors
/// As [`eigenpairs`].
pub fn eigenpairs_from(
    start: Option<&Tensor>,
    operator: &dyn LinearOperator,
    params: &EigenParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<EigenpairsReport> {
    check_counts(METHOD, params.top, params.bottom, operator.dim())?;
    let mut search = Search::new(operator, params, SPARE_ROWS, start, rng)?;
    loop {
        if search.is_full() {
            search.restart()?;
        }
        match search.step(rng, observer) {
            Err(Error::Interrupted) if search.is_enough() => return search.finish(true, observer),
            result => result?,
        }
        let stop = search.announce(0, observer);
        let done = search.is_done();
        let spent = search.next_matvecs() > params.max_matvecs;
        if done || search.is_enough() && (spent || stop) {
            return search.finish(stop && !done && !spent, observer);
        }
        if stop {
            return Err(Error::Interrupted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{Breaking, Failing, assert_pairs, clustered_spectrum, with_spectrum};
    use candle_core::DType;
    use nalgebra::DMatrix;

    fn run(operator: &dyn LinearOperator, params: &EigenParams) -> EigenpairsReport {
        eigenpairs(operator, params, &mut stream(3, Purpose::Eigenpairs), &mut ()).unwrap()
    }

    fn ends_of(top: usize, bottom: usize) -> EigenParams {
        EigenParams { top, bottom, ..EigenParams::default() }
    }

    #[test]
    fn both_ends_match_known_spectra_in_both_precisions() {
        let mut repeated = vec![1.0; 40];
        repeated[..6].copy_from_slice(&[5.0, 5.0, 5.0, -2.0, -2.0, -2.0]);
        let mut deficient = vec![0.0; 50];
        deficient[..3].copy_from_slice(&[7.0, 3.0, -1.0]);
        let uniform: Vec<f64> = (0..90).map(|i| f64::from(i) / 89.0).collect();
        for (spectrum, top, bottom) in [
            (clustered_spectrum(80), 3, 2),
            (repeated, 4, 4),
            (deficient, 3, 2),
            (uniform, 5, 3),
            (vec![0.0; 30], 2, 2),
            (vec![4.0; 30], 5, 0),
            (vec![-3.0], 1, 0),
            (vec![2.0, 5.0], 1, 1),
            (vec![1.0, 1.0, 2.0, 3.0, 3.0], 3, 2),
        ] {
            for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-5)] {
                let operator = with_spectrum(&spectrum, dtype, 4);
                let report = run(&operator, &EigenParams { tolerance, ..ends_of(top, bottom) });
                assert_pairs(&operator, &spectrum, &report, tolerance);
            }
        }
    }

    #[test]
    fn restarts_in_little_memory_find_the_same_pairs() {
        // Bulk in [−1, 1], ten outliers up to 200, a tail to −20: the shape of a network's Hessian.
        let mut spectrum: Vec<f64> = (0..400).map(|i| (f64::from(i) * 0.7).sin()).collect();
        (0..10).for_each(|i| spectrum[i] = 200.0 / (1.0 + 0.5 * i as f64));
        (10..15).for_each(|i| spectrum[i] = -20.0 / (i - 9) as f64);
        for dtype in [DType::F64, DType::F32] {
            let operator = with_spectrum(&spectrum, dtype, 6);
            let vector_bytes = 400 * dtype.size_in_bytes();
            for rows in [1, 30, 60] {
                let params = EigenParams { memory_bytes: rows * vector_bytes, ..ends_of(6, 3) };
                assert_pairs(&operator, &spectrum, &run(&operator, &params), params.tolerance);
            }
        }
    }

    #[test]
    fn equal_bits_on_one_thread_and_on_three() {
        let operator = with_spectrum(&clustered_spectrum(300), DType::F32, 2);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let report = pool.install(|| run(&operator, &ends_of(3, 1)));
            (report.top.ritz_values, report.top.vectors.to_vec2::<f32>().unwrap())
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn what_has_not_converged_is_marked_and_measured() {
        let spectrum: Vec<f64> = (0..300).map(|i| f64::from(i).sqrt()).collect();
        let operator = with_spectrum(&spectrum, DType::F64, 2);
        let report = run(&operator, &EigenParams { max_matvecs: 30, ..ends_of(4, 2) });
        assert!(report.top.num_matvecs <= 30);
        assert!(report.top.converged.iter().any(|converged| !converged));
        for (value, residual) in report.top.ritz_values.iter().zip(&report.top.residual_norms) {
            // Some eigenvalue lies within the residual norm (Bauer & Fike), and rounding n·ε·‖A‖.
            let distance = spectrum.iter().map(|exact| (exact - value).abs()).fold(f64::INFINITY, f64::min);
            assert!(distance <= residual + 300.0 * f64::EPSILON * 17.3);
        }
    }

    #[test]
    fn the_data_error_is_the_spread_of_the_shards() {
        let eigenvectors = with_spectrum(&[1.0, 2.0, 3.0, 4.0], DType::F64, 1);
        let (_, basis) = crate::operator::symmetric_eigen(eigenvectors.matrix().clone());
        // Shards that commute: yᵀA_s y is the shard's own eigenvalue.
        let shard = |rows: usize, top: f64| {
            (rows, &basis * DMatrix::from_diagonal(&vec![-1.0, 0.0, 1.0, top].into()) * basis.transpose())
        };
        let operator = DenseOperator::from_shards(vec![shard(5, 7.0), shard(5, 8.0), shard(5, 12.0)], DType::F64);
        let report = run(&operator, &ends_of(1, 1));
        assert!((report.top.ritz_values[0] - 9.0).abs() < 1e-13);
        // s² = (4 + 1 + 9)/2 = 7, standard error √(7/3).
        assert!((report.top.std_err_data[0] - (7.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!(report.bottom.std_err_data[0] < 1e-12);
    }

    #[test]
    fn misuse_and_bad_products_are_named() {
        let fail = |operator: &Failing, params: &EigenParams| {
            eigenpairs(operator, params, &mut stream(1, Purpose::Eigenpairs), &mut ()).unwrap_err()
        };
        let sound = Failing::new(6, usize::MAX, false);
        for (top, bottom, text) in [
            (7, 0, "lanczos: top is 7, but the operator has dimension 6"),
            (0, 8, "lanczos: bottom is 8, but the operator has dimension 6"),
            (4, 3, "lanczos: top + bottom is 7, but the operator has dimension 6"),
        ] {
            assert_eq!(fail(&sound, &ends_of(top, bottom)).to_string(), text);
        }
        assert_eq!(
            fail(&Failing::new(60, 13, false), &ends_of(4, 3)).to_string(),
            "lanczos: the product with the operator is not finite at matvec 13"
        );
        assert!(matches!(fail(&Failing::new(60, 5, true), &ends_of(4, 3)), Error::Interrupted));
    }

    #[test]
    fn a_break_keeps_the_ritz_pairs_of_the_moment() {
        let sound = Failing::new(200, usize::MAX, false);
        let run = |operator: &Failing, observer: &mut dyn Observer| {
            eigenpairs(operator, &ends_of(3, 1), &mut stream(1, Purpose::Eigenpairs), observer)
        };
        assert!(matches!(run(&sound, &mut Breaking::after(1)), Err(Error::Interrupted)));
        for report in
            [run(&sound, &mut Breaking::after(5)).unwrap(), run(&Failing::new(200, 11, true), &mut ()).unwrap()]
        {
            assert!(report.top.interrupted && report.bottom.interrupted);
            assert_eq!((report.top.num_matvecs, report.top.ritz_values.len()), (10, 3));
            assert!(report.top.std_err_data[0].is_nan() && report.top.residual_norms[0] > 0.0);
        }
    }

    #[test]
    fn without_a_closing_product_no_residual_is_below_rounding() {
        let operator = with_spectrum(&clustered_spectrum(300), DType::F32, 2);
        let params = EigenParams { tolerance: 0.0, ..ends_of(1, 0) };
        let rng = &mut stream(3, Purpose::Eigenpairs);
        let top = eigenpairs(&operator, &params, rng, &mut Breaking::after(40)).unwrap().top;
        assert!(top.interrupted);
        assert_eq!(top.residual_norms[0], f64::from(f32::EPSILON) * top.ritz_values[0]);
    }
}
