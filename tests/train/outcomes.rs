//! What training ends with.

use flatness::checkpoint::{Checkpoint, TensorFile};
use flatness::data::Split;
use flatness::formats::family;
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::plan::{NormStatistics, Precision, TrainConfig};
use flatness::report::figures::Style;
use flatness::train::{Training, save, train};

use crate::support::*;

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
