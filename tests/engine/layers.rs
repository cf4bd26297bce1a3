//! Every layer kind and every loss: gradient, Hessian, Gauss-Newton and Fisher matrix of one small network each.

use candle_core::{DType, Tensor};
use flatness::autodiff::Pattern;
use flatness::curvature::Curvature;
use flatness::program::Loss;
use serde_json::Value;

use crate::cases::{CASES, Case};
use crate::reference::{Answers, Array, Formula, Pieces, Reference};
use crate::support::*;

const ROWS: usize = 5;

const LOSSES: [(Loss, Formula); 3] = [
    (Loss::smoothed(0.15), Formula::CrossEntropy { smoothing: 0.15 }),
    (Loss::Mse {}, Formula::SquaredError),
    (Loss::bce_with_logits(), Formula::BinaryCrossEntropy),
];

/// The reference's view of a problem.
struct Plain<'a> {
    problem: &'a Problem,
    layers: Value,
    formula: Formula,
    answers: Answers,
}

impl Plain<'_> {
    /// Outputs, per-sample losses and the pieces that the pass was on.
    fn run(&self, theta: &[f64], pieces: Pieces) -> (Array, Vec<f64>, Pieces) {
        let tensors = self.problem.named(theta);
        let batch_statistics = self.problem.train;
        let mut reference = Reference { tensors, batch_statistics, pieces, statistics: Vec::new() };
        let outputs = reference.list(&self.layers, &self.problem.inputs());
        let losses = self.formula.losses(&outputs, &self.answers);
        (outputs, losses, reference.pieces)
    }

    /// `∂outputs/∂θ_i` and `∂losses/∂θ_i` for each `i`, pieces frozen at `θ`.
    fn derivatives(&self, pieces: &Pieces) -> Vec<(Vec<f64>, Vec<f64>)> {
        let along = |i: usize| {
            let both = derivative(|step| {
                let mut theta = self.problem.theta.clone();
                theta[i] += step;
                let (outputs, losses, _) = self.run(&theta, pieces.frozen());
                [outputs.data, losses].concat()
            });
            let (outputs, losses) = both.split_at(both.len() - ROWS);
            (outputs.to_vec(), losses.to_vec())
        };
        (0..self.problem.dim()).map(along).collect()
    }
}

/// The Hessian by differences of the engine's gradient, its activation pattern frozen at `θ`.
fn differenced_gradient(problem: &Problem) -> Vec<f64> {
    let objective = problem.objective(DType::F64);
    let mut patterns = Vec::new();
    objective.gradient_with_patterns(&vector(&problem.theta), &mut patterns).unwrap();
    let record: Vec<Vec<Tensor>> = patterns
        .into_iter()
        .map(|pattern| match pattern {
            Pattern::Record(choices) => choices,
            _ => panic!("an empty list asks for a record"),
        })
        .collect();
    let column = |i: usize| {
        derivative(|step| {
            let mut theta = problem.theta.clone();
            theta[i] += step;
            let mut patterns: Vec<Pattern> = record.iter().cloned().map(Pattern::replay).collect();
            values(&objective.gradient_with_patterns(&vector(&theta), &mut patterns).unwrap())
        })
    };
    (0..problem.dim()).flat_map(column).collect()
}

/// `scale · Σ_n A_n[i] B_n[j]` over the rows of two `[N, n]` matrices given by columns.
fn outer(columns: &[Vec<f64>], others: &[Vec<f64>], scale: f64) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    columns.iter().flat_map(|a| others.iter().map(move |b| scale * dot(a, b))).collect()
}

