//! The two ways of running an objective: micro-batches in parallel, and one tape over the whole batch.

use candle_core::{DType, Tensor};
use flatness::autodiff::Pattern;
use flatness::curvature::{Curvature, CurvatureOperator};
use flatness::objective::Objective;
use flatness::operator::LinearOperator;
use flatness::program::Loss;
use flatness::program::Mode;

use crate::reference::{Pieces, Reference};
use crate::support::*;

const LAYERS: &str = r#"[
    {"kind": "conv2d", "in": 2, "out": 4, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"},
    {"kind": "batch_norm2d", "channels": 4, "momentum": 0.3, "weight": "n.w", "bias": "n.b",
     "running_mean": "n.mean", "running_var": "n.var"},
    {"kind": "gelu"}, {"kind": "max_pool2d", "kernel": 2},
    {"kind": "conv2d", "in": 4, "out": 3, "kernel": 2, "stride": 2, "weight": "b.w"},
    {"kind": "batch_norm2d", "channels": 3, "running_mean": "m.mean", "running_var": "m.var"},
    {"kind": "relu"}, {"kind": "flatten"},
    {"kind": "linear", "in": 6, "out": 3, "weight": "c.w", "bias": "c.b"}]"#;

const SHAPE: [usize; 3] = [2, 5, 8];
const LOSS: Loss = Loss::cross_entropy();

fn problem(train: bool) -> Problem {
    Problem { train, ..Problem::new(LAYERS, &SHAPE, 23, LOSS, 31) }
}

const CURVATURES: [Curvature; 3] = [Curvature::Hessian, Curvature::Ggn, Curvature::EmpiricalFisher];

#[test]
fn stored_statistics_every_cut_gives_what_one_tape_gives() {
    let problem = problem(false);
    let n = problem.dim();
    let block = tensor(&mut random(32), &[3, n], DType::F64);
    let theta = vector(&problem.theta);
    let all: Vec<usize> = (0..problem.data.len()).collect();
    // With batch normalisation in the network, `training_gradient` uses one tape whatever the mode.
    let objective = problem.objective(DType::F64);
    let tape = objective.training_gradient(&theta, &objective.batch(&all).unwrap(), Mode::Eval).unwrap();
    assert!(tape.statistics.is_empty(), "eval mode has no batch statistics");
    let mut sizes = Vec::new();
    let mut expected: Option<Vec<Vec<f64>>> = None;
    for (memory_bytes, num_shards, threads) in [
        (2 << 30, 1, 1),
        (1 << 20, 1, 2),
        (200_000, 1, 3),
        (100_000, 2, 2),
        (1, 1, 3),
        (2 << 30, 7, 3),
        (2 << 30, 99, 2),
    ] {
        let mut options = problem.options(DType::F64);
        (options.execution.memory_bytes, options.num_shards, options.execution.threads) =
            (memory_bytes, num_shards, threads);
        let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
        sizes.push(objective.micro_batch(3).min(23 / num_shards));
        let report = objective.gradient(&theta, &mut ()).unwrap();
        // Sums of 23 rows in another order.
        let tolerance = |scale: f64| 100.0 * f64::EPSILON * scale;
        let (loss, one) = (report.evaluation.loss, tape.evaluation.loss);
        assert!((loss - one).abs() <= tolerance(one), "{memory_bytes} bytes: loss {loss}, one tape {one}");
        assert_eq!(report.evaluation.accuracy, tape.evaluation.accuracy);
        assert_eq!(objective.evaluate(&theta, &mut ()).unwrap(), report.evaluation);
        let whole = values(&tape.gradient);
        assert_close("gradient", &values(&report.gradient), &whole, tolerance(largest(&whole)));
        let got: Vec<Vec<f64>> =
            CURVATURES.into_iter().map(|c| products(&objective, &problem.theta, c, &block)).collect();
        let expected = expected.get_or_insert_with(|| got.clone());
        for (got, expected) in got.iter().zip(expected) {
            assert_close("products", got, expected, tolerance(n as f64 * largest(expected)));
        }
    }
    assert!(sizes.contains(&23) && sizes.contains(&1) && sizes.iter().any(|size| (2..12).contains(size)), "{sizes:?}");
}

