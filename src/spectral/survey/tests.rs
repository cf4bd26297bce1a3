use std::cell::Cell;

use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, DVector};

use super::*;
use crate::operator::DenseOperator;
use crate::operator::Product;
use crate::random::{Purpose, stream};
use crate::spectral::testing::{Breaking, assert_pairs, clustered_spectrum, detached, with_spectrum};
use crate::spectral::{Quadrature, RuleSource};

/// Bulk in [−1, 1], ten outliers up to 200, a tail to −20: the shape of a network's Hessian.
fn network_like(dim: usize) -> Vec<f64> {
    let mut spectrum: Vec<f64> = (0..dim).map(|i| (i as f64 * 0.7).sin()).collect();
    (0..10).for_each(|i| spectrum[i] = 200.0 / (1.0 + 0.5 * i as f64));
    (10..15).for_each(|i| spectrum[i] = -20.0 / (i - 9) as f64);
    spectrum
}

fn run(operator: &dyn LinearOperator, params: &SurveyParams) -> SurveyReport {
    survey(operator, params, &mut stream(3, Purpose::Survey), &mut (), &mut ()).unwrap()
}

fn ends(top: usize, bottom: usize) -> SurveyParams {
    SurveyParams { top, bottom, ..SurveyParams::default() }
}

fn total(rule: &Quadrature, f: impl Fn(f64) -> f64) -> f64 {
    rule.nodes.iter().zip(&rule.weights).map(|(&node, weight)| weight * f(node)).sum()
}

#[test]
fn both_ends_match_known_spectra() {
    let mut repeated = vec![1.0; 200];
    repeated[..6].copy_from_slice(&[5.0, 5.0, 5.0, -2.0, -2.0, -2.0]);
    let mut deficient = vec![0.0; 150];
    deficient[..3].copy_from_slice(&[7.0, 3.0, -1.0]);
    for (spectrum, top, bottom) in [
        (network_like(400), 6, 3),
        (clustered_spectrum(80), 3, 1),
        (repeated, 4, 4),
        (deficient, 3, 2),
        (vec![0.0; 30], 2, 2),
        (vec![-3.0], 1, 0),
        (vec![2.0, 5.0], 1, 1),
        (vec![1.0, 1.0, 2.0, 3.0, 3.0], 3, 2),
    ] {
        for (dtype, eigen_tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-5)] {
            let operator = with_spectrum(&spectrum, dtype, 4);
            let report = run(&operator, &SurveyParams { eigen_tolerance, ..ends(top, bottom) });
            assert!(matches!(report.outcome.stop, Stop::Converged | Stop::MaxSteps));
            assert_pairs(&operator, &spectrum, &report.pairs, eigen_tolerance);
        }
    }
}

#[test]
fn a_block_rule_is_exact_up_to_its_degree() {
    let spectrum: Vec<f64> = (0..200).map(|i| 2.0 * f64::from(i) / 199.0 - 1.0).collect();
    let operator = with_spectrum(&spectrum, DType::F64, 8);
    let (probes, steps) = (3, 5);
    let mut rng = stream(1, Purpose::Check);
    let params = SurveyParams { num_probes: probes, ..ends(0, 0) }.eigen();
    let mut search = Search::new(&operator, &params, SPARE_ROWS, None, &mut rng).unwrap();
    (0..steps).for_each(|_| search.step(&mut rng, &mut ()).unwrap());
    let rules = Rules::of(&search, probes);
    let mut basis = search.state.ritz();
    basis.vectors = DMatrix::identity(probes * steps, probes * steps);
    let starts = search.state.vectors(&basis, &[0, 1, 2]).unwrap().to_vec2::<f64>().unwrap();
    for (rule, start) in rules.probes.iter().zip(starts) {
        let start = DVector::from_vec(start);
        let mut power = start.clone();
        for degree in 0..2 * steps {
            let moment = total(rule, |node| node.powi(degree as i32));
            // ‖A‖ = 1: each of up to 10 products adds at most n·ε.
            assert!((moment - start.dot(&power)).abs() < 10.0 * 200.0 * f64::EPSILON, "degree {degree}");
            power = operator.matrix() * power;
        }
    }
}

#[test]
fn the_density_knows_the_outliers_exactly() {
    let spectrum = network_like(400);
    let operator = with_spectrum(&spectrum, DType::F64, 5);
    let report = run(&operator, &ends(10, 5));
    assert!(report.outcome.density_converged && report.slq.change() <= 0.05);
    for rule in &report.slq.probes {
        assert!((total(rule, |_| 1.0) - 1.0).abs() < 1e-12);
        // The 15 outliers carry all of tr A² but the bulk's 385/2, of which a probe sees a random part: Rademacher-like
        // variance 2·tr A⁴/n² of the bulk, under 1 % of the total.
        let squares: f64 = spectrum.iter().map(|value| value * value).sum();
        assert!((400.0 * total(rule, |node| node * node) / squares - 1.0).abs() < 0.01);
    }
    // All of the space: each eigenvalue once, for every probe.
    let small = network_like(60);
    let complete = run(&with_spectrum(&small, DType::F64, 5), &ends(2, 2));
    let squares: f64 = small.iter().map(|value| value * value).sum();
    assert!(
        complete
            .slq
            .probes
            .iter()
            .all(|rule| { rule.exact && (60.0 * total(rule, |node| node * node) / squares - 1.0).abs() < 1e-12 })
    );
}

