//! The residual, the sampled Fisher matrix and the gradient covariance, and objectives on parts of their rows.

use candle_core::{DType, Device, Tensor};
use flatness::Error;
use flatness::autodiff::{Saved, Tape};
use flatness::curvature::{Curvature, CurvatureOperator};
use flatness::data::{Dataset, Inputs, Targets};
use flatness::objective::{Objective, ObjectiveError};
use flatness::operator::LinearOperator;
use flatness::program::Loss;
use flatness::program::Mode;

use crate::support::*;

const SMOOTH: &str = r#"[
    {"kind": "conv2d", "in": 1, "out": 3, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"},
    {"kind": "gelu"}, {"kind": "max_pool2d", "kernel": 2},
    {"kind": "group_norm", "groups": 1, "channels": 3, "weight": "n.w", "bias": "n.b"},
    {"kind": "flatten"}, {"kind": "linear", "in": 12, "out": 3, "weight": "c.w", "bias": "c.b"}]"#;

const BATCH_NORM: &str = r#"[
    {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "weight": "a.w"},
    {"kind": "batch_norm2d", "channels": 2, "weight": "n.w", "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
    {"kind": "relu"}, {"kind": "global_avg_pool2d"},
    {"kind": "linear", "in": 2, "out": 3, "weight": "c.w", "bias": "c.b"}]"#;

const LOGISTIC: &str = r#"[{"kind": "linear", "in": 2, "out": 3, "weight": "w", "bias": "b"}]"#;

const CROSS_ENTROPY: Loss = Loss::cross_entropy();
const LOSSES: [Loss; 4] = [CROSS_ENTROPY, Loss::smoothed(0.2), Loss::Mse {}, Loss::bce_with_logits()];

const ROWS: usize = 13;

#[test]
fn the_residual_is_what_the_hessian_has_beyond_the_ggn() {
    for (layers, train) in [(SMOOTH, false), (BATCH_NORM, false), (BATCH_NORM, true)] {
        for loss in LOSSES {
            let problem = Problem { train, ..Problem::new(layers, &[1, 4, 4], ROWS, loss.clone(), 61) };
            let n = problem.dim();
            let mut options = problem.options(DType::F64);
            options.weight_decay = 0.3;
            let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
            let [hessian, ggn, residual] = [Curvature::Hessian, Curvature::Ggn, Curvature::Residual]
                .map(|curvature| dense(&objective, &problem.theta, curvature));
            let sum: Vec<f64> = ggn.iter().zip(&residual).map(|(g, r)| g + r).collect();
            let what = format!("{loss:?}, batch statistics {train}");
            // Some thousand roundings behind an entry.
            assert_close(&what, &sum, &hessian, 4096.0 * f64::EPSILON * largest(&hessian).max(largest(&ggn)));
            assert_symmetric(&what, &residual, n);
            assert!(largest(&residual) > 1e-3 * largest(&hessian), "{what}: the residual is too small to test");
        }
    }
    // A convex problem has none, and its L2 term belongs to the GGN.
    let problem = Problem::new(LOGISTIC, &[2], ROWS, CROSS_ENTROPY, 62);
    let mut options = problem.options(DType::F64);
    options.weight_decay = 0.3;
    let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
    assert_eq!(largest(&dense(&objective, &problem.theta, Curvature::Residual)), 0.0);
}

#[test]
fn the_residual_has_shard_forms_and_a_single_precision() {
    let problem = Problem { num_shards: 3, ..Problem::new(SMOOTH, &[1, 4, 4], ROWS, CROSS_ENTROPY, 63) };
    let n = problem.dim();
    let block = tensor(&mut random(64), &[2, n], DType::F64);
    let objective = problem.objective(DType::F64);
    let operator = CurvatureOperator::new(&objective, &vector(&problem.theta), Curvature::Residual).unwrap();
    let product = operator.apply(&block, &mut ()).unwrap();
    let (v, rv, shards) = (values(&block), values(&product.block), product.shards.unwrap());
    assert_eq!(shards.rows, [4, 4, 5]);
    for k in 0..2 {
        let whole: f64 = (0..n).map(|i| v[k * n + i] * rv[k * n + i]).sum();
        let mean: f64 = shards.rows.iter().zip(&shards.forms).map(|(&r, f)| r as f64 / ROWS as f64 * f[k]).sum();
        let tolerance = 100.0 * n as f64 * f64::EPSILON * largest(&v) * largest(&rv);
        assert!((whole - mean).abs() <= tolerance, "{whole} is not {mean}");
    }
    let single = products(&problem.objective(DType::F32), &problem.theta, Curvature::Residual, &block);
    // Some hundred roundings of 6e-8.
    assert_close("f32", &single, &rv, 1e-4 * largest(&rv));
}