#[test]
fn memory_bounds_the_block_of_directions() {
    let problem = problem(false);
    let within = |memory_bytes: usize| {
        let mut options = problem.options(DType::F64);
        options.execution.memory_bytes = memory_bytes;
        Objective::new(&problem.network, &problem.data, options).unwrap()
    };
    // So little memory holds no block at all, so much any.
    assert_eq!([1, 1 << 30].map(|memory_bytes| within(memory_bytes).block_size()), [1, 8]);
    let vectors = (1..1000).find(|vectors| within(8 * problem.dim() * vectors).block_size() == 3).unwrap();
    let small = within(8 * problem.dim() * vectors);
    let block = tensor(&mut random(33), &[7, problem.dim()], DType::F64);
    for curvature in CURVATURES {
        let at_once = products(&problem.objective(DType::F64), &problem.theta, curvature, &block);
        let in_groups = products(&small, &problem.theta, curvature, &block);
        let tolerance = 100.0 * problem.dim() as f64 * f64::EPSILON * largest(&at_once);
        assert_close(&format!("{curvature:?}"), &in_groups, &at_once, tolerance);
    }
}

#[test]
fn shard_forms_are_the_forms_of_the_shards() {
    let problem = Problem { num_shards: 4, ..problem(false) };
    let mut options = problem.options(DType::F64);
    options.weight_decay = 0.01;
    let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
    let n = problem.dim();
    // More vectors than one group: the forms of all of them must come back.
    let block = tensor(&mut random(34), &[11, n], DType::F64);
    for curvature in CURVATURES {
        let operator = CurvatureOperator::new(&objective, &vector(&problem.theta), curvature).unwrap();
        let product = operator.apply(&block, &mut ()).unwrap();
        let shards = product.shards.unwrap();
        assert_eq!(shards.rows.iter().sum::<usize>(), 23);
        let (v, av) = (values(&block), values(&product.block));
        for k in 0..11 {
            let whole: f64 = (0..n).map(|i| v[k * n + i] * av[k * n + i]).sum();
            let parts: f64 = shards.rows.iter().zip(&shards.forms).map(|(&rows, f)| rows as f64 / 23.0 * f[k]).sum();
            assert!((whole - parts).abs() <= 1e3 * f64::EPSILON * whole.abs().max(1.0), "{whole} is not {parts}");
        }
    }
}

#[test]
fn batch_statistics_gradient_and_hessian() {
    let problem = problem(true);
    let n = problem.dim();
    // Memory for one row at a time must not cut a batch whose statistics couple its rows.
    let mut options = problem.options(DType::F64);
    options.execution.memory_bytes = 1;
    let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
    let mut patterns = Vec::new();
    let recorded = objective.gradient_with_patterns(&vector(&problem.theta), &mut patterns).unwrap();
    let report = objective.gradient(&vector(&problem.theta), &mut ()).unwrap();
    assert_eq!(values(&recorded), values(&report.gradient));
    let record: Vec<Vec<Tensor>> = patterns
        .into_iter()
        .map(|pattern| if let Pattern::Record(choices) = pattern { choices } else { unreachable!("a record") })
        .collect();
    let hessian = dense(&objective, &problem.theta, Curvature::Hessian);
    assert_symmetric("Hessian with batch statistics", &hessian, n);
    assert_symmetric("GGN with batch statistics", &dense(&objective, &problem.theta, Curvature::Ggn), n);
    for i in 0..n {
        let column = derivative(|step| {
            let mut theta = problem.theta.clone();
            theta[i] += step;
            let mut patterns: Vec<Pattern> = record.iter().cloned().map(Pattern::replay).collect();
            values(&objective.gradient_with_patterns(&vector(&theta), &mut patterns).unwrap())
        });
        let tolerance = DIFFERENCE_TOLERANCE * largest(&hessian).max(1.0);
        assert_close("Hessian", &hessian[i * n..(i + 1) * n], &column, tolerance);
    }
}

#[test]
fn batch_statistics_results_do_not_depend_on_threads() {
    // Large enough that every kernel has several chunks to share.
    let problem = Problem { train: true, ..Problem::new(LAYERS, &SHAPE, 400, LOSS, 35) };
    for dtype in [DType::F32, DType::F64] {
        let block = tensor(&mut random(36), &[3, problem.dim()], dtype);
        let run = |threads: usize| {
            let mut options = problem.options(dtype);
            options.execution.threads = threads;
            let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
            let theta = objective.place(&vector(&problem.theta)).unwrap();
            let report = objective.gradient(&theta, &mut ()).unwrap();
            let all: Vec<usize> = (0..400).collect();
            let training = objective
                .training_gradient(&theta, &objective.batch(&all).unwrap(), Mode::Train { draws: None })
                .unwrap();
            let mut results = vec![vec![report.evaluation.loss], values(&report.gradient), values(&training.gradient)];
            results.extend(training.statistics.iter().flat_map(|s| [values(&s.mean), values(&s.var)]));
            results.extend(CURVATURES.map(|curvature| products(&objective, &problem.theta, curvature, &block)));
            results
        };
        let one = run(1);
        assert_eq!(one[1], one[2], "the training gradient on all rows is the objective's");
        for threads in [2, 3] {
            assert!(run(threads) == one, "{threads} threads changed bits in {dtype:?}");
        }
    }
}

