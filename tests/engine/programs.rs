//! Programs written by hand: fusion, coupled rows, exact traces, whole numbers, and what is evaluated once.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use flatness::autodiff::ParamSpace;
use flatness::curvature::{Curvature, ExactParams};
use flatness::data::{Dataset, Inputs, Targets};
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::program::{
    About, Add, Arange, BatchNormMode, Compare, Comparison, Embedding, Function, Fused, Input, Kind, Linear, Loss,
    Matmul, Mean, Mul, Network, Node, Op, Operand, Permute, Place, Program, Select, Size, Softmax, Sum, Unary, View,
    Where, fuse,
};
use flatness::vocabulary::ParamKind;

use crate::support::*;

/// A program for inputs `x`, a line at a time.
struct Writer(Program);

impl Writer {
    fn new(parameters: &[(&str, &[usize])]) -> Self {
        let parameters = parameters.iter().map(|(name, shape)| ((*name).into(), shape.to_vec(), ParamKind::Weight));
        let inputs = vec![Input { name: "x".into(), kind: Kind::Float }];
        Self(Program { inputs, parameters: ParamSpace::new(parameters), ..Program::default() })
    }

    /// Appends an operation on named operands; numbers are numbers, `-` leaves an operand out.
    fn line(mut self, name: &str, operation: impl Into<Op>, operands: &[&str]) -> Self {
        let operand = |text: &&str| match (*text, text.parse()) {
            ("-", _) => Operand::None,
            (_, Ok(number)) => Operand::Number(number),
            (name, Err(_)) => Operand::Name(name.into()),
        };
        let place = Place { module: name.into(), kind: "line".into() };
        let operands = operands.iter().map(operand).collect();
        self.0.nodes.push(Node { name: name.into(), operation: operation.into(), operands, place });
        self
    }

    fn constant(mut self, name: &str, tensor: Tensor) -> Self {
        self.0.constants.push((name.into(), tensor));
        self
    }

    fn output(mut self, name: &str) -> Network {
        self.0.output = name.into();
        Network::new(self.0, HashMap::new(), About::default()).unwrap()
    }

    fn output_and_loss(mut self, output: &str, loss: &str) -> Network {
        (self.0.output, self.0.loss) = (output.into(), Some(loss.into()));
        Network::new(self.0, HashMap::new(), About::default()).unwrap()
    }
}

fn rows(shape: &[usize], rows: usize) -> Dataset {
    let inputs = Inputs::Float64(uniform(&mut random(91), rows * shape.iter().product::<usize>(), -1.0, 1.0));
    let labels = (0..rows as u32).map(|row| (2 * row + 1) % 3).collect();
    Dataset::new("test".into(), shape.to_vec(), inputs, Targets::Classes { labels, num_classes: 3 }, None).unwrap()
}

const CROSS_ENTROPY: Loss = Loss::smoothed(0.1);

fn options(loss: Loss) -> ObjectiveOptions {
    ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(loss) }
}

fn theta(network: &Network) -> Vec<f64> {
    uniform(&mut random(92), network.space().dim(), -0.8, 0.8)
}

fn gradient(objective: &Objective<'_>, theta: &[f64]) -> Vec<f64> {
    values(&objective.gradient(&vector(theta), &mut ()).unwrap().gradient)
}

/// The dense Hessian by differences of the gradient, row by row.
fn differences(objective: &Objective<'_>, theta: &[f64]) -> Vec<f64> {
    let n = theta.len();
    let column = |index: usize| {
        derivative(|h| {
            let mut moved = theta.to_vec();
            moved[index] += h;
            gradient(objective, &moved)
        })
    };
    (0..n).flat_map(column).collect()
}

