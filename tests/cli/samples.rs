//! Samples of the weights: `train --samples-per-cycle`, and what other commands make of them.

use std::path::Path;

use flatness::checkpoint::TensorFile;
use flatness::report::read_run_json;
use flatness::report::tables::read_table;

use crate::support::{assert_refused, succeed};

/// 4 steps in each of 4 epochs; of each cycle of 8 steps the last 4 sample.
const RUN: &str = "train --model resnet-cifar:8,width=4 --data glyphs --rows 0..64 --epochs 4 --batch-size 16 --threads 2 \
                   --schedule cyclical:cycles=2,exploration=0.5 --samples-per-cycle 2";

fn run(folder: &Path, name: &str, rest: &str) -> String {
    let out = folder.join(name).display().to_string();
    succeed(&format!("{RUN} {rest} --out {out}"));
    out
}

#[test]
fn samples_are_kept_in_one_file_and_averaged() {
    let folder = tempfile::tempdir().unwrap();
    let out = run(folder.path(), "run", "--optimizer sgld:temperature=0.01");
    let path = Path::new(&out).join("samples.safetensors");
    let file = TensorFile::read(&path).unwrap();
    assert_eq!(file.metadata["flatness.samples"], "4");
    let training: serde_json::Value = serde_json::from_str(&file.metadata["flatness.train"]).unwrap();
    assert_eq!(training["steps"], serde_json::json!([6, 8, 14, 16]));
    let run_json = read_run_json(Path::new(&out)).unwrap();
    assert!(run_json["files"]["samples.safetensors"]["sha256"].is_string());
    // T = 0.01 of 64 rows.
    assert_eq!(
        run_json["temperature"],
        serde_json::json!({"beta_inverse": 0.01 / 64.0, "posterior": 0.01, "rows": 64})
    );
    // The last sample is the last weights.
    let last = TensorFile::read(&Path::new(&out).join("checkpoint.safetensors")).unwrap();
    for name in last.into_tensors().unwrap().keys() {
        let own = TensorFile::read(&Path::new(&out).join("checkpoint.safetensors")).unwrap().get(name).unwrap();
        let sample = file.get(&format!("sample-003/{name}")).unwrap();
        let bits = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(&own), bits(&sample), "{name}");
    }
    let evaluation = folder.path().join("evaluation");
    let line = format!("evaluate {} --rows 0..100 --resamples 4 --out {}", path.display(), evaluation.display());
    assert!(succeed(&line).out.contains("mean probabilities of 4 models"));
    let models = read_table(&evaluation.join("models.parquet")).unwrap();
    assert_eq!(models.texts("model"), ["samples 0", "samples 1", "samples 2", "samples 3"]);
    let outcome = succeed(&format!("check {} --rows 0..8", path.display()));
    assert!(outcome.err.contains("the first of 4 samples"), "{}", outcome.err);
}

/// Until the first sampling stage the noise is off, and then it is not.
#[test]
fn exploration_has_no_noise() {
    let folder = tempfile::tempdir().unwrap();
    let loss = |out: &str| read_table(&Path::new(out).join("metrics.parquet")).unwrap().numbers("train_loss").to_vec();
    let cold = loss(&run(folder.path(), "cold", "--optimizer sgld:temperature=0"));
    let hot = loss(&run(folder.path(), "hot", "--optimizer sgld:temperature=1"));
    assert!(cold[0] == hot[0] && cold[2..] != hot[2..], "{cold:?} {hot:?}");
}

#[test]
fn what_leaves_no_room_for_samples_is_refused() {
    let line = |rest: &str| format!("{} --out x", RUN.replace("--samples-per-cycle 2", rest));
    assert_refused(
        &line("--samples-per-cycle 5"),
        "`samples_per_cycle` is 5, but must be at most the number of steps",
        "",
    );
    let other = line("--samples-per-cycle 1").replace("cyclical:cycles=2,exploration=0.5", "cosine");
    assert_refused(&other, "unless the schedule is cyclical", "");
    assert_refused(&line("--samples-per-cycle 0"), "--samples-per-cycle 0: must be 1 to 1000000", "");
    assert!(!Path::new("x").exists());
}
