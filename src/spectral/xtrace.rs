//! XTrace and XDiag: every random vector sketches for all the others and probes what they leave.

use candle_core::{DType, Tensor};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

use super::SpectralError;
use super::data_error::mean_data_std_error;
use super::diagonal::{DiagonalReport, Entrywise, wide};
use super::krylov_schur::orthonormal_rows;
use super::sketch::{Images, Products, SketchParams, SketchReport};
use super::trace::mean_and_std_error;
use super::vectors::{combine, normal_block, products as gram, rademacher_block};
use crate::Result;
use crate::observer::Observer;
use crate::operator::LinearOperator;

const TRACE: &str = "xtrace";
const DIAGONAL: &str = "xdiag";
/// A vector lies outside the span of all others when its leverage is this close to 1; what lies inside has a leverage
/// below 1 by a squared null-vector entry, which is this small only by a chance of about √ of it.
const LEVERAGE_SLACK: f64 = 1e-9;
/// A singular value of `m` vectors is rounding below this many units `m ε` of the largest.
const ROUNDING_UNITS: f64 = 4.0;

/// `tr(A)` as the mean over `i` of `tr(Qᵢᵀ A Qᵢ) + cᵢ · ωᵢᵀ Pᵢ A Pᵢ ωᵢ` (Epperly, Tropp & Webber 2024).
///
/// `ω₁ … ω_m` are normal vectors, `m` half of the budget; `Qᵢ` is an orthonormal basis of `A ωⱼ` for all `j ≠ i`, and
/// `Pᵢ = I − QᵢQᵢᵀ`. Since `Qᵢ` knows nothing of `ωᵢ`, each term is unbiased, and so is `cᵢ = rank(Pᵢ)/‖Pᵢωᵢ‖²`, which
/// takes the length of the probe out of its error. All `Qᵢ` come from one basis `Q`: `QᵢQᵢᵀ = Q(I − sᵢsᵢᵀ)Qᵀ`, with `sᵢ`
/// the direction of `QᵀA ωᵢ` that no other vector reaches (none where the range is exhausted).
///
/// The numeric error is `√(Σ (tᵢ − t̄)²/(m(m − 1)))`: the terms share their sketches, so it is an estimate, not exact. It is
/// smaller than Hutch++'s at equal cost where the spectrum decays. The data error is the spread over shards of the mean
/// `ωᵢᵀA_sωᵢ`: an upper estimate, since it contains what `m` probes leave of each shard's deviation, which the trace
/// itself does not. Cost: `num_matvecs` products, and memory for twice as many vectors.
///
/// # Errors
/// [`SpectralError::TooFewMatvecs`] below 4, [`SpectralError::NonFinite`] at the first product that is not finite,
/// [`crate::Error::Interrupted`] when the observer ends it.
pub fn xtrace(
    operator: &dyn LinearOperator,
    params: &SketchParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<SketchReport> {
    let count = num_vectors(TRACE, operator, params)?;
    let omega = normal_block((count, operator.dim()), operator.dtype(), operator.device(), rng)?;
    let mut products = Products { method: TRACE, operator, total: 2 * count, num_matvecs: 0 };
    let images = products.of(&omega, observer)?;
    let std_err_data = mean_data_std_error(images.shards.as_ref());
    let Some(range) = orthonormal_rows(&images.block)? else {
        let num_matvecs = products.num_matvecs;
        return Ok(SketchReport { trace: 0.0, std_err_numeric: 0.0, std_err_data, rank: 0, num_matvecs });
    };
    let lengths: Vec<f64> = gram(&omega, &omega)?.diagonal().iter().copied().collect();
    // Everything from here on is small: Q A Qᵀ, and the coefficients on Q of A ωᵢ and of ωᵢ, as columns.
    let (images_on_range, omega_on_range) = (gram(&range, &images.block)?, gram(&range, &omega)?);
    let projected = gram(&range, &products.of(&range, observer)?.block)?;
    let alone = unreached(&images_on_range, operator.dtype());
    let (rank, dim) = (projected.nrows(), operator.dim());
    let terms: Vec<f64> = (0..count)
        .map(|i| {
            let (s, image, on_range) = (alone.column(i), images_on_range.column(i), omega_on_range.column(i));
            let reached = rank - usize::from(s.norm_squared() > 0.0);
            // Qᵢ Qᵢᵀ ωᵢ = Q x.
            let x: DVector<f64> = on_range - s * s.dot(&on_range);
            let form = images.forms[i] - 2.0 * x.dot(&image) + x.dot(&(&projected * &x));
            let square = lengths[i] - x.norm_squared();
            let rest = if reached < dim && square > 0.0 { (dim - reached) as f64 / square * form } else { 0.0 };
            projected.trace() - s.dot(&(&projected * s)) + rest
        })
        .collect();
    let (trace, std_err_numeric) = mean_and_std_error(&terms);
    Ok(SketchReport { trace, std_err_numeric, std_err_data, rank, num_matvecs: products.num_matvecs })
}

/// `diag(A)` as the mean over `i` of `diag(QᵢQᵢᵀA) + ωᵢ ∘ (I − QᵢQᵢᵀ)Aωᵢ` for random signs `ωᵢ` (Epperly, Tropp & Webber
/// 2024), with the `Qᵢ` of [`xtrace`].
///
/// Unbiased in each entry; an entry's error is estimated from the spread of its `m` terms, which share their sketches.
/// Cost: `num_matvecs` products, memory for twice as many vectors, and `4 m² n` multiplications.
///
/// # Errors
/// As [`xtrace`].
pub fn xdiag(
    operator: &dyn LinearOperator,
    params: &SketchParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<DiagonalReport> {
    let count = num_vectors(DIAGONAL, operator, params)?;
    let omega = rademacher_block((count, operator.dim()), operator.dtype(), operator.device(), rng)?;
    let mut products = Products { method: DIAGONAL, operator, total: 2 * count, num_matvecs: 0 };
    let Images { block, .. } = products.of(&omega, observer)?;
    let mut terms = Entrywise::new(operator.dim());
    let Some(range) = orthonormal_rows(&block)? else {
        (0..count).for_each(|_| terms.add(std::iter::repeat_n(0.0, operator.dim())));
        return Ok(terms.report(products.num_matvecs));
    };
    let images_on_range = gram(&range, &block)?;
    let images_of_range = products.of(&range, observer)?.block;
    let alone = unreached(&images_on_range, operator.dtype());
    // diag(Q QᵀA), shared by all terms.
    let common = column_sums(&range, &images_of_range)?;
    for i in 0..count {
        let row = alone.columns(i, 1).transpose();
        // (I − QᵢQᵢᵀ) A ωᵢ = Q sᵢ · sᵢᵀQᵀAωᵢ, since Q reaches all of A ωᵢ.
        let length = alone.column(i).dot(&images_on_range.column(i));
        let (direction, image) = (wide(&combine(&row, &range)?)?, wide(&combine(&row, &images_of_range)?)?);
        let signs = wide(&omega.narrow(0, i, 1)?)?;
        let entries = direction.iter().flatten().zip(image.iter().flatten()).zip(signs.iter().flatten());
        let change = entries.map(|((direction, image), sign)| direction * (sign * length - image));
        terms.add(common.iter().zip(change).map(|(common, change)| common + change));
    }
    Ok(terms.report(products.num_matvecs))
}

/// Half of the budget, but no more vectors than dimensions.
fn num_vectors(method: &'static str, operator: &dyn LinearOperator, params: &SketchParams) -> Result<usize> {
    let got = params.num_matvecs;
    if got < 4 {
        return Err(SpectralError::TooFewMatvecs { method, got, least: 4 }.into());
    }
    // Two terms at least, even in one dimension: the second vector then only repeats the first.
    Ok((got / 2).min(operator.dim().max(2)))
}

/// Column `i`: the unit vector of the span of `columns` that is orthogonal to all of them but number `i`, or zero where
/// the others span that column too.
///
/// For `C = U Σ Vᵀ` of rank `r`, `Vᵢᵀ Vⱼ` are the entries of the projection on the rows; the `i`-th diagonal one (the
/// leverage) is 1 exactly where `(CCᵀ)⁺ cᵢ = U Σ⁺ Vᵢ` is orthogonal to all other columns. Singular values that `dtype`
/// cannot tell from zero count as zero: their vectors are rounding.
fn unreached(columns: &DMatrix<f64>, dtype: DType) -> DMatrix<f64> {
    let epsilon = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let svd = columns.clone().svd(true, true);
    let (Some(left), Some(right)) = (svd.u, svd.v_t) else { return DMatrix::zeros(columns.nrows(), columns.ncols()) };
    let negligible = ROUNDING_UNITS * columns.ncols() as f64 * epsilon * svd.singular_values.max();
    let kept: Vec<usize> = (0..svd.singular_values.len()).filter(|&i| svd.singular_values[i] > negligible).collect();
    let inverse = DMatrix::from_diagonal(&svd.singular_values.select_rows(&kept).map(|value| 1.0 / value));
    let right = right.select_rows(&kept);
    let mut alone = left.select_columns(&kept) * inverse * &right;
    for (mut column, row_space) in alone.column_iter_mut().zip(right.column_iter()) {
        let outside = row_space.norm_squared() > 1.0 - LEVERAGE_SLACK;
        let length = column.norm();
        column.scale_mut(if outside && length > 0.0 { 1.0 / length } else { 0.0 });
    }
    alone
}

/// `Σ_r aᵣ ∘ bᵣ` over the rows.
fn column_sums(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; a.dims()[1]];
    for row in 0..a.dims()[0] {
        let (a, b) = (wide(&a.narrow(0, row, 1)?)?, wide(&b.narrow(0, row, 1)?)?);
        let products = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| a * b);
        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{Breaking, Failing, with_spectrum};
    use crate::spectral::{hutchinson_diagonal, hutchpp};

    fn trace(operator: &dyn LinearOperator, num_matvecs: usize, seed: u64) -> SketchReport {
        xtrace(operator, &SketchParams { num_matvecs }, &mut stream(seed, Purpose::Probes), &mut ()).unwrap()
    }

    fn diagonal(operator: &dyn LinearOperator, num_matvecs: usize, seed: u64) -> DiagonalReport {
        xdiag(operator, &SketchParams { num_matvecs }, &mut stream(seed, Purpose::Probes), &mut ()).unwrap()
    }

    /// The definition, with a basis made anew for each term: shares no formula with the updates.
    fn by_definition(matrix: &DMatrix<f64>, omega: &DMatrix<f64>) -> Vec<f64> {
        let (dim, count) = omega.shape();
        let term = |i: usize| {
            let others: Vec<usize> = (0..count).filter(|&j| j != i).collect();
            let basis = (matrix * omega.select_columns(&others)).qr().q();
            let probe = omega.column(i) - &basis * (basis.transpose() * omega.column(i));
            let scale = (dim - others.len()) as f64 / probe.norm_squared();
            (basis.transpose() * matrix * &basis).trace() + scale * probe.dot(&(matrix * &probe))
        };
        (0..count).map(term).collect()
    }

    #[test]
    fn the_updates_equal_a_basis_made_anew_for_each_vector() {
        let spectrum: Vec<f64> = (0..30).map(|i| 5.0 * 0.7_f64.powi(i) - 0.1).collect();
        let operator = with_spectrum(&spectrum, DType::F64, 2);
        let report = trace(&operator, 16, 4);
        let mut rng = stream(4, Purpose::Probes);
        let omega = wide(&normal_block((8, 30), DType::F64, operator.device(), &mut rng).unwrap()).unwrap();
        let omega = DMatrix::from_fn(30, 8, |i, j| omega[j][i]);
        let (mean, std_err) = mean_and_std_error(&by_definition(operator.matrix(), &omega));
        // n·ε·‖A‖ in each of two ways, times the condition of 8 sketched vectors, about 5/0.4.
        let tolerance = 2.0 * 30.0 * f64::EPSILON * 5.0 * 12.5;
        assert!((report.trace - mean).abs() < tolerance && (report.std_err_numeric - std_err).abs() < tolerance);
        assert_eq!((report.num_matvecs, report.rank), (16, 8));
    }

    #[test]
    fn low_rank_full_rank_and_zero_come_out_exactly() {
        let mut deficient = vec![0.0; 40];
        deficient[..4].copy_from_slice(&[9.0, 4.0, -3.0, 1.0]);
        for (spectrum, num_matvecs) in
            [(deficient, 24), (vec![0.0; 6], 8), (vec![3.0, 2.0, -1.0, 0.5], 8), (vec![4.0], 4), (vec![2.0; 5], 6)]
        {
            for (dtype, epsilon) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
                let operator = with_spectrum(&spectrum, dtype, 2);
                let truth = operator.matrix().trace();
                let report = trace(&operator, num_matvecs, 1);
                // n·ε·‖A‖ with ‖A‖ ≤ 9, for up to 12 vectors of length √n. At full rank one dimension is left to each
                // probe, and the square of its part there, often a tenth of its mean, divides the rounding.
                let tolerance = 10.0 * 12.0 * spectrum.len() as f64 * epsilon * 9.0;
                assert!((report.trace - truth).abs() <= tolerance, "{report:?} {truth}");
                assert!(report.std_err_numeric <= tolerance);
                assert!(report.num_matvecs <= num_matvecs);
                // The diagonal has no scale to correct and its signs may be dependent: exact only below full sketches.
                if spectrum.iter().filter(|value| **value != 0.0).count() < num_matvecs / 2 {
                    let entries = diagonal(&operator, num_matvecs, 1).diagonal;
                    let exact = operator.matrix().diagonal();
                    let errors = entries.iter().zip(exact.iter()).map(|(a, b)| (a - b).abs());
                    assert!(errors.fold(0.0, f64::max) <= tolerance);
                }
            }
        }
    }

    #[test]
    fn unbiased_with_an_honest_error_and_better_than_hutchpp_where_the_spectrum_decays() {
        let decaying: Vec<f64> = (1..=60).map(|i| 100.0 / f64::from(i * i)).collect();
        let flat: Vec<f64> = (0..60).map(|i| (f64::from(i) * 0.7).sin()).collect();
        for (spectrum, better) in [(decaying, true), (flat, false)] {
            let operator = with_spectrum(&spectrum, DType::F64, 3);
            let truth = operator.matrix().trace();
            let (mut sum, mut squares, mut claimed, mut other) = (0.0, 0.0, 0.0, 0.0);
            for seed in 0..100 {
                let report = trace(&operator, 30, seed);
                sum += report.trace - truth;
                squares += (report.trace - truth).powi(2);
                claimed += report.std_err_numeric.powi(2);
                let mut rng = stream(seed, Purpose::Check);
                let sketch = hutchpp(&operator, &SketchParams { num_matvecs: 30 }, &mut rng, &mut ()).unwrap();
                other += (sketch.trace - truth).powi(2);
            }
            assert!(f64::abs(sum) <= 4.0 * squares.sqrt(), "{sum} {squares}");
            // 100 squares: relative deviation 0.14 for normal errors; terms that share sketches are correlated.
            assert!((squares / claimed - 1.0).abs() < 4.0 * 0.14, "{}", squares / claimed);
            assert!(!better || 2.0 * squares < other, "{squares} {other}");
        }
    }

    #[test]
    fn the_diagonal_is_unbiased_and_beats_plain_probes_where_the_spectrum_decays() {
        let spectrum: Vec<f64> = (1..=40).map(|i| 100.0 / f64::from(i * i)).collect();
        let operator = with_spectrum(&spectrum, DType::F64, 3);
        let truth = operator.matrix().diagonal();
        let seeds = 60;
        let mut sums = vec![0.0; 40];
        let (mut squares, mut claimed, mut plain) = (0.0, 0.0, 0.0);
        for seed in 0..seeds {
            let report = diagonal(&operator, 30, seed);
            let mut rng = stream(seed, Purpose::Check);
            let params = SketchParams { num_matvecs: 30 };
            let other = hutchinson_diagonal(&operator, &params, &mut rng, &mut ()).unwrap();
            for i in 0..40 {
                let error = report.diagonal[i] - truth[i];
                sums[i] += error;
                squares += error * error;
                claimed += report.std_err_numeric[i].powi(2);
                plain += (other.diagonal[i] - truth[i]).powi(2);
            }
        }
        // The mean error over all entries and seeds: 40 entries that may move together count as one.
        assert!(sums.iter().sum::<f64>().abs() <= 4.0 * (40.0 * squares).sqrt());
        // 60 seeds of 40 dependent entries: between √(2/60) and √(2/2400); the larger, for normal errors.
        assert!((squares / claimed - 1.0).abs() < 4.0 * 0.18, "{}", squares / claimed);
        assert!(20.0 * squares < plain, "{squares} {plain}");
    }

    #[test]
    fn shards_give_a_data_error_and_misuse_is_named() {
        let shard = |value: f64| (10, DMatrix::from_diagonal_element(6, 6, value));
        let operator = DenseOperator::from_shards(vec![shard(1.0), shard(2.0), shard(6.0)], DType::F64);
        let report = trace(&operator, 8, 1);
        // Multiples of the identity: normalised probes leave no error, in the sketch or beside it.
        assert!((report.trace - 18.0).abs() < 1e-12);
        // s² = 7 for the values 1, 2, 6; the mean square length of 4 normal vectors is 6 ± √(12/4).
        let relative = report.std_err_data / (6.0 * (7.0_f64 / 3.0).sqrt());
        assert!((relative - 1.0).abs() < 4.0 * 3.0_f64.sqrt() / 6.0);

        let fail = |operator: &Failing, num_matvecs, observer: &mut dyn Observer| {
            let params = SketchParams { num_matvecs };
            xtrace(operator, &params, &mut stream(1, Purpose::Probes), observer).unwrap_err().to_string()
        };
        let sound = Failing::new(20, usize::MAX, false);
        let text = "xtrace: num_matvecs is 3, but a value with a standard error takes 4";
        assert_eq!(fail(&sound, 3, &mut ()), text);
        let text = "xtrace: the product with the operator is not finite at matvec 8";
        assert_eq!(fail(&Failing::new(20, 8, false), 10, &mut ()), text);
        assert_eq!(fail(&Failing::new(20, 8, true), 10, &mut ()), "interrupted");
        assert_eq!(fail(&sound, 10, &mut Breaking::after(1)), "interrupted");
        let refused = xdiag(&sound, &SketchParams { num_matvecs: 2 }, &mut stream(1, Purpose::Probes), &mut ());
        let text = "xdiag: num_matvecs is 2, but a value with a standard error takes 4";
        assert_eq!(refused.unwrap_err().to_string(), text);
    }
}
