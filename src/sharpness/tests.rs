//! Measures against closed forms: a linear network with squared error is a quadratic; ReLU layers may be rescaled.

mod critical;
mod invariance;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::average::average;
use super::norms::{fisher_rao, relative_flatness};
use super::pac_bayes::width;
use super::point::Point;
use super::worst::{Within, worst};
use super::{Minimum, Scaling, SharpnessRow, survey};
use crate::curvature::{ExactParams, Preconditioner};
use crate::data::{Dataset, Inputs, Targets};
use crate::formats::Architecture;
use crate::kernels::norm_of;
use crate::objective::{Objective, ObjectiveOptions};
use crate::plan::{PacBayesParams, SharpnessOptions, WorstParams};
use crate::program::{Loss, Network};
use crate::vocabulary::{Ball, Sharpness};

fn sample(index: usize) -> f64 {
    (1.7 * index as f64).sin() + 0.2 * (index % 5) as f64
}

fn network(text: &str) -> Network {
    Architecture::from_json(text, "test").unwrap().network(HashMap::new()).unwrap()
}

fn linear() -> Network {
    network(
        r#"{"layers": [{"kind": "linear", "in": 3, "out": 2, "weight": "w", "bias": "b"}], "loss": {"kind": "mse"}}"#,
    )
}

/// Two ReLU layers and classes.
fn relu() -> Network {
    network(
        r#"{"layers": [
            {"kind": "linear", "in": 3, "out": 5, "weight": "w1", "bias": "b1"}, {"kind": "relu"},
            {"kind": "linear", "in": 5, "out": 4, "weight": "w2", "bias": "b2"}
        ], "loss": {"kind": "cross_entropy"}}"#,
    )
}

fn inputs() -> Inputs {
    Inputs::Float64((0..24 * 3).map(sample).collect())
}

fn values() -> Dataset {
    let targets = Targets::Values { values: (0..48).map(|i| sample(3 * i + 1)).collect(), sample_shape: vec![2] };
    Dataset::new("test".into(), vec![3], inputs(), targets, None).unwrap()
}

fn classes() -> Dataset {
    let labels = (0..24).map(|i| (i * 7 % 4) as u32).collect();
    Dataset::new("test".into(), vec![3], inputs(), Targets::Classes { labels, num_classes: 4 }, None).unwrap()
}

fn options(loss: Loss) -> ObjectiveOptions {
    ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(loss) }
}

const CROSS_ENTROPY: Loss = Loss::cross_entropy();

fn theta(dim: usize) -> Vec<f64> {
    (0..dim).map(|i| 0.7 * sample(11 * i + 2)).collect()
}

fn tensor(values: &[f64]) -> Tensor {
    Tensor::from_vec(values.to_vec(), values.len(), &Device::Cpu).unwrap()
}

fn measured(objective: &Objective<'_>, theta: &[f64], data: &Dataset, options: &SharpnessOptions) -> Vec<SharpnessRow> {
    // Adam's second moments of the parameters, were they like this.
    let diagonal = Tensor::from_iter((0..theta.len()).map(|i| 0.5 + (i % 3) as f64), &Device::Cpu).unwrap();
    let preconditioner = Preconditioner::new(&diagonal).unwrap();
    let minimum = Minimum { objective, theta: &tensor(theta), data, preconditioner: Some(&preconditioner) };
    survey(minimum, options, &mut ()).unwrap().rows
}

#[test]
fn on_a_quadratic_the_average_is_half_the_scaled_trace() {
    let (network, data) = (linear(), values());
    let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
    let theta = theta(8);
    let diagonal = objective.exact_diagonal(&tensor(&theta), &ExactParams::default(), &mut ()).unwrap();
    let diagonal = diagonal.to_vec1::<f64>().unwrap();
    for scaling in Scaling::ALL {
        let units = scaling.units(network.space(), &theta);
        let trace: f64 = diagonal.iter().zip(&units).map(|(d, s)| d * s * s).sum();
        for sigma in [0.01, 1.0] {
            let mut point = Point::new(&objective, &theta, &units);
            let rise = average(&mut point, sigma, 64, 3, &mut ()).unwrap();
            // A quadratic has no higher terms: only the draws of z are left, at any σ.
            let error = (rise.value - 0.5 * sigma * sigma * trace).abs();
            assert!(error < 4.0 * rise.std_err_numeric, "{scaling:?} {sigma}: {error} {rise:?}");
            assert_eq!(point.num_evaluations, 129);
        }
    }
}

