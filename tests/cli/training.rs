//! `train` and what the other commands make of its checkpoint.

use candle_core::Tensor;
use flatness::checkpoint::TensorFile;
use flatness::report::tables::read_table;
use serde_json::Value;

use crate::support::{CHEAP, TRAINING, assert_refused, checkpoint, files, succeed, write};

#[test]
fn every_optimizer_leaves_a_checkpoint_that_can_be_analyzed_without_further_words() {
    let folder = tempfile::tempdir().unwrap();
    for method in ["sgd:momentum=0.9", "sgld:beta_inverse=1e-8", "fsgld:sigma=0.01", "sam:rho=0.05"] {
        let [run, flat] = ["run", "flat"].map(|name| folder.path().join(method).join(name).display().to_string());
        let outcome = succeed(&format!("train {TRAINING} --optimizer {method} --out {run}"));
        // One epoch; and the final numbers on training and test rows, of the last and the best weights.
        let firsts: Vec<_> = outcome.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(firsts, ["epoch", "1", "final", "last", "last", "best"], "{}", outcome.out);
        read_table(format!("{run}/metrics.parquet").as_ref()).unwrap();
        succeed(&format!("analyze {run}/checkpoint.safetensors {CHEAP} --out {flat}"));
        succeed(&format!("check {run}/checkpoint.safetensors --threads 2"));
    }
}

#[test]
fn a_transformer_is_trained_and_analyzed_and_read_through_its_family() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let family = "vit:width=12,depth=1,heads=2";
    for method in ["sgd", "fsgld:sigma=0.01", "sam:rho=0.05"] {
        let line = TRAINING.replace("mlp:16", family);
        succeed(&format!("train {line} --optimizer {method} --out {} --force", place("run")));
    }
    let trained = place("run/checkpoint.safetensors");
    for scope in ["all", "kind:norm", "layer:blocks.0.attn.qkv", "params:cls_token"] {
        let line = format!("analyze {trained} {CHEAP} --top 1 --bottom 0 --scope {scope} --force");
        succeed(&format!("{line} --out {}", place("flat")));
    }
    // The tensors alone, as another program would leave them.
    let tensors = TensorFile::read(trained.as_ref()).unwrap().into_tensors().unwrap();
    let tensors: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let plain = folder.path().join("plain.safetensors");
    write(&plain, &tensors);
    let rows = "--data glyphs --rows 0..8 --threads 2 --loss cross-entropy";
    let of = |checkpoint: &str, arch: &str| succeed(&format!("check {checkpoint} {arch} {rows}")).out;
    assert_eq!(of(&plain.display().to_string(), &format!("--arch {family}")), of(&trained, ""));
    assert_refused(
        &format!("check {} --arch vitt {rows}", plain.display()),
        "unknown model `vitt`",
        "did you mean `vit`",
    );
    assert_refused(&format!("check {} --arch vit", plain.display()), "which data", "--data");
}

#[test]
fn what_is_refused_leaves_an_earlier_result_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display();
    let line = format!("train {TRAINING} --snapshots 1 --out {out}");
    succeed(&line);
    let all = || files(folder.path());
    let before = all();
    assert!(before.iter().any(|path| path.ends_with("snapshots/epoch-001.safetensors")), "{before:?}");
    assert_refused(&format!("{line} --force --train-only layer:absent"), "absent", "fc1.weight");
    assert_eq!(before, all());
}

#[test]
fn no_epochs_leave_the_initial_weights() {
    let folder = tempfile::tempdir().unwrap();
    let line = TRAINING.replace("epochs 1", "epochs 0");
    succeed(&format!("train {line} --out {}", folder.path().display()));
    let run: Value = serde_json::from_slice(&std::fs::read(folder.path().join("run.json")).unwrap()).unwrap();
    assert_eq!(run["complete"], true);
    assert!(folder.path().join("checkpoint.safetensors").exists());
}

#[test]
fn stored_data_can_be_replaced_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    for (index, (settings, stated)) in [
        ("", "32 train rows of glyphs"),
        ("--rows 4..9", "5 train rows of glyphs"),
        ("--subset 7", "7 train rows of glyphs"),
        ("--split test --rows 0..6", "6 test rows of glyphs"),
        ("--loss cross-entropy:0.1", "label smoothing 0.1"),
        ("--l2 in", "with L2 term 0.0005"),
        ("--dtype f64", "f64"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.path().join(index.to_string());
        let line = format!("analyze {} {settings} --top 1 --bottom 0 {CHEAP}", checkpoint().display());
        let outcome = succeed(&format!("{line} --out {}", out.display()));
        assert!(outcome.out.contains(stated), "{settings}\n{}", outcome.out);
        assert!(files(&out).iter().any(|path| path.ends_with("summary.parquet")));
    }
}

#[test]
fn a_folder_of_images_is_trained_on_and_analyzed() {
    let folder = tempfile::tempdir().unwrap();
    let [images, run, flat] = ["images", "run", "flat"].map(|name| folder.path().join(name));
    for (place, count) in [("train/dark", 6), ("train/light", 6), ("val/light", 2)] {
        let class = images.join(place);
        std::fs::create_dir_all(&class).unwrap();
        for index in 0..count {
            let grey = if place.ends_with("dark") { 40 } else { 200 } + index;
            image::RgbImage::from_pixel(12, 15, image::Rgb([grey; 3]))
                .save(class.join(format!("{index}.png")))
                .unwrap();
        }
    }
    std::fs::write(images.join("train/dark/broken.jpg"), b"\xff\xd8\xff and then nothing").unwrap();
    let data = format!("--data images:{} --image-size 8 --noise asymmetric:0.1", images.display());
    let line = format!("train {data} --skip-broken --model cnn:4 --epochs 2 --batch-size 4 --threads 2");
    succeed(&format!("{line} --out {}", run.display()));
    let line = format!("analyze {}/checkpoint.safetensors --top 1 --bottom 0 {CHEAP}", run.display());
    let outcome = succeed(&format!("{line} --out {}", flat.display()));
    assert!(outcome.out.contains("12 train rows of images with label noise asymmetric:0.1"), "{}", outcome.out);
    assert!(outcome.err.contains("left out because they do not decode: 1"), "{}", outcome.err);
}
