//! Data and losses as the command line takes them.

use candle_core::{DType, Device, Tensor};
use flatness::checkpoint::TensorFile;

use crate::support::{CHEAP, assert_refused, counting, succeed, write};

fn linear(folder: &std::path::Path, loss: &str) -> String {
    let description = format!(
        r#"{{"layers": [{{"kind": "linear", "in": 2, "out": 3, "weight": "w", "bias": "b"}}], "loss": {loss}}}"#
    );
    std::fs::write(folder.join("net.json"), description).unwrap();
    write(&folder.join("w.safetensors"), &[("w", &counting(&[3, 2])), ("b", &counting(&[3]))]);
    let path = |name: &str| folder.join(name).display().to_string();
    format!("{} --arch {}", path("w.safetensors"), path("net.json"))
}

/// Labels hold nine of the ten classes; the weights know of ten.
#[test]
fn families_take_the_classes_from_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    succeed(&format!("train --model cnn:4 --data glyphs --rows 0..16 --epochs 0 --out {}", path("run")));
    let trained = TensorFile::read(&folder.path().join("run/checkpoint.safetensors")).unwrap().into_tensors().unwrap();
    let tensors: Vec<(&str, &Tensor)> = trained.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&folder.path().join("weights.safetensors"), &tensors);
    let labels = Tensor::new(&[0i64, 3, 8, 1], &Device::Cpu).unwrap();
    write(&folder.path().join("data.safetensors"), &[("x", &counting(&[4, 1, 16, 16])), ("y", &labels)]);
    let line = format!("{} --arch cnn:4 --data tensors:{}", path("weights.safetensors"), path("data.safetensors"));
    let outcome = succeed(&format!("analyze {line} {CHEAP} --out {}", path("out")));
    assert!(
        outcome.err.contains("note: the loss is cross-entropy, because the labels are whole numbers"),
        "{}",
        outcome.err
    );
}

/// Loss, accuracy and likelihood of labels of which one does not count, by hand; a typo in the description is named.
#[test]
fn settings_of_the_loss_come_from_the_description_or_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let x = Tensor::new(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    let labels = Tensor::new(&[2i64, 0, -1], &Device::Cpu).unwrap();
    write(&folder.path().join("data.safetensors"), &[("x", &x), ("y", &labels)]);
    let model = linear(folder.path(), r#"{"kind": "cross_entropy", "ignore_index": -1}"#);
    let data = format!("--data tensors:{} --dtype f64 {CHEAP}", path("data.safetensors"));
    let summary = |settings: &str, run: &str| -> serde_json::Value {
        let line = format!("analyze {model} {data} {settings} --json --out {}", path(run));
        serde_json::from_str(&succeed(&line).out).unwrap()
    };
    let value = |summary: &serde_json::Value, name: &str| {
        let mut rows = summary["summary"].as_array().unwrap().iter();
        rows.find(|row| row["quantity"] == name).unwrap()["value"].as_f64().unwrap()
    };
    let plain = summary("", "plain");
    let weighted = summary("--loss cross-entropy:ignore-index=-1,weight=3|1|1", "weighted");
    let statement = weighted["statement"].as_str().unwrap();
    assert!(statement.contains("cross-entropy, class weights, label -1 ignored"), "{statement}");
    let nll = value(&plain, "nll");
    assert_eq!(value(&plain, "loss"), nll);
    assert!((value(&plain, "perplexity") - nll.exp()).abs() < 1e-12 * nll.exp());
    assert_eq!((value(&plain, "accuracy"), value(&weighted, "accuracy")), (0.5, 0.5));
    assert!((value(&weighted, "nll") - nll).abs() < 1e-14 && value(&weighted, "loss") > nll);

    let typo = linear(folder.path(), r#"{"kind": "cross_entropy", "lable_smoothing": 0.1}"#);
    let line = format!("analyze {typo} {data} --out {}", path("typo"));
    assert_refused(&line, "unknown field `lable_smoothing`, expected one of `weight`", "docs/models.md");
}
