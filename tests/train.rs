//! Training end to end: exact reductions, equal bytes, running statistics, errors, and glyphs learned.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};
use flatness::checkpoint::{Checkpoint, TensorFile};
use flatness::data::{DataSpec, Dataset, Glyphs, Inputs, Split, Targets};
use flatness::formats::{Architecture, family};
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::optim::Schedule;
use flatness::plan::{NormStatistics, Precision, TrainConfig};
use flatness::program::Loss;
use flatness::report::figures::Style;
use flatness::train::{StateFolder, TrainOutcome, TrainStop, Training, save, train};
use flatness::{Observer, Step};

const MLP: &str = "mlp:24";
const BATCH_NORM: &str = "resnet-cifar:8,width=4";

fn glyphs(split: Split, count: usize) -> DataSpec {
    let mut spec = DataSpec::new(Glyphs.into());
    spec.split = split;
    spec.glyphs.count = Some(count);
    spec
}

fn model(text: &str) -> Architecture {
    family(text, &[1, 16, 16], 10).unwrap()
}

/// Two epochs of four batches, the last one smaller.
fn short(optimizer: &str) -> TrainConfig {
    let mut config = TrainConfig {
        epochs: 2,
        batch_size: 32,
        learning_rate: 0.1,
        optimizer: optimizer.parse().unwrap(),
        ..TrainConfig::default()
    };
    config.execution.threads = 2;
    config
}

/// With the running statistics in the outcome.
fn running(config: TrainConfig) -> TrainConfig {
    TrainConfig { norm_statistics: NormStatistics::Running, ..config }
}

fn run(config: &TrainConfig, text: &str) -> TrainOutcome {
    let (data, test) = (glyphs(Split::Train, 100).load().unwrap(), glyphs(Split::Test, 50).load().unwrap());
    train(Training { test: Some(&test), ..Training::new(config, model(text), &data) }, &mut ()).unwrap()
}

