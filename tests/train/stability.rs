//! Thresholds of stability among the tracked numbers.

use flatness::data::{Dataset, Inputs, Targets};
use flatness::formats::Architecture;
use flatness::plan::{Precision, TrainConfig};
use flatness::train::{TrackedRow, TrainOutcome, Training, train};
use flatness::vocabulary::{Curvature, Quantity};
use nalgebra::{DMatrix, DVector};

/// Least squares `y ≈ x Wᵀ + b` on 6 rows, all of them in each batch: a quadratic.
fn regression() -> (Dataset, Architecture) {
    let inputs = (0..18).map(|i| ((i * i) as f64 * 0.37).sin()).collect();
    let targets = Targets::Values { values: (0..12).map(|i| (i as f64 * 0.71).cos()).collect(), sample_shape: vec![2] };
    let data = Dataset::new("test".into(), vec![3], Inputs::Float64(inputs), targets, None).unwrap();
    let json = r#"{"layers": [{"kind": "linear", "in": 3, "out": 2, "weight": "w", "bias": "b"}]}"#;
    (data, Architecture::from_json(json, "test").unwrap())
}

fn config(optimizer: &str) -> TrainConfig {
    TrainConfig {
        dtype: Precision::F64,
        epochs: 4,
        batch_size: 6,
        learning_rate: 0.2,
        weight_decay: 0.25,
        schedule: "multi_step:2,gamma=0.5".parse().unwrap(),
        optimizer: optimizer.parse().unwrap(),
        track: Some("top:1".parse().unwrap()),
        track_rows: 6,
        ..TrainConfig::default()
    }
}

fn go(config: &TrainConfig) -> TrainOutcome {
    let (data, architecture) = regression();
    train(Training::new(config, architecture, &data), &mut ()).unwrap()
}

fn tracked(outcome: &TrainOutcome, quantity: Quantity) -> Vec<f64> {
    outcome.tracked.iter().filter(|row| row.quantity == quantity).map(|row| row.value).collect()
}

#[test]
fn the_threshold_follows_the_learning_rate() {
    let outcome = go(&config("sgd:momentum=0.5"));
    // 2(1 + μ)/η − wd, η of the first step, and of the step that each epoch ends with.
    let of = |rate: f64| 3.0 / rate - 0.25;
    let expected = [0.2, 0.2, 0.2, 0.1, 0.1].map(of);
    assert_eq!(tracked(&outcome, Quantity::StabilityThreshold), expected);
    assert_eq!(tracked(&outcome, Quantity::LambdaMax).len(), 5);
    let curve = outcome.tracked_curves().into_iter().find(|curve| curve.quantity == Quantity::StabilityThreshold);
    let places: Vec<(f64, f64)> = curve.unwrap().points.iter().map(|(place, value, _)| (*place, *value)).collect();
    assert_eq!(places, (0..5).map(|epoch| (epoch as f64, expected[epoch])).collect::<Vec<_>>());
    let words = outcome.stability().unwrap();
    // The curvature of a quadratic stays, so that the share is the largest where the threshold is the lowest: 3/0.2 − 0.25.
    let share = tracked(&outcome, Quantity::LambdaMax)[0] / expected[0];
    let beginning = format!("stability: λ₁ of the Hessian was at most {share:.4} times its threshold (");
    assert!(words.starts_with(&beginning) && words.contains(" of 14.8, epoch "), "{words}");
    assert!(words.ends_with(" of 29.8); above it at 0 of 5 measurements"), "{words}");
}

#[test]
fn runs_without_a_known_threshold_have_none() {
    for optimizer in ["sam", "sgld", "fsgld", "rwp", "rmsprop"] {
        let outcome = go(&config(optimizer));
        assert!(tracked(&outcome, Quantity::StabilityThreshold).is_empty(), "{optimizer}");
        assert!(outcome.stability().is_none());
    }
    let part = go(&TrainConfig { train_only: vec!["w".into()], ..config("sgd") });
    assert!(tracked(&part, Quantity::StabilityThreshold).is_empty());
    let trace_only = go(&TrainConfig { track: Some("trace".parse().unwrap()), ..config("sgd") });
    assert!(tracked(&trace_only, Quantity::StabilityThreshold).is_empty());
}

