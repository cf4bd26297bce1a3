//! Exact traces and diagonals against dense matrices.

use candle_core::{DType, Tensor};
use flatness::curvature::{Curvature, ExactParams, ExactTrace};
use flatness::objective::Objective;
use flatness::program::Loss;

use crate::support::*;

const RESIDUAL: &str = r#"[
    {"kind": "conv2d", "in": 1, "out": 3, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"},
    {"kind": "batch_norm2d", "channels": 3, "weight": "n.w", "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
    {"kind": "relu"}, {"kind": "max_pool2d", "kernel": 2},
    {"kind": "residual", "main": [{"kind": "conv2d", "in": 3, "out": 3, "kernel": 1, "weight": "m.w"}, {"kind": "relu"}]},
    {"kind": "dropout", "p": 0.5}, {"kind": "flatten"},
    {"kind": "linear", "in": 12, "out": 3, "weight": "c.w", "bias": "c.b"}]"#;

const SMOOTH: &str = r#"[
    {"kind": "conv2d", "in": 1, "out": 3, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"},
    {"kind": "group_norm", "groups": 1, "channels": 3, "weight": "n.w", "bias": "n.b"},
    {"kind": "gelu"}, {"kind": "flatten"}, {"kind": "linear", "in": 48, "out": 3, "weight": "c.w", "bias": "c.b"}]"#;

/// One tensor used twice: quadratic in it.
const SHARED: &str = r#"[
    {"kind": "linear", "in": 3, "out": 3, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
    {"kind": "linear", "in": 3, "out": 3, "weight": "a.w", "bias": "c.b"}]"#;

const CROSS_ENTROPY: Loss = Loss::cross_entropy();
const LOSSES: [Loss; 4] = [CROSS_ENTROPY, Loss::smoothed(0.2), Loss::Mse {}, Loss::bce_with_logits()];

const ROWS: usize = 11;
const DECAY: f64 = 0.03;

fn decayed(problem: &Problem, dtype: DType) -> Objective<'_> {
    let mut options = problem.options(dtype);
    options.weight_decay = DECAY;
    Objective::new(&problem.network, &problem.data, options).unwrap()
}

/// Every tensor as a group of its own.
fn each_tensor(objective: &Objective<'_>) -> Vec<Vec<usize>> {
    (0..objective.network().space().tensors().len()).map(|index| vec![index]).collect()
}

fn parts_of(report: &ExactTrace) -> Vec<f64> {
    report.groups.iter().map(|part| part.trace).collect()
}

fn trace(objective: &Objective<'_>, problem: &Problem, params: ExactParams) -> ExactTrace {
    objective.exact_trace(&vector(&problem.theta), &each_tensor(objective), &params, &mut ()).unwrap()
}

fn diagonal_of(matrix: &[f64], n: usize) -> Vec<f64> {
    (0..n).map(|i| matrix[i * n + i]).collect()
}

#[test]
fn diagonals_and_traces_are_those_of_the_dense_matrices() {
    for (layers, shape, affine) in
        [(RESIDUAL, &[1, 4, 4][..], true), (SMOOTH, &[1, 4, 4], false), (SHARED, &[3], false)]
    {
        for loss in LOSSES {
            let problem = Problem::new(layers, shape, ROWS, loss.clone(), 81);
            let n = problem.dim();
            let objective = decayed(&problem, DType::F64);
            let what = format!("{loss:?}, affine {affine}");
            let expected = diagonal_of(&dense(&objective, &problem.theta, Curvature::Ggn), n);
            let tolerance = 4096.0 * f64::EPSILON * largest(&expected);
            let params = ExactParams::default();
            let theta = vector(&problem.theta);
            let got = objective.exact_diagonal(&theta, &params, &mut ()).unwrap();
            assert_close(&format!("{what}: diagonal"), &values(&got), &expected, tolerance);

            let report = trace(&objective, &problem, params);
            assert_close(&what, &[report.total.trace], &[expected.iter().sum()], n as f64 * tolerance);
            let parts: Vec<f64> = problem
                .network
                .space()
                .tensors()
                .iter()
                .map(|tensor| expected[tensor.offset..tensor.offset + tensor.len()].iter().sum())
                .collect();
            assert_close(&format!("{what}: parts"), &parts_of(&report), &parts, n as f64 * tolerance);
            assert_close(&what, &[parts_of(&report).iter().sum()], &[report.total.trace], n as f64 * tolerance);
            assert_eq!(
                (report.num_columns, report.total.std_err_numeric, report.is_hessian),
                (3, 0.0, affine),
                "{what}"
            );

            let hessian = diagonal_of(&dense(&objective, &problem.theta, Curvature::Hessian), n);
            let gap = hessian.iter().zip(&expected).map(|(h, g)| (h - g).abs()).fold(0.0, f64::max);
            assert_eq!(gap <= tolerance, affine, "{what}: the diagonals of Hessian and GGN differ by {gap:e}");

            let single = trace(&decayed(&problem, DType::F32), &problem, params);
            // Some hundred roundings of 6e-8, of both signs.
            assert_close(
                &format!("{what}: f32"),
                &[single.total.trace],
                &[report.total.trace],
                1e-5 * report.total.trace,
            );
        }
    }
}