#[test]
fn the_worst_in_a_small_ball_is_along_the_gradient() {
    let (network, data) = (linear(), values());
    let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
    let theta = theta(8);
    let gradient = objective.gradient(&tensor(&theta), &mut ()).unwrap().gradient.to_vec1::<f64>().unwrap();
    let params = WorstParams::default();
    for scaling in Scaling::ALL {
        let units = scaling.units(network.space(), &theta);
        let slopes: Vec<f64> = gradient.iter().zip(&units).map(|(g, s)| g * s).collect();
        let rho = 1e-4;
        let found = |ball| {
            let mut point = Point::new(&objective, &theta, &units);
            worst(&mut point, Within { ball, radius: rho }, &params, 0, &mut ()).unwrap().rise / rho
        };
        // To first order ρ‖s ⊙ g‖ in the dual norm; the next term is ρ λ_max/2 of the scaled Hessian, below 1e-4·20.
        assert!((found(Ball::L2) - norm_of(&slopes)).abs() < 2e-3, "{scaling:?}");
        let sum: f64 = slopes.iter().map(|slope| slope.abs()).sum();
        assert!((found(Ball::Linf) - sum).abs() < 1e-2, "{scaling:?}");
    }
}

#[test]
fn the_worst_in_a_large_ball_solves_the_trust_region_problem() {
    let (network, data) = (linear(), values());
    let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
    let theta = theta(8);
    let gradient = objective.gradient(&tensor(&theta), &mut ()).unwrap().gradient.to_vec1::<f64>().unwrap();
    // The Hessian of a quadratic from its gradients, column by column.
    let hessian = nalgebra::DMatrix::from_fn(8, 8, |i, j| {
        let mut moved = theta.clone();
        moved[j] += 1.0;
        let there = objective.gradient(&tensor(&moved), &mut ()).unwrap().gradient.to_vec1::<f64>().unwrap();
        there[i] - gradient[i]
    });
    // On the rim (λ I − H) δ = g with λ above all eigenvalues: bisection on ‖δ(λ)‖ = ρ (Moré and Sorensen 1983).
    let g = nalgebra::DVector::from_vec(gradient);
    let (rho, top) = (0.8, hessian.clone().symmetric_eigen().eigenvalues.max());
    let delta = |lambda: f64| {
        let shifted = nalgebra::DMatrix::identity(8, 8) * lambda - &hessian;
        shifted.lu().solve(&g).unwrap()
    };
    let (mut low, mut high) = (top + 1e-9, top + 1e3);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if delta(middle).norm() > rho { low = middle } else { high = middle }
    }
    let best = delta(high);
    let exact = g.dot(&best) + 0.5 * best.dot(&(&hessian * &best));
    let params = WorstParams { steps: 60, restarts: 3, ..WorstParams::default() };
    let mut point = Point::new(&objective, &theta, &[1.0; 8]);
    let found = worst(&mut point, Within { ball: Ball::L2, radius: rho }, &params, 0, &mut ()).unwrap();
    // A lower bound, up to rounding; sixty steps come within 1 % of it.
    assert!(found.rise <= exact * (1.0 + 1e-12) && found.rise > 0.99 * exact, "{found:?} {exact}");
    assert!(found.converged);
}

#[test]
fn the_width_is_where_the_rise_is_the_target() {
    let (network, data) = (linear(), values());
    let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
    let theta = theta(8);
    let trace: f64 = objective
        .exact_diagonal(&tensor(&theta), &ExactParams::default(), &mut ())
        .unwrap()
        .to_vec1::<f64>()
        .unwrap()
        .iter()
        .sum();
    let params = PacBayesParams { target: 0.1, pairs: 200 };
    let mut point = Point::new(&objective, &theta, &[1.0; 8]);
    let found = width(&mut point, &params, 5, &mut ()).unwrap();
    // σ²/2 tr H = 0.1.
    let exact = (0.2 / trace).sqrt();
    assert!((found.sigma - exact).abs() < 4.0 * found.std_err && found.converged, "{found:?} {exact}");
}

/// `w1, b1` times `a`, `w2` over `a`: the same function.
fn rescaled(theta: &[f64], a: f64) -> Vec<f64> {
    let factor = |index: usize| match index {
        0..20 => a,
        20..40 => 1.0 / a,
        _ => 1.0,
    };
    theta.iter().enumerate().map(|(index, value)| value * factor(index)).collect()
}

#[test]
fn rescaled_relu_layers_keep_what_is_relative_and_change_what_is_not() {
    let (network, data) = (relu(), classes());
    let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
    let theta = theta(44);
    let other = rescaled(&theta, 3.0);
    let reports = [&theta, &other].map(|theta| {
        let options = SharpnessOptions::default();
        measured(&objective, theta, &data, &options)
    });
    for (one, two) in reports[0].iter().zip(&reports[1]) {
        assert_eq!(one.quantity, two.quantity);
        let ratio = two.value / one.value;
        match (one.quantity.scaling(), one.quantity) {
            // Rises are differences of losses around 1 to within 1e-15; ascents take the same steps but for the signs of
            // slopes near 0.
            (Some(Scaling::Element | Scaling::Filter), _) | (_, Sharpness::FisherRao) => {
                assert!((ratio - 1.0).abs() < 1e-6, "{}: {ratio}", one.quantity);
            }
            // The signs meet the weights in another order of sums, no more.
            (_, Sharpness::RelativeFlatness) => assert!((ratio - 1.0).abs() < 1e-9, "{ratio}"),
            (_, Sharpness::Average { .. } | Sharpness::WorstCase { .. } | Sharpness::Critical { .. }) => {
                assert!((ratio - 1.0).abs() > 0.05, "{}: {ratio}", one.quantity);
            }
            _ => {}
        }
    }
}

