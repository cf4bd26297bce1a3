//! Hutch++: the trace of what a sketch captures exactly, and Hutchinson's estimate for the rest.

use candle_core::Tensor;
use rand::Rng;

use super::SpectralError;
use super::data_error::{data_std_errors, join};
use super::krylov_schur::orthonormal_rows;
use super::sketch::{Products, SketchParams, SketchReport};
use super::trace::mean_and_std_error;
use super::vectors::{Basis, rademacher_block};
use crate::Result;
use crate::observer::Observer;
use crate::operator::{LinearOperator, ShardForms};

const METHOD: &str = "hutch++";

/// `tr(A) = tr(QᵀAQ) + tr(PAP)`, `P = I − QQᵀ`, with `Q` an orthonormal basis of the range of `A S` for a third of the
/// budget in random signs `S`, and Hutchinson's mean of `zᵀPAPz` over fresh signs `z` for the second part (Meyer, Musco,
/// Musco & Woodruff 2021).
///
/// Unbiased: `S` and the `z` are independent. The numeric error is that of the second part; the first has none. It falls
/// like `1/num_matvecs` where Hutchinson's falls like its root, because the sketch takes the large eigenvalues away; on a
/// flat spectrum it is `√3` times Hutchinson's. Operators of rank below a third of the budget come out exact.
///
/// The data error is the spread over shards of the whole sum at fixed `Q` and `z`, which is this estimator applied to
/// each shard's own matrix: since the identity above holds for every `Q`, that `Q` came from the same data is of second
/// order. Cost: `num_matvecs` products, and memory for about as many vectors.
///
/// # Errors
/// [`SpectralError::TooFewMatvecs`] below 2, [`SpectralError::NonFinite`] at the first product that is not finite,
/// [`crate::Error::Interrupted`] when the observer ends it.
pub fn hutchpp(
    operator: &dyn LinearOperator,
    params: &SketchParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<SketchReport> {
    let budget = params.num_matvecs;
    if budget < 2 {
        return Err(SpectralError::TooFewMatvecs { method: METHOD, got: budget, least: 2 }.into());
    }
    // Two products per sketching vector, and two probes at least, without which there is no error.
    let sketching = (budget / 3).min((budget - 2) / 2).min(operator.dim());
    let signs = |rows, rng: &mut _| rademacher_block((rows, operator.dim()), operator.dtype(), operator.device(), rng);
    let mut products = Products { method: METHOD, operator, total: budget, num_matvecs: 0 };
    let range = match sketching {
        0 => None,
        rows => orthonormal_rows(&products.of(&signs(rows, rng)?, observer)?.block)?,
    };
    let mut known = Vec::new();
    let mut known_shards = None;
    if let Some(range) = &range {
        let images = products.of(range, observer)?;
        (known, known_shards) = (images.forms, Some(images.shards));
    }
    let probes = signs(budget - products.num_matvecs, rng)?;
    let rest = products.of(&off(range.as_ref(), &probes)?, observer)?;
    let (mean, std_err_numeric) = mean_and_std_error(&rest.forms);
    Ok(SketchReport {
        trace: known.iter().sum::<f64>() + mean,
        std_err_numeric,
        std_err_data: split_data_std_error(known.len(), known_shards.into_iter().chain([rest.shards]).collect()),
        rank: known.len(),
        num_matvecs: products.num_matvecs,
    })
}

/// `P v = v − Q Qᵀ v` per row of `block`, for orthonormal rows `Q`.
pub(super) fn off(range: Option<&Tensor>, block: &Tensor) -> Result<Tensor> {
    let Some(range) = range else { return Ok(block.clone()) };
    let mut basis = Basis::default();
    basis.push(range.clone());
    basis.subtract(block, &basis.coefficients(block)?)
}

/// Data standard error of `Σ_{i<known} f_i + mean_{i≥known} f_i` over the joined forms of several products; NaN where
/// one of them has none, or where they are cut differently.
pub(super) fn split_data_std_error(known: usize, parts: Vec<Option<ShardForms>>) -> f64 {
    let Some(joined) = join(parts) else { return f64::NAN };
    let total = |forms: &Vec<f64>| {
        let (sum, rest) = forms.split_at(known.min(forms.len()));
        vec![sum.iter().sum::<f64>() + mean_and_std_error(rest).0]
    };
    let forms = joined.forms.iter().map(total).collect();
    data_std_errors(&joined.with_forms(forms)).first().copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{Breaking, Failing, with_spectrum};
    use crate::spectral::{TraceParams, hutchinson};
    use candle_core::DType;
    use nalgebra::DMatrix;

    fn run(operator: &dyn LinearOperator, num_matvecs: usize, seed: u64) -> SketchReport {
        hutchpp(operator, &SketchParams { num_matvecs }, &mut stream(seed, Purpose::Probes), &mut ()).unwrap()
    }

    #[test]
    fn a_low_rank_is_found_exactly_and_saves_its_products_for_probes() {
        let mut spectrum = vec![0.0; 40];
        spectrum[..4].copy_from_slice(&[9.0, 4.0, -3.0, 1.0]);
        for (dtype, epsilon) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
            let report = run(&with_spectrum(&spectrum, dtype, 2), 30, 1);
            // Roundings of n-vectors of size ‖A‖ = 9, up to 10 rows of the sketch: n·ε·‖A‖ with room for the rows.
            let tolerance = 40.0 * epsilon * 9.0;
            assert!((report.trace - 11.0).abs() < tolerance, "{report:?}");
            assert!(report.std_err_numeric < tolerance && report.std_err_data.is_nan());
            assert_eq!(report.num_matvecs, 30);
            assert!(report.rank >= 4 && report.rank <= 10);
        }
        let zero = DenseOperator::new(DMatrix::zeros(5, 5), DType::F64);
        assert_eq!((run(&zero, 9, 1).trace, run(&zero, 9, 1).rank), (0.0, 0));
    }

    #[test]
    fn a_decaying_spectrum_costs_far_less_than_hutchinson_and_a_flat_one_is_unbiased_too() {
        let decaying: Vec<f64> = (1..=60).map(|i| 100.0 / f64::from(i * i)).collect();
        let flat: Vec<f64> = (0..60).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let seeds = 100;
        for (spectrum, gain) in [(decaying, 20.0), (flat, 1.0 / 9.0)] {
            let operator = with_spectrum(&spectrum, DType::F64, 3);
            let truth = operator.matrix().trace();
            let (mut sum, mut squares, mut claimed, mut plain) = (0.0, 0.0, 0.0, 0.0);
            for seed in 0..seeds {
                let report = run(&operator, 45, seed);
                sum += report.trace - truth;
                squares += (report.trace - truth).powi(2);
                claimed += report.std_err_numeric.powi(2);
                let mut rng = stream(seed, Purpose::Check);
                let hutchinson = hutchinson(&operator, &TraceParams { num_probes: 45 }, &mut rng, &mut ()).unwrap();
                plain += (hutchinson.trace - truth).powi(2);
            }
            // Unbiased: the mean of 100 errors lies within 4 of its own standard errors, √(Σ e²)/100.
            assert!(f64::abs(sum) <= 4.0 * squares.sqrt(), "{sum} {squares}");
            // Variance ratio of 100 squares: relative deviation √(2/100) for normal errors.
            assert!((squares / claimed - 1.0).abs() < 4.0 * 0.14, "{}", squares / claimed);
            // Decaying: at rank 15 the rest has Σ_{i>15} i⁻⁴ ≈ 7e-5 of the squared norm, times 3 for the fewer probes
            // and a small factor for an imperfect sketch. Flat: a third of the probes, so at worst 3, seen within ×3.
            assert!(squares * gain < plain, "{squares} {plain}");
        }
    }

    #[test]
    fn the_data_error_is_the_spread_of_the_shards() {
        let shard = |value: f64| (10, DMatrix::from_diagonal_element(6, 6, value));
        let operator = DenseOperator::from_shards(vec![shard(1.0), shard(2.0), shard(6.0)], DType::F64);
        let report = run(&operator, 9, 1);
        // Multiples of the identity: each shard's sum is its value times rank + mean ‖Pz‖², so the relative spread is
        // known: values 1, 2, 6 of mean 3 with s² = 7.
        assert!((report.std_err_data / report.trace - (7.0_f64 / 3.0).sqrt() / 3.0).abs() < 1e-12);
    }

    #[test]
    fn misuse_and_bad_products_are_named() {
        let fail = |operator: &Failing, num_matvecs, observer: &mut dyn Observer| {
            let mut rng = stream(1, Purpose::Probes);
            hutchpp(operator, &SketchParams { num_matvecs }, &mut rng, observer).unwrap_err()
        };
        let sound = Failing::new(20, usize::MAX, false);
        let error = fail(&sound, 1, &mut ());
        assert_eq!(error.to_string(), "hutch++: num_matvecs is 1, but a value with a standard error takes 2");
        assert_eq!(error.hint().unwrap(), "set num_matvecs to 2 or more");
        let text = "hutch++: the product with the operator is not finite at matvec 8";
        assert_eq!(fail(&Failing::new(20, 8, false), 15, &mut ()).to_string(), text);
        assert_eq!(fail(&Failing::new(20, 8, true), 15, &mut ()).to_string(), "interrupted");
        assert_eq!(fail(&sound, 15, &mut Breaking::after(2)).to_string(), "interrupted");
        assert_eq!(run(&sound, 2, 1).rank, 0);
    }
}
