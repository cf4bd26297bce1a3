//! Runs that blow up, are interrupted, or go on.

use std::ops::ControlFlow;

use flatness::data::Split;
use flatness::optim::Schedule;
use flatness::plan::TrainConfig;
use flatness::train::{StateFolder, TrainOutcome, TrainStop, Training, train};
use flatness::{Observer, Step};

use crate::support::*;

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

/// `q` of the epochs in one process, the rest in another: nothing differs, whatever the method keeps.
#[test]
fn a_run_goes_on_from_its_state_to_the_same_bits() {
    let (data, test) = (glyphs(Split::Train, 100).load().unwrap(), glyphs(Split::Test, 50).load().unwrap());
    let fsgld = "fsgld:sigma=0.01,beta_inverse=1e-6";
    // At three epochs λ₁ and trace; a threshold of stability, and with AdamW λ₁ of P⁻¹H but for the start.
    let runs = [("sgd", BATCH_NORM, 9), (fsgld, BATCH_NORM, 6), ("sam", MLP, 6), ("adamw", MLP, 11)];
    for (optimizer, text, tracked) in runs {
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
        assert_eq!(whole.tracked.len(), tracked, "{optimizer}");
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
