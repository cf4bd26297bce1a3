//! The whole spectrum of a small operator from its matrix, product by product.

use candle_core::{DType, Device, Tensor};
use nalgebra::DVector;
use rand::Rng;

use super::closing::{Accepted, Whole};
use super::data_error::{join, mean_data_std_error};
use super::guard::guard;
use super::householder::Reduced;
use super::krylov_schur::asymmetry_allowed;
use super::pairs::check_counts;
use super::state::{Store, SurveyState, damaged};
use super::vectors::{epsilon, row_dots};
use super::{Quadrature, RuleSource, SpectralError, SurveyReport, TraceReport};
use crate::kernels::norm_of;
use crate::observer::{Observer, Step};
use crate::operator::{LinearOperator, ShardForms};
use crate::vocabulary::Method;
use crate::{Error, Result};

/// The name in errors and tables.
const METHOD: &str = Method::Dense.name();

/// Which eigenpairs are wanted beside all eigenvalues.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseParams {
    /// Largest algebraic ones.
    pub top: usize,
    /// Smallest algebraic ones.
    pub bottom: usize,
    /// As in [`super::SurveyParams`]: what the residual of a pair is held against.
    pub eigen_tolerance: f64,
}

/// All eigenvalues, some pairs, and the diagonal.
#[derive(Debug, Clone)]
pub struct DenseReport {
    /// In the form of a survey: the one rule of its density has all eigenvalues as nodes.
    pub survey: SurveyReport,
    /// `aᵢᵢ`
    pub diagonal: Vec<f64>,
    /// `eᵢᵀA_s eᵢ`, where the operator has shards.
    pub shard_diagonals: Option<ShardForms>,
}

impl DenseReport {
    /// What [`dense`] holds at most in dimension `dim`: two matrices in f64, while rows are saved.
    pub fn memory_bytes(dim: usize) -> usize {
        dim.saturating_mul(dim).saturating_mul(2 * size_of::<f64>())
    }
}

/// The matrix of `A` by products with the basis vectors, made symmetric, and from it all eigenvalues and the eigenvectors
/// at both ends: Householder's reduction to a tridiagonal matrix, bisection, inverse iteration. All in f64 but the
/// products; those with the vectors found measure residuals and data errors.
///
/// Before anything, `A` is applied twice to one vector, as in [`super::survey`]. The rows found so far go to `store` when
/// it wants them, and a run that finds some there goes on from them. Cost: `n + 2` products and one per pair, about `2 n³`
/// multiplications, and memory for `2 n²` numbers.
///
/// # Errors
/// [`SpectralError::TooMany`] for more pairs than dimensions; [`SpectralError::NonFinite`],
/// [`SpectralError::NotDeterministic`] or [`SpectralError::NotSymmetric`] where the products are; an interruption, unless
/// all eigenvalues are known.
pub fn dense(
    operator: &dyn LinearOperator,
    params: &DenseParams,
    rng: &mut impl Rng,
    store: &mut dyn Store,
    observer: &mut dyn Observer,
) -> Result<DenseReport> {
    let dim = operator.dim();
    check_counts(METHOD, params.top, params.bottom, dim)?;
    let num_matvecs = guard(METHOD, operator, rng, observer)? + dim;
    let Rows { blocks, shards } = Rows::of(operator, store, observer)?;
    let mut entries = entries(blocks, dim)?;
    symmetrise(&mut entries, dim, asymmetry_allowed(operator.dtype()))?;
    let diagonal: Vec<f64> = entries.iter().step_by(dim + 1).copied().collect();
    let reduced = Reduced::of(entries, dim);
    let values = reduced.tridiagonal.eigenvalues();
    let ends: Vec<f64> =
        values[..params.bottom].iter().chain(values[dim - params.top..].iter().rev()).copied().collect();
    let vectors = reduced.tridiagonal.eigenvectors(&ends, rng).into_iter().map(|vector| reduced.turn(vector));
    let vectors = if ends.is_empty() { None } else { Some(rows_of(vectors.collect(), operator)?) };
    // The matrix goes before the closing products take their memory.
    drop(reduced);
    let rounding = epsilon(operator.dtype()) * values.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
    let residuals = vec![rounding; ends.len()];
    let mut accepted = Accepted::new(Method::Dense, vectors, ends, residuals, num_matvecs)?;
    accepted.measure(operator, observer)?;
    let whole = shards.as_ref().map(|shards| shards.sums(&[(0..dim).collect()]));
    let trace = TraceReport {
        trace: diagonal.iter().sum(),
        std_err_numeric: 0.0,
        std_err_data: mean_data_std_error(whole.as_ref()),
        samples: Vec::new(),
        num_matvecs,
    };
    let rule = Quadrature { weights: vec![1.0 / dim as f64; dim], nodes: values, exact: true };
    let whole = Whole { source: RuleSource::Dense, rule, trace, dim };
    let survey = whole.survey(&accepted, operator, params.bottom, params.eigen_tolerance)?;
    Ok(DenseReport { survey, diagonal, shard_diagonals: shards })
}

