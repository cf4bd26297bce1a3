//! Critical sharpness against its closed form on quadratics.

use nalgebra::{DMatrix, DVector};

use super::super::critical::{Critical, Update, critical};
use super::*;
use crate::statistics::Ratio;

/// Gradient and Hessian of the linear network at `θ`; the Hessian from differences of gradients, which are linear.
fn quadratic(objective: &Objective<'_>, theta: &[f64]) -> (DVector<f64>, DMatrix<f64>) {
    let gradient = |theta: &[f64]| {
        let gradient = objective.gradient(&tensor(theta), &mut ()).unwrap().gradient;
        DVector::from_vec(gradient.to_vec1::<f64>().unwrap())
    };
    let here = gradient(theta);
    let columns: Vec<DVector<f64>> = (0..theta.len())
        .map(|j| {
            let mut moved = theta.to_vec();
            moved[j] += 1.0;
            gradient(&moved) - &here
        })
        .collect();
    (here, DMatrix::from_columns(&columns))
}

fn along(objective: &Objective<'_>, theta: &[f64], direction: &DVector<f64>, slope: f64) -> (Critical, usize) {
    let units = vec![1.0; theta.len()];
    let mut point = Point::new(objective, theta, &units);
    let update = Update { direction: direction.as_slice(), slope };
    let found = critical(&mut point, update, &mut ()).unwrap();
    (found, point.num_evaluations)
}

/// `λ_c = ΔᵀHΔ/(gᵀΔ)`, along the gradient and along one divided by a diagonal, as Adam's.
#[test]
fn on_a_quadratic_it_is_the_curvature_along_the_update() {
    let (network, data) = (linear(), values());
    let theta = theta(8);
    let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
    let (gradient, hessian) = quadratic(&objective, &theta);
    // Half of the last bracket's width, 1e-3; in f32 the rounding of losses around 1, a few times 1e-7, too.
    for (dtype, most_passes, most_error) in [(DType::F64, 75, 5e-4), (DType::F32, 45, 5.1e-4)] {
        let options = ObjectiveOptions { dtype, ..options(Loss::Mse {}) };
        let objective = Objective::new(&network, &data, options).unwrap();
        let preconditioned = DVector::from_fn(8, |i, _| gradient[i] / [3.0, 0.2, 1.0, 7.0][i % 4]);
        for direction in [gradient.clone(), preconditioned] {
            let slope = gradient.dot(&direction);
            let exact = direction.dot(&(&hessian * &direction)) / slope;
            let (found, passes) = along(&objective, &theta, &direction, slope);
            let error = (found.sharpness.value / exact - 1.0).abs();
            assert!(error < most_error && found.converged, "{dtype:?}: {error} {found:?}");
            assert!(found.sharpness.std_err_numeric < 1e-3 * exact && found.reason.is_empty());
            assert!(passes <= most_passes, "{dtype:?}: {passes}");
        }
    }
}

/// With the loss of row `n` along the update `−b_n η + c_n η²`, `λ_c = Σ 2 c_n / Σ b_n`: a ratio, whose error is known.
#[test]
fn its_error_over_the_rows_is_that_of_a_ratio() {
    let (network, data) = (linear(), values());
    let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
    let theta = theta(8);
    let (gradient, _) = quadratic(&objective, &theta);
    let losses = |step: f64| {
        let moved: Vec<f64> = theta.iter().zip(&gradient).map(|(theta, g)| theta - step * g).collect();
        objective.row_losses(&tensor(&moved), &mut ()).unwrap()
    };
    let (back, here, forth) = (losses(-1.0), losses(0.0), losses(1.0));
    let rows = (0..here.len()).map(|n| Ratio::of(back[n] + forth[n] - 2.0 * here[n], 0.5 * (back[n] - forth[n])));
    let exact = rows.fold(Ratio::default(), Ratio::merge);
    let (found, _) = along(&objective, &theta, &gradient, gradient.norm_squared());
    assert!((found.sharpness.value / exact.value() - 1.0).abs() < 5.1e-4);
    // Taken at a step that is off by 5e-4: to first order the rises of the rows change by as much.
    let ratio = found.sharpness.std_err_data / exact.std_err();
    assert!((ratio - 1.0).abs() < 5e-3, "{ratio}");
}

#[test]
fn along_the_top_eigenvector_it_is_the_largest_eigenvalue() {
    let (network, data) = (linear(), values());
    let objective = Objective::new(&network, &data, options(Loss::Mse {})).unwrap();
    let theta = theta(8);
    let (gradient, hessian) = quadratic(&objective, &theta);
    let eigen = hessian.clone().symmetric_eigen();
    let top = eigen.eigenvalues.imax();
    // From the minimum along the eigenvector: there the gradient is λ₁ times it.
    let minimum = DVector::from_vec(theta) - hessian.lu().solve(&gradient).unwrap();
    let away = minimum + eigen.eigenvectors.column(top);
    let (gradient, _) = quadratic(&objective, away.as_slice());
    let (found, _) = along(&objective, away.as_slice(), &gradient, gradient.norm_squared());
    assert!((found.sharpness.value / eigen.eigenvalues[top] - 1.0).abs() < 5.1e-4, "{found:?}");
    // An update that is three times as long goes as far in a third of the step.
    let (longer, _) = along(&objective, away.as_slice(), &(&gradient * 3.0), 3.0 * gradient.norm_squared());
    assert!((longer.sharpness.value / found.sharpness.value - 3.0).abs() < 3.1e-3, "{longer:?}");
}

#[test]
fn without_a_crossing_there_is_a_reason_and_no_number() {
    // Two points on either side of 0: the further along the gradient, the better they are told apart.
    let network = network(
        r#"{"layers": [{"kind": "linear", "in": 1, "out": 2, "weight": "w", "bias": "b"}],
            "loss": {"kind": "cross_entropy"}}"#,
    );
    let targets = Targets::Classes { labels: vec![0, 1], num_classes: 2 };
    let data = Dataset::new("test".into(), vec![1], Inputs::Float64(vec![1.0, -1.0]), targets, None).unwrap();
    let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
    let (gradient, _) = quadratic(&objective, &[0.0; 4]);
    let (found, _) = along(&objective, &[0.0; 4], &gradient, gradient.norm_squared());
    assert!(found.sharpness.value.is_nan() && !found.converged);
    assert!(found.reason.starts_with("the loss does not rise up to η = "), "{found:?}");
    let (found, passes) = along(&objective, &[0.0; 4], &DVector::zeros(4), 0.0);
    assert!(found.reason.contains("the gradient is 0") && passes == 1, "{found:?}");
    // Up the gradient, the loss never does what a slope of the other sign would make it do.
    let (found, _) = along(&objective, &[0.0; 4], &(-&gradient), gradient.norm_squared());
    assert!(found.reason.contains("as its slope says") && found.sharpness.value.is_nan(), "{found:?}");
}