#[test]
fn a_product_that_overflows_names_its_shard_and_rows() {
    let mut shards = Vec::new();
    // So few rows make a shard each.
    for guilty in 0..8 {
        let mut problem = Problem::new(LOGISTIC, &[2], 8, Loss::Mse {}, 67);
        problem.theta.fill(0.0);
        let mut inputs = vec![1.0; 16];
        inputs[2 * guilty] = 1e20;
        // Outputs, loss and gradient are 0; the second derivative, 2/3 of the input squared, is beyond 3e38.
        let targets = Targets::Values { values: vec![0.0; 24], sample_shape: vec![3] };
        problem.data = Dataset::new("test".into(), vec![2], Inputs::Float64(inputs), targets, None).unwrap();
        let objective = problem.objective(DType::F32);
        let theta = objective.place(&vector(&problem.theta)).unwrap();
        assert_eq!(objective.gradient(&theta, &mut ()).unwrap().evaluation.loss, 0.0);
        let block = tensor(&mut random(68), &[2, problem.dim()], DType::F32);
        for curvature in [Curvature::Hessian, Curvature::Ggn] {
            let operator = CurvatureOperator::new(&objective, &theta, curvature).unwrap();
            let error = operator.apply(&block, &mut ()).err().unwrap();
            let Error::Objective(ObjectiveError::NonFiniteProduct { shard, row, num_rows }) = error else {
                panic!("{error}")
            };
            assert_eq!((row, num_rows), (guilty, 1));
            shards.push(shard);
        }
        let double = products(&problem.objective(DType::F64), &problem.theta, Curvature::Hessian, &block);
        assert!(double.iter().all(|entry| entry.is_finite()) && largest(&double) > f64::from(f32::MAX));
    }
    shards.sort_unstable();
    assert_eq!(shards, (0..16).map(|index| index / 2).collect::<Vec<_>>());
}

/// `(1/N) Σ (g_n − c)(g_n − c)ᵀ` of the gradients of the given rows, each from an objective of its own.
fn outer_products(problem: &Problem, rows: &[usize], centre: &[f64]) -> Vec<f64> {
    let n = problem.dim();
    let mut sum = vec![0.0; n * n];
    for &row in rows {
        let data = problem.data.select(&[row]).unwrap();
        let objective = Objective::new(&problem.network, &data, problem.options(DType::F64)).unwrap();
        let gradient = values(&objective.gradient(&vector(&problem.theta), &mut ()).unwrap().gradient);
        let off: Vec<f64> = gradient.iter().zip(centre).map(|(g, c)| g - c).collect();
        (0..n * n).for_each(|entry| sum[entry] += off[entry / n] * off[entry % n] / rows.len() as f64);
    }
    sum
}

#[test]
fn the_covariance_is_that_of_the_per_sample_gradients() {
    for loss in [CROSS_ENTROPY, Loss::Mse {}] {
        let problem = Problem { num_shards: 3, ..Problem::new(SMOOTH, &[1, 4, 4], ROWS, loss.clone(), 65) };
        let n = problem.dim();
        let theta = vector(&problem.theta);
        // An L2 term shifts every gradient and the mean alike.
        let mut options = problem.options(DType::F64);
        options.weight_decay = 0.3;
        let objective = Objective::new(&problem.network, &problem.data, options).unwrap();
        let mean = values(&problem.objective(DType::F64).gradient(&theta, &mut ()).unwrap().gradient);
        let all: Vec<usize> = (0..ROWS).collect();
        let expected = outer_products(&problem, &all, &mean);
        let got = dense(&objective, &problem.theta, Curvature::GradientCovariance);
        let tolerance = 4096.0 * f64::EPSILON * largest(&expected).max(largest(&mean).powi(2));
        assert_close(&format!("{loss:?}"), &got, &expected, tolerance);
        assert_symmetric(&format!("{loss:?}"), &got, n);

        let block = tensor(&mut random(66), &[2, n], DType::F64);
        let operator = CurvatureOperator::new(&objective, &theta, Curvature::GradientCovariance).unwrap();
        let product = operator.apply(&block, &mut ()).unwrap();
        let (v, cv, shards) = (values(&block), values(&product.block), product.shards.unwrap());
        for k in 0..2 {
            let whole: f64 = (0..n).map(|i| v[k * n + i] * cv[k * n + i]).sum();
            let forms: Vec<f64> = shards.forms.iter().map(|forms| forms[k]).collect();
            let mean: f64 = shards.rows.iter().zip(&forms).map(|(&r, f)| r as f64 / ROWS as f64 * f).sum();
            assert!((whole - mean).abs() <= n as f64 * tolerance, "{whole} is not {mean}");
            assert!(forms.iter().all(|form| *form >= 0.0), "a form of a covariance is negative: {forms:?}");
        }
    }
}