/// The rows of the matrix so far.
struct Rows {
    /// As the products came, in host memory.
    blocks: Vec<Tensor>,
    /// `eᵢᵀA_s eᵢ` of each row.
    shards: Option<ShardForms>,
}

impl Rows {
    /// All of them, those that `store` has first.
    fn of(operator: &dyn LinearOperator, store: &mut dyn Store, observer: &mut dyn Observer) -> Result<Self> {
        let dim = operator.dim();
        let mut rows = match store.load()? {
            Some(state) => Self::restore(&state, operator)?,
            None => Self { blocks: Vec::new(), shards: None },
        };
        while rows.count() < dim {
            let stopped = match rows.extend(operator, observer) {
                Err(Error::Interrupted) => true,
                added => {
                    added?;
                    let done = rows.count();
                    observer.on_step(&Step { task: METHOD, done, total: dim, message: String::new() }).is_break()
                }
            };
            // The last time is before the decomposition, which takes a while and saves nothing.
            let last = stopped || rows.count() == dim;
            if store.wants(rows.count() * dim * operator.dtype().size_in_bytes(), last) {
                store.save(&rows.state()?);
            }
            if stopped {
                return Err(Error::Interrupted);
            }
        }
        Ok(rows)
    }

    fn count(&self) -> usize {
        self.blocks.iter().map(|block| block.dims()[0]).sum()
    }

    /// The rows of one block product more.
    fn extend(&mut self, operator: &dyn LinearOperator, observer: &mut dyn Observer) -> Result<()> {
        let (dim, first) = (operator.dim(), self.count());
        let count = operator.block_size().clamp(1, dim - first);
        let mut block = vec![0.0; count * dim];
        (0..count).for_each(|row| block[row * dim + first + row] = 1.0);
        let block = Tensor::from_vec(block, (count, dim), &Device::Cpu)?;
        let product = operator.apply(&block.to_dtype(operator.dtype())?.to_device(operator.device())?, observer)?;
        if let Some(row) = row_dots(&product.block, &product.block)?.iter().position(|square| !square.is_finite()) {
            return Err(SpectralError::NonFinite { method: METHOD, matvec: first + row + 1 }.into());
        }
        self.blocks.push(product.block.to_device(&Device::Cpu)?);
        self.shards = if first == 0 { product.shards } else { join(vec![self.shards.take(), product.shards]) };
        Ok(())
    }

    fn state(&self) -> Result<SurveyState> {
        let mut state = SurveyState::default();
        for (index, block) in self.blocks.iter().enumerate() {
            state.tensors.insert(format!("rows.{index}"), block.clone());
        }
        if let Some(shards) = &self.shards {
            state.put_forms(shards)?;
        }
        Ok(state)
    }

    fn restore(state: &SurveyState, operator: &dyn LinearOperator) -> Result<Self> {
        let mut rows = Self { blocks: Vec::new(), shards: None };
        while let Some(block) = state.tensors.get(&format!("rows.{}", rows.blocks.len())) {
            let fits = matches!(block.dims(), [count, dim] if *dim == operator.dim() && rows.count() + count <= *dim);
            if !fits || block.dtype() != operator.dtype() {
                return Err(damaged(&format!("rows.{}", rows.blocks.len())));
            }
            rows.blocks.push(block.clone());
        }
        rows.shards = state.forms(rows.count())?;
        Ok(rows)
    }
}

/// All rows, one after the other, in f64.
fn entries(blocks: Vec<Tensor>, dim: usize) -> Result<Vec<f64>> {
    let mut entries = Vec::with_capacity(dim * dim);
    for block in blocks {
        entries.extend(block.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?);
    }
    Ok(entries)
}