#[test]
fn the_data_error_is_that_of_a_mean_over_rows() {
    let problem = Problem::new(RESIDUAL, &[1, 4, 4], ROWS, CROSS_ENTROPY, 82);
    let report = trace(&decayed(&problem, DType::F64), &problem, ExactParams::default());
    // Each row alone, by its dense matrix.
    let rows: Vec<Vec<f64>> = (0..ROWS)
        .map(|row| {
            let data = problem.data.select(&[row]).unwrap();
            let objective = Objective::new(&problem.network, &data, problem.options(DType::F64)).unwrap();
            diagonal_of(&dense(&objective, &problem.theta, Curvature::Ggn), problem.dim())
        })
        .collect();
    let std_err = |numbers: Vec<f64>| {
        let mean = numbers.iter().sum::<f64>() / ROWS as f64;
        (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / ((ROWS - 1) * ROWS) as f64).sqrt()
    };
    let tolerance = 1e4 * f64::EPSILON * report.total.trace;
    let expected = std_err(rows.iter().map(|row| row.iter().sum()).collect());
    assert_close("trace", &[report.total.std_err_data], &[expected], tolerance);
    let expected: Vec<f64> = problem
        .network
        .space()
        .tensors()
        .iter()
        .map(|tensor| {
            std_err(rows.iter().map(|row| row[tensor.offset..tensor.offset + tensor.len()].iter().sum()).collect())
        })
        .collect();
    assert_close(
        "parts",
        &report.groups.iter().map(|part| part.std_err_data).collect::<Vec<_>>(),
        &expected,
        tolerance,
    );

    let data = problem.data.select(&[0]).unwrap();
    let objective = Objective::new(&problem.network, &data, problem.options(DType::F64)).unwrap();
    assert!(trace(&objective, &problem, ExactParams::default()).total.std_err_data.is_nan());
}

#[test]
fn threads_change_no_bit_and_memory_none_of_a_trace() {
    let problem = Problem::new(RESIDUAL, &[1, 4, 4], 40, CROSS_ENTROPY, 83);
    for dtype in [DType::F64, DType::F32] {
        for params in [ExactParams::default(), ExactParams { max_columns: 2, seed: 5 }] {
            let run = |threads: usize, memory_bytes: usize| {
                let mut options = problem.options(dtype);
                (options.execution.threads, options.execution.memory_bytes) = (threads, memory_bytes);
                // The order of the rows, and with it of the sums, must not come from the memory's micro-batches either.
                let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
                let theta = vector(&problem.theta);
                let diagonal = values(&objective.exact_diagonal(&theta, &params, &mut ()).unwrap());
                (trace(&objective, &problem, params), diagonal)
            };
            let one = run(1, 2 << 30);
            assert!(one == run(3, 2 << 30), "threads changed bits");
            // One column at a time, and the sum of the diagonal in one piece instead of many.
            let little = run(2, 1);
            assert!(one.0 == little.0, "memory changed bits");
            let tolerance = 40.0 * epsilon(dtype) * largest(&one.1);
            assert_close("diagonal", &little.1, &one.1, tolerance);
            assert!(little == run(3, 1), "threads changed bits");
        }
    }
}