/// On a quadratic the curvature stays, and the tracked numbers tell which runs settle.
#[test]
fn a_run_below_the_threshold_settles_and_one_above_it_does_not() {
    let constant = |optimizer: &str, learning_rate: f64| TrainConfig {
        epochs: 600,
        learning_rate,
        schedule: "constant".parse().unwrap(),
        track_every: 600,
        ..config(optimizer)
    };
    let largest = tracked(&go(&constant("sgd", 0.01)), Quantity::LambdaMax)[0];
    for (optimizer, room) in
        [("sgd:momentum=0", 2.0), ("sgd:momentum=0.5", 3.0), ("sgd:momentum=0.5,nesterov=true", 1.5)]
    {
        for (factor, settles) in [(0.97, true), (1.03, false)] {
            // The tracked eigenvalue is good to 1 %.
            let outcome = go(&constant(optimizer, factor * room / (largest + 0.25)));
            let share = tracked(&outcome, Quantity::LambdaMax)[0] / tracked(&outcome, Quantity::StabilityThreshold)[0];
            assert_eq!(share < 1.0, settles, "{optimizer} {share}");
            let loss = |epoch: usize| outcome.epochs.get(epoch).map_or(f64::INFINITY, |epoch| epoch.train.loss);
            assert_eq!(loss(599) < loss(0), settles, "{optimizer} {factor}: {} {}", loss(0), loss(599));
        }
    }
}

/// `λ₁` of `P^{-1/2} H P^{-1/2}` from the matrix itself: `H` of a linear network is the second moment of its inputs.
fn dense(outcome: &TrainOutcome) -> f64 {
    let (data, _) = regression();
    let Inputs::Float64(x) = &data.inputs else { panic!() };
    // Output and input of each parameter, weights by rows, then biases.
    let place = |p: usize| if p < 6 { (p / 3, p % 3) } else { (p - 6, 3) };
    let input = |row: usize, i: usize| if i < 3 { x[3 * row + i] } else { 1.0 };
    let hessian = DMatrix::from_fn(8, 8, |p, q| {
        let ((a, i), (b, j)) = (place(p), place(q));
        if a == b { (0..6).map(|row| input(row, i) * input(row, j)).sum::<f64>() / 6.0 } else { 0.0 }
    });
    let scale = outcome.moments.as_ref().unwrap().preconditioner().unwrap().scale().unwrap().to_vec1::<f64>().unwrap();
    let scale = DMatrix::from_diagonal(&DVector::from_vec(scale));
    (&scale * hessian * &scale).symmetric_eigenvalues().max()
}

#[test]
fn with_adamw_the_preconditioned_curvature_is_tracked_against_its_own_threshold() {
    let outcome = go(&config("adamw:beta1=0.5,beta2=0.9,eps=1e-3"));
    let of = |quantity: Quantity| {
        let own = |row: &&TrackedRow| row.quantity == quantity && row.operator == Curvature::PreconditionedHessian;
        outcome.tracked.iter().filter(own).collect::<Vec<_>>()
    };
    // Before the first step there is no second moment.
    let (found, thresholds) = (of(Quantity::LambdaMax), of(Quantity::StabilityThreshold));
    assert_eq!(found.iter().map(|row| row.epoch).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let (last, exact) = (found[3], dense(&outcome));
    // The matrix has eight rows: the bases span the space.
    assert!((last.value / exact - 1.0).abs() < 1e-9, "{} {exact}", last.value);
    let expected = [0.2, 0.2, 0.2, 0.1, 0.1].map(|rate| (2.0 - rate * 0.25) / rate * 1.5 / 0.5);
    for (row, expected) in thresholds.iter().zip(expected) {
        assert!((row.value / expected - 1.0).abs() < 4.0 * f64::EPSILON, "{row:?} {expected}");
    }
    assert_eq!(thresholds.len(), 5);
    let plain = outcome.tracked.iter().filter(|row| row.operator == Curvature::Hessian).count();
    assert_eq!(plain, 5);
    assert!(outcome.stability().unwrap().contains("λ₁ of the preconditioned Hessian was at most"));
    // SGD keeps no second moments; as the base of another method AdamW does.
    assert!(go(&config("sgd")).moments.is_none() && go(&config("sam:base=adamw")).moments.is_some());
}
