//! Sums over rows: pieces and their tree depend on the rows, the model and the memory, on no thread.

use candle_core::{DType, Tensor};
use flatness::autodiff::Pattern;
use flatness::curvature::{Curvature, CurvatureOperator, ExactParams};
use flatness::objective::Objective;
use flatness::operator::LinearOperator;
use flatness::program::{Loss, Mode};

use crate::support::*;

const LAYERS: &str = r#"[
    {"kind": "conv2d", "in": 2, "out": 4, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"},
    {"kind": "batch_norm2d", "channels": 4, "weight": "n.w", "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
    {"kind": "relu"}, {"kind": "max_pool2d", "kernel": 2}, {"kind": "flatten"},
    {"kind": "linear", "in": 32, "out": 3, "weight": "c.w", "bias": "c.b"}]"#;

/// No batch norm: a training gradient is then cut into micro-batches too.
const PLAIN: &str = r#"[
    {"kind": "flatten"}, {"kind": "linear", "in": 64, "out": 40, "weight": "a.w", "bias": "a.b"}, {"kind": "gelu"},
    {"kind": "linear", "in": 40, "out": 3, "weight": "b.w", "bias": "b.b"}]"#;

const CURVATURES: [Curvature; 6] = [
    Curvature::Hessian,
    Curvature::Ggn,
    Curvature::Residual,
    Curvature::EmpiricalFisher,
    Curvature::McFisher,
    Curvature::GradientCovariance,
];

/// Everything that is summed over rows, in words and numbers.
fn everything(problem: &Problem, dtype: DType, threads: usize, memory_bytes: usize) -> Vec<(String, Vec<f64>)> {
    let mut options = problem.options(dtype);
    (options.execution.threads, options.execution.memory_bytes) = (threads, memory_bytes);
    let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
    let theta = objective.place(&vector(&problem.theta)).unwrap();
    let mut all = Vec::new();
    let mut keep = |name: String, values: Vec<f64>| all.push((name, values));
    let report = objective.gradient(&theta, &mut ()).unwrap();
    let (evaluation, scores) = objective.evaluate_scores(&theta, &mut ()).unwrap();
    assert_eq!(evaluation, report.evaluation);
    let scores = scores.unwrap();
    keep("loss".into(), vec![evaluation.loss, evaluation.loss_std_err, evaluation.accuracy]);
    keep("scores".into(), vec![scores.nll(), scores.calibration_error()]);
    keep(
        "predicted".into(),
        scores.predicted.iter().flat_map(|&(row, class)| [row as f64, f64::from(class)]).collect(),
    );
    keep("gradient".into(), values(&report.gradient));
    keep("row losses".into(), objective.row_losses(&theta, &mut ()).unwrap());
    let rows: Vec<usize> = (0..problem.data.len()).collect();
    let batch = objective.batch(&rows).unwrap();
    let training = objective.training_gradient(&theta, &batch, Mode::Train { draws: None }).unwrap();
    keep("training gradient".into(), values(&training.gradient));
    let mut patterns: Vec<Pattern> = Vec::new();
    keep("pattern".into(), values(&objective.gradient_with_patterns(&theta, &mut patterns).unwrap()));
    let block = tensor(&mut random(51), &[5, problem.dim()], dtype);
    for curvature in CURVATURES {
        let operator = CurvatureOperator::new(&objective, &theta, curvature).unwrap();
        let product = operator.apply(&block, &mut ()).unwrap();
        keep(format!("{curvature:?} applied"), values(&product.block));
        keep(format!("{curvature:?} multiplied"), values(&operator.multiply(&block, &mut ()).unwrap()));
        let shards = product.shards.unwrap();
        assert!(shards.weights.iter().zip(&shards.rows).all(|(&weight, &rows)| weight == rows as f64));
        keep(format!("{curvature:?} forms"), shards.forms.concat());
    }
    let groups: Vec<Vec<usize>> = (0..objective.network().space().tensors().len()).map(|index| vec![index]).collect();
    let trace = objective.exact_trace(&theta, &groups, &ExactParams::default(), &mut ()).unwrap();
    let parts = trace.groups.iter().chain([&trace.total]);
    keep("trace".into(), parts.flat_map(|part| [part.trace, part.std_err_data, part.std_err_numeric]).collect());
    keep("diagonal".into(), values(&objective.exact_diagonal(&theta, &ExactParams::default(), &mut ()).unwrap()));
    all
}

#[test]
fn threads_change_no_bit() {
    let loss = Loss::smoothed(0.1);
    for (layers, dtype) in [(LAYERS, DType::F32), (LAYERS, DType::F64), (PLAIN, DType::F32)] {
        let problem = Problem { num_shards: 9, ..Problem::new(layers, &[2, 4, 8], 211, loss.clone(), 50) };
        // Many pieces of one micro-batch; pieces of several; few pieces; one piece of one row at a time.
        for memory_bytes in [2 << 30, 3_000_000, 400_000, 1] {
            let one = everything(&problem, dtype, 1, memory_bytes);
            for threads in [2, 3, 5] {
                for (one, other) in one.iter().zip(everything(&problem, dtype, threads, memory_bytes)) {
                    assert!(*one == other, "{} on {threads} threads, {memory_bytes} bytes, {dtype:?}", one.0);
                }
            }
        }
    }
}

#[test]
fn what_products_leave_to_one_another_changes_no_bit() {
    let problem = Problem { num_shards: 9, ..Problem::new(LAYERS, &[2, 4, 8], 211, Loss::smoothed(0.1), 52) };
    let theta = vector(&problem.theta);
    // All that is kept fits; a part of it; nothing.
    for memory_bytes in [2 << 30, 3_000_000, 1] {
        let mut options = problem.options(DType::F32);
        (options.execution.memory_bytes, options.execution.threads) = (memory_bytes, 2);
        let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
        let theta = objective.place(&theta).unwrap();
        let vectors: Vec<Tensor> = [(1, 53), (1, 54), (2, 55)]
            .map(|(count, seed)| tensor(&mut random(seed), &[count, problem.dim()], DType::F32))
            .into();
        for curvature in CURVATURES {
            let operator = || CurvatureOperator::new(&objective, &theta, curvature).unwrap();
            let product = |operator: &CurvatureOperator<'_>, vector: usize, by_shard: bool| match by_shard {
                true => values(&operator.apply(&vectors[vector], &mut ()).unwrap().block),
                false => values(&operator.multiply(&vectors[vector], &mut ()).unwrap()),
            };
            let fresh: Vec<[Vec<f64>; 2]> =
                (0..3).map(|vector| [false, true].map(|by_shard| product(&operator(), vector, by_shard))).collect();
            let again = operator();
            for (vector, by_shard) in [(0, 5), (2, 3), (1, 3)]
                .into_iter()
                .flat_map(|(vector, times)| (0..2 * times).map(move |index| (vector, index >= times)))
            {
                let got = product(&again, vector, by_shard);
                assert!(got == fresh[vector][usize::from(by_shard)], "{curvature:?}, vector {vector}, {memory_bytes}");
            }
            // Several at a time, of which each may be the first to keep a result.
            let together = operator();
            std::thread::scope(|scope| {
                for vector in [0, 1, 0] {
                    let (together, fresh, product) = (&together, &fresh, &product);
                    scope.spawn(move || {
                        (0..4).for_each(|_| assert!(product(together, vector, false) == fresh[vector][0]));
                    });
                }
            });
        }
    }
}
