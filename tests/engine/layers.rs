//! Every layer kind and every loss: gradient, Hessian, Gauss-Newton and Fisher matrix of one small network each.

use candle_core::{DType, Tensor};
use flatness::autodiff::Pattern;
use flatness::curvature::Curvature;
use flatness::models::Loss;
use serde_json::Value;

use crate::reference::{Answers, Array, Formula, Pieces, Reference};
use crate::support::*;

/// A network that gives three outputs.
struct Case {
    name: &'static str,
    layers: &'static str,
    shape: &'static [usize],
    /// Whether each output is piecewise affine in each single parameter.
    affine: bool,
    /// Whether batch normalisation uses the batch's statistics.
    train: bool,
}

const fn case(name: &'static str, shape: &'static [usize], affine: bool, layers: &'static str) -> Case {
    Case { name, layers, shape, affine, train: false }
}

const fn training(name: &'static str, shape: &'static [usize], layers: &'static str) -> Case {
    Case { name, layers, shape, affine: false, train: true }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("logistic", &[3], true, r#"[
        {"kind": "linear", "in": 3, "out": 3, "weight": "w"}]"#),
    case("relu and dropout", &[4], true, r#"[
        {"kind": "linear", "in": 4, "out": 5, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
        {"kind": "dropout", "p": 0.5}, {"kind": "identity"},
        {"kind": "linear", "in": 5, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("gelu", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"}, {"kind": "gelu"},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("gelu, tanh form", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"}, {"kind": "gelu", "form": "tanh"},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("silu", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"}, {"kind": "silu"},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("tanh and sigmoid", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"}, {"kind": "tanh"},
        {"kind": "linear", "in": 4, "out": 2, "weight": "b.w"}, {"kind": "sigmoid"},
        {"kind": "linear", "in": 2, "out": 3, "weight": "c.w", "bias": "c.b"}]"#),
    case("softplus", &[2], false, r#"[
        {"kind": "linear", "in": 2, "out": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "softplus"},
        {"kind": "linear", "in": 1, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("one matrix used twice", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 3, "weight": "w", "bias": "b"}, {"kind": "tanh"},
        {"kind": "linear", "in": 3, "out": 3, "weight": "w"}]"#),
    case("linear along the last axis", &[3, 4], true, r#"[
        {"kind": "linear", "in": 4, "out": 2, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"}, {"kind": "flatten"},
        {"kind": "linear", "in": 6, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("conv, padding, bias", &[2, 5, 4], true, r#"[
        {"kind": "conv2d", "in": 2, "out": 3, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"},
        {"kind": "linear", "in": 3, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("conv, stride 2, oblong", &[2, 5, 7], true, r#"[
        {"kind": "conv2d", "in": 2, "out": 2, "kernel": [3, 2], "stride": 2, "padding": [1, 0], "weight": "a.w"},
        {"kind": "relu"}, {"kind": "flatten"},
        {"kind": "linear", "in": 18, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("conv, stride 3, dilation 2", &[1, 9, 8], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 3, "stride": 3, "dilation": 2, "weight": "a.w", "bias": "a.b"},
        {"kind": "tanh"}, {"kind": "flatten"}, {"kind": "linear", "in": 8, "out": 3, "weight": "b.w"}]"#),
    case("conv, unequal stride, padding, dilation", &[1, 4, 9], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": [2, 3], "stride": [1, 2], "padding": [2, 1],
         "dilation": [3, 2], "weight": "a.w", "bias": "a.b"},
        {"kind": "silu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 2, "out": 3, "weight": "b.w"}]"#),
    case("conv in two groups", &[4, 4, 3], true, r#"[
        {"kind": "conv2d", "in": 4, "out": 6, "kernel": [1, 2], "groups": 2, "weight": "a.w", "bias": "a.b"},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"},
        {"kind": "linear", "in": 6, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("depthwise, pointwise", &[3, 4, 5], false, r#"[
        {"kind": "conv2d", "in": 3, "out": 3, "kernel": 3, "padding": 1, "groups": 3, "weight": "a.w"},
        {"kind": "conv2d", "in": 3, "out": 2, "kernel": 1, "weight": "b.w", "bias": "b.b"}, {"kind": "tanh"},
        {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 2, "out": 3, "weight": "c.w"}]"#),
    case("batch norm, stored statistics", &[2, 3, 3], true, r#"[
        {"kind": "conv2d", "in": 2, "out": 3, "kernel": 2, "weight": "a.w"},
        {"kind": "batch_norm2d", "channels": 3, "eps": 0.001, "weight": "n.w", "bias": "n.b",
         "running_mean": "n.mean", "running_var": "n.var"},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"},
        {"kind": "linear", "in": 3, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("batch norm of vectors, stored statistics", &[3], true, r#"[
        {"kind": "batch_norm1d", "channels": 3, "running_mean": "m.mean", "running_var": "m.var"},
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w"},
        {"kind": "batch_norm1d", "channels": 4, "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
        {"kind": "relu"}, {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    training("batch norm, batch statistics", &[2, 3, 3], r#"[
        {"kind": "conv2d", "in": 2, "out": 2, "kernel": 2, "weight": "a.w"},
        {"kind": "batch_norm2d", "channels": 2, "weight": "n.w", "bias": "n.b",
         "running_mean": "n.mean", "running_var": "n.var"},
        {"kind": "relu"}, {"kind": "flatten"}, {"kind": "linear", "in": 8, "out": 3, "weight": "b.w"}]"#),
    training("batch norm of vectors, batch statistics", &[3], r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"},
        {"kind": "batch_norm1d", "channels": 4, "eps": 0.01, "weight": "n.w",
         "running_mean": "n.mean", "running_var": "n.var"},
        {"kind": "tanh"}, {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    training("two batch norms in a residual block", &[2, 4, 3], r#"[
        {"kind": "residual", "main": [
            {"kind": "conv2d", "in": 2, "out": 3, "kernel": 3, "stride": 2, "padding": 1, "weight": "a.w"},
            {"kind": "batch_norm2d", "channels": 3, "weight": "n.w", "bias": "n.b",
             "running_mean": "n.mean", "running_var": "n.var"}],
          "shortcut": [
            {"kind": "conv2d", "in": 2, "out": 3, "kernel": 1, "stride": 2, "weight": "s.w"},
            {"kind": "batch_norm2d", "channels": 3, "running_mean": "m.mean", "running_var": "m.var"}]},
        {"kind": "gelu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 3, "out": 3, "weight": "b.w"}]"#),
    case("group norm", &[1, 4, 3], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 4, "kernel": [2, 1], "weight": "a.w"},
        {"kind": "group_norm", "groups": 2, "channels": 4, "weight": "n.w", "bias": "n.b"},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 4, "out": 3, "weight": "b.w"}]"#),
    case("layer norm of vectors", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"},
        {"kind": "group_norm", "groups": 1, "channels": 4, "eps": 0.01, "weight": "n.w"}, {"kind": "tanh"},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w"},
        {"kind": "group_norm", "groups": 1, "channels": 3, "bias": "m.b"}]"#),
    case("instance norm without parameters", &[1, 3, 4], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "weight": "a.w"},
        {"kind": "group_norm", "groups": 2, "channels": 2}, {"kind": "softplus"},
        {"kind": "flatten"}, {"kind": "linear", "in": 12, "out": 3, "weight": "b.w"}]"#),
    case("layer norm along the last axis, sequence", &[2, 3], false, r#"[
        {"kind": "layer_norm", "dim": 3, "eps": 0.1, "weight": "m.w", "bias": "m.b"},
        {"kind": "sequence", "layers": [{"kind": "linear", "in": 3, "out": 2, "weight": "a.w"}, {"kind": "relu"},
                                        {"kind": "flatten"}]},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w"},
        {"kind": "layer_norm", "dim": 3, "eps": 0.1, "bias": "n.b"}]"#),
    case("oblong patches, class token, positions", &[2, 2, 6], true, r#"[
        {"kind": "patch_embedding", "in": 2, "dim": 3, "patch": [1, 3], "weight": "p.w", "bias": "p.b"},
        {"kind": "class_token", "token": "c"},
        {"kind": "position_embedding", "tokens": 5, "embedding": "e"}, {"kind": "relu"},
        {"kind": "select_token", "index": 4}, {"kind": "linear", "in": 3, "out": 3, "weight": "h.w", "bias": "h.b"}]"#),
    case("attention alone, three heads", &[3, 2], false, r#"[
        {"kind": "linear", "in": 2, "out": 9, "weight": "a.w", "bias": "a.b"}, {"kind": "attention", "heads": 3},
        {"kind": "select_token", "index": 1}]"#),
    case("transformer block", &[1, 2, 6], false, r#"[
        {"kind": "patch_embedding", "in": 1, "dim": 4, "patch": 2, "weight": "p.w"},
        {"kind": "class_token", "token": "c"}, {"kind": "position_embedding", "tokens": 4, "embedding": "e"},
        {"kind": "transformer_block", "prefix": "b", "dim": 4, "heads": 2, "mlp_dim": 3, "eps": 0.1},
        {"kind": "select_token", "index": 0}, {"kind": "linear", "in": 4, "out": 3, "weight": "h.w"}]"#),
    case("transformer block, norms behind, silu, no bias", &[3, 2], false, r#"[
        {"kind": "transformer_block", "prefix": "b", "dim": 2, "heads": 1, "mlp_dim": 3, "eps": 0.1, "norm": "post",
         "activation": "silu", "qkv_bias": false},
        {"kind": "flatten"}, {"kind": "linear", "in": 6, "out": 3, "weight": "h.w"}]"#),
    case("max pool on odd sizes", &[2, 5, 5], true, r#"[
        {"kind": "conv2d", "in": 2, "out": 2, "kernel": 1, "weight": "a.w", "bias": "a.b"},
        {"kind": "max_pool2d", "kernel": 2}, {"kind": "relu"}, {"kind": "flatten"},
        {"kind": "linear", "in": 8, "out": 3, "weight": "b.w"}]"#),
    case("max pool, overlapping, padded", &[1, 5, 6], true, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "padding": 1, "weight": "a.w"},
        {"kind": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1},
        {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 2, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("max pool, oblong", &[1, 4, 7], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "tanh"},
        {"kind": "max_pool2d", "kernel": [2, 3], "stride": [1, 2], "padding": [1, 0]}, {"kind": "flatten"},
        {"kind": "linear", "in": 30, "out": 3, "weight": "b.w"}]"#),
    case("average pool, padding counted", &[1, 5, 6], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "weight": "a.w"}, {"kind": "tanh"},
        {"kind": "avg_pool2d", "kernel": 3, "stride": 2, "padding": 1}, {"kind": "flatten"},
        {"kind": "linear", "in": 12, "out": 3, "weight": "b.w"}]"#),
    case("average pool, padding left out", &[1, 5, 6], true, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "weight": "a.w"}, {"kind": "relu"},
        {"kind": "avg_pool2d", "kernel": 3, "stride": 2, "padding": 1, "count_include_pad": false},
        {"kind": "flatten"}, {"kind": "linear", "in": 12, "out": 3, "weight": "b.w"}]"#),
    case("average pool, oblong, gaps", &[1, 5, 7], true, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
        {"kind": "avg_pool2d", "kernel": [1, 2], "stride": [2, 3], "padding": [0, 1]},
        {"kind": "avg_pool2d", "kernel": 2}, {"kind": "flatten"},
        {"kind": "linear", "in": 2, "out": 3, "weight": "b.w"}]"#),
    case("residual around two layers", &[3], false, r#"[
        {"kind": "residual", "main": [
            {"kind": "linear", "in": 3, "out": 2, "weight": "a.w", "bias": "a.b"}, {"kind": "tanh"},
            {"kind": "linear", "in": 2, "out": 3, "weight": "b.w", "bias": "b.b"}]},
        {"kind": "sigmoid"}, {"kind": "linear", "in": 3, "out": 3, "weight": "c.w"}]"#),
    case("residual with a convolution as shortcut", &[2, 5, 3], true, r#"[
        {"kind": "residual", "main": [
            {"kind": "conv2d", "in": 2, "out": 3, "kernel": 3, "stride": 2, "padding": 1, "weight": "a.w"},
            {"kind": "relu"}],
          "shortcut": [{"kind": "conv2d", "in": 2, "out": 3, "kernel": 1, "stride": 2, "weight": "s.w", "bias": "s.b"}]},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 3, "out": 3, "weight": "b.w"}]"#),
    case("residual with subsampling, odd number of new channels", &[1, 5, 4], true, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
        {"kind": "residual",
          "main": [{"kind": "conv2d", "in": 2, "out": 5, "kernel": 1, "stride": 2, "weight": "b.w"}],
          "shortcut": [{"kind": "subsample_pad", "in": 2, "out": 5, "stride": 2}]},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 5, "out": 3, "weight": "c.w"}]"#),
    case("concat of channels", &[2, 3, 4], true, r#"[
        {"kind": "concat", "branches": [
            [{"kind": "conv2d", "in": 2, "out": 1, "kernel": 1, "weight": "a.w", "bias": "a.b"}],
            [],
            [{"kind": "conv2d", "in": 2, "out": 2, "kernel": 3, "padding": 1, "weight": "b.w"}, {"kind": "relu"}]]},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"},
        {"kind": "linear", "in": 5, "out": 3, "weight": "c.w", "bias": "c.b"}]"#),
    case("concat of rows with a block inside", &[1, 3, 4], false, r#"[
        {"kind": "concat", "axis": 2, "branches": [
            [{"kind": "residual", "main": [
                {"kind": "conv2d", "in": 1, "out": 1, "kernel": 3, "padding": 1, "weight": "a.w"}, {"kind": "gelu"}]}],
            [{"kind": "conv2d", "in": 1, "out": 1, "kernel": [2, 1], "weight": "b.w", "bias": "b.b"}]]},
        {"kind": "silu"}, {"kind": "flatten"}, {"kind": "linear", "in": 20, "out": 3, "weight": "c.w"}]"#),
];

const ROWS: usize = 5;

const LOSSES: [(Loss, Formula); 3] = [
    (Loss::CrossEntropy { label_smoothing: 0.15 }, Formula::CrossEntropy { smoothing: 0.15 }),
    (Loss::Mse, Formula::SquaredError),
    (Loss::BceWithLogits, Formula::BinaryCrossEntropy),
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
        let objective = flatness::curvature::Objective::new(&problem.network, &data, options).unwrap();
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
    let missing: Vec<&str> = flatness::models::KINDS
        .into_iter()
        .filter(|kind| !CASES.iter().any(|case| case.layers.contains(&format!("\"{kind}\""))))
        .collect();
    assert!(missing.is_empty(), "no case has {missing:?}");
}
