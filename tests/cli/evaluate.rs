//! `evaluate`: what it leaves and what it refuses.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use flatness::report::tables::{Table, read_table};

use crate::support::{TRAINING, assert_refused, checkpoint, counting, fixture_arguments, succeed, write};

const OPTIONS: &str = "--rows 0..200 --resamples 20";

fn table(folder: &Path, name: &str) -> Table {
    read_table(&folder.join(format!("{name}.parquet"))).unwrap()
}

/// The value of a quantity.
fn value(folder: &Path, quantity: &str) -> f64 {
    let table = table(folder, "evaluation");
    let row = table.texts("quantity").iter().position(|own| own == quantity);
    table.number("value", row.unwrap_or_else(|| panic!("no {quantity} in {:?}", table.texts("quantity"))))
}

#[test]
fn tables_and_figures_and_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let sample = flatness::data::DataSpec::new("glyphs".parse().unwrap()).load().unwrap().sample_shape;
    let unlabelled = folder.path().join("others.safetensors");
    let shape: Vec<usize> = std::iter::once(30).chain(sample.iter().copied()).collect();
    write(&unlabelled, &[("x", &(counting(&shape) / 1e4).unwrap())]);
    let run = |name: &str, threads: usize| {
        let out = folder.path().join(name);
        let sets = format!("--ood noise --ood tensors:{}", unlabelled.display());
        let line = format!("evaluate {} {OPTIONS} {sets} --threads {threads}", checkpoint().display());
        succeed(&format!("{line} --out {}", out.display()));
        out
    };
    let (one, two) = (run("one", 1), run("two", 2));
    for file in [
        "evaluation.parquet",
        "detection.parquet",
        "reliability.parquet",
        "temperature.parquet",
        "models.parquet",
        "predictions.parquet",
        "figures/reliability.svg",
        "figures/roc.svg",
        "figures/entropy.svg",
    ] {
        assert!(std::fs::read(one.join(file)).unwrap() == std::fs::read(two.join(file)).unwrap(), "{file}");
    }
    let rows = table(&one, "predictions");
    assert_eq!(rows.num_rows(), 200 + 200 + 30);
    // What stands in the rows makes the headline numbers.
    let mean = |column: &str| rows.numbers(column)[..200].iter().sum::<f64>() / 200.0;
    for (column, quantity) in [("correct", "accuracy"), ("nll", "nll"), ("brier", "brier")] {
        assert!((mean(column) - value(&one, quantity)).abs() < 1e-12, "{quantity}");
    }
    assert!(rows.numbers("label")[200..].iter().all(|label| label.is_nan()));
    let total: f64 = (0..10).map(|class| rows.number(&format!("p_{class}"), 7)).sum();
    assert!((total - 1.0).abs() < 1e-12);
    assert!(value(&one, "ood_auroc_noise") >= 0.0 && value(&one, "ood_aupr_in_others.safetensors") > 0.0);
}

#[test]
fn without_options_all_test_rows_of_the_training_data_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (out, run) = (folder.path().join("evaluation"), checkpoint().parent().unwrap());
    succeed(&format!("evaluate {} --resamples 2 --out {}", checkpoint().display(), out.display()));
    // As many glyphs as the training drew for its own test rows.
    assert_eq!(table(&out, "predictions").num_rows(), 4000);
    let metrics = table(run, "evaluations");
    let test = (0..metrics.num_rows()).find(|row| metrics.text("split", *row) == "test").unwrap();
    for (quantity, column) in [("accuracy", "accuracy"), ("nll", "nll"), ("ece", "calibration_error")] {
        let (found, expected) = (value(&out, quantity), metrics.number(column, test));
        assert!((found - expected).abs() < 1e-12 * expected.max(1.0), "{quantity}: {found} {expected}");
    }
}

#[test]
fn several_checkpoints_are_averaged() {
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("second");
    succeed(&format!("train {TRAINING} --seed 5 --out {}", second.display()));
    let out = folder.path().join("both");
    let paths = format!("{} {}/checkpoint.safetensors", checkpoint().display(), second.display());
    let outcome = succeed(&format!("evaluate {paths} {OPTIONS} --out {}", out.display()));
    assert!(outcome.out.contains("mean probabilities of 2 models; mean cross-entropy"), "{}", outcome.out);
    assert!(value(&out, "mutual_information") > 0.0);
    let models = table(&out, "models");
    assert_eq!(models.texts("model"), ["small", "second"]);
    // The likelihood of a mean is above the mean of the likelihoods.
    let mean = models.numbers("nll").iter().sum::<f64>() / 2.0;
    assert!(value(&out, "nll") < mean);
    // Twice the same model is that model.
    let twice = folder.path().join("twice");
    let path = checkpoint().display();
    succeed(&format!("evaluate {path} {path} {OPTIONS} --out {}", twice.display()));
    assert_eq!(value(&twice, "mutual_information"), 0.0);
    assert!((value(&twice, "nll") - table(&twice, "models").number("nll", 0)).abs() < 1e-12);
}

#[test]
fn what_has_no_classes_or_another_shape_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let line = |rest: &str| format!("evaluate {} {OPTIONS} {rest} --out x", checkpoint().display());
    let floats = folder.path().join("floats.safetensors");
    write(&floats, &[("x", &Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap())]);
    let other = format!("--ood tensors:{}", floats.display());
    assert_refused(&line(&other), "its rows have the shape [3], but the network takes [1, ", "tensors:FILE");
    assert_refused(&line("--ood imagenet"), "imagenet", "the sources are");
    assert_refused(&line("--held-out 1"), "--held-out 1: must be 0 or more and below 1", "");
    let one = format!("evaluate {} --resamples 1 --out x", checkpoint().display());
    assert_refused(&one, "--resamples 1: must be 2 to 1000000", "");
    let regression = format!("evaluate {} --resamples 2 --out x", fixture_arguments("mlp-gelu-mse"));
    assert_refused(&regression, "needs one whole-number label for each row", "evaluate a classifier");
    let two = format!("evaluate {} {} --resamples 2 --out x", checkpoint().display(), "nothing.safetensors");
    assert_refused(&two, "nothing.safetensors", "check the path");
    assert!(!Path::new("x").exists());
}
