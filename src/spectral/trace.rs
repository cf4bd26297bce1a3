//! Hutchinson's trace estimator with its two errors.

use candle_core::Tensor;
use rand::Rng;

use super::SpectralError;
use super::data_error::{join, mean_data_std_error};
use super::vectors::{rademacher_block, row_dots};
use crate::observer::{Observer, Step};
use crate::operator::LinearOperator;
use crate::{Error, Result};

/// A trace estimate with its two errors.
#[derive(Debug, Clone)]
pub struct TraceReport {
    /// Mean of the samples.
    pub trace: f64,
    /// Standard error from the random probes.
    pub std_err_numeric: f64,
    /// Standard error from the choice of data rows; NaN where the operator has no shards.
    pub std_err_data: f64,
    /// `zᵀAz` per probe.
    pub samples: Vec<f64>,
    /// Products with the operator.
    pub num_matvecs: usize,
}

const METHOD: &str = "hutchinson";

/// How many probes to spend.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceParams {
    /// Random vectors, 2 or more. The standard error falls with their square root.
    pub num_probes: usize,
}

impl Default for TraceParams {
    fn default() -> Self {
        Self { num_probes: 32 }
    }
}

/// Estimates `tr(A)` as the mean of `zᵀAz` over Rademacher probes `z` (Hutchinson 1989).
///
/// Unbiased; each sample has variance `2(‖A‖_F² − Σ aᵢᵢ²)`. Cost: `num_probes` matvecs, in blocks of
/// [`LinearOperator::block_size`]. A `Break` of the observer keeps the blocks done, from 2 probes on.
///
/// ```
/// use candle_core::DType;
/// use flatness::random::{Purpose, stream};
/// use flatness::operator::DenseOperator;
/// use flatness::spectral::{TraceParams, hutchinson};
/// use nalgebra::DMatrix;
///
/// # fn main() -> flatness::Result<()> {
/// let identity = DenseOperator::new(DMatrix::identity(7, 7), DType::F64);
/// let report = hutchinson(&identity, &TraceParams::default(), &mut stream(0, Purpose::Probes), &mut ())?;
/// assert_eq!((report.trace, report.std_err_numeric), (7.0, 0.0));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`SpectralError::TooFewProbes`] below 2 probes: one sample has no standard error.
/// [`SpectralError::NonFinite`] at the first product that is not finite.
pub fn hutchinson(
    operator: &dyn LinearOperator,
    params: &TraceParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<TraceReport> {
    if params.num_probes < 2 {
        return Err(SpectralError::TooFewProbes { method: METHOD, got: params.num_probes }.into());
    }
    let (mut samples, mut shards) = (Vec::new(), Vec::new());
    while samples.len() < params.num_probes {
        let rows = operator.block_size().clamp(1, params.num_probes - samples.len());
        let probes = rademacher_block((rows, operator.dim()), operator.dtype(), operator.device(), rng)?;
        let product = match operator.apply(&probes, observer) {
            Err(Error::Interrupted) if samples.len() >= 2 => break,
            result => result?,
        };
        samples.extend(finite_forms(METHOD, &probes, &product.block, samples.len())?);
        shards.push(product.shards);
        let (trace, std_err) = mean_and_std_error(&samples);
        let message = format!("trace {trace:.4e} ± {std_err:.1e}");
        let seen = Step { task: METHOD, done: samples.len(), total: params.num_probes, message };
        if observer.on_step(&seen).is_break() {
            break;
        }
    }
    if samples.len() < 2 {
        return Err(Error::Interrupted);
    }
    let (trace, std_err_numeric) = mean_and_std_error(&samples);
    let std_err_data = mean_data_std_error(join(shards).as_ref());
    Ok(TraceReport { trace, std_err_numeric, std_err_data, num_matvecs: samples.len(), samples })
}

/// `vᵀ(Av)` per row, or the number of the first product that is not finite.
pub(super) fn finite_forms(
    method: &'static str,
    vectors: &Tensor,
    product: &Tensor,
    matvecs_before: usize,
) -> Result<Vec<f64>> {
    let forms = row_dots(vectors, product)?;
    match forms.iter().position(|form| !form.is_finite()) {
        Some(row) => Err(SpectralError::NonFinite { method, matvec: matvecs_before + row + 1 }.into()),
        None => Ok(forms),
    }
}

/// Mean, and its standard error `s/√p`: NaN for fewer than two samples.
pub(super) fn mean_and_std_error(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (mean, if samples.len() < 2 { f64::NAN } else { (squares / (count - 1.0) / count).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{Breaking, Failing, clustered_spectrum, with_spectrum};
    use candle_core::DType;

    fn probes(num_probes: usize) -> TraceParams {
        TraceParams { num_probes }
    }

    #[test]
    fn the_trace_lies_within_its_exact_standard_error() {
        for dtype in [DType::F64, DType::F32] {
            let operator = with_spectrum(&clustered_spectrum(50), dtype, 3);
            let matrix = operator.matrix();
            let diagonal: f64 = matrix.diagonal().norm_squared();
            let report = hutchinson(&operator, &probes(200), &mut stream(1, Purpose::Probes), &mut ()).unwrap();
            // Rademacher probes: Var(zᵀAz) = 2(‖A‖_F² − Σ aᵢᵢ²).
            let exact_error = (2.0 * (matrix.norm_squared() - diagonal) / 200.0).sqrt();
            assert!((report.trace - matrix.trace()).abs() <= 4.0 * exact_error);
            // The estimated error has relative deviation about 1/√(2·199) for normal samples.
            assert!((report.std_err_numeric / exact_error - 1.0).abs() <= 4.0 * 0.05);
            assert_eq!((report.num_matvecs, report.samples.len()), (200, 200));
            assert!(report.std_err_data.is_nan());
        }
    }

    #[test]
    fn a_diagonal_matrix_has_no_probe_error_and_its_data_error_is_known() {
        let shard = |value: f64| (10, nalgebra::DMatrix::from_diagonal_element(4, 4, value));
        let operator = DenseOperator::from_shards(vec![shard(1.0), shard(2.0), shard(6.0)], DType::F64);
        let report = hutchinson(&operator, &probes(9), &mut stream(1, Purpose::Probes), &mut ()).unwrap();
        assert!((report.trace - 12.0).abs() < 1e-13 && report.std_err_numeric < 1e-13);
        // Shard traces 4, 8, 24: s² = 112, standard error √(112/3).
        assert!((report.std_err_data - (112.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn misuse_and_bad_products_are_named() {
        let run = |operator: &Failing, count| {
            hutchinson(operator, &probes(count), &mut stream(1, Purpose::Probes), &mut ()).unwrap_err().to_string()
        };
        assert_eq!(run(&Failing::new(5, 99, false), 1), "hutchinson: 1 probes, but a standard error needs 2 or more");
        let text = "hutchinson: the product with the operator is not finite at matvec 7";
        assert_eq!(run(&Failing::new(5, 7, false), 9), text);
        assert_eq!(run(&Failing::new(5, 3, true), 9), "interrupted");
    }

    #[test]
    fn a_break_or_an_interruption_keeps_whole_blocks() {
        let run = |operator: &Failing, observer: &mut dyn Observer| {
            hutchinson(operator, &probes(20), &mut stream(1, Purpose::Probes), observer).unwrap().samples.len()
        };
        assert_eq!(run(&Failing::new(5, 99, false), &mut Breaking::after(2)), 8);
        assert_eq!(run(&Failing::new(5, 6, true), &mut ()), 4);
    }
}
