//! Inputs that ask for far too much, and what runs out while a process is at work.

use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor};

use crate::support::{assert_refused, counting, fixture, fixture_arguments, succeed, write};

/// The weights and data of a fixture with another description of its layers.
fn with_layers(folder: &Path, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(fixture("cnn-bn-relu-ce", "model.json")).unwrap();
    let compact = serde_json::from_str::<serde_json::Value>(&text).unwrap().to_string();
    assert!(compact.contains(from), "{compact}");
    let path = folder.join("model.json");
    std::fs::write(&path, compact.replace(from, to)).unwrap();
    let [weights, data] =
        ["weights", "data"].map(|name| fixture("cnn-bn-relu-ce", &format!("{name}.safetensors")).display().to_string());
    format!("{weights} --arch {} --data tensors:{data}", path.display())
}

#[test]
fn steps_longer_than_the_image_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let line = with_layers(folder.path(), r#""stride":2,"padding":1"#, r#""stride":2147483647,"padding":1"#);
    succeed(&format!("check {line}"));
}

#[test]
fn zeros_around_an_image_are_held_against_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (r#""padding":1,"dilation":1,"groups""#, r#""padding":1048576,"dilation":1048576,"groups""#);
    let text = std::fs::read_to_string(fixture("cnn-bn-relu-ce", "model.json")).unwrap();
    let (from, to) = match text.contains("groups") {
        true => (from, to),
        false => (r#""padding":1,"dilation":1"#, r#""padding":1048576,"dilation":1048576"#),
    };
    let line = with_layers(folder.path(), from, to);
    assert_refused(&format!("check {line}"), "numbers, more than fit in 2048 MiB", "raise --memory");
}

#[test]
fn a_label_does_not_decide_how_much_memory_noise_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.safetensors");
    let labels = Tensor::new(&[0i64, 1 << 31], &Device::Cpu).unwrap();
    write(&path, &[("x", &counting(&[2, 3])), ("y", &labels)]);
    let line = format!("train --model mlp:4 --noise instance:0.2 --data tensors:{} --out none", path.display());
    assert_refused(&line, "on so many rows or classes would take more than 2048 MiB", "raise --memory");
}

#[test]
fn grids_are_counted_before_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grid.toml");
    let ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let (axes, words): (String, String) =
        (0..25).map(|axis| (format!("w{axis} = {ten}\n"), format!("{{w{axis}}}"))).unzip();
    let refuse = |head: &str, axes: &str, words: &str, named: &str| {
        let train = format!("[train]\nmodel = \"mlp:4\"\ndata = \"glyphs\"\noptimizer = \"{words}\"");
        std::fs::write(&path, format!("name = \"g\"\nsteps = [\"train\"]\n{head}\n{train}\n[grid]\n{axes}")).unwrap();
        assert_refused(
            &format!("run {} --out {}", path.display(), folder.path().join("out").display()),
            named,
            "docs/experiments.md",
        );
    };
    refuse("", &axes, &words, "makes more cells than can be counted, more than 10000");
    refuse("", &axes[..5 * (ten.len() + 6)], &words[..20], "makes 100000 cells, more than 10000");
    let numbers: Vec<String> = (0..1_000_000).map(|number| number.to_string()).collect();
    refuse(&format!("seeds = [{}]", numbers.join(",")), "", "", "`seeds` has 1000000 entries");
    refuse("", &format!("train.epochs = [[{}]]", numbers.join(",")), "", "has 1000000 entries, more than 1000");
}

#[test]
fn vectors_without_a_direction_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (one, ones) = (Tensor::new(1.0f64, &Device::Cpu).unwrap(), (counting(&[2, 21]) + 1.0).unwrap());
    let infinite = (&ones / 0.0).unwrap();
    for (name, vectors) in
        [("scalar", &one), ("infinite", &infinite), ("zero", &counting(&[2, 1])), ("flat", &counting(&[3]))]
    {
        write(&folder.path().join(name), &[("top", vectors), ("bottom", vectors)]);
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, named) in [
        ("scalar", "`top` has shape []"),
        ("flat", "`top` has shape [3]"),
        ("infinite", "`top` holds 42 values that are not finite"),
        ("zero", "`top` has nothing but zeros in row 0"),
    ] {
        assert_refused(&format!("overlap {} {}", path(name), path(name)), named, "expected vectors as rows");
    }
    write(&folder.path().join("zeros"), &[("vectors", &(ones * 0.0).unwrap())]);
    let line = format!("matvec {} --vectors {} --out none", fixture_arguments("logistic-ce"), path("zeros"));
    assert_refused(&line, "`vectors` has nothing but zeros in row 0", "expected vectors as rows");
}

#[test]
fn eigenvectors_that_are_no_numbers_make_no_plane() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let arguments = fixture_arguments("logistic-ce");
    succeed(&format!("analyze {arguments} --top 2 --bottom 0 --plane-points 0 --slice-points 0 --out {}", at("a")));
    let file = folder.path().join("a/eigenvectors.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let length = bytes.len();
    // The vectors are f32, and the last in the file.
    bytes[length - 2 * 21 * 4..].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let line = format!("landscape {arguments} --eigenvectors {} --points 3 --out {}", at("a"), at("l"));
    assert_refused(&line, "values that are not finite", "expected vectors as rows");
}

/// Whatever the limit, a command ends well or with one clear error.
#[cfg(target_os = "linux")]
#[test]
fn running_out_of_memory_is_an_error_and_no_abort() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for kibibytes in [100_000, 150_000, 250_000, 400_000, 700_000, 4_000_000] {
        let out = folder.path().join(kibibytes.to_string());
        let line = "train --model mlp:512-512 --data glyphs --rows 0..500 --epochs 1 --threads 2";
        let script = format!("ulimit -v {kibibytes}; exec \"$0\" {line} --out {}", out.display());
        let output = Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_flatness")]).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(2) => {
                refused += 1;
                let clear = ["error: out of memory: ", "error: cannot start worker threads: "];
                let errors: Vec<&str> = words.lines().filter(|line| line.starts_with("error:")).collect();
                assert!(errors.len() == 1 && clear.iter().any(|start| errors[0].starts_with(start)), "{words}");
            }
            other => panic!("{kibibytes} KiB: {other:?}, {:?}\n{words}", output.status),
        }
    }
    assert!((1..6).contains(&refused), "{refused} of 6");
}
