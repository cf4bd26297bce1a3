//! Deflated power iteration: the field's plain method, kept as a check on Lanczos.

use candle_core::Tensor;
use nalgebra::DMatrix;
use rand::Rng;

use super::basis::Basis;
use super::closing::Accepted;
use super::pairs::{EigenpairsReport, check_counts};
use super::trace::finite_forms;
use super::vectors::{normal_block, norms, scale_rows};
use crate::observer::{Observer, Step};
use crate::operator::LinearOperator;
use crate::vocabulary::Method;
use crate::{Error, Result};

const METHOD: &str = Method::Power.name();
/// Relative residual at which an estimate of an end of the spectrum is good enough for a shift.
const BOUND_TOLERANCE: f64 = 0.05;
/// Share of the products that each of the two bounds may take.
const BOUND_SHARE: usize = 10;

/// Which eigenpairs, how well, and at what cost at most.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerParams {
    /// Number of largest algebraic eigenvalues.
    pub top: usize,
    /// Number of smallest algebraic eigenvalues.
    pub bottom: usize,
    /// A pair has converged when `‖A y − θ y‖` is at most this times the largest `|θ|` found.
    pub tolerance: f64,
    /// Products to spend at most, the closing ones included; each pair has an equal share.
    pub max_matvecs: usize,
}

impl Default for PowerParams {
    fn default() -> Self {
        Self { top: 1, bottom: 0, tolerance: 1e-3, max_matvecs: 1_000 }
    }
}

/// The `top` largest and `bottom` smallest eigenvalues by power iteration with shifts and deflation (Wilkinson 1965),
/// one vector at a time, from random normal vectors.
///
/// Plain iteration finds the eigenvalue of largest magnitude, then, shifted by it, the opposite end: two rough bounds
/// `lo`, `hi`. The top pairs follow by iterating `A − lo`, the bottom ones by iterating `A − hi`, each orthogonal to
/// those already accepted; once all top pairs are known, the last of them serves as `hi`. An iteration ends on its
/// *residual*, not on two estimates that agree, or when its share of `max_matvecs` is spent. A pair converges like
/// `((λ₂ − shift)/(λ₁ − shift))^k`: slowly where eigenvalues are close, and hardly at all for a bottom end that is small
/// against the top. Such pairs come out with `converged = false`; [`super::eigenpairs`] finds them.
///
/// Deflation carries the errors of earlier vectors into later pairs, so each is driven to `tolerance/√pairs`; the
/// closing product measures what results.
/// Cost: at most `max_matvecs` products, but at least two per pair. A `Break` of the observer keeps the pairs that
/// have been finished, without closing product.
///
/// ```
/// use candle_core::DType;
/// use flatness::random::{Purpose, stream};
/// use flatness::operator::DenseOperator;
/// use flatness::spectral::{PowerParams, power};
/// use nalgebra::{DMatrix, DVector};
///
/// # fn main() -> flatness::Result<()> {
/// let bowl = DenseOperator::new(DMatrix::from_diagonal(&DVector::from_vec(vec![1.0, 2.0, 10.0])), DType::F64);
/// let report = power(&bowl, &PowerParams::default(), &mut stream(0, Purpose::Eigenpairs), &mut ())?;
/// // The residual norm is at most a thousandth of 10, and it bounds the error.
/// assert!(report.top.converged[0] && (report.top.ritz_values[0] - 10.0).abs() < 0.01);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`super::eigenpairs`]; [`Error::Interrupted`] before the first pair is finished.
pub fn power(
    operator: &dyn LinearOperator,
    params: &PowerParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<EigenpairsReport> {
    check_counts(METHOD, params.top, params.bottom, operator.dim())?;
    let pairs = params.top + params.bottom;
    let mut run = Power {
        operator,
        found: Basis::default(),
        total: params.max_matvecs,
        num_matvecs: 0,
        scale: 0.0,
        stopped: false,
    };
    let (mut top, mut bottom): (Vec<Pair>, Vec<Pair>) = (Vec::new(), Vec::new());
    if pairs > 0 {
        let share = (params.max_matvecs / BOUND_SHARE).max(1);
        let first = run.iterate(0.0, BOUND_TOLERANCE, share, rng, observer)?.value;
        let second = run.iterate(first, BOUND_TOLERANCE, share, rng, observer)?.value;
        let (low, mut high) = (first.min(second), first.max(second));
        let left = params.max_matvecs.saturating_sub(run.num_matvecs + pairs);
        // Each pair carries the errors of those before it: k residuals of this size add up to at most √k times it.
        let tolerance = params.tolerance / (pairs as f64).sqrt();
        for index in 0..pairs {
            let shift = if index < params.top { low } else { high };
            let pair = match run.iterate(shift, tolerance, (left / pairs).max(1), rng, observer) {
                Err(Error::Interrupted) if index > 0 => {
                    run.stopped = true;
                    break;
                }
                result => result?,
            };
            run.found.push(pair.vector.clone())?;
            if index < params.top {
                high = pair.value;
                top.push(pair);
            } else {
                bottom.push(pair);
            }
            if run.stopped {
                break;
            }
        }
    }
    run.finish(params, bottom, top, observer)
}

struct Pair {
    value: f64,
    residual: f64,
    vector: Tensor,
}

struct Power<'a> {
    operator: &'a dyn LinearOperator,
    found: Basis,
    total: usize,
    num_matvecs: usize,
    /// Largest `|θ|` so far.
    scale: f64,
    stopped: bool,
}