#[test]
fn fusion_changes_results_by_rounding_alone() {
    for (layers, shape, fused_nodes) in [
        (
            r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
                {"kind": "residual", "main": [
                    {"kind": "conv2d", "in": 3, "out": 3, "kernel": 3, "padding": 1, "weight": "b.w"},
                    {"kind": "batch_norm2d", "channels": 3, "weight": "n.w", "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
                    {"kind": "relu"},
                    {"kind": "conv2d", "in": 3, "out": 3, "kernel": 3, "padding": 1, "weight": "c.w"},
                    {"kind": "batch_norm2d", "channels": 3, "weight": "o.w", "bias": "o.b", "running_mean": "o.mean", "running_var": "o.var"}]},
                {"kind": "relu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 3, "out": 3, "weight": "f.w", "bias": "f.b"}]"#,
            &[2, 6, 5][..],
            3,
        ),
        // Used twice, a normalisation must not be joined with the ReLU behind it; nor the sum of two normalisations twice.
        (
            r#"[{"kind": "residual",
                 "main": [{"kind": "batch_norm2d", "channels": 2, "weight": "n.w", "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
                          {"kind": "residual", "main": [{"kind": "relu"}]}],
                 "shortcut": [{"kind": "batch_norm2d", "channels": 2, "running_mean": "o.mean", "running_var": "o.var"}]},
                {"kind": "tanh"}, {"kind": "flatten"}, {"kind": "linear", "in": 60, "out": 3, "weight": "f.w", "bias": "f.b"}]"#,
            &[2, 6, 5],
            1,
        ),
    ] {
        for train in [false, true] {
            let mut problem = Problem::new(layers, shape, 7, CROSS_ENTROPY, 93);
            problem.train = train;
            let count =
                |program: &Program| program.nodes.iter().filter(|n| matches!(n.operation, Op::Fused(_))).count();
            assert_eq!((count(problem.network.program()), count(problem.network.fused())), (0, fused_nodes));
            let plain = problem.network.unfused().unwrap();
            assert_eq!(count(plain.fused()), 0);
            let theta = &problem.theta;
            let block = Tensor::from_vec(
                uniform(&mut random(94), 2 * problem.dim(), -1.0, 1.0),
                (2, problem.dim()),
                &Device::Cpu,
            );
            let block = block.unwrap();
            let of = |network: &Network| {
                let objective = Objective::new(network, &problem.data, problem.options(DType::F64)).unwrap();
                let mut all = gradient(&objective, theta);
                for curvature in [Curvature::Hessian, Curvature::Ggn, Curvature::Residual] {
                    all.extend(products(&objective, theta, curvature, &block));
                }
                all
            };
            let (joined, apart) = (of(&problem.network), of(&plain));
            // Each pass that is joined saves two roundings of numbers of the results' size, over a few hundred additions.
            let tolerance = 512.0 * f64::EPSILON * largest(&joined);
            for (a, b) in joined.iter().zip(&apart) {
                assert!((a - b).abs() <= tolerance, "{a:e} {b:e}, tolerance {tolerance:e}");
            }
        }
    }
}

#[test]
fn fusing_twice_changes_nothing_and_every_value_keeps_its_name() {
    let architecture = flatness::formats::family("resnet-cifar:8", &[3, 8, 8], 4).unwrap();
    let network = architecture.network(HashMap::new()).unwrap();
    let once = fuse(network.program());
    assert_eq!(fuse(&once).nodes, once.nodes);
    let is_fused = |node: &&Node| matches!(&node.operation, Op::Fused(Fused { relu: true, .. }));
    // The stem, two per block of three: each ends in a ReLU.
    assert_eq!(once.nodes.iter().filter(is_fused).count(), 7);
    let names: Vec<&String> = network.program().nodes.iter().map(|node| &node.name).collect();
    assert!(once.nodes.iter().all(|node| names.contains(&&node.name)));
}

/// Programs whose rows touch one another, and a part of the reason; the last two do not.
fn coupled() -> Vec<(Network, Option<&'static str>)> {
    let linear = || Writer::new(&[("w", &[3, 4])]).line("y", Linear {}, &["x", "w", "-"]);
    let along = |dim| Softmax { dim };
    let mean = |dim: i64, keepdim| Mean { dim: vec![dim], keepdim };
    vec![
        (linear().line("m", mean(0, true), &["y"]).line("z", Add {}, &["y", "m"]).output("z"), Some("axis 0")),
        (linear().line("z", along(0), &["y"]).output("z"), Some("axis 0")),
        // Each row's scores with all others, as a contrastive loss has them.
        (
            linear()
                .line("t", Permute { dims: vec![1, 0] }, &["y"])
                .line("s", Matmul {}, &["y", "t"])
                .line("z", Matmul {}, &["s", "y"])
                .output("z"),
            Some("each row with every other"),
        ),
        // The same numbers, cut into other rows.
        (
            linear()
                .line("t", Permute { dims: vec![1, 0] }, &["y"])
                .line("z", View { size: vec![Size::rows(), Size::fixed(3)] }, &["t"])
                .output("z"),
            Some("cuts rows apart"),
        ),
        // Tokens of all rows as one axis, and back: nothing is mixed.
        (
            Writer::new(&[("w", &[3, 2])])
                .line("t", View { size: vec![Size::rows() * Size::fixed(2), Size::fixed(2)] }, &["x"])
                .line("y", Linear {}, &["t", "w", "-"])
                .line("u", View { size: vec![Size::rows(), Size::fixed(2), Size::fixed(3)] }, &["y"])
                .line("z", Sum { dim: vec![1], keepdim: false }, &["u"])
                .output("z"),
            None,
        ),
        // The batch as the second axis for a while.
        (
            linear()
                .line("t", Permute { dims: vec![1, 0] }, &["y"])
                .line("s", along(0), &["t"])
                .line("z", Permute { dims: vec![1, 0] }, &["s"])
                .output("z"),
            None,
        ),
    ]
}

#[test]
fn coupled_rows_are_found_and_go_as_one_batch() {
    let data = rows(&[4], 9);
    for (index, (network, reason)) in coupled().into_iter().enumerate() {
        let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
        let found = objective.coupling().map(ToString::to_string);
        assert_eq!(found.is_some(), reason.is_some(), "{index}: {found:?}");
        if let (Some(found), Some(reason)) = (&found, reason) {
            assert!(found.contains(reason), "{index}: {found}");
        }
        let theta = theta(&network);
        let dense = dense(&objective, &theta, Curvature::Hessian);
        let expected = differences(&objective, &theta);
        let tolerance = DIFFERENCE_TOLERANCE * largest(&expected).max(1.0);
        for (got, expected) in dense.iter().zip(&expected) {
            assert!((got - expected).abs() <= tolerance, "{index}: {got} {expected}");
        }
        if let Some(found) = found {
            let error = objective.exact_trace(&vector(&theta), &[], &ExactParams::default(), &mut ()).unwrap_err();
            assert!(error.to_string().contains(&found), "{error}");
        }
    }
}

#[test]
fn batch_statistics_couple_rows_in_training_alone() {
    let layers = r#"[{"kind": "batch_norm1d", "channels": 2, "running_mean": "m", "running_var": "v"},
        {"kind": "linear", "in": 2, "out": 3, "weight": "w"}]"#;
    let mut problem = Problem::new(layers, &[2], 5, CROSS_ENTROPY, 95);
    assert!(problem.objective(DType::F64).coupling().is_none());
    problem.train = true;
    let text = problem.objective(DType::F64).coupling().unwrap().to_string();
    assert!(text.starts_with("layers[0] (batch_norm2d): ") && text.contains("whole batch"), "{text}");
    assert_eq!(problem.options(DType::F64).batch_norm, BatchNormMode::Train);
}

