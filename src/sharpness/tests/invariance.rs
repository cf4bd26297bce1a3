//! What critical sharpness and the eigenvalues of `H` and `P⁻¹H` do when a network is written otherwise.

use super::super::critical::{Update, critical};
use super::*;
use crate::curvature::{Curvature, CurvatureOperator};
use crate::operator::{LinearOperator, Scaled};
use crate::optim::AdamW;

/// `λ₁(H)` and critical sharpness along the gradient; `λ₁(P⁻¹H)` and critical sharpness along Adam's step, with a second
/// moment that goes with the square of the gradient, as Adam's does, and without `ε`.
fn sharpness(objective: &Objective<'_>, theta: &[f64]) -> ([f64; 2], [f64; 2]) {
    let gradient = objective.gradient(&tensor(theta), &mut ()).unwrap().gradient.to_vec1::<f64>().unwrap();
    let moment: Vec<f64> = gradient.iter().enumerate().map(|(i, g)| g * g * (1.0 + (i % 3) as f64)).collect();
    let adamw = AdamW { eps: 0.0, ..AdamW::default() };
    let preconditioner = Preconditioner::new(&adamw.preconditioner(&tensor(&moment), 5.0).unwrap()).unwrap();
    let units = vec![1.0; theta.len()];
    let along = |direction: &[f64]| {
        let slope = gradient.iter().zip(direction).map(|(g, d)| g * d).sum();
        critical(&mut Point::new(objective, theta, &units), Update { direction, slope }, &mut ())
            .unwrap()
            .sharpness
            .value
    };
    let largest = |operator: &dyn LinearOperator| {
        let n = operator.dim();
        let rows = operator.apply(&Tensor::eye(n, DType::F64, &Device::Cpu).unwrap(), &mut ()).unwrap().block;
        let rows: Vec<f64> = rows.flatten_all().unwrap().to_vec1().unwrap();
        nalgebra::DMatrix::from_row_slice(n, n, &rows).symmetric_eigenvalues().max()
    };
    let hessian = || CurvatureOperator::new(objective, &tensor(theta), Curvature::Hessian).unwrap();
    let preconditioned = Scaled::new(hessian(), &preconditioner.scale().unwrap()).unwrap();
    let adam = preconditioner.direction(&gradient).unwrap();
    ([largest(&hessian()), along(&gradient)], [largest(&preconditioned), along(&adam)])
}

/// Eigenvalues to rounding of their matrices, critical sharpness to twice half its bracket.
fn assert_ratios(found: ([f64; 2], [f64; 2]), before: ([f64; 2], [f64; 2]), plain: f64, preconditioned: f64) {
    let pairs = [(found.0, before.0, plain), (found.1, before.1, preconditioned)];
    for (found, before, expected) in pairs {
        for (place, tolerance) in [(0, 1e-9), (1, 1.1e-3)] {
            let ratio = found[place] / before[place];
            assert!((ratio / expected - 1.0).abs() < tolerance, "{place}: {ratio}, not {expected}");
        }
    }
}

/// Rows with inputs and targets scaled by `scale`.
fn four_values(scale: f64) -> Dataset {
    let inputs = Inputs::Float64((0..24 * 3).map(|i| scale * sample(i)).collect());
    let values = (0..24 * 4).map(|i| scale * sample(3 * i + 1)).collect();
    Dataset::new("test".into(), vec![3], inputs, Targets::Values { values, sample_shape: vec![4] }, None).unwrap()
}

const WITHOUT_BIAS: &str =
    r#"{"layers": [{"kind": "linear", "in": 3, "out": 4, "weight": "w"}], "loss": {"kind": "mse"}}"#;

/// Twice the inputs and targets of a linear network are four times its squared error at the same weights.
#[test]
fn a_multiple_of_the_loss_leaves_what_adam_preconditions() {
    let network = network(WITHOUT_BIAS);
    let theta = theta(12);
    let [one, four] = [1.0, 2.0].map(|scale| {
        let data = four_values(scale);
        let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
        sharpness(&objective, &theta)
    });
    assert_ratios(four, one, 4.0, 1.0);
}

/// In front of a normalisation the scale of the weights changes nothing but the units.
#[test]
fn the_scale_of_normalised_weights_enters_with_the_square_and_with_adam_once() {
    let text = WITHOUT_BIAS.replace(r#""w"}]"#, r#""w"}, {"kind": "layer_norm", "dim": 4, "eps": 1e-30}]"#);
    let (network, data) = (network(&text), four_values(1.0));
    let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
    // Not far from a minimum, so that the loss rises again: far along the gradient only its direction counts.
    let mut theta = theta(12);
    for _ in 0..40 {
        let gradient = objective.gradient(&tensor(&theta), &mut ()).unwrap().gradient.to_vec1::<f64>().unwrap();
        theta.iter_mut().zip(gradient).for_each(|(theta, gradient)| *theta -= 0.5 * gradient);
    }
    let larger: Vec<f64> = theta.iter().map(|theta| 4.0 * theta).collect();
    assert_ratios(sharpness(&objective, &larger), sharpness(&objective, &theta), 1.0 / 16.0, 0.25);
}

#[test]
fn rescaled_relu_layers_change_all_of_them() {
    let (network, data) = (relu(), classes());
    let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
    let theta = theta(44);
    let (one, two) = (sharpness(&objective, &theta), sharpness(&objective, &rescaled(&theta, 3.0)));
    for (one, two) in [one.0, one.1].concat().into_iter().zip([two.0, two.1].concat()) {
        assert!((two / one - 1.0).abs() > 0.05, "{one} {two}");
    }
}