#[test]
#[allow(clippy::print_stdout)] // the figures, for `--nocapture`
fn gradients_and_curvature_of_every_layer_kind() {
    let mut worst = [0.0f64; 4];
    for (index, case) in CASES.iter().enumerate() {
        for (loss, formula) in LOSSES {
            let what = format!("{}, {}", case.name, loss.describe());
            let mut problem = Problem::new(case.layers, case.shape, ROWS, loss, 100 + index as u64);
            (problem.train, problem.num_shards) = (case.train, 1 + index % 3);
            let errors = check(case, &problem, formula, &what);
            (0..4).for_each(|i| worst[i] = worst[i].max(errors[i]));
        }
    }
    println!(
        "largest relative errors: gradient {:.1e}, Hessian {:.1e}, GGN {:.1e}, Fisher {:.1e}",
        worst[0], worst[1], worst[2], worst[3]
    );
}

fn check(case: &Case, problem: &Problem, formula: Formula, what: &str) -> [f64; 4] {
    let n = problem.dim();
    let answers = match &problem.data.targets {
        flatness::data::Targets::Classes { labels, .. } => {
            Answers::Classes(labels.iter().map(|&label| label as usize).collect())
        }
        flatness::data::Targets::Tokens { .. } => panic!("no tokens here"),
        flatness::data::Targets::Values { values, .. } => Answers::Values(values.clone()),
    };
    let plain = Plain { problem, layers: serde_json::from_str(case.layers).unwrap(), formula, answers };
    let (outputs, losses, pieces) = plain.run(&problem.theta, Pieces::default());
    let derivatives = plain.derivatives(&pieces);
    let objective = problem.objective(DType::F64);

    // (a) The value to rounding: some hundred operations lie behind it.
    let report = objective.gradient(&vector(&problem.theta), &mut ()).unwrap();
    let mean = losses.iter().sum::<f64>() / ROWS as f64;
    assert_close(&format!("{what}: loss"), &[report.evaluation.loss], &[mean], 500.0 * f64::EPSILON * mean.max(1.0));
    let expected: Vec<f64> = derivatives.iter().map(|(_, losses)| losses.iter().sum::<f64>() / ROWS as f64).collect();
    let gradient = values(&report.gradient);
    let relative = |what: &str, got: &[f64], expected: &[f64]| {
        let scale = largest(expected).max(1.0);
        assert_close(what, got, expected, DIFFERENCE_TOLERANCE * scale) / scale
    };
    let gradient_error = relative(&format!("{what}: gradient"), &gradient, &expected);

    // (b)
    let hessian = dense(&objective, &problem.theta, Curvature::Hessian);
    let hessian_error = relative(&format!("{what}: Hessian"), &hessian, &differenced_gradient(problem));
    assert_symmetric(&format!("{what}: Hessian"), &hessian, n);

    // (c) `Jᵀ L J`; with batch statistics the Jacobian of a row's outputs includes the other rows' part.
    let c = outputs.dims[1];
    let jacobian: Vec<Vec<f64>> = derivatives.iter().map(|(outputs, _)| outputs.clone()).collect();
    let curved: Vec<Vec<f64>> = jacobian
        .iter()
        .map(|column| {
            let rows = column.chunks(c).zip(outputs.data.chunks(c));
            rows.flat_map(|(tangent, y)| {
                let curvature = formula.curvature(y);
                (0..c).map(move |i| (0..c).map(|j| curvature[i * c + j] * tangent[j]).sum::<f64>())
            })
            .collect()
        })
        .collect();
    let ggn = dense(&objective, &problem.theta, Curvature::Ggn);
    let ggn_error = relative(&format!("{what}: GGN"), &ggn, &outer(&jacobian, &curved, 1.0 / ROWS as f64));
    assert_symmetric(&format!("{what}: GGN"), &ggn, n);
    let gap = (0..n).map(|i| (hessian[i * n + i] - ggn[i * n + i]).abs()).fold(0.0, f64::max);
    if case.affine {
        assert!(gap <= 4096.0 * f64::EPSILON * largest(&ggn), "{what}: diagonals of Hessian and GGN differ by {gap:e}");
    }

    // (f)
    let per_sample: Vec<Vec<f64>> = derivatives.iter().map(|(_, losses)| losses.clone()).collect();
    let fisher = dense(&objective, &problem.theta, Curvature::EmpiricalFisher);
    let expected = outer(&per_sample, &per_sample, 1.0 / ROWS as f64);
    let fisher_error = relative(&format!("{what}: Fisher"), &fisher, &expected);
    assert_symmetric(&format!("{what}: Fisher"), &fisher, n);
    if !case.train {
        fisher_is_the_mean_outer_product(problem, &fisher, what);
    }

    block_products(problem, [&hessian, &ggn, &fisher], what);
    single_precision(problem, &gradient, [&hessian, &ggn, &fisher], what);
    [gradient_error, hessian_error, ggn_error, fisher_error]
}