/// The softmax of one row, by the outputs of a plain pass.
fn probabilities(problem: &Problem) -> Vec<f64> {
    let params = problem.network.space().split(&vector(&problem.theta)).unwrap();
    let (x, _) = problem.data.batch(&[0], DType::F64, &Device::Cpu).unwrap();
    let mut tape = Tape::<Tensor>::new(Saved::Nothing);
    let network = &problem.network;
    let outputs = values(network.forward(&mut tape, &params, x, Mode::Eval).unwrap().output.value());
    let sum: f64 = outputs.iter().map(|y| y.exp()).sum();
    outputs.iter().map(|y| y.exp() / sum).collect()
}

#[test]
fn sampled_labels_give_one_of_the_classes_fisher_matrices_as_often_as_the_model_says() {
    let mut problem = Problem::new(LOGISTIC, &[2], 1, CROSS_ENTROPY, 67);
    let classes: Vec<Vec<f64>> = (0..3)
        .map(|label| {
            problem.data.targets = Targets::Classes { labels: vec![label], num_classes: 3 };
            dense(&problem.objective(DType::F64), &problem.theta, Curvature::EmpiricalFisher)
        })
        .collect();
    let p = probabilities(&problem);
    // Smoothing changes the data's labels, not the model's.
    problem.loss = Loss::smoothed(0.3);
    let objective = problem.objective(DType::F64);
    let (mut counts, seeds) = ([0usize; 3], 1200);
    for seed in 0..seeds {
        let identity = Tensor::eye(problem.dim(), DType::F64, &Device::Cpu).unwrap();
        let fisher = products_of_draw(&objective, &problem.theta, (Curvature::McFisher, seed), &identity);
        let class = classes.iter().position(|class| *class == fisher);
        counts[class.expect("the Fisher matrix of one of the labels")] += 1;
    }
    for (count, p) in counts.iter().zip(p) {
        let std_err = (p * (1.0 - p) / seeds as f64).sqrt();
        assert!((*count as f64 / seeds as f64 - p).abs() <= 4.0 * std_err, "{counts:?}, probability {p}");
    }
}

#[test]
fn the_sampled_fisher_matrix_is_the_ggn_on_average_and_fixed_for_a_seed() {
    let problem = Problem::new(SMOOTH, &[1, 4, 4], ROWS, CROSS_ENTROPY, 68);
    let n = problem.dim();
    let block = tensor(&mut random(69), &[4, n], DType::F64);
    let objective = problem.objective(DType::F64);
    let ggn = products(&objective, &problem.theta, Curvature::Ggn, &block);
    let seeds = 600;
    let draws: Vec<Vec<f64>> = (0..seeds)
        .map(|seed| products_of_draw(&objective, &problem.theta, (Curvature::McFisher, seed), &block))
        .collect();
    for (entry, expected) in ggn.iter().enumerate() {
        let mean = draws.iter().map(|draw| draw[entry]).sum::<f64>() / seeds as f64;
        let squares: f64 = draws.iter().map(|draw| (draw[entry] - mean).powi(2)).sum();
        let std_err = (squares / (seeds - 1) as f64 / seeds as f64).sqrt();
        // 5.5 standard errors in some 300 entries: once in 10^5 correct programs.
        assert!((mean - expected).abs() <= 5.5 * std_err, "entry {entry}: {mean} ± {std_err}, GGN {expected}");
    }
    // Another cut into batches and other threads: the same labels.
    for (memory_bytes, threads) in [(1, 3), (100_000, 1)] {
        let mut options = problem.options(DType::F64);
        (options.execution.memory_bytes, options.execution.threads) = (memory_bytes, threads);
        let other = Objective::new(&problem.network, &problem.data, options).unwrap();
        let got = products_of_draw(&other, &problem.theta, (Curvature::McFisher, 3), &block);
        assert_close("another cut", &got, &draws[3], 4096.0 * f64::EPSILON * largest(&draws[3]));
    }
    let problem = Problem::new(SMOOTH, &[1, 4, 4], ROWS, Loss::Mse {}, 68);
    let objective = problem.objective(DType::F64);
    let error = CurvatureOperator::new(&objective, &vector(&problem.theta), Curvature::McFisher).err().unwrap();
    let expected =
        "Monte Carlo Fisher: labels are drawn from the softmax of cross-entropy, but the loss is mean squared error";
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("GGN"));
}