#[test]
fn the_trace_samples_are_unbiased_and_carry_the_data_error() {
    let shard = |value: f64| (10, DMatrix::from_diagonal_element(6, 6, value));
    let operator = DenseOperator::from_shards(vec![shard(1.0), shard(2.0), shard(6.0)], DType::F64);
    let report = run(&operator, &ends(1, 1)).slq.trace;
    assert!((report.trace - 18.0).abs() < 1e-12 && report.std_err_numeric < 1e-12);
    // Shard traces 6, 12, 36: s² = 252.
    assert!((report.std_err_data - 84.0_f64.sqrt()).abs() < 1e-11);
    let operator = with_spectrum(&network_like(150), DType::F64, 2);
    let exact = operator.matrix().trace();
    let mean = |seed| {
        let params = SurveyParams { max_matvecs: 40, ..ends(1, 0) };
        survey(&operator, &params, &mut stream(seed, Purpose::Survey), &mut (), &mut ()).unwrap().slq.trace.trace
    };
    let means: Vec<f64> = (0..100).map(mean).collect();
    let (average, error) = mean_and_std_error(&means);
    assert!((average - exact).abs() < 4.0 * error, "{average} ± {error}, {exact}");
}

/// Keeps every state.
#[derive(Default)]
struct Memory {
    kept: Option<SurveyState>,
    saves: usize,
}

impl Store for Memory {
    fn load(&mut self) -> Result<Option<SurveyState>> {
        Ok(self.kept.clone())
    }
    fn wants(&mut self, _bytes: usize, _last: bool) -> bool {
        true
    }
    fn save(&mut self, state: &SurveyState) {
        self.kept = Some(detached(state));
        self.saves += 1;
    }
}

/// All numbers of a report, as bits.
fn numbers(report: &SurveyReport) -> Vec<u64> {
    let ends = [&report.pairs.top, &report.pairs.bottom].into_iter();
    let ends = ends.flat_map(|end| {
        let vectors = end.vectors.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        [end.ritz_values.clone(), end.residual_norms.clone(), end.std_err_data.clone(), vectors].concat()
    });
    let rules = report.slq.probes.iter().flat_map(|rule| [rule.nodes.clone(), rule.weights.clone()].concat());
    let trace = report.slq.trace.samples.iter().copied();
    let rest = [
        report.slq.trace.std_err_data,
        report.slq.change(),
        report.outcome.num_matvecs as f64,
        report.outcome.num_restarts as f64,
    ];
    ends.chain(rules).chain(trace).chain(rest).map(f64::to_bits).collect()
}

#[test]
fn a_killed_survey_goes_on_to_the_same_bits() {
    let mut matrices = Vec::new();
    for (seed, rows) in [(1, 7), (2, 9)] {
        matrices.push((rows, with_spectrum(&network_like(300), DType::F64, seed).matrix().clone()));
    }
    let operator = DenseOperator::from_shards(matrices, DType::F32);
    // A small basis, so that some kills fall behind a restart.
    let params = SurveyParams { memory_bytes: 130 * 300 * 4, eigen_tolerance: 1e-5, ..ends(6, 4) };
    let whole = numbers(&run(&operator, &params));
    for steps in (1..200).step_by(7) {
        let mut store = Memory::default();
        let mut rng = stream(3, Purpose::Survey);
        let killed = survey(&operator, &params, &mut rng, &mut store, &mut Breaking::after(steps));
        let Some(Stop::Converged | Stop::MaxSteps) = killed.ok().map(|report| report.outcome.stop) else {
            assert!(store.saves > 0);
            // Another stream position, which the state must set right.
            let mut rng = stream(3, Purpose::Survey);
            let resumed = survey(&operator, &params, &mut rng, &mut store, &mut ()).unwrap();
            assert!(numbers(&resumed) == whole, "killed after {steps} steps");
            continue;
        };
        assert!(steps > 8, "kills fell into the run");
        break;
    }
}

#[test]
fn many_pairs_survive_many_restarts() {
    let spectrum: Vec<f64> = (0..600).map(f64::from).collect();
    let operator = with_spectrum(&spectrum, DType::F64, 6);
    // More kept vectors than are looked at after every step, and a basis that fills many times.
    let params = SurveyParams {
        memory_bytes: 480 * 600 * 8,
        eigen_tolerance: 1e-6,
        max_matvecs: 8_000,
        num_steps: 8,
        ..ends(100, 0)
    };
    let report = run(&operator, &params);
    assert!(report.outcome.num_restarts >= 3, "{} restarts", report.outcome.num_restarts);
    assert_pairs(&operator, &spectrum, &report.pairs, 1e-6);
}

