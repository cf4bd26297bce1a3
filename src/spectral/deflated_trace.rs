//! The trace as what known eigenpairs hold, exactly, and fresh random probes for the rest.

use candle_core::Tensor;
use rand::Rng;

use super::SpectralError;
use super::basis::Basis;
use super::data_error::{data_std_errors, join};
use super::products::Products;
use super::trace::mean_and_std_error;
use super::vectors::{normal_block, norms, row_dots, scale_rows};
use crate::observer::Observer;
use crate::operator::{LinearOperator, ShardForms};
use crate::{Error, Result};

const METHOD: &str = "deflated trace";

/// How many probes to spend.
#[derive(Debug, Clone, PartialEq)]
pub struct DeflatedTraceParams {
    /// Probes of the first round, 2 or more; each later round doubles the number.
    pub num_probes: usize,
    /// Enough when the numeric standard error is at most this times `|trace|`; 0 spends the whole budget.
    pub trace_tol: f64,
    /// What is known exactly of the trace besides: the tolerance is for the sum.
    pub known: f64,
    /// Products to spend at most; never fewer than the first round takes.
    pub max_matvecs: usize,
}

impl Default for DeflatedTraceParams {
    fn default() -> Self {
        Self { num_probes: 8, trace_tol: 0.01, known: 0.0, max_matvecs: 256 }
    }
}

/// The declared set: orthonormal vectors chosen before any probe is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Deflation<'a> {
    /// Orthonormal rows `[k, n]` in the operator's dtype; `k = 0` is plain Hutchinson.
    pub vectors: &'a Tensor,
    /// `qᵀAq` per row.
    pub values: &'a [f64],
    /// `qᵀA_s q` per shard and row, where the operator has shards.
    pub forms: Option<&'a ShardForms>,
}

/// Why no more probes were drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStop {
    /// The tolerance is met.
    Tolerance,
    /// The budget is spent.
    Budget,
    /// The observer ended it.
    Interrupted,
}

/// A deflated trace with its two errors.
#[derive(Debug, Clone)]
pub struct DeflatedTraceReport {
    /// `Σ qᵀAq` plus the mean of the samples.
    pub trace: f64,
    /// Standard error from the probes, which see only what is not deflated. The products tell it, not the spread of the samples:
    /// an interval is `± 1.96` of it.
    pub std_err_numeric: f64,
    /// Standard error from the choice of data rows, of both parts together; NaN where the operator has no shards, or
    /// the vectors come without their forms.
    pub std_err_data: f64,
    /// `zᵀAz` per probe.
    pub samples: Vec<f64>,
    /// Products made here, one per probe; those that made the vectors are not among them.
    pub num_matvecs: usize,
    /// Why it ended.
    pub stop: TraceStop,
}

