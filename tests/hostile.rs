//! Inputs that once brought the program to a panic, an abort, a hang or a wrong end. Each ends with one clear error and exit
//! code 2, or works, within ten seconds and `--memory` plus 512 MiB. Skipped, visibly, where the folder of them is absent.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MEMORY: usize = 256 << 20;

fn hostile() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/hostile");
    if folder.is_dir() {
        return Some(folder.canonicalize().unwrap());
    }
    println!("SKIPPED: {} does not exist", folder.display());
    None
}

/// How a process ended, what it said, and what it took.
struct Ended {
    code: Option<i32>,
    words: String,
    took: Duration,
    peak: usize,
}

fn run(line: &str, folder: &Path) -> Ended {
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    command.args(line.split_whitespace()).current_dir(folder).stdout(Stdio::null()).stderr(said.reopen().unwrap());
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let code = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kibibytes =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = kibibytes.map_or(peak, |kibibytes: usize| peak.max(1024 * kibibytes));
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if started.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let words = std::fs::read_to_string(said.path()).unwrap();
    Ended { code, words, took: started.elapsed(), peak }
}

/// What is wrong with how it ended, if anything is.
fn fault(line: &str, folder: &Path) -> Option<String> {
    let Ended { code, words, took, peak } = run(line, folder);
    let errors = words.matches("error: ").count();
    let told = match code {
        Some(0) => errors == 0,
        Some(2) => errors == 1 && words.contains("hint: "),
        _ => false,
    };
    let raw = words.chars().any(|letter| letter.is_control() && letter != '\n');
    let fine = told && !raw && took < Duration::from_secs(10) && peak < MEMORY + (512 << 20);
    (!fine).then(|| format!("{line}\n  {code:?}, {took:?}, {} MiB: {words}", peak >> 20))
}

#[test]
fn each_ends_with_one_clear_error_or_works() {
    let Some(hostile) = hostile() else { return };
    let folder = tempfile::tempdir().unwrap();
    let prepare = |line: &str| {
        let ended = run(line, folder.path());
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.words);
    };
    prepare("train --model mlp:8 --data glyphs --rows 0..60 --epochs 1 --out model");
    let at = |name: &str| hostile.join(name).display().to_string();
    let fixture =
        |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).display().to_string();
    let arch = fixture("mlp-tanh-ce/model.json");
    let mut lines = Vec::new();
    for name in ["laughs.pth", "huge.pth", "emptyargs.pth", "escape.safetensors"] {
        lines.push(format!("info {}", at(name)));
        lines.push(format!("info {} --arch {arch}", at(name)));
    }
    for broken in ["", " --skip-broken"] {
        for name in ["jpeg-hang", "png-palette"] {
            lines.push(format!("train --model cnn:4 --data images:{} --image-size 16 --epochs 1{broken}", at(name)));
        }
    }
    lines.push(format!("train --model cnn:4 --data cifar10:{} --epochs 1", at("parquet-page")));
    for labels in ["l.parquet", "l.pt"] {
        let folder = at("labels-page");
        lines.push(format!(
            "train --model cnn:4 --data cifar10:{folder} --labels cifar10n:worse:{folder}/{labels} --epochs 1"
        ));
    }
    let data = at("instance-noise.safetensors");
    lines.push(format!("train --model mlp:4 --data tensors:{data} --noise instance:0.2 --epochs 1"));
    let [stride, rows] = [at("stride/m.json"), at("stride/md.safetensors")];
    lines.push(format!("train {stride} --data tensors:{rows} --epochs 1"));
    lines.push(format!("train --model mlp:4 --data tensors:{rows} --epochs 1"));
    for name in ["scalar-vectors.safetensors", "nan-vectors.safetensors"] {
        let vectors = at(name);
        lines.push(format!("landscape model/checkpoint.safetensors --eigenvectors {vectors}"));
        lines.push(format!("matvec model/checkpoint.safetensors --vectors {vectors} --out p.safetensors"));
    }
    let faults: Vec<String> = lines
        .iter()
        .enumerate()
        .filter_map(|(number, line)| {
            let out = if line.starts_with("train") || line.starts_with("landscape") {
                format!(" --out out{number}")
            } else {
                String::new()
            };
            let memory = if line.starts_with("info") { "" } else { " --memory 256MiB" };
            fault(&format!("{line}{memory}{out}"), folder.path())
        })
        .chain(
            ["scalar-vectors.safetensors", "nan-vectors.safetensors"]
                .iter()
                .filter_map(|name| fault(&format!("overlap {0} {0}", at(name)), folder.path())),
        )
        .chain(fault(&format!("run {} --dry-run", at("grid.toml")), folder.path()))
        .collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), lines.len() + 3, faults.join("\n"));
}