fn bits(outcome: &TrainOutcome) -> Vec<u64> {
    let mut names: Vec<&String> = outcome.network.buffers().keys().collect();
    names.sort();
    let tensors = std::iter::once(&outcome.theta).chain(names.into_iter().map(|name| &outcome.network.buffers()[name]));
    tensors.flat_map(values).map(f64::to_bits).collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

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

#[test]
fn equal_runs_give_equal_bytes_with_one_and_two_threads() {
    for text in [MLP, BATCH_NORM, "cnn:4"] {
        for optimizer in ["fsgld:sigma=0.01,beta_inverse=1e-6,num_perturbations=2", "sam"] {
            let folder = tempfile::tempdir().unwrap();
            let files = |threads: usize| {
                let mut config = short(optimizer);
                config.execution.threads = threads;
                let folder = folder.path().join(threads.to_string());
                let paths = save(&run(&config, text), &glyphs(Split::Train, 100), &folder, Style::default()).unwrap();
                assert!(paths.iter().any(|path| path.ends_with("figures/training.svg")), "{paths:?}");
                paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
            };
            assert!(files(1) == files(2), "{optimizer} on {text}");
        }
    }
}

#[test]
fn a_checkpoint_holds_what_training_ended_with() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = run(&running(short("sgd")), BATCH_NORM);
    let paths = save(&outcome, &glyphs(Split::Train, 100), folder.path(), Style::default()).unwrap();
    let checkpoint = Checkpoint::read(&paths[0], None).unwrap();
    assert_eq!(values(&checkpoint.theta), values(&outcome.theta));
    assert_eq!(checkpoint.network.about, outcome.network.about);
    assert_eq!(checkpoint.network.program().nodes, outcome.network.program().nodes);
    assert_eq!(checkpoint.network.about.weight_decay, outcome.config.weight_decay);
    assert_eq!(checkpoint.data().unwrap().load().unwrap().sha256, outcome.data_sha256);
    let training = checkpoint.training().unwrap();
    assert_eq!(training["config"]["optimizer"]["kind"], "sgd");
    assert_eq!(training["metrics"]["test_loss"], outcome.epochs[1].test.loss);
    // The file gives the very loss that the last epoch reported.
    let test = glyphs(Split::Test, 50).load().unwrap();
    let options = ObjectiveOptions { num_shards: 1, ..ObjectiveOptions::new(outcome.config.loss.unwrap()) };
    let objective = Objective::new(&checkpoint.network, &test, options).unwrap();
    let evaluation = objective.evaluate(&objective.place(&checkpoint.theta).unwrap(), &mut ()).unwrap();
    assert_eq!(evaluation.loss, outcome.epochs[1].test.loss);
    assert_eq!(evaluation.accuracy, outcome.epochs[1].test.accuracy);
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
fn a_run_that_blows_up_says_where() {
    let error = |optimizer: &str, learning_rate: f64| {
        let data = glyphs(Split::Train, 100).load().unwrap();
        let config = TrainConfig { learning_rate, schedule: Schedule::constant(), ..short(optimizer) };
        train(Training::new(&config, model(MLP), &data), &mut ()).unwrap_err()
    };
    let loss = error("sgd", 1e30);
    assert_eq!(loss.to_string(), "train: the loss is not finite at epoch 1, step 2 (learning rate 1e30)");
    assert!(loss.hint().unwrap().contains("lower the learning rate"));
    let theta = error("sgd", 1e300);
    assert!(theta.to_string().starts_with("train: the parameters are not finite at epoch 1, step 1 "), "{theta}");
    let perturbed = error("fsgld:sigma=1e38,beta_inverse=0", 0.1);
    assert!(perturbed.to_string().starts_with("train: the loss is not finite at epoch 1, step 1 "), "{perturbed}");
}

/// Breaks at step `at`; remembers the last message.
struct Breaker {
    at: usize,
    total: usize,
    message: String,
}

impl Observer for Breaker {
    fn on_step(&mut self, step: &Step) -> ControlFlow<()> {
        self.message = step.message.clone();
        if step.task == "training" {
            assert_eq!(step.total, self.total);
        }
        if step.task == "training" && step.done == self.at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn an_interruption_keeps_the_last_finished_epoch() {
    let data = glyphs(Split::Train, 100).load().unwrap();
    let config = running(TrainConfig { epochs: 3, schedule: Schedule::constant(), ..short("sgd") });
    let until = |at: usize| {
        let mut breaker = Breaker { at, total: 12, message: String::new() };
        (train(Training::new(&config, model(BATCH_NORM), &data), &mut breaker), breaker.message)
    };
    let (early, _) = until(3);
    assert!(matches!(early, Err(flatness::Error::Interrupted)));
    let two = TrainConfig { epochs: 2, ..config.clone() };
    let two = train(Training::new(&two, model(BATCH_NORM), &data), &mut ()).unwrap();
    for at in [8, 9, 11] {
        let (outcome, message) = until(at);
        let outcome = outcome.unwrap();
        assert!(outcome.stop == TrainStop::Interrupted && outcome.epochs.len() == 2 && outcome.seconds.len() == 2);
        assert!(bits(&outcome) == bits(&two), "interrupted at step {at}");
        assert!(message.starts_with(if at == 8 { "epoch 2/3 loss " } else { "epoch 3/3 loss " }), "{message}");
    }
    // In the last step there is nothing left to interrupt.
    let (whole, message) = until(12);
    assert!(whole.unwrap().stop == TrainStop::Finished);
    assert!(message.contains(" acc ") && message.ends_with(" %"), "{message}");
}

/// At momentum 1 the running statistics are those of the last batch, which is all rows: at learning rate 0⁺ the
/// re-estimated ones agree with them, and after larger steps they belong to other weights.
#[test]
fn statistics_are_estimated_again_at_the_final_weights() {
    let config = TrainConfig { epochs: 1, batch_size: 100, dtype: Precision::F64, ..short("sgd") };
    let with = |config: &TrainConfig| {
        let outcome = run(config, BATCH_NORM);
        assert_eq!(outcome.running_statistics, config.norm_statistics == NormStatistics::Running);
        (values(&outcome.network.buffers()["layer3.0.bn2.running_mean"]), outcome)
    };
    let (still, _) = with(&TrainConfig { learning_rate: 1e-300, weight_decay: 0.0, ..config.clone() });
    let (running_still, _) = with(&running(TrainConfig { learning_rate: 1e-300, weight_decay: 0.0, ..config.clone() }));
    // One update with momentum 0.1 from 0; sums in another order of rows.
    for (new, old) in still.iter().zip(&running_still) {
        assert!((0.1 * new - old).abs() < 1e-13, "{new} and {old}");
    }
    let (moved, outcome) = with(&config);
    assert!(moved.iter().zip(&still).any(|(a, b)| (a - b).abs() > 1e-3));
    // Both are evaluated: the last weights on both splits, the best ones on the test rows.
    let rows: Vec<_> = outcome.evaluations.iter().map(|row| (row.weights, row.batch_norm, row.split)).collect();
    assert_eq!(rows.len(), 6, "{rows:?}");
    assert!(rows.contains(&("last", "running", "train")) && rows.contains(&("best", "reestimated", "test")));
}

/// `q` of the epochs in one process, the rest in another: nothing differs, whatever the method keeps.
#[test]
fn a_run_goes_on_from_its_state_to_the_same_bits() {
    let (data, test) = (glyphs(Split::Train, 100).load().unwrap(), glyphs(Split::Test, 50).load().unwrap());
    for (optimizer, text) in [("sgd", BATCH_NORM), ("fsgld:sigma=0.01,beta_inverse=1e-6", BATCH_NORM), ("sam", MLP)] {
        let config = TrainConfig {
            epochs: 4,
            ema: Some(0.9),
            swa_from: Some(2),
            track: Some("top:1,trace".parse().unwrap()),
            track_every: 2,
            track_rows: 20,
            ..short(optimizer)
        };
        let whole = run(&config, text);
        let all = |outcome: &TrainOutcome| {
            let others: Vec<_> = outcome.others.iter().map(|(name, _, theta)| (*name, values(theta))).collect();
            let metrics: Vec<u64> = outcome.epochs.iter().flat_map(|epoch| epoch.values().map(f64::to_bits)).collect();
            let tracked: Vec<_> = outcome.tracked.iter().map(|row| (row.epoch, row.value.to_bits())).collect();
            (bits(outcome), others, metrics, tracked)
        };
        assert_eq!(whole.tracked.len(), 6);
        for at in [3, 6, 8, 13] {
            let folder = tempfile::tempdir().unwrap();
            let go = |observer: &mut dyn Observer| {
                let mut states = StateFolder::new(folder.path(), 1, true);
                let training = Training::new(&config, model(text), &data);
                let outcome = train(Training { test: Some(&test), states: Some(&mut states), ..training }, observer);
                (outcome, states.resumed_from)
            };
            let mut breaker = Breaker { at, total: 16, message: String::new() };
            let (first, _) = go(&mut breaker);
            assert!(first.map_or(at == 3, |first| first.stop == TrainStop::Interrupted));
            let (second, resumed_from) = go(&mut ());
            assert_eq!(resumed_from, (at > 3).then_some(at / 4 * 4));
            assert!(all(&second.unwrap()) == all(&whole), "{optimizer} interrupted at step {at}");
        }
    }
}

#[test]
fn another_run_s_state_is_refused() {
    let data = glyphs(Split::Train, 100).load().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let go = |config: &TrainConfig| {
        let mut states = StateFolder::new(folder.path(), 1, true);
        train(Training { states: Some(&mut states), ..Training::new(config, model(MLP), &data) }, &mut ())
    };
    go(&short("sgd")).unwrap();
    let error = go(&TrainConfig { seed: 5, learning_rate: 0.2, ..short("sgd") }).unwrap_err().to_string();
    assert!(error.contains("train.learning_rate 0.1 there, 0.2 here; train.seed 0 there, 5 here"), "{error}");
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
fn a_file_of_weights_begins_a_run_with_a_new_head() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(&short("sgd"), BATCH_NORM);
    let path = save(&first, &glyphs(Split::Train, 100), folder.path(), Style::default()).unwrap().remove(0);
    let file = TensorFile::read(&path).unwrap();
    let data = glyphs(Split::Train, 100).load().unwrap();
    let still = TrainConfig { epochs: 0, ..short("sgd") };
    let begin =
        |architecture| train(Training { init: Some(&file), ..Training::new(&still, architecture, &data) }, &mut ());
    let same = begin(model(BATCH_NORM)).unwrap();
    assert!(bits(&same) == bits(&first) && same.fresh.is_empty());
    let more = begin(family(BATCH_NORM, &[1, 16, 16], 13).unwrap()).unwrap();
    assert_eq!(more.fresh, ["fc.weight", "fc.bias"]);
    assert_eq!(
        values(&more.network.buffers()["bn1.running_mean"]),
        values(&first.network.buffers()["bn1.running_mean"])
    );
    let (old, new) =
        (first.network.space().split(&first.theta).unwrap(), more.network.space().split(&more.theta).unwrap());
    assert_eq!(values(&old[0]), values(&new[0]));
    let error = begin(model("resnet-cifar:14,width=4")).unwrap_err().to_string();
    assert!(error.contains("no tensor `layer1.1.conv1.weight`"), "{error}");
}

#[test]
fn a_later_blow_up_keeps_the_last_good_epoch() {
    let data = glyphs(Split::Train, 100).load().unwrap();
    let schedule = "multi_step:2,gamma=1e30".parse().unwrap();
    let config = TrainConfig { epochs: 4, schedule, ..short("sgd") };
    let outcome = train(Training::new(&config, model(MLP), &data), &mut ()).unwrap();
    assert!(matches!(&outcome.stop, TrainStop::NonFinite(error) if error.to_string().contains("epoch 3")));
    let two = TrainConfig { epochs: 2, schedule: Schedule::constant(), ..short("sgd") };
    assert!(bits(&outcome) == bits(&train(Training::new(&two, model(MLP), &data), &mut ()).unwrap()));
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

#[test]
fn a_small_cnn_learns_glyphs() {
    let (data, test) = (glyphs(Split::Train, 4000).load().unwrap(), glyphs(Split::Test, 1000).load().unwrap());
    let mut config = TrainConfig { epochs: 6, ..TrainConfig::default() };
    config.execution.threads = 2;
    let outcome =
        train(Training { test: Some(&test), ..Training::new(&config, model("cnn:8-16"), &data) }, &mut ()).unwrap();
    let last = outcome.epochs.last().unwrap();
    assert!(last.test.accuracy > 0.97, "{last:?}");
    let options = ObjectiveOptions::new(outcome.config.loss.unwrap());
    let objective = Objective::new(&outcome.network, &data, options).unwrap();
    let after = objective.evaluate(&outcome.theta, &mut ()).unwrap();
    // The running mean over the last epoch lags behind the parameters at its end.
    assert!(after.loss < last.train.loss && after.accuracy >= last.train.accuracy, "{after:?}");
}
