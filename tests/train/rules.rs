//! What a step does.

use flatness::data::{Dataset, Inputs, Split, Targets};
use flatness::formats::Architecture;
use flatness::plan::{Precision, TrainConfig};
use flatness::program::Loss;
use flatness::train::{TrainOutcome, Training, train};

use crate::support::*;

#[test]
fn zero_scales_reduce_one_method_to_another_bit_for_bit() {
    for text in [MLP, BATCH_NORM] {
        for dtype in [Precision::F32, Precision::F64] {
            let run = |optimizer: &str| run(&TrainConfig { dtype, ..short(optimizer) }, text);
            let same = |a: &str, b: &str| {
                let (a_run, b_run) = (run(a), run(b));
                assert!(bits(&a_run) == bits(&b_run), "{a} is not {b} on {text}");
                let metrics = |run: &TrainOutcome| {
                    run.epochs.iter().flat_map(|epoch| epoch.values().map(f64::to_bits)).collect::<Vec<_>>()
                };
                assert_eq!(metrics(&a_run), metrics(&b_run));
            };
            let sgld = "sgld:beta_inverse=1e-5";
            same("fsgld:sigma=0,beta_inverse=1e-5", sgld);
            same("fsgld:sigma=0,beta_inverse=1e-5,num_perturbations=3,antithetic=true", sgld);
            same("sgld:beta_inverse=0", "sgd:momentum=0");
            same("fsgld:beta_inverse=0", "sgd:momentum=0");
            same("sam:rho=0,momentum=0.9", "sgd:momentum=0.9");
            // And the scales do something where they are not 0.
            let plain = bits(&run("sgd:momentum=0"));
            for optimizer in [sgld, "fsgld:sigma=1e-3,beta_inverse=0", "sam:rho=0.01,momentum=0", "sgd:momentum=0.1"] {
                assert!(bits(&run(optimizer)) != plain, "{optimizer} on {text}");
            }
        }
    }
}

/// Least squares `y ≈ x Wᵀ + b` on 5 rows, all of them in each batch.
fn regression() -> (Dataset, Architecture) {
    let inputs: Vec<f64> = (0..15).map(|i| ((i * i) as f64 * 0.37).sin()).collect();
    let targets: Vec<f64> = (0..10).map(|i| (i as f64 * 0.71).cos()).collect();
    let targets = Targets::Values { values: targets, sample_shape: vec![2] };
    let data = Dataset::new("test".into(), vec![3], Inputs::Float64(inputs), targets, None).unwrap();
    let json = r#"{"layers": [{"kind": "linear", "in": 3, "out": 2, "weight": "w", "bias": "b"}]}"#;
    (data, Architecture::from_json(json, "test").unwrap())
}

#[test]
fn sgd_equals_a_loop_by_hand() {
    let (data, architecture) = regression();
    let (rate, mu, wd) = (0.2, 0.8, 0.05);
    let config = |epochs| TrainConfig {
        dtype: Precision::F64,
        epochs,
        batch_size: 5,
        learning_rate: rate,
        weight_decay: wd,
        schedule: "multi_step:10,gamma=0.5".parse().unwrap(),
        optimizer: format!("sgd:momentum={mu}").parse().unwrap(),
        ..TrainConfig::default()
    };
    let start = train(Training::new(&config(0), architecture.clone(), &data), &mut ()).unwrap();
    let mut theta = values(&start.theta); // W by rows, then b
    let (Inputs::Float64(x), Targets::Values { values: y, .. }) = (&data.inputs, &data.targets) else { panic!() };
    let (mut velocity, mut losses) = ([0.0; 8], Vec::new());
    for step in 0..20 {
        let (mut gradient, mut loss) = ([0.0; 8], 0.0);
        for row in 0..5 {
            for c in 0..2 {
                let mut error = theta[6 + c] - y[row * 2 + c];
                (0..3).for_each(|i| error += theta[c * 3 + i] * x[row * 3 + i]);
                loss += error * error / 10.0;
                (0..3).for_each(|i| gradient[c * 3 + i] += error * x[row * 3 + i] / 5.0);
                gradient[6 + c] += error / 5.0;
            }
        }
        losses.push(loss);
        for i in 0..8 {
            velocity[i] = mu * velocity[i] + gradient[i] + wd * theta[i];
            theta[i] -= rate * if step < 10 { 1.0 } else { 0.5 } * velocity[i];
        }
    }
    let outcome = train(Training::new(&config(20), architecture, &data), &mut ()).unwrap();
    // Sums of 5 rows in another order: a few roundings per step, on numbers of order 1.
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 20.0 * 16.0 * f64::EPSILON);
    assert!(close(&values(&outcome.theta), &theta), "{theta:?}");
    let reported: Vec<f64> = outcome.epochs.iter().map(|epoch| epoch.train.loss).collect();
    assert!(close(&reported, &losses), "{reported:?}");
    assert!(outcome.epochs.iter().all(|epoch| epoch.test.loss.is_nan() && epoch.train.accuracy.is_nan()));
    assert_eq!(outcome.network.about.loss, Some(Loss::Mse {}));
}