/// Networks with products of branches and shared parameters, and the parameters in which their outputs bend.
fn products_of_branches() -> Vec<(Network, &'static [&'static str])> {
    let relu = || Unary::from(Function::Relu);
    let tanh = || Unary::from(Function::Tanh);
    vec![
        // Two branches with parameters of their own: affine in each.
        (
            Writer::new(&[("a", &[3, 4]), ("b", &[3, 4])])
                .line("p", Linear {}, &["x", "a", "-"])
                .line("q", Linear {}, &["x", "b", "-"])
                .line("r", relu(), &["q"])
                .line("z", Mul {}, &["p", "r"])
                .output("z"),
            &[],
        ),
        // A stem that reaches both factors, as in squeeze-and-excite.
        (
            Writer::new(&[("s", &[4, 4]), ("a", &[3, 4]), ("b", &[3, 4])])
                .line("y", Linear {}, &["x", "s", "-"])
                .line("p", Linear {}, &["y", "a", "-"])
                .line("q", Linear {}, &["y", "b", "-"])
                .line("r", relu(), &["q"])
                .line("z", Mul {}, &["p", "r"])
                .output("z"),
            &["s"],
        ),
        // One matrix in a sum of two branches: affine; one after the other: not.
        (
            Writer::new(&[("a", &[3, 4])])
                .line("p", Linear {}, &["x", "a", "-"])
                .line("n", Mul {}, &["x", "-2"])
                .line("q", Linear {}, &["n", "a", "-"])
                .line("r", relu(), &["q"])
                .line("z", Add {}, &["p", "r"])
                .output("z"),
            &[],
        ),
        (
            Writer::new(&[("a", &[4, 4]), ("c", &[3, 4])])
                .line("p", Linear {}, &["x", "a", "-"])
                .line("r", relu(), &["p"])
                .line("q", Linear {}, &["r", "a", "-"])
                .line("z", Linear {}, &["q", "c", "-"])
                .output("z"),
            &["a"],
        ),
        // Smooth in what comes before, affine in what comes behind.
        (
            Writer::new(&[("a", &[4, 4]), ("c", &[3, 4])])
                .line("p", Linear {}, &["x", "a", "-"])
                .line("t", tanh(), &["p"])
                .line("z", Linear {}, &["t", "c", "-"])
                .output("z"),
            &["a"],
        ),
    ]
}

