//! Names from strangers on the terminal.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::support::{Outcome, flatness, write};

const HOSTILE: &str = "\u{1b}[2Jevil\u{202e}\u{9b}\n\\input{/etc/passwd}<script>";

/// Nothing that a terminal obeys but the ends of lines, and no line that a name began.
fn assert_clean(Outcome { out, err, .. }: &Outcome) {
    let text = format!("{out}{err}");
    let obeyed = |letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}');
    assert!(!text.contains(obeyed), "{text:?}");
    assert!(text.contains("evil") && text.lines().all(|line| !line.starts_with("\\input")), "{text}");
}

#[test]
fn a_checkpoint_of_a_stranger_is_described_without_its_commands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let model = folder.path().join("model.json");
    let layer = serde_json::json!({"kind": "linear", "in": 2, "out": 2, "weight": HOSTILE, "bias": null});
    let described = serde_json::json!({"name": HOSTILE, "layers": [layer], "input_shape": [2]});
    std::fs::write(&model, described.to_string()).unwrap();
    let ones = Tensor::ones((2, 2), DType::F64, &Device::Cpu).unwrap();
    write(&path, &[(HOSTILE, &ones)]);
    let info = |weights: &Path| flatness(&format!("info {} --arch {}", weights.display(), model.display()));
    let outcome = info(&path);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert_clean(&outcome);
    // Errors name what is missing and what is there.
    write(&path, &[("other", &ones)]);
    let outcome = info(&path);
    assert_eq!(outcome.code, 2);
    assert_clean(&outcome);
    write(&path, &[(HOSTILE, &Tensor::ones((3, 2), DType::F64, &Device::Cpu).unwrap())]);
    let outcome = info(&path);
    assert_eq!(outcome.code, 2);
    assert_clean(&outcome);
}

#[test]
fn a_path_and_the_words_of_a_reader_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("\u{1b}[2Jevil");
    let outcome = flatness(&format!("info {}", place.display()));
    assert_eq!(outcome.code, 2);
    assert_clean(&outcome);
    std::fs::write(folder.path().join("evil.toml"), "a = 1\n\u{1b}[2J = = 3").unwrap();
    let outcome = flatness(&format!("run {}/evil.toml", folder.path().display()));
    assert_eq!(outcome.code, 2);
    assert_clean(&outcome);
    // What the reader says takes several lines, none of which passes for an error of its own.
    let lines: Vec<&str> = outcome.err.lines().collect();
    assert!(lines.len() > 2 && lines[0].starts_with("error: "), "{}", outcome.err);
    let further = lines[1..].iter().filter(|line| !line.starts_with("hint: "));
    assert!(further.clone().count() > 1 && further.clone().all(|line| line.starts_with("  ")), "{}", outcome.err);
}
