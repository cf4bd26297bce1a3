//! Exact diagonals and traces, and where there are none.

use candle_core::{Device, Tensor};
use flatness::curvature::{Curvature, ExactParams};
use flatness::objective::Objective;
use flatness::program::{Add, Function, Linear, Loss, Mean, Mul, Network, Select, Sum, Unary};

use super::{CROSS_ENTROPY, Writer, differences, options, rows, theta};
use crate::support::*;

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