/// (f) Per-sample gradients are those of objectives with one row.
fn fisher_is_the_mean_outer_product(problem: &Problem, fisher: &[f64], what: &str) {
    let n = problem.dim();
    let mut sum = vec![0.0; n * n];
    for row in 0..ROWS {
        let data = problem.data.select(&[row]).unwrap();
        let options = problem.options(DType::F64);
        let objective = flatness::objective::Objective::new(&problem.network, &data, options).unwrap();
        let gradient = values(&objective.gradient(&vector(&problem.theta), &mut ()).unwrap().gradient);
        (0..n * n).for_each(|entry| sum[entry] += gradient[entry / n] * gradient[entry % n] / ROWS as f64);
    }
    assert_close(&format!("{what}: Fisher by rows"), fisher, &sum, 4096.0 * f64::EPSILON * largest(fisher).max(1e-3));
}

/// (d) Three directions at once equal one at a time, and both the dense matrix.
fn block_products(problem: &Problem, matrices: [&Vec<f64>; 3], what: &str) {
    let n = problem.dim();
    let block = tensor(&mut random(n as u64), &[3, n], DType::F64);
    let directions = values(&block);
    for (curvature, matrix) in CURVATURES.into_iter().zip(matrices) {
        let tolerance = 4096.0 * f64::EPSILON * largest(matrix) * n as f64;
        let objective = problem.objective(DType::F64);
        let together = products(&objective, &problem.theta, curvature, &block);
        for k in 0..3 {
            let one = products(&objective, &problem.theta, curvature, &block.narrow(0, k, 1).unwrap());
            let expected: Vec<f64> =
                (0..n).map(|i| (0..n).map(|j| matrix[i * n + j] * directions[k * n + j]).sum()).collect();
            assert_close(&format!("{what}: {curvature:?}"), &together[k * n..(k + 1) * n], &one, tolerance);
            assert_close(&format!("{what}: {curvature:?}"), &one, &expected, tolerance);
        }
    }
}

/// (e) f32: some hundred roundings of 6e-8 each stay well below 1e-4 of the largest entry.
fn single_precision(problem: &Problem, gradient: &[f64], matrices: [&Vec<f64>; 3], what: &str) {
    let objective = problem.objective(DType::F32);
    let theta = objective.place(&vector(&problem.theta)).unwrap();
    let single = values(&objective.gradient(&theta, &mut ()).unwrap().gradient);
    assert_close(&format!("{what}: gradient in f32"), &single, gradient, 1e-4 * largest(gradient));
    for (curvature, matrix) in CURVATURES.into_iter().zip(matrices) {
        let single = dense(&objective, &problem.theta, curvature);
        assert_close(&format!("{what}: {curvature:?} in f32"), &single, matrix, 1e-4 * largest(matrix));
    }
}

const CURVATURES: [Curvature; 3] = [Curvature::Hessian, Curvature::Ggn, Curvature::EmpiricalFisher];

#[test]
fn the_table_names_every_kind() {
    let missing: Vec<&str> = flatness::formats::KINDS
        .into_iter()
        .filter(|kind| !CASES.iter().any(|case| case.layers.contains(&format!("\"{kind}\""))))
        .collect();
    assert!(missing.is_empty(), "no case has {missing:?}");
}