#[test]
fn budgets_end_it_and_time_names_the_same_budget() {
    let operator = with_spectrum(&(0..600).map(|i| f64::from(i).sqrt()).collect::<Vec<_>>(), DType::F64, 2);
    let base = SurveyParams { eigen_tolerance: 1e-12, ..ends(4, 2) };
    let spent = run(&operator, &SurveyParams { max_matvecs: 60, ..base.clone() });
    assert_eq!(spent.outcome.stop, Stop::MaxMatvecs);
    assert!(spent.outcome.num_matvecs <= 60 && spent.pairs.top.converged.iter().any(|converged| !converged));
    // With little memory the density is one of its own.
    for memory_bytes in [base.memory_bytes, 40 * 600 * 8] {
        let base = SurveyParams { memory_bytes, ..base.clone() };
        let late = run(&operator, &SurveyParams { max_time: Some(Duration::ZERO), ..base.clone() });
        let Stop::MaxTime { max_matvecs } = late.outcome.stop else { panic!("{:?}", late.outcome.stop) };
        let same = run(&operator, &SurveyParams { max_matvecs, ..base });
        assert!(numbers(&late) == numbers(&same) && same.outcome.stop == Stop::MaxMatvecs);
    }
    let error =
        survey(&operator, &SurveyParams { max_matvecs: 15, ..base }, &mut stream(3, Purpose::Survey), &mut (), &mut ());
    let text = "lanczos: a budget of 15 products is too small: at least 16 are needed for a result";
    assert_eq!(error.unwrap_err().to_string(), text);
}

/// Products that take their time.
struct Slow<'a>(&'a dyn LinearOperator);

impl LinearOperator for Slow<'_> {
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn dtype(&self) -> DType {
        self.0.dtype()
    }
    fn device(&self) -> &Device {
        self.0.device()
    }
    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        std::thread::sleep(Duration::from_millis(5) * block.dim(0)? as u32);
        self.0.apply(block, observer)
    }
}

#[test]
fn closing_products_are_within_the_time() {
    let operator = with_spectrum(&(0..600).map(f64::from).collect::<Vec<_>>(), DType::F64, 2);
    // The closing products alone take 0.2 seconds.
    let params = SurveyParams { eigen_tolerance: 1e-12, max_time: Some(Duration::from_secs(1)), ..ends(40, 0) };
    let started = Instant::now();
    let report = run(&Slow(&operator), &params);
    let elapsed = started.elapsed();
    assert!(matches!(report.outcome.stop, Stop::MaxTime { .. }), "{:?}", report.outcome.stop);
    assert!(elapsed < Duration::from_millis(1_100), "{elapsed:?}");
}

#[test]
fn little_memory_gives_a_density_of_its_own() {
    let spectrum = network_like(300);
    let operator = with_spectrum(&spectrum, DType::F64, 6);
    let report = run(&operator, &SurveyParams { memory_bytes: 40 * 300 * 8, num_steps: 20, ..ends(4, 2) });
    assert_pairs(&operator, &spectrum, &report.pairs, 1e-4);
    assert_eq!((report.slq.probes.len(), report.slq.num_steps), (4, 20));
    assert_eq!(report.slq.source, RuleSource::Lanczos);
}

/// A matrix that is not symmetric, or changes a little with each product.
struct Faulty {
    matrix: DMatrix<f64>,
    drift: f64,
    products: Cell<f64>,
}

impl LinearOperator for Faulty {
    fn dim(&self) -> usize {
        self.matrix.nrows()
    }
    fn dtype(&self) -> DType {
        DType::F64
    }
    fn device(&self) -> &Device {
        &Device::Cpu
    }
    fn apply(&self, block: &Tensor, _observer: &mut dyn Observer) -> Result<Product> {
        self.products.set(self.products.get() + 1.0);
        let factor = 1.0 + self.drift * self.products.get();
        let rows = block.to_vec2::<f64>()?;
        let rows: Vec<Vec<f64>> =
            rows.into_iter().map(|row| (&self.matrix * DVector::from_vec(row) * factor).as_slice().to_vec()).collect();
        Ok(Product { block: Tensor::new(rows, &Device::Cpu)?, shards: None })
    }
}

#[test]
fn faulty_operators_are_named() {
    let fail = |matrix, drift| {
        let operator = Faulty { matrix, drift, products: Cell::new(0.0) };
        survey(&operator, &ends(1, 1), &mut stream(3, Purpose::Survey), &mut (), &mut ()).unwrap_err().to_string()
    };
    let mut skew = DMatrix::identity(40, 40);
    skew[(3, 5)] = 0.5;
    assert!(fail(skew, 0.0).starts_with("lanczos: the operator is not symmetric: uᵀAv and vᵀAu differ by "));
    let text = "lanczos: the operator is not deterministic: two products of one vector differ by 1.0e-12 of ‖Av‖";
    assert_eq!(fail(DMatrix::identity(40, 40), 1e-12), text);
}