#[test]
fn raw_parts_of_the_trace_change_by_the_square() {
    let (network, data) = (relu(), classes());
    let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
    let theta = theta(44);
    let part = |theta: &[f64], range: std::ops::Range<usize>| -> f64 {
        let diagonal = objective.exact_diagonal(&tensor(theta), &ExactParams::default(), &mut ()).unwrap();
        diagonal.to_vec1::<f64>().unwrap()[range].iter().sum()
    };
    let other = rescaled(&theta, 3.0);
    assert!((part(&other, 0..20) * 9.0 / part(&theta, 0..20) - 1.0).abs() < 1e-12);
    assert!((part(&other, 20..40) / 9.0 / part(&theta, 20..40) - 1.0).abs() < 1e-12);
}

#[test]
fn relative_flatness_against_a_dense_matrix() {
    let (network, data) = (relu(), classes());
    let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
    let theta = theta(44);
    // The last layer is linear in its weights: block of the Hessian from differences of gradients, exact to 1e-9.
    let gradient =
        |theta: &[f64]| objective.gradient(&tensor(theta), &mut ()).unwrap().gradient.to_vec1::<f64>().unwrap();
    let column = |j: usize| -> Vec<f64> {
        let at = |h: f64| {
            let mut moved = theta.clone();
            moved[j] += h;
            gradient(&moved)
        };
        at(1e-5).iter().zip(at(-1e-5)).map(|(plus, minus)| (plus - minus) / 2e-5).collect()
    };
    let columns: Vec<Vec<f64>> = (20..40).map(column).collect();
    let mut exact = 0.0;
    for s in 0..4 {
        for t in 0..4 {
            let dot: f64 = (0..5).map(|i| theta[20 + 5 * s + i] * theta[20 + 5 * t + i]).sum();
            let trace: f64 = (0..5).map(|i| columns[5 * t + i][20 + 5 * s + i]).sum();
            exact += dot * trace;
        }
    }
    let found = relative_flatness(&objective, &theta, 400, 1, &mut ()).unwrap().unwrap();
    assert!((found.value - exact).abs() < 4.0 * found.std_err_numeric, "{found:?} {exact}");
}

#[test]
fn fisher_rao_of_a_homogeneous_network_is_the_spread_of_its_logits() {
    let (network, data) = (relu(), classes());
    let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
    // Without biases f(aθ) = a² f(θ): ∂f along θ is 2f, and θᵀGθ = 4 E Var_p(f), p the softmax of a row (Liang et al. 2019).
    let mut theta = theta(44);
    [15..20, 40..44].into_iter().for_each(|biases| theta[biases].fill(0.0));
    let mut exact = 0.0;
    for row in 0..24 {
        let x: Vec<f64> = (0..3).map(|i| sample(3 * row + i)).collect();
        let hidden = (0..5).map(|s| (0..3).map(|i| theta[3 * s + i] * x[i]).sum::<f64>().max(0.0)).collect::<Vec<_>>();
        let logits = (0..4).map(|c| (0..5).map(|s| theta[20 + 5 * c + s] * hidden[s]).sum::<f64>()).collect::<Vec<_>>();
        let total: f64 = logits.iter().map(|f| f.exp()).sum();
        let mean = |power: i32| logits.iter().map(|f| f.exp() / total * f.powi(power)).sum::<f64>();
        exact += 4.0 * (mean(2) - mean(1).powi(2)) / 24.0;
    }
    let found = fisher_rao(&objective, &theta, &mut ()).unwrap();
    assert!((found.value - exact.sqrt()).abs() < 1e-12 * found.value, "{found:?} {exact}");
    assert!(found.std_err_data > 0.0);
}

#[test]
fn threads_do_not_change_a_bit() {
    let (network, data) = (relu(), classes());
    let run = |threads| {
        let mut options = options(CROSS_ENTROPY);
        options.execution.threads = threads;
        let objective = Objective::new(&network, &data, options).unwrap();
        let rows = measured(&objective, &theta(44), &data, &SharpnessOptions::default());
        rows.iter().map(|row| (row.quantity.to_string(), row.value.to_bits())).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
    let names: std::collections::BTreeSet<String> = run(1).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), run(1).len());
}