#[test]
fn parts_average_to_the_whole() {
    let problem = Problem { num_shards: 4, ..Problem::new(SMOOTH, &[1, 4, 4], ROWS, CROSS_ENTROPY, 70) };
    let n = problem.dim();
    let block = tensor(&mut random(71), &[2, n], DType::F64);
    let mut options = problem.options(DType::F64);
    options.weight_decay = 0.1;
    let whole = Objective::new(&problem.network, &problem.data, options).unwrap();
    assert_eq!((whole.num_rows(), whole.num_shards()), (ROWS, 4));
    let parts = [whole.part(0..2).unwrap(), whole.part(2..4).unwrap()];
    assert_eq!(parts.iter().map(Objective::num_rows).sum::<usize>(), ROWS);
    let theta = vector(&problem.theta);
    for curvature in [Curvature::Hessian, Curvature::EmpiricalFisher, Curvature::McFisher] {
        let expected = products(&whole, &problem.theta, curvature, &block);
        let mut mean = vec![0.0; 2 * n];
        for part in &parts {
            let share = part.num_rows() as f64 / ROWS as f64;
            let product = products(part, &problem.theta, curvature, &block);
            mean.iter_mut().zip(product).for_each(|(mean, product)| *mean += share * product);
        }
        assert_close(&format!("{curvature:?}"), &mean, &expected, 4096.0 * f64::EPSILON * largest(&expected));
    }
    let loss = |objective: &Objective<'_>| objective.evaluate(&theta, &mut ()).unwrap().loss;
    let mean: f64 = parts.iter().map(|part| part.num_rows() as f64 / ROWS as f64 * loss(part)).sum();
    assert!((mean - loss(&whole)).abs() <= 100.0 * f64::EPSILON * mean);
    for range in [0..0, 3..5, 4..4] {
        let error = whole.part(range.clone()).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!("data shards {}..{} were asked for, but the objective has 4", range.start, range.end)
        );
    }
    #[allow(clippy::reversed_empty_ranges)] // what a caller may compute
    let reversed = whole.part(3..1);
    assert!(reversed.is_err());
}

#[test]
fn first_rows_are_nested_random_subsets() {
    for train in [false, true] {
        let problem = Problem { train, ..Problem::new(BATCH_NORM, &[1, 4, 4], ROWS, CROSS_ENTROPY, 72) };
        let objective = problem.objective(DType::F64);
        let theta = vector(&problem.theta);
        let loss = |rows: usize| objective.first_rows(rows).unwrap().evaluate(&theta, &mut ()).unwrap().loss;
        let whole = objective.evaluate(&theta, &mut ()).unwrap().loss;
        assert_eq!(loss(ROWS), whole, "all rows are the objective itself, to the bit");
        if train {
            continue;
        }
        // Without batch statistics each further row adds its own loss: those of the single rows, in some order.
        let sums: Vec<f64> = (1..=ROWS).map(|rows| rows as f64 * loss(rows)).collect();
        let mut added: Vec<f64> = (0..ROWS).map(|row| sums[row] - if row == 0 { 0.0 } else { sums[row - 1] }).collect();
        let mut single: Vec<f64> = (0..ROWS)
            .map(|row| {
                let data = problem.data.select(&[row]).unwrap();
                let objective = Objective::new(&problem.network, &data, problem.options(DType::F64)).unwrap();
                objective.evaluate(&theta, &mut ()).unwrap().loss
            })
            .collect();
        let differing = added.iter().zip(&single).filter(|(a, b)| (*a - *b).abs() > 1e-9).count();
        assert!(differing > ROWS / 2, "the order is that of the data");
        added.sort_by(f64::total_cmp);
        single.sort_by(f64::total_cmp);
        assert_close("losses", &added, &single, 100.0 * f64::EPSILON * sums[ROWS - 1]);
    }
    let problem = Problem::new(BATCH_NORM, &[1, 4, 4], ROWS, CROSS_ENTROPY, 72);
    let objective = problem.objective(DType::F64);
    for rows in [0, ROWS + 1] {
        let error = objective.first_rows(rows).err().unwrap();
        assert_eq!(error.to_string(), format!("a subset of {rows} rows was asked for, but the objective has {ROWS}"));
    }
}
