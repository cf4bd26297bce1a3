use std::ops::Range;

use nalgebra::DMatrix;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::operator::DenseOperator;
use crate::random::{Purpose, stream};
use crate::spectral::testing::{Breaking, Kept, assert_pairs};
use crate::spectral::vectors::normal_block;
use crate::spectral::{SpectralMeasure, Stop};
use crate::team::testing::Crew;
use crate::team::{Team, team};
use crate::{Error, Step};

/// `FᵀF + c I`, and `F`.
struct Sum {
    factor: DMatrix<f64>,
    shift: f64,
    operator: DenseOperator,
}

impl Sum {
    fn new(factor: DMatrix<f64>, shift: f64, dtype: DType) -> Self {
        // As the rows come.
        let factor = if dtype == DType::F32 { factor.map(|entry| f64::from(entry as f32)) } else { factor };
        let dim = factor.ncols();
        let matrix = factor.transpose() * &factor + DMatrix::identity(dim, dim) * shift;
        Self { factor, shift, operator: DenseOperator::new(matrix, dtype) }
    }

    /// All eigenvalues, ascending.
    fn spectrum(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.factor.singular_values().iter().map(|sigma| sigma * sigma).collect();
        values.resize(self.factor.ncols(), 0.0);
        values.sort_by(f64::total_cmp);
        values.iter().map(|value| value + self.shift).collect()
    }
}

impl OuterProducts for Sum {
    fn dim(&self) -> usize {
        self.factor.ncols()
    }
    fn dtype(&self) -> DType {
        self.operator.dtype()
    }
    fn num_rows(&self) -> usize {
        self.factor.nrows()
    }
    fn shift(&self) -> f64 {
        self.shift
    }
    fn rows(&self, range: Range<usize>, observer: &mut dyn Observer) -> Result<Tensor> {
        let step = Step { task: "rows", done: range.end, total: self.num_rows(), message: String::new() };
        if observer.on_step(&step).is_break() {
            return Err(Error::Interrupted);
        }
        let entries: Vec<f64> =
            range.clone().flat_map(|row| self.factor.row(row).iter().copied().collect::<Vec<_>>()).collect();
        Ok(Tensor::from_vec(entries, (range.len(), self.dim()), &Device::Cpu)?.to_dtype(self.dtype())?)
    }
}

/// Rows of falling length; `rank` of them are independent.
fn random(rows: usize, dim: usize, rank: usize) -> DMatrix<f64> {
    let mut rng = stream(rows as u64, Purpose::Check);
    let mut draw = || -> f64 { StandardNormal.sample(&mut rng) };
    let free = DMatrix::from_fn(rank, dim, |row, _| 0.9f64.powi(row as i32) * draw());
    DMatrix::from_fn(rows, dim, |row, column| free[(row % rank, column)] * (1.0 + (row / rank) as f64))
}

fn params(held: usize, piece: usize, dim: usize) -> GramParams {
    let blocks = RowBlocks { count: 0, held, piece, kept: held > 20, memory_bytes: 0 };
    GramParams { top: 4, bottom: 3, eigen_tolerance: 1e-4, spans: vec![2, dim - 2], blocks }
}

fn run(sum: &Sum, params: &GramParams) -> GramReport {
    let mut rng = stream(1, Purpose::Survey);
    gram(Factored { operator: &sum.operator, factor: sum }, params, &mut rng, &mut (), &mut ()).unwrap()
}

#[test]
fn every_eigenvalue_and_the_zeros_are_found() {
    // Fewer rows than columns, equal rows among them, more rows than columns, no row but zeros.
    for (rows, dim, rank) in [(30, 80, 30), (30, 80, 11), (40, 25, 25), (40, 25, 9), (3, 9, 3)] {
        for (factor, shift) in
            [(random(rows, dim, rank), 0.0), (random(rows, dim, rank), 0.3), (DMatrix::zeros(rows, dim), 0.5)]
        {
            for dtype in [DType::F64, DType::F32] {
                let sum = Sum::new(factor.clone(), shift, dtype);
                let spectrum = sum.spectrum();
                let report = run(&sum, &params(rows, 7, dim));
                assert_pairs(&sum.operator, &spectrum, &report.survey.pairs, 1e-4);
                let [rule] = &report.survey.slq.probes[..] else { panic!("one rule") };
                assert!(rule.nodes.is_sorted() && rule.nodes.iter().all(|node| *node >= shift));
                let zeros = if rows < dim { vec![rule.nodes[0]; dim - rows] } else { Vec::new() };
                let nodes = zeros.iter().chain(&rule.nodes[usize::from(rows < dim)..]);
                assert_eq!(nodes.clone().count(), dim);
                // Sums of n products, decomposed: a few n·ε·‖A‖, in either dtype.
                let rounding = 8.0 * 80.0 * f64::EPSILON * spectrum[dim - 1];
                assert!(nodes.zip(&spectrum).all(|(found, value)| (found - value).abs() <= rounding));
                assert!((rule.weights.iter().sum::<f64>() - 1.0).abs() < 1e-13);
                let trace = report.survey.slq.trace.trace;
                assert!((trace - spectrum.iter().sum::<f64>()).abs() <= dim as f64 * rounding);
                let nuclear = SpectralMeasure::of(&report.survey.slq).nuclear_norm();
                assert!((nuclear.value - trace).abs() <= dim as f64 * rounding && nuclear.std_err_numeric == 0.0);
                let outcome = &report.survey.outcome;
                assert_eq!((outcome.stop, outcome.num_matvecs), (Stop::Converged, 2 + 7));
                for (row, squares) in report.squares.iter().enumerate() {
                    let head = sum.factor.row(row).columns(0, 2).norm_squared();
                    assert!((squares[0] - head).abs() <= 1e-14 * head);
                    assert!((squares.iter().sum::<f64>() - sum.factor.row(row).norm_squared()).abs() <= rounding);
                }
            }
        }
    }
}