/// One step each: SAM's running statistics are those of its first pass, fSGLD's those of the perturbed one.
#[test]
fn running_statistics_change_once_per_step_of_sam_and_with_the_perturbed_pass_of_fsgld() {
    let first_step = |optimizer: &str| {
        let outcome = run(&running(TrainConfig { epochs: 1, batch_size: 100, ..short(optimizer) }), BATCH_NORM);
        (values(&outcome.network.buffers()["bn1.running_mean"]), outcome.theta)
    };
    let (sgd, sgd_theta) = first_step("sgd");
    let (sam, sam_theta) = first_step("sam:rho=0.5");
    assert_eq!(sam, sgd);
    assert_ne!(values(&sam_theta), values(&sgd_theta));
    let (fsgld, _) = first_step("fsgld:sigma=0.1,beta_inverse=0");
    assert_ne!(fsgld, sgd);
}

#[test]
fn fixed_parameters_do_not_move() {
    let data = glyphs(Split::Train, 100).load().unwrap();
    for optimizer in ["sgd", "fsgld:sigma=0.01,beta_inverse=1e-6", "sam"] {
        let config = |epochs, only: &[&str]| TrainConfig {
            epochs,
            train_only: only.iter().map(|&name| name.into()).collect(),
            ..short(optimizer)
        };
        let go = |config: &TrainConfig| train(Training::new(config, model(BATCH_NORM), &data), &mut ());
        let (start, end) = (go(&config(0, &[])).unwrap(), go(&config(2, &["fc.*", "layer3.*.bn?.*"])).unwrap());
        let space = start.network.space();
        let pairs = space.split(&start.theta).unwrap().into_iter().zip(space.split(&end.theta).unwrap());
        for (tensor, (before, after)) in space.tensors().iter().zip(pairs) {
            let trained =
                tensor.name.starts_with("fc.") || tensor.name.starts_with("layer3.") && tensor.name.contains(".bn");
            assert_eq!(values(&before) != values(&after), trained, "{}", tensor.name);
        }
        // Every pattern at once is the same as none.
        assert!(bits(&go(&config(1, &["*"])).unwrap()) == bits(&go(&config(1, &[])).unwrap()));
        assert!(go(&config(1, &["head.*"])).unwrap_err().to_string().contains("head.*"));
    }
}

#[test]
fn dropout_draws_a_mask_per_step() {
    let json = r#"{"layers": [{"kind": "flatten"}, {"kind": "dropout", "p": 0.5},
        {"kind": "linear", "in": 256, "out": 10, "weight": "w", "bias": "b"}]}"#;
    let data = glyphs(Split::Train, 100).load().unwrap();
    let run = |json: &str, threads| {
        let mut config = short("sam");
        config.execution.threads = threads;
        bits(&train(Training::new(&config, Architecture::from_json(json, "test").unwrap(), &data), &mut ()).unwrap())
    };
    assert!(run(json, 1) == run(json, 2));
    assert!(run(json, 1) != run(&json.replace("0.5", "0.0"), 1));
}