#[test]
fn diagonals_are_exact_where_no_parameter_bends_the_outputs() {
    let data = rows(&[4], 6);
    for (index, (network, bent)) in products_of_branches().into_iter().enumerate() {
        assert_eq!(network.program().bent_parameters(false), bent, "{index}");
        let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
        let (theta, n) = (theta(&network), objective.dim());
        let diagonal = |curvature| -> Vec<f64> {
            let dense = dense(&objective, &theta, curvature);
            (0..n).map(|i| dense[i * n + i]).collect()
        };
        let (hessian, ggn) = (diagonal(Curvature::Hessian), diagonal(Curvature::Ggn));
        let exact = values(&objective.exact_diagonal(&vector(&theta), &ExactParams::default(), &mut ()).unwrap());
        let tolerance = 1024.0 * f64::EPSILON * largest(&ggn);
        let differ = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > tolerance);
        assert!(!differ(&exact, &ggn), "{index}");
        assert_eq!(differ(&hessian, &ggn), !bent.is_empty(), "{index}");
        let groups: Vec<Vec<usize>> = (0..network.space().tensors().len()).map(|tensor| vec![tensor]).collect();
        let trace = objective.exact_trace(&vector(&theta), &groups, &ExactParams::default(), &mut ()).unwrap();
        assert_eq!(trace.is_hessian, bent.is_empty(), "{index}");
        let expected: f64 = ggn.iter().sum();
        assert!((trace.total.trace - expected).abs() <= n as f64 * tolerance, "{index}");
    }
}

#[test]
fn whole_numbers_and_truth_values_choose_among_floats() {
    // Positions are looked up in a table with a padding row, kept where they are below 2, and added to the input.
    let table = Tensor::from_vec((0..12).map(f64::from).collect::<Vec<_>>(), (3, 4), &Device::Cpu).unwrap();
    let network = Writer::new(&[("e", &[3, 4]), ("w", &[3, 4])])
        .constant("two", Tensor::new(2i64, &Device::Cpu).unwrap())
        .line("i", Arange { end: Size::fixed(3) }, &[])
        .line("p", Embedding { padding_idx: Some(1) }, &["e", "i"])
        .line("c", Compare { comparison: Comparison::Lt }, &["i", "two"])
        .line("d", View { size: vec![Size::fixed(3), Size::fixed(1)] }, &["c"])
        .line("k", Where {}, &["d", "p", "0.5"])
        .line("s", Sum { dim: vec![0], keepdim: false }, &["k"])
        .line("y", Add {}, &["x", "s"])
        .line("z", Linear {}, &["y", "w", "-"])
        .output("z");
    let data = rows(&[4], 5);
    let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
    let mut at = theta(&network);
    at[..12].copy_from_slice(&values(&table));
    let gradient = gradient(&objective, &at);
    let expected = derivative_of_loss(&objective, &at);
    for (index, (got, expected)) in gradient.iter().zip(&expected).enumerate() {
        // Row 1 is a constant in the look-up, row 2 is not chosen: nothing flows into either.
        let expected = if (4..12).contains(&index) { 0.0 } else { *expected };
        assert!((got - expected).abs() <= DIFFERENCE_TOLERANCE, "{index}: {got} {expected}");
    }
    assert!(gradient[..4].iter().all(|entry| *entry != 0.0));
    let dense = dense(&objective, &at, Curvature::Hessian);
    assert_symmetric("padding row", &dense, at.len());
}

/// The gradient by differences of the loss.
fn derivative_of_loss(objective: &Objective<'_>, theta: &[f64]) -> Vec<f64> {
    let entry = |index: usize| {
        derivative(|h| {
            let mut moved = theta.to_vec();
            moved[index] += h;
            vec![objective.evaluate(&vector(&moved), &mut ()).unwrap().loss]
        })[0]
    };
    (0..theta.len()).map(entry).collect()
}

#[test]
fn what_depends_on_constants_alone_is_evaluated_once_and_in_f64() {
    // A table that f32 cannot add up: 1 + 2⁻³⁰ − 1. Folded in f64 it is 2⁻³⁰ exactly, whatever the network's dtype.
    let tiny = f64::powi(2.0, -30);
    let network = Writer::new(&[("w", &[3, 4])])
        .constant("a", Tensor::new(1.0 + tiny, &Device::Cpu).unwrap())
        .line("b", Add {}, &["a", "-1"])
        .line("y", Mul {}, &["x", "1"])
        .line("k", Mul {}, &["y", "b"])
        .line("z", Linear {}, &["k", "w", "-"])
        .output("z");
    let data = rows(&[4], 5);
    for dtype in [DType::F64, DType::F32] {
        let options = ObjectiveOptions { dtype, ..options(Loss::cross_entropy()) };
        let objective = Objective::new(&network, &data, options).unwrap();
        let at = objective.place(&vector(&theta(&network))).unwrap();
        let norm = largest(&values(&objective.gradient(&at, &mut ()).unwrap().gradient.to_dtype(DType::F64).unwrap()));
        assert!(norm > 0.01 * tiny && norm < tiny, "{norm:e}");
    }
}