#[test]
fn blocks_change_no_bit_of_the_spectrum() {
    // More columns than are multiplied at a time.
    let sum = Sum::new(random(29, 1_500, 29), 0.1, DType::F32);
    let whole = run(&sum, &params(29, 5, 1_500));
    for (held, piece) in [(1, 1), (4, 3), (15, 7), (28, 29)] {
        let report = run(&sum, &params(held, piece, 1_500));
        assert_eq!(report.survey.slq.probes, whole.survey.slq.probes, "{held} {piece}");
        assert_eq!(report.squares, whole.squares);
        assert_pairs(&sum.operator, &sum.spectrum(), &report.survey.pairs, 1e-4);
    }
}

#[test]
fn an_interrupted_matrix_goes_on_where_it_was() {
    let sum = Sum::new(random(30, 80, 30), 0.0, DType::F64);
    let params = params(7, 4, 80);
    let whole = run(&sum, &params);
    let mut store = Kept::default();
    let mut go = |observer: &mut dyn Observer| {
        gram(
            Factored { operator: &sum.operator, factor: &sum },
            &params,
            &mut stream(1, Purpose::Survey),
            &mut store,
            observer,
        )
    };
    // 1 block, 6 pieces and a step for the first rows; then 5 pieces more; the vectors come last.
    for steps in [9, 8, 5, 1, 16] {
        assert!(matches!(go(&mut Breaking::after(steps)), Err(Error::Interrupted)), "{steps}");
    }
    let resumed = go(&mut ()).unwrap();
    assert_eq!(resumed.survey.slq.probes, whole.survey.slq.probes);
    assert_eq!(resumed.squares, whole.squares);
    assert_eq!(resumed.survey.pairs.top.ritz_values, whole.survey.pairs.top.ritz_values);
    if let Some(state) = &mut store.0 {
        state.put_numbers("gram.1", &[1.0; 31]).unwrap();
    }
    let mut rng = stream(1, Purpose::Survey);
    let error =
        gram(Factored { operator: &sum.operator, factor: &sum }, &params, &mut rng, &mut store, &mut ()).unwrap_err();
    assert!(error.to_string().contains("damaged") && error.to_string().contains("gram.1"), "{error}");
}

#[test]
fn rows_that_are_not_finite_are_refused() {
    let mut sum = Sum::new(random(6, 20, 6), 0.0, DType::F64);
    sum.factor[(4, 7)] = f64::NAN;
    let mut rng = stream(1, Purpose::Survey);
    let error = gram(Factored { operator: &sum.operator, factor: &sum }, &params(4, 2, 20), &mut rng, &mut (), &mut ())
        .unwrap_err();
    assert_eq!(error.to_string(), "gram: the product with the operator is not finite at matvec 5");
}

#[test]
fn blocks_are_the_largest_that_fit() {
    // 100 rows of 2,000 numbers in f32, 8 KB each, and 8 KB of them in f64; a matrix of 80 KB, which must fit twice.
    let row = 2_000 * 4 + 1_024 * 8;
    let fit = |pairs, memory_bytes| RowBlocks::fit(100, 2_000, DType::F32, pairs, memory_bytes);
    let all = fit(0, 80_000 + 200 * row).unwrap();
    assert_eq!((all.count, all.held, all.piece, all.kept), (1, 100, 25, true));
    assert_eq!((all.passing(100), all.memory_bytes), (100, 80_000 + 125 * row));
    let some = fit(0, 80_000 + 40 * row).unwrap();
    assert_eq!((some.count, some.held, some.piece, some.kept), (3, 34, 5, false));
    assert_eq!(some.passing(100), 100 + 66 + 32);
    let least = fit(0, 160_000).unwrap();
    assert_eq!((least.count, least.held, least.piece, least.memory_bytes), (34, 3, 1, 160_000));
    assert!(fit(0, 159_999).is_none());
    // Three pairs take two vectors of 16 KB each, beside both matrices but not beside the blocks.
    assert_eq!(fit(3, 80_000 + 40 * row), Some(RowBlocks { memory_bytes: 256_000.max(some.memory_bytes), ..some }));
    assert!(fit(3, 255_999).is_none());
    // Two matrices of 32 bytes, but not two rows.
    assert!(RowBlocks::fit(2, 1_000_000, DType::F32, 0, 5_000_000).is_none());
}

#[test]
fn ranks_find_the_bits_of_one_process() {
    let sum = Sum::new(random(602, 40, 30), 0.0, DType::F32);
    let mut rng = stream(2, Purpose::Check);
    let block = normal_block((3, 40), DType::F64, &Device::Cpu, &mut rng).unwrap();
    // One block that stays, and two while later rows pass by.
    for (held, piece) in [(602, 64), (400, 64), (301, 2)] {
        let found = |team: &'static dyn Team| {
            let mut rows = Rows::new(&sum, params(held, piece, 40).blocks);
            rows.team = team;
            let matrix = Gram::of(&mut rows, &[2, 38], &mut (), &mut ()).unwrap().finish().unwrap();
            (matrix, rows.images(&block, &mut ()).unwrap().to_vec2::<f64>().unwrap())
        };
        let alone = found(team());
        for size in [2, 3, 4] {
            assert!(Crew::each(size, found).iter().all(|found| *found == alone), "{held}, {size} ranks");
        }
    }
}