/// `tr(A) = Σ qᵀAq + E[zᵀAz]` over probes `z` that are uniform on the sphere of radius `√(n − k)` off the `k` rows `q` of `Q`
/// (Girard 1989; deflation: Gambhir, Stathopoulos & Orginos 2017).
///
/// The identity holds for *any* orthonormal `Q`, converged or not. On that sphere a sample has the variance
/// `2 E‖PAz − (zᵀAz/(n − k)) z‖²` with `P = I − QQᵀ`, exactly: the standard error comes from these norms, which scatter far
/// less than squares of few samples do. The probes must be fresh: a probe that started the Krylov space from which `Q` came lies largely in the span of `Q`, its
/// `Pz` is nearly nothing, and the mean comes out too small. For the same reason the set is declared before the first
/// sample is seen: vectors added because a sample was large would bias it too.
///
/// Rounds of doubling size go on until `std_err_numeric ≤ trace_tol · |trace|`. Stopping on an estimated error favours
/// errors that came out small; with few looks, at doubled numbers, that costs little coverage.
///
/// The data error is the spread over shards of the whole sum, at fixed `Q` and `z`: both parts move with the rows, and
/// not independently. It has `S − 1` degrees of freedom. Cost: one product and `4 k n` multiplications per probe. A
/// `Break` keeps the probes done, from 2 on.
///
/// # Errors
/// [`SpectralError::TooFewProbes`] below 2 probes, [`SpectralError::Unpaired`] for values that do not match the vectors,
/// [`Error::VectorShape`] for vectors of another space, [`SpectralError::NonFinite`] at the first product that is not
/// finite.
pub fn deflated_trace(
    operator: &dyn LinearOperator,
    deflation: &Deflation,
    params: &DeflatedTraceParams,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<DeflatedTraceReport> {
    let known = check(operator, deflation, params)?;
    let range = (known > 0).then_some(deflation.vectors);
    let budget = params.max_matvecs.max(params.num_probes);
    let mut products = Products { method: METHOD, operator, total: budget, num_matvecs: 0 };
    let exact: f64 = deflation.values.iter().sum();
    let mut probes =
        Probes { dim: (operator.dim() - known.min(operator.dim())) as f64, samples: vec![], spreads: vec![] };
    let mut shards: Vec<Option<ShardForms>> = if known > 0 { vec![deflation.forms.cloned()] } else { Vec::new() };
    let stop = loop {
        // As many again as there are: the number doubles.
        let done = probes.samples.len();
        let target = (done + if done == 0 { params.num_probes } else { done }).min(budget);
        let mut interrupted = false;
        while probes.samples.len() < target && !interrupted {
            let rows = operator.block_size().clamp(1, target - probes.samples.len());
            let block = probes.draw(operator, range, rows, rng)?;
            match products.of(&block, observer) {
                Err(Error::Interrupted) if probes.samples.len() >= 2 => interrupted = true,
                images => {
                    let images = images?;
                    probes.take(&block, &off(range, &images.block)?, images.forms)?;
                    shards.push(images.shards);
                }
            }
        }
        let (mean, std_err) = probes.mean();
        if interrupted {
            break TraceStop::Interrupted;
        }
        if std_err <= params.trace_tol * (params.known + exact + mean).abs() {
            break TraceStop::Tolerance;
        }
        if probes.samples.len() >= budget {
            break TraceStop::Budget;
        }
    };
    let (mean, std_err_numeric) = probes.mean();
    let samples = probes.samples;
    let (std_err_data, num_matvecs) = (split_data_std_error(known, shards), samples.len());
    Ok(DeflatedTraceReport { trace: exact + mean, std_err_numeric, std_err_data, samples, num_matvecs, stop })
}

/// What the probes have seen.
struct Probes {
    /// Dimensions that are not deflated.
    dim: f64,
    /// `zᵀAz` of each.
    samples: Vec<f64>,
    /// `‖PAz − (zᵀAz/dim) z‖²` of each.
    spreads: Vec<f64>,
}

impl Probes {
    fn draw(
        &self,
        operator: &dyn LinearOperator,
        range: Option<&Tensor>,
        rows: usize,
        rng: &mut impl Rng,
    ) -> Result<Tensor> {
        let block = normal_block((rows, operator.dim()), operator.dtype(), operator.device(), rng)?;
        let block = off(range, &block)?;
        let lengths = norms(&block)?;
        // Where everything is deflated, nothing is left of a probe.
        let to_sphere = lengths.iter().map(|length| if *length > 0.0 { self.dim.sqrt() / length } else { 0.0 });
        scale_rows(&block, &to_sphere.collect::<Vec<_>>())
    }

    fn take(&mut self, block: &Tensor, images: &Tensor, forms: Vec<f64>) -> Result<()> {
        let along: Vec<f64> = forms.iter().map(|form| form / self.dim.max(1.0)).collect();
        let rests = (images - scale_rows(block, &along)?)?;
        self.spreads.extend(row_dots(&rests, &rests)?);
        self.samples.extend(forms);
        Ok(())
    }

    /// With its standard error.
    fn mean(&self) -> (f64, f64) {
        let count = self.samples.len() as f64;
        let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / count;
        (mean(&self.samples), (2.0 * mean(&self.spreads) / count).sqrt())
    }
}

/// The number of vectors.
fn check(operator: &dyn LinearOperator, deflation: &Deflation, params: &DeflatedTraceParams) -> Result<usize> {
    if params.num_probes < 2 {
        return Err(SpectralError::TooFewProbes { method: METHOD, got: params.num_probes }.into());
    }
    let shape = deflation.vectors.dims();
    let &[vectors, columns] = shape else {
        return Err(Error::VectorShape { got: shape.to_vec(), dim: operator.dim() });
    };
    if columns != operator.dim() {
        return Err(Error::VectorShape { got: shape.to_vec(), dim: operator.dim() });
    }
    let values = deflation.values.len();
    if values != vectors || deflation.forms.is_some_and(|all| all.forms.iter().any(|forms| forms.len() != vectors)) {
        return Err(SpectralError::Unpaired { method: METHOD, vectors, values }.into());
    }
    Ok(vectors)
}

/// `P v = v − Q Qᵀ v` per row of `block`, for orthonormal rows `Q`.
fn off(range: Option<&Tensor>, block: &Tensor) -> Result<Tensor> {
    let Some(range) = range else { return Ok(block.clone()) };
    let mut basis = Basis::default();
    basis.push(range.clone())?;
    let columns = basis.columns(basis.dim());
    let part = columns.part(block)?;
    columns.whole(basis.subtract(&part, &basis.coefficients(&part)?)?)
}

/// Data standard error of `Σ_{i<known} f_i + mean_{i≥known} f_i` over the joined forms of several products; NaN where
/// one of them has none, or where they are cut differently.
fn split_data_std_error(known: usize, parts: Vec<Option<ShardForms>>) -> f64 {
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
    use crate::spectral::testing::{Breaking, Failing, clustered_spectrum, with_spectrum};
    use crate::spectral::vectors::rademacher_block;
    use crate::spectral::{EigenParams, EigenpairsReport, eigenpairs};
    use candle_core::{DType, Device};
    use nalgebra::DMatrix;

    fn pairs(operator: &DenseOperator, top: usize) -> EigenpairsReport {
        let params = EigenParams { top, bottom: 0, ..EigenParams::default() };
        eigenpairs(operator, &params, &mut stream(3, Purpose::Eigenpairs), &mut ()).unwrap()
    }

    fn run(
        operator: &DenseOperator,
        deflation: &Deflation,
        params: &DeflatedTraceParams,
        seed: u64,
    ) -> DeflatedTraceReport {
        deflated_trace(operator, deflation, params, &mut stream(seed, Purpose::Probes), &mut ()).unwrap()
    }

    fn fixed(num_probes: usize) -> DeflatedTraceParams {
        DeflatedTraceParams { num_probes, trace_tol: f64::INFINITY, known: 0.0, max_matvecs: num_probes }
    }

    #[test]
    fn only_the_rest_has_a_probe_error_in_both_precisions() {
        // Outliers 100, 90 and −30 above a cluster of size 1e-3: two deflated vectors leave the −30.
        for dtype in [DType::F64, DType::F32] {
            let operator = with_spectrum(&clustered_spectrum(50), dtype, 3);
            let pairs = pairs(&operator, 2);
            let deflation = Deflation { vectors: &pairs.top.vectors, values: &pairs.top.ritz_values, forms: None };
            let report = run(&operator, &deflation, &fixed(200), 1);
            let known = wide(&pairs.top.vectors);
            let off = DMatrix::identity(50, 50) - known.transpose() * &known;
            let rest = &off * operator.matrix() * &off;
            let spread = rest.norm_squared() - rest.trace().powi(2) / 48.0;
            let exact = (2.0 * 48.0 / 50.0 * spread / 200.0).sqrt();
            assert!((report.trace - operator.matrix().trace()).abs() <= 4.0 * exact, "{report:?}");
            // The spreads are those of one square of a normal number, the −30: relative deviation √2/√200, half in the root.
            assert!((report.std_err_numeric / exact - 1.0).abs() <= 4.0 * 0.05);
            assert!(report.std_err_data.is_nan());
            assert_eq!((report.num_matvecs, report.stop), (200, TraceStop::Tolerance));
        }
    }

    fn wide(rows: &Tensor) -> DMatrix<f64> {
        let rows = rows.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
        DMatrix::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
    }

    #[test]
    fn vectors_that_have_not_converged_bias_nothing() {
        let operator = with_spectrum(&clustered_spectrum(40), DType::F64, 3);
        let mut rng = stream(9, Purpose::Check);
        let random = rademacher_block((3, 40), DType::F64, &Device::Cpu, &mut rng).unwrap();
        let vectors = super::super::krylov_schur::orthonormal_rows(&random).unwrap().unwrap();
        let rows = wide(&vectors);
        let values: Vec<f64> = (&rows * operator.matrix() * rows.transpose()).diagonal().iter().copied().collect();
        let deflation = Deflation { vectors: &vectors, values: &values, forms: None };
        let report = run(&operator, &deflation, &fixed(400), 1);
        assert!((report.trace - operator.matrix().trace()).abs() <= 4.0 * report.std_err_numeric);
    }

    #[test]
    fn rounds_double_until_the_tolerance_or_the_budget_ends_them() {
        let operator = with_spectrum(&clustered_spectrum(50), DType::F64, 3);
        let nothing = Tensor::zeros((0, 50), DType::F64, &Device::Cpu).unwrap();
        let plain = Deflation { vectors: &nothing, values: &[], forms: None };
        let params = DeflatedTraceParams { num_probes: 4, trace_tol: 1e-5, known: 0.0, max_matvecs: 50 };
        let report = run(&operator, &plain, &params, 1);
        assert_eq!((report.num_matvecs, report.stop), (50, TraceStop::Budget));
        // All three outliers off: what is left has Frobenius norm 4e-3, so about 13 probes reach 1e-5 of the trace of 160.
        let all = eigenpairs(
            &operator,
            &EigenParams { top: 2, bottom: 1, tolerance: 1e-10, ..EigenParams::default() },
            &mut stream(3, Purpose::Eigenpairs),
            &mut (),
        );
        let all = all.unwrap();
        let vectors = Tensor::cat(&[&all.top.vectors, &all.bottom.vectors], 0).unwrap();
        let values = [all.top.ritz_values, all.bottom.ritz_values].concat();
        let report = run(&operator, &Deflation { vectors: &vectors, values: &values, forms: None }, &params, 1);
        assert_eq!(report.stop, TraceStop::Tolerance);
        assert!([4, 8, 16, 32].contains(&report.num_matvecs), "{}", report.num_matvecs);
        assert!(report.std_err_numeric <= 1e-5 * report.trace);
    }

    #[test]
    fn the_data_error_joins_both_parts() {
        // Shards c·diag(8, 1, 1, 1): with e₁ deflated both parts scale with c, and a multiple of the identity is left.
        let shard = |c: f64| (10, DMatrix::from_diagonal(&vec![8.0 * c, c, c, c].into()));
        let operator = DenseOperator::from_shards(vec![shard(1.0), shard(2.0), shard(6.0)], DType::F64);
        let vectors = Tensor::new(&[[1.0, 0.0, 0.0, 0.0]], &Device::Cpu).unwrap();
        let forms = ShardForms::of_rows(vec![10; 3], vec![vec![8.0], vec![16.0], vec![48.0]]);
        let with = |forms| Deflation { vectors: &vectors, values: &[24.0], forms };
        let report = run(&operator, &with(Some(&forms)), &fixed(5), 1);
        assert!((report.trace - 33.0).abs() < 1e-12 && report.std_err_numeric < 1e-12);
        // Shard traces 11, 22, 66: s = 11·√7.
        assert!((report.std_err_data - 11.0 * (7.0_f64 / 3.0).sqrt()).abs() < 1e-11);
        assert!(run(&operator, &with(None), &fixed(5), 1).std_err_data.is_nan());
        let other_cut = ShardForms::of_rows(vec![5, 10, 15], forms.forms.clone());
        assert!(run(&operator, &with(Some(&other_cut)), &fixed(5), 1).std_err_data.is_nan());
    }

    #[test]
    fn misuse_is_named_and_a_break_keeps_whole_blocks() {
        let vectors = Tensor::zeros((2, 20), DType::F64, &Device::Cpu).unwrap();
        let fail = |operator: &Failing, values: &[f64], probes| {
            let deflation = Deflation { vectors: &vectors, values, forms: None };
            let mut rng = stream(1, Purpose::Probes);
            deflated_trace(operator, &deflation, &fixed(probes), &mut rng, &mut ()).unwrap_err().to_string()
        };
        let sound = Failing::new(20, usize::MAX, false);
        let text = "deflated trace: 1 probes, but a standard error needs 2 or more";
        assert_eq!(fail(&sound, &[0.0; 2], 1), text);
        let text = "deflated trace: got 3 values or forms for 2 vectors";
        assert_eq!(fail(&sound, &[0.0; 3], 4), text);
        let text = "vectors have shape [2, 20], but the network has 9 parameters: expected [k, 9]";
        assert_eq!(fail(&Failing::new(9, usize::MAX, false), &[0.0; 2], 4), text);
        let text = "deflated trace: the product with the operator is not finite at matvec 6";
        assert_eq!(fail(&Failing::new(20, 6, false), &[0.0; 2], 9), text);
        assert_eq!(fail(&Failing::new(20, 3, true), &[0.0; 2], 9), "interrupted");

        let deflation = Deflation { vectors: &vectors, values: &[0.0; 2], forms: None };
        let mut observer = Breaking::after(3);
        let mut rng = stream(1, Purpose::Probes);
        let kept = deflated_trace(&sound, &deflation, &fixed(20), &mut rng, &mut observer).unwrap();
        assert_eq!((kept.samples.len(), kept.stop), (8, TraceStop::Interrupted));
    }
}