#[test]
fn random_columns_are_unbiased_and_know_their_error() {
    let problem = Problem::new(SMOOTH, &[1, 4, 4], ROWS, CROSS_ENTROPY, 84);
    let objective = decayed(&problem, DType::F64);
    let exact = trace(&objective, &problem, ExactParams::default());
    let theta = vector(&problem.theta);
    let diagonal = values(&objective.exact_diagonal(&theta, &ExactParams::default(), &mut ()).unwrap());
    let seeds = 400;
    let params = |seed| ExactParams { max_columns: 2, seed };
    let reports: Vec<ExactTrace> = (0..seeds).map(|seed| trace(&objective, &problem, params(seed))).collect();
    assert!(reports.iter().all(|report| report.num_columns == 2));
    let mean = |pick: &dyn Fn(&ExactTrace) -> f64| reports.iter().map(pick).sum::<f64>() / seeds as f64;
    let spread = mean(&|report| (report.total.trace - exact.total.trace).powi(2));
    assert!((mean(&|report| report.total.trace) - exact.total.trace).abs() <= 4.0 * (spread / seeds as f64).sqrt());
    // The estimated variance has a relative deviation of about √(2/11) per seed and the observed one of √(2/400).
    let ratio = mean(&|report| report.total.std_err_numeric.powi(2)) / spread;
    assert!((ratio - 1.0).abs() <= 4.0 * (2.0 / seeds as f64 + 2.0 / (ROWS * seeds as usize) as f64).sqrt(), "{ratio}");
    // The spread of the rows holds that of the random columns, too. The variance of one such estimate is a few times
    // 2/(N − 1) of its square, relative; 400 of them leave 5 % at most.
    let data = mean(&|report| report.total.std_err_data.powi(2)) / (exact.total.std_err_data.powi(2) + spread);
    assert!((data - 1.0).abs() <= 0.2, "{data}");

    let draws: Vec<Vec<f64>> =
        (0..seeds).map(|seed| values(&objective.exact_diagonal(&theta, &params(seed), &mut ()).unwrap())).collect();
    for (i, exact) in diagonal.iter().enumerate() {
        let mean = draws.iter().map(|draw| draw[i]).sum::<f64>() / seeds as f64;
        let squares: f64 = draws.iter().map(|draw| (draw[i] - mean).powi(2)).sum();
        let std_err = (squares / ((seeds - 1) * seeds) as f64).sqrt();
        // About 180 entries, skewed: 6 standard errors.
        assert!((mean - exact).abs() <= 6.0 * std_err + 1e-12, "entry {i}: {mean} ± {std_err}, {exact}");
    }
}

#[test]
fn what_cannot_be_exact_is_refused() {
    let problem = Problem { train: true, ..Problem::new(RESIDUAL, &[1, 4, 4], ROWS, CROSS_ENTROPY, 85) };
    let objective = problem.objective(DType::F64);
    assert!(!objective.diagonal_is_hessian());
    let theta = vector(&problem.theta);
    let error = objective.exact_trace(&theta, &each_tensor(&objective), &ExactParams::default(), &mut ()).unwrap_err();
    let coupling = "layers[1] (batch_norm2d): its statistics are those of the whole batch";
    assert_eq!(error.to_string(), format!("exact trace: rows are not independent: {coupling}"));
    let error = objective.exact_diagonal(&theta, &ExactParams::default(), &mut ()).unwrap_err();
    assert!(error.hint().unwrap().contains("stored batch-norm statistics"));

    let problem = Problem::new(RESIDUAL, &[1, 4, 4], ROWS, CROSS_ENTROPY, 85);
    let objective = problem.objective(DType::F64);
    let params = ExactParams { max_columns: 1, seed: 0 };
    let error = objective.exact_trace(&theta, &each_tensor(&objective), &params, &mut ()).unwrap_err();
    assert_eq!(error.to_string(), "exact trace: 1 random columns for 3 outputs, but a standard error needs 2 or more");
    let broken: Tensor = (&theta * f64::NAN).unwrap();
    let error = objective.exact_trace(&broken, &each_tensor(&objective), &ExactParams::default(), &mut ()).unwrap_err();
    assert!(error.to_string().starts_with("loss: not finite on the data row"), "{error}");
}
