//! The diagonal from random signs, with an error for each entry.

use candle_core::{DType, Tensor};
use rand::Rng;

use super::SpectralError;
use super::sketch::{Products, SketchParams};
use super::vectors::rademacher_block;
use crate::observer::Observer;
use crate::operator::LinearOperator;
use crate::{Error, Result};

const METHOD: &str = "diagonal";

/// An estimated diagonal.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalReport {
    /// `aᵢᵢ`, `[n]`, in the unit of the operator's entries.
    pub diagonal: Vec<f64>,
    /// Standard error of each entry from the random vectors; same order and length. Data shards give quadratic forms,
    /// not entries, so there is no data error.
    pub std_err_numeric: Vec<f64>,
    /// Products with the operator.
    pub num_matvecs: usize,
}

/// `diag(A)` as the mean of `z ∘ Az` over random signs `z` (Bekas, Kokiopoulou & Saad 2007; with signs their divisor
/// `Σ z ∘ z` is the number of probes).
///
/// Unbiased; one sample of entry `i` has variance `Σ_{j≠i} aᵢⱼ²`. Cost: `num_matvecs` products, sums of `2n` numbers in f64
/// on the host. A `Break` of the observer, or an interruption, keeps the probes done, from 2 on.
///
/// # Errors
/// [`SpectralError::TooFewMatvecs`] below 2, [`SpectralError::NonFinite`] at the first product that is not finite.
pub fn hutchinson_diagonal(
    operator: &dyn LinearOperator,
    params: &SketchParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<DiagonalReport> {
    let budget = params.num_matvecs;
    if budget < 2 {
        return Err(SpectralError::TooFewMatvecs { method: METHOD, got: budget, least: 2 }.into());
    }
    let mut terms = Entrywise::new(operator.dim());
    let mut products = Products { method: METHOD, operator, total: budget, num_matvecs: 0 };
    while products.num_matvecs < budget {
        let rows = operator.block_size().clamp(1, budget - products.num_matvecs);
        let probes = rademacher_block((rows, operator.dim()), operator.dtype(), operator.device(), rng)?;
        let images = match products.of(&probes, observer) {
            Err(Error::Interrupted) if terms.count >= 2 => break,
            result => result?.block,
        };
        let (probes, images) = (wide(&probes)?, wide(&images)?);
        for (probe, image) in probes.iter().zip(&images) {
            terms.add(probe.iter().zip(image).map(|(sign, entry)| sign * entry));
        }
    }
    let num_matvecs = terms.count;
    Ok(terms.report(num_matvecs))
}

/// Mean and spread of many entries over samples that come one at a time (Welford 1962).
pub(super) struct Entrywise {
    count: usize,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl Entrywise {
    pub(super) fn new(dim: usize) -> Self {
        Self { count: 0, means: vec![0.0; dim], squares: vec![0.0; dim] }
    }

    pub(super) fn add(&mut self, sample: impl Iterator<Item = f64>) {
        self.count += 1;
        let count = self.count as f64;
        for ((mean, square), value) in self.means.iter_mut().zip(&mut self.squares).zip(sample) {
            let before = value - *mean;
            *mean += before / count;
            *square += before * (value - *mean);
        }
    }

    /// Standard errors `s/√count`; NaN for fewer than two samples.
    pub(super) fn report(self, num_matvecs: usize) -> DiagonalReport {
        let count = self.count as f64;
        let std_err = |square: f64| if self.count < 2 { f64::NAN } else { (square / (count - 1.0) / count).sqrt() };
        let std_err_numeric = self.squares.into_iter().map(std_err).collect();
        DiagonalReport { diagonal: self.means, std_err_numeric, num_matvecs }
    }
}

/// Rows of a block in f64 on the host.
pub(super) fn wide(block: &Tensor) -> Result<Vec<Vec<f64>>> {
    Ok(block.to_dtype(DType::F64)?.to_vec2()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{Breaking, Failing, clustered_spectrum, with_spectrum};
    use nalgebra::DMatrix;

    fn run(operator: &dyn LinearOperator, num_matvecs: usize) -> DiagonalReport {
        let params = SketchParams { num_matvecs };
        hutchinson_diagonal(operator, &params, &mut stream(1, Purpose::Probes), &mut ()).unwrap()
    }

    #[test]
    fn each_entry_lies_within_its_exact_standard_error() {
        for dtype in [DType::F64, DType::F32] {
            let operator = with_spectrum(&clustered_spectrum(40), dtype, 3);
            let matrix = operator.matrix();
            let report = run(&operator, 200);
            for i in 0..40 {
                // Random signs: Var(zᵢ(Az)ᵢ) = Σ_{j≠i} aᵢⱼ².
                let variance = matrix.row(i).norm_squared() - matrix[(i, i)].powi(2);
                let std_error = (variance / 200.0).sqrt();
                // 40 entries in each of two dtypes: one in 16,000 normal errors exceeds 4.
                assert!((report.diagonal[i] - matrix[(i, i)]).abs() <= 4.0 * std_error, "{i}");
                // Relative deviation of s about 1/√(2·199).
                assert!((report.std_err_numeric[i] / std_error - 1.0).abs() <= 4.0 * 0.05, "{i}");
            }
            assert_eq!(report.num_matvecs, 200);
        }
    }

    #[test]
    fn a_diagonal_matrix_is_exact() {
        let diagonal = vec![3.0, -1.0, 0.0, 7.5];
        let operator = DenseOperator::new(DMatrix::from_diagonal(&diagonal.clone().into()), DType::F32);
        let report = run(&operator, 11);
        assert_eq!((report.diagonal, report.std_err_numeric), (diagonal, vec![0.0; 4]));
    }

    #[test]
    fn misuse_is_named_and_a_break_keeps_whole_blocks() {
        let fail = |operator: &Failing, num_matvecs| {
            let params = SketchParams { num_matvecs };
            let mut rng = stream(1, Purpose::Probes);
            hutchinson_diagonal(operator, &params, &mut rng, &mut ()).unwrap_err().to_string()
        };
        let text = "diagonal: num_matvecs is 1, but a value with a standard error takes 2";
        assert_eq!(fail(&Failing::new(5, 99, false), 1), text);
        let text = "diagonal: the product with the operator is not finite at matvec 7";
        assert_eq!(fail(&Failing::new(5, 7, false), 9), text);
        assert_eq!(fail(&Failing::new(5, 3, true), 9), "interrupted");
        assert_eq!(run(&Failing::new(5, 6, true), 20).num_matvecs, 4);
        let params = SketchParams { num_matvecs: 20 };
        let mut observer = Breaking::after(3);
        let sound = Failing::new(5, 99, false);
        let kept = hutchinson_diagonal(&sound, &params, &mut stream(1, Purpose::Probes), &mut observer).unwrap();
        assert_eq!(kept.num_matvecs, 8);
    }
}