/// `(A + Aᵀ)/2`, in place.
fn symmetrise(entries: &mut [f64], dim: usize, tolerance: f64) -> Result<()> {
    let norm = norm_of(entries).max(f64::MIN_POSITIVE);
    let mut asymmetry: f64 = 0.0;
    for row in 0..dim {
        for column in 0..row {
            let (below, above) = (row * dim + column, column * dim + row);
            asymmetry = asymmetry.max((entries[below] - entries[above]).abs() / norm);
            let mean = 0.5 * (entries[below] + entries[above]);
            (entries[below], entries[above]) = (mean, mean);
        }
    }
    if asymmetry > tolerance {
        return Err(SpectralError::NotSymmetric { method: METHOD, asymmetry, tolerance }.into());
    }
    Ok(())
}

/// Vectors as rows, in the operator's dtype and on its device.
pub(super) fn rows_of(vectors: Vec<DVector<f64>>, operator: &dyn LinearOperator) -> Result<Tensor> {
    let shape = (vectors.len(), operator.dim());
    let entries: Vec<f64> = vectors.iter().flat_map(|vector| vector.iter().copied()).collect();
    let rows = Tensor::from_vec(entries, shape, &Device::Cpu)?;
    Ok(rows.to_dtype(operator.dtype())?.to_device(operator.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{Breaking, Failing, Kept, assert_pairs, clustered_spectrum, with_spectrum};
    use crate::spectral::{SpectralMeasure, Stop, SurveyParams, survey};
    use nalgebra::DMatrix;

    const PARAMS: DenseParams = DenseParams { top: 4, bottom: 3, eigen_tolerance: 1e-4 };

    fn run(operator: &dyn LinearOperator, params: &DenseParams) -> DenseReport {
        dense(operator, params, &mut stream(1, Purpose::Survey), &mut (), &mut ()).unwrap()
    }

    #[test]
    fn every_eigenvalue_is_found_whatever_its_multiplicity() {
        let mut deficient = vec![0.0; 70];
        deficient[..5].copy_from_slice(&[9.0, 9.0, 9.0, -2.0, 1.0]);
        for spectrum in [clustered_spectrum(80), deficient, vec![2.0; 9], vec![0.0; 7]] {
            for (dtype, epsilon) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
                let operator = with_spectrum(&spectrum, dtype, 3);
                let report = run(&operator, &PARAMS).survey;
                assert_pairs(&operator, &spectrum, &report.pairs, 1e-4);
                let mut sorted = spectrum.clone();
                sorted.sort_by(f64::total_cmp);
                let (dim, norm) = (sorted.len() as f64, sorted.iter().fold(0.0, |norm: f64, v| norm.max(v.abs())));
                let [rule] = &report.slq.probes[..] else { panic!("one rule") };
                for (found, expected) in rule.nodes.iter().zip(&sorted) {
                    // Entries are rounded to the dtype; their errors add up like √n at most.
                    assert!((found - expected).abs() <= 8.0 * dim.sqrt() * epsilon * norm, "{found} {expected}");
                }
                assert!(report.slq.change() == 0.0 && report.outcome.stop == Stop::Converged);
                assert_eq!(report.outcome.num_matvecs, sorted.len() + 2 + 7);
            }
        }
    }

    #[test]
    fn sums_over_the_spectrum_are_exact_where_the_survey_estimates() {
        let spectrum: Vec<f64> =
            (0..150).map(|i| if i < 4 { 50.0 - 7.0 * f64::from(i) } else { 1e-2 * f64::from(i - 50) }).collect();
        let operator = with_spectrum(&spectrum, DType::F64, 5);
        let slq = run(&operator, &PARAMS).survey.slq;
        let measure = SpectralMeasure::of(&slq);
        let sum = |f: fn(f64) -> f64| spectrum.iter().copied().map(f).sum::<f64>();
        for (found, expected) in [
            (measure.nuclear_norm(), sum(f64::abs)),
            (measure.frobenius_norm(), sum(|value| value * value).sqrt()),
            (measure.negative_mass(), sum(|value| (-value).max(0.0)) / sum(f64::abs)),
            (measure.effective_dimension(0.05), sum(|value| value.max(0.0) / (value.max(0.0) + 0.05))),
        ] {
            // 150 terms with errors of a few n·ε·‖A‖ and slopes of 20 at most.
            assert!((found.value - expected).abs() < 150.0 * 20.0 * 1e-12 && found.std_err_numeric == 0.0, "{found:?}");
        }
        let params = SurveyParams { num_steps: 6, ..SurveyParams::default() };
        let rough = survey(&operator, &params, &mut stream(1, Purpose::Survey), &mut (), &mut ()).unwrap();
        assert!(SpectralMeasure::of(&rough.slq).nuclear_norm().std_err_numeric > 0.0);
    }

    #[test]
    fn diagonal_and_trace_carry_what_the_shards_say() {
        let shard = |c: f64| (10, DMatrix::from_diagonal(&vec![8.0 * c, c, c, c].into()));
        let operator = DenseOperator::from_shards(vec![shard(1.0), shard(2.0), shard(6.0)], DType::F64);
        let report = run(&operator, &DenseParams { top: 1, bottom: 0, ..PARAMS });
        assert_eq!(report.diagonal, [24.0, 3.0, 3.0, 3.0]);
        assert_eq!(report.shard_diagonals.unwrap().forms[1], [16.0, 2.0, 2.0, 2.0]);
        let trace = report.survey.slq.trace;
        // Shard traces 11, 22, 66: s = 11·√7.
        assert!(
            (trace.trace - 33.0).abs() < 1e-12 && (trace.std_err_data - 11.0 * (7.0_f64 / 3.0).sqrt()).abs() < 1e-11
        );
        let top = &report.survey.pairs.top;
        // Forms 8, 16, 48 along the first axis.
        assert!((top.std_err_data[0] - 8.0 * (7.0_f64 / 3.0).sqrt()).abs() < 1e-11);
    }

    #[test]
    fn what_is_no_symmetric_matrix_is_refused() {
        let fail = |operator: &dyn LinearOperator, top| {
            let params = DenseParams { top, ..PARAMS };
            dense(operator, &params, &mut stream(1, Purpose::Survey), &mut (), &mut ()).unwrap_err().to_string()
        };
        let text = "dense: top is 10, but the operator has dimension 9";
        assert_eq!(fail(&Failing::new(9, usize::MAX, false), 10), text);
        // Two products of the guard come first.
        let text = "dense: the product with the operator is not finite at matvec 5";
        assert_eq!(fail(&Failing::new(9, 7, false), 2), text);
        let mut skew = DMatrix::identity(20, 20);
        skew[(3, 5)] = 0.5;
        assert!(fail(&DenseOperator::new(skew, DType::F64), 2).starts_with("dense: the operator is not symmetric"));
    }

    #[test]
    fn an_interrupted_matrix_goes_on_where_it_was() {
        let shards = [3, 4].map(|seed| (5, with_spectrum(&clustered_spectrum(30), DType::F64, seed).matrix().clone()));
        let operator = DenseOperator::from_shards(shards.to_vec(), DType::F64);
        let whole = run(&operator, &PARAMS);
        let mut store = Kept::default();
        let mut go = |observer: &mut dyn Observer| {
            dense(&operator, &PARAMS, &mut stream(1, Purpose::Survey), &mut store, observer)
        };
        assert!(matches!(go(&mut Breaking::after(2)), Err(Error::Interrupted)));
        assert!(matches!(go(&mut Breaking::after(1)), Err(Error::Interrupted)));
        let resumed = go(&mut ()).unwrap();
        assert_eq!(resumed.survey.slq.probes, whole.survey.slq.probes);
        assert_eq!(resumed.survey.pairs.top.std_err_data, whole.survey.pairs.top.std_err_data);
        assert_eq!(resumed.shard_diagonals, whole.shard_diagonals);
        // Once complete it is taken as it is; a damaged one is refused.
        assert_eq!(go(&mut ()).unwrap().diagonal, whole.diagonal);
        if let Some(state) = &mut store.0 {
            state.put_numbers("rows.1", &[1.0; 31]).unwrap();
        }
        let error = dense(&operator, &PARAMS, &mut stream(1, Purpose::Survey), &mut store, &mut ()).unwrap_err();
        assert!(error.to_string().contains("damaged") && error.to_string().contains("rows.1"), "{error}");
    }
}