impl Power<'_> {
    /// Iterates `A − shift` off the found vectors until the residual or the budget ends it.
    fn iterate<R: Rng>(
        &mut self,
        shift: f64,
        tolerance: f64,
        budget: usize,
        rng: &mut R,
        observer: &mut dyn Observer,
    ) -> Result<Pair> {
        let shape = (1, self.operator.dim());
        let start = normal_block(shape, self.operator.dtype(), self.operator.device(), rng)?;
        let mut vector = self.unit(start)?.ok_or(Error::Interrupted)?;
        for iteration in 1.. {
            let product = self.operator.multiply(&vector, observer)?;
            let value = finite_forms(METHOD, &vector, &product, self.num_matvecs)?[0];
            let residual = self.deflated_residual(&vector, &product, value)?;
            self.num_matvecs += 1;
            self.scale = self.scale.max(value.abs());
            let message = format!("eigenvalue {value:.4e}, residual {residual:.1e}");
            let seen = Step { task: METHOD, done: self.num_matvecs, total: self.total, message };
            if observer.on_step(&seen).is_break() {
                return Err(Error::Interrupted);
            }
            if residual <= tolerance * self.scale || iteration >= budget {
                return Ok(Pair { value, residual, vector });
            }
            match self.unit((product - scale_rows(&vector, &[shift])?)?)? {
                Some(next) => vector = next,
                // The iterate is an eigenvector of the shift itself.
                None => return Ok(Pair { value, residual, vector }),
            }
        }
        Err(Error::Interrupted)
    }

    /// `‖A y − θ y‖` without its part along the found vectors, which no iteration can remove: that part is at most the
    /// root of the sum of their squared residuals.
    fn deflated_residual(&self, vector: &Tensor, product: &Tensor, value: f64) -> Result<f64> {
        let mut rest = (product - scale_rows(vector, &[value])?)?;
        if self.found.rows() > 0 {
            rest = self.found.subtract(&rest, &self.found.coefficients(&rest)?)?;
        }
        Ok(norms(&rest)?[0])
    }

    /// The part of `vector` orthogonal to the found ones, with length 1; `None` if nothing is left.
    fn unit(&self, vector: Tensor) -> Result<Option<Tensor>> {
        let mut rest = vector;
        // Twice, and each time normalised, so that what is left over is orthogonal to working precision.
        for _ in 0..2 {
            if self.found.rows() > 0 {
                let coefficients: DMatrix<f64> = self.found.coefficients(&rest)?;
                rest = self.found.subtract(&rest, &coefficients)?;
            }
            let length = norms(&rest)?[0];
            if length == 0.0 {
                return Ok(None);
            }
            rest = scale_rows(&rest, &[1.0 / length])?;
        }
        Ok(Some(rest))
    }

    fn finish(
        self,
        params: &PowerParams,
        bottom: Vec<Pair>,
        top: Vec<Pair>,
        observer: &mut dyn Observer,
    ) -> Result<EigenpairsReport> {
        let num_bottom = bottom.len();
        let pairs: Vec<Pair> = bottom.into_iter().chain(top).collect();
        let vectors: Vec<&Tensor> = pairs.iter().map(|pair| &pair.vector).collect();
        let vectors = if vectors.is_empty() { None } else { Some(Tensor::cat(&vectors, 0)?) };
        let values = pairs.iter().map(|pair| pair.value).collect();
        let residuals = pairs.iter().map(|pair| pair.residual).collect();
        let mut accepted = Accepted::new(Method::Power, vectors, values, residuals, self.num_matvecs)?;
        accepted.interrupted = self.stopped;
        accepted.measure(self.operator, observer)?;
        let (top, bottom) = accepted.reports(self.operator, num_bottom, params.tolerance)?;
        Ok(EigenpairsReport { top, bottom })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{Breaking, Failing, assert_pairs, with_spectrum};
    use candle_core::DType;

    fn run(operator: &dyn LinearOperator, params: &PowerParams) -> EigenpairsReport {
        power(operator, params, &mut stream(3, Purpose::Eigenpairs), &mut ()).unwrap()
    }

    #[test]
    fn both_ends_match_known_spectra() {
        for (spectrum, top, bottom) in [
            (vec![10.0, 7.0, 4.0, 1.0, 0.5, -0.3, -2.0, -6.0], 3, 2),
            (vec![-10.0, -7.0, -1.0, 0.0, 2.0], 2, 2),
            (vec![5.0, 5.0, 5.0, 1.0, 1.0], 3, 1),
            (vec![0.0; 6], 2, 1),
            (vec![-3.0], 1, 0),
            (vec![2.0, 5.0], 1, 1),
        ] {
            for (dtype, tolerance) in [(DType::F64, 1e-8), (DType::F32, 1e-5)] {
                let operator = with_spectrum(&spectrum, dtype, 4);
                let report = run(&operator, &PowerParams { top, bottom, tolerance, max_matvecs: 4_000 });
                assert_pairs(&operator, &spectrum, &report, tolerance);
            }
        }
    }

    #[test]
    fn a_plateau_does_not_pass_as_convergence() {
        // Ratio 0.999: successive estimates agree to 1e-3 long before the vector settles.
        let mut spectrum = vec![0.0; 50];
        spectrum[..2].copy_from_slice(&[1.0, 0.999]);
        let params = PowerParams { tolerance: 1e-6, max_matvecs: 60, ..PowerParams::default() };
        let report = run(&with_spectrum(&spectrum, DType::F64, 1), &params).top;
        assert!(!report.converged[0] && report.residual_norms[0] > 1e-6);
        assert!(report.num_matvecs <= 60);
    }

    #[test]
    fn errors_name_the_method_and_a_break_keeps_finished_pairs() {
        let fail = |operator: &Failing, top| {
            let params = PowerParams { top, ..PowerParams::default() };
            power(operator, &params, &mut stream(1, Purpose::Eigenpairs), &mut ()).unwrap_err().to_string()
        };
        assert_eq!(fail(&Failing::new(4, 99_999, false), 5), "power: top is 5, but the operator has dimension 4");
        let text = "power: the product with the operator is not finite at matvec 3";
        assert_eq!(fail(&Failing::new(30, 3, false), 1), text);
        assert_eq!(fail(&Failing::new(30, 3, true), 1), "interrupted");

        let operator = with_spectrum(&[9.0, 3.0, 2.9, 0.0], DType::F64, 2);
        let params = PowerParams { top: 3, tolerance: 1e-10, ..PowerParams::default() };
        let mut observer = Breaking::after(60);
        let report = power(&operator, &params, &mut stream(1, Purpose::Eigenpairs), &mut observer).unwrap();
        assert!(report.top.interrupted && report.top.ritz_values.len() < 3);
        assert!((report.top.ritz_values[0] - 9.0).abs() < 1e-9);
    }
}