#[test]
fn running_statistics_of_a_training_pass() {
    let problem = problem(true);
    let rows = [4, 0, 17, 9, 21, 3];
    let objective = problem.objective(DType::F64);
    let theta = vector(&problem.theta);
    let report =
        objective.training_gradient(&theta, &objective.batch(&rows).unwrap(), Mode::Train { draws: None }).unwrap();
    let named: Vec<(&str, &str, f64)> =
        report.statistics.iter().map(|s| (s.running_mean.as_str(), s.running_var.as_str(), s.momentum)).collect();
    assert_eq!(named, [("n.mean", "n.var", 0.3), ("m.mean", "m.var", 0.1)]);
    let tensors = problem.named(&problem.theta);
    let mut reference =
        Reference { tensors, batch_statistics: true, pieces: Pieces::default(), statistics: Vec::new() };
    let chosen = Problem { data: problem.data.select(&rows).unwrap(), ..self::problem(true) };
    reference.list(&serde_json::from_str(LAYERS).unwrap(), &chosen.inputs());
    for (got, (mean, var)) in report.statistics.iter().zip(&reference.statistics) {
        // Sums of at most 240 numbers near 1.
        assert_close("mean", &values(&got.mean), mean, 1e3 * f64::EPSILON * largest(mean).max(1.0));
        assert_close("variance", &values(&got.var), var, 1e3 * f64::EPSILON * largest(var).max(1.0));
    }
    // The statistics of a pass are those of its rows only, so the gradient is that of an objective on them.
    let same = chosen.objective(DType::F64).gradient(&theta, &mut ()).unwrap();
    assert_eq!(values(&same.gradient), values(&report.gradient));
}

#[test]
fn dropout_draws_in_training_only() {
    let layers = r#"[
        {"kind": "linear", "in": 3, "out": 40, "weight": "a.w"}, {"kind": "dropout", "p": 0.25},
        {"kind": "linear", "in": 40, "out": 3, "weight": "b.w"}]"#;
    let problem = Problem::new(layers, &[3], 50, Loss::Mse {}, 37);
    let objective = problem.objective(DType::F64);
    let theta = vector(&problem.theta);
    let all: Vec<usize> = (0..50).collect();
    let pass = |seed: Option<u64>| {
        let mode = Mode::Train { draws: seed.map(random) };
        objective.training_gradient(&theta, &objective.batch(&all).unwrap(), mode).unwrap()
    };
    assert_eq!(values(&pass(Some(1)).gradient), values(&pass(Some(1)).gradient));
    assert_ne!(values(&pass(Some(1)).gradient), values(&pass(Some(2)).gradient));
    let plain = objective.gradient(&theta, &mut ()).unwrap();
    // The objective sums its rows in an order of its own.
    let tolerance = 100.0 * f64::EPSILON * largest(&values(&plain.gradient));
    assert_close("without masks", &values(&pass(None).gradient), &values(&plain.gradient), tolerance);
    // The network is linear, so outputs are unbiased under dropout, and the loss gains their variance: it must be
    // larger on average. Over 40 seeds the mean of the gain is compared with its own standard error.
    let gains: Vec<f64> = (0..40).map(|seed| pass(Some(seed)).evaluation.loss - plain.evaluation.loss).collect();
    let mean = gains.iter().sum::<f64>() / 40.0;
    let std_error = (gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / (39.0 * 40.0)).sqrt();
    let expected = dropout_variance(&problem, 0.25);
    assert!((mean - expected).abs() <= 4.0 * std_error, "gain {mean} ± {std_error}, expected {expected}");
}

/// Mean over rows and outputs of `Σ_i (w_ci h_i)² p/(1 − p)`: the variance that dropout adds to a linear output.
fn dropout_variance(problem: &Problem, p: f64) -> f64 {
    let (x, tensors) = (problem.inputs(), problem.named(&problem.theta));
    let (a, b) = (&tensors["a.w"].data, &tensors["b.w"].data);
    let mut sum = 0.0;
    for row in x.data.chunks(3) {
        for i in 0..40 {
            let hidden: f64 = (0..3).map(|j| a[3 * i + j] * row[j]).sum();
            sum += (0..3).map(|c| (b[40 * c + i] * hidden).powi(2)).sum::<f64>();
        }
    }
    sum * p / (1.0 - p) / (3 * problem.data.len()) as f64
}