#[test]
fn an_indefinite_loss_of_the_program_has_exact_traces_too() {
    // ℓ = Σ_c tanh(y_c) · Σ_c' w_c' y_c': its Hessian in the outputs has both signs, on the diagonal and beside it.
    let write = |writer: Writer| {
        writer
            .line("y", Linear {}, &["x", "w", "b"])
            .constant("c", Tensor::new(&[1.0, -3.0, 0.5], &Device::Cpu).unwrap())
            .line("t", Unary::from(Function::Tanh), &["y"])
            .line("u", Mul {}, &["y", "c"])
            .line("s", Sum { dim: vec![1], keepdim: true }, &["u"])
            .line("p", Mul {}, &["t", "s"])
            .line("l", Sum { dim: vec![1], keepdim: false }, &["p"])
            .output_and_loss("y", "l")
    };
    let network = write(Writer::new(&[("w", &[3, 4]), ("b", &[3])]));
    let data = rows(&[4], 6);
    let objective = Objective::new(&network, &data, options(Loss::Program {})).unwrap();
    let (theta, n) = (theta(&network), objective.dim());
    let dense = dense(&objective, &theta, Curvature::Hessian);
    let expected = differences(&objective, &theta);
    for (got, expected) in dense.iter().zip(&expected) {
        assert!((got - expected).abs() <= DIFFERENCE_TOLERANCE * largest(&dense), "{got} {expected}");
    }
    let diagonal: Vec<f64> = (0..n).map(|i| dense[i * n + i]).collect();
    assert!(diagonal.iter().any(|entry| *entry < 0.0) && diagonal.iter().any(|entry| *entry > 0.0));
    let exact = values(&objective.exact_diagonal(&vector(&theta), &ExactParams::default(), &mut ()).unwrap());
    let tolerance = 1024.0 * f64::EPSILON * largest(&diagonal);
    for (got, expected) in exact.iter().zip(&diagonal) {
        assert!((got - expected).abs() <= tolerance, "{got} {expected}");
    }
    let groups = vec![vec![0], vec![1]];
    let trace = objective.exact_trace(&vector(&theta), &groups, &ExactParams::default(), &mut ()).unwrap();
    assert!(trace.is_hessian);
    assert!((trace.total.trace - diagonal.iter().sum::<f64>()).abs() <= n as f64 * tolerance);
    // Two random columns of three are unbiased, with an error that says how far off they may be.
    let random = ExactParams { max_columns: 2, seed: 3 };
    let estimate = objective.exact_trace(&vector(&theta), &groups, &random, &mut ()).unwrap().total;
    assert!(estimate.std_err_numeric > 0.0);
    assert!((estimate.trace - trace.total.trace).abs() <= 5.0 * estimate.std_err_numeric);
}

#[test]
fn a_loss_that_reads_parameters_past_the_outputs_has_a_hessian_and_no_ggn() {
    let network = Writer::new(&[("w", &[3, 4])])
        .line("y", Linear {}, &["x", "w", "-"])
        .line("q", Mul {}, &["y", "y"])
        .line("o", Select { dim: 0, index: 0 }, &["w"])
        .line("n", Mean { dim: vec![0], keepdim: false }, &["o"])
        .line("r", Sum { dim: vec![1], keepdim: false }, &["q"])
        .line("l", Add {}, &["r", "n"])
        .output_and_loss("y", "l");
    let data = rows(&[4], 4);
    let objective = Objective::new(&network, &data, options(Loss::Program {})).unwrap();
    let theta = theta(&network);
    let expected = differences(&objective, &theta);
    for (got, expected) in dense(&objective, &theta, Curvature::Hessian).iter().zip(&expected) {
        assert!((got - expected).abs() <= DIFFERENCE_TOLERANCE * largest(&[*expected, 1.0]), "{got} {expected}");
    }
    let operator = flatness::curvature::CurvatureOperator::new(&objective, &vector(&theta), Curvature::Ggn);
    let error = operator.err().unwrap().to_string();
    assert!(error.contains("`w`"), "{error}");
}
