//! Who may write into a folder of results: one process, whose old result is withdrawn first.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{TRAINING, assert_refused, checkpoint, files, flatness, succeed};

fn spawn(line: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    command.args(line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn run_json(folder: &Path) -> Option<Value> {
    Some(serde_json::from_slice(&std::fs::read(folder.join("run.json")).ok()?).unwrap())
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// All files with their bytes.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn assert_no_locks(folder: &Path) {
    for path in files(folder) {
        assert!(!path.file_name().unwrap().to_str().unwrap().starts_with('.'), "{} stayed", path.display());
    }
}

/// A training that would last for hours.
fn long(out: &Path) -> String {
    format!("train {} --out {}", TRAINING.replace("epochs 1", "epochs 100000000"), out.display())
}

fn has_state(folder: &Path) -> bool {
    folder.exists() && files(folder).iter().any(|path| path.to_string_lossy().contains("/state-"))
}

#[test]
fn of_two_at_once_one_works_and_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // More pairs than the usual handful: FLATNESS_PAIRS=200.
    let pairs = std::env::var("FLATNESS_PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(4);
    for pair in 0..pairs {
        let out = folder.path().join(pair.to_string());
        let line = "train --model mlp:8 --data glyphs --rows 0..400 --epochs 60 --threads 1 --force --out";
        let started = [1, 2].map(|seed| spawn(&format!("{line} {} --seed {seed}", out.display())));
        let pids = [started[0].id(), started[1].id()];
        let ended = started.map(|child| child.wait_with_output().unwrap());
        let codes = [ended[0].status.code(), ended[1].status.code()];
        let winner = codes.iter().position(|code| *code == Some(0)).unwrap_or_else(|| panic!("{codes:?}"));
        let refused = words(&ended[1 - winner]);
        assert_eq!(codes[1 - winner], Some(2), "{refused}");
        let expected = format!("is in use by process {} since 2", pids[winner]);
        assert!(refused.contains(&expected) && refused.contains("UTC") && refused.contains("hint: "), "{refused}");
        let run = run_json(&out).unwrap();
        assert!(run["complete"] == true && run["train"]["seed"] == winner as u64 + 1, "{run}");
        let config = std::fs::read_to_string(out.join("config.toml")).unwrap();
        assert!(config.contains(&format!("\nseed = {}\n", winner + 1)), "{config}");
        assert_no_locks(&out);
    }
}

#[test]
fn every_command_leaves_a_folder_in_use_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let grid = folder.path().join("grid.toml");
    std::fs::write(&grid, "name = \"g\"\ntrain = { data = \"glyphs\", model = \"mlp:4\" }\n").unwrap();
    let mut child = spawn(&long(&out));
    wait_until("a state", || has_state(&out));
    let (checkpoint, grid) = (checkpoint().display(), grid.display());
    let named = format!("is in use by process {} since 2", child.id());
    for command in [
        format!("train {TRAINING} --force"),
        "train --resume".into(),
        format!("analyze {checkpoint} --force"),
        format!("analyze {checkpoint} --resume"),
        format!("landscape {checkpoint} --force"),
        format!("sharpness {checkpoint} --force"),
        format!("llc {checkpoint} --force"),
        format!("compare {checkpoint} {checkpoint} --force"),
        "langevin --force".into(),
        "quickstart --force".into(),
        format!("run {grid}"),
        format!("run {grid} --cell 1/2"),
    ] {
        assert_refused(&format!("{command} --out {}", out.display()), &named, "--out");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A kill lets go of it, and what it left is no result.
    succeed(&format!("train {TRAINING} --force --out {}", out.display()));
}

/// A complete result, and the same folder after a kill in the middle of another training into it.
fn killed_over_a_complete_one(folder: &Path) -> (Vec<u8>, PathBuf) {
    let out = folder.join("out");
    succeed(&format!("train {TRAINING} --out {}", out.display()));
    let weights = std::fs::read(out.join("checkpoint.safetensors")).unwrap();
    let mut child = spawn(&format!("{} --seed 2 --force", long(&out)));
    wait_until("the withdrawal", || run_json(&out).is_none());
    wait_until("a state", || has_state(&out));
    child.kill().unwrap();
    child.wait().unwrap();
    (weights, out)
}

#[test]
fn old_weights_are_never_those_of_a_killed_training() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, out) = killed_over_a_complete_one(folder.path());
    assert!(run_json(&out).is_none());
    let mut child = spawn(&format!("train --resume --out {}", out.display()));
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it has taken the old result for its own");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", words(&output));
    assert!(words(&output).contains("continuing from the state"), "{}", words(&output));
    assert_eq!(run_json(&out).unwrap()["complete"], false);
    assert_ne!(std::fs::read(out.join("checkpoint.safetensors")).unwrap(), weights);
}

#[test]
fn a_refusal_keeps_the_result_and_force_leaves_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let train = |more: &str| format!("train {TRAINING} --out {} {more}", out.display());
    succeed(&train("--ema 0.9 --swa-from 1 --track top:1 --track-rows 8"));
    let before = contents(&out);
    assert!(["ema", "swa"].iter().all(|name| out.join(format!("{name}.safetensors")).exists()));
    for line in [
        format!("train {TRAINING}"),
        format!("train {TRAINING} --resume --seed 1"),
        format!("train {TRAINING} --force --init absent"),
        "train --model mlp:16 --data glyphs --rows 0..999999 --force".into(),
        "train --model mlp:16 --data tensors:absent --force".into(),
    ] {
        let outcome = flatness(&format!("{line} --out {}", out.display()));
        assert_eq!(outcome.code, 2, "{line}\n{}", outcome.err);
        assert!(contents(&out) == before, "{line} changed files");
    }
    succeed(&train("--force"));
    for name in ["ema.safetensors", "swa.safetensors", "figures/curvature.svg"] {
        assert!(!out.join(name).exists(), "{name} of the old result stayed");
    }
}

#[test]
fn a_complete_result_is_complete_already() {
    let folder = tempfile::tempdir().unwrap();
    let at = |command: &str, name: &str| format!("{command} --threads 2 --out {}", folder.path().join(name).display());
    let checkpoint = checkpoint().display();
    for (command, other, named) in [
        (
            format!("analyze {checkpoint} --top 1 --bottom 0 --probes 2 --steps 4 --plane-points 0 --slice-points 3"),
            "--seed 1",
            "analysis.seed 0 there, 1 here",
        ),
        (format!("landscape {checkpoint} --line --points 5"), "--half-width 0.25", "landscape.points_sha256"),
    ] {
        let line = at(&command, command.split(' ').next().unwrap());
        succeed(&line);
        let out = PathBuf::from(line.rsplit(' ').next().unwrap());
        let before = contents(&out);
        let outcome = succeed(&format!("{line} --resume"));
        assert!(outcome.err.contains("is already complete") && outcome.out.is_empty(), "{}", outcome.err);
        assert_refused(&format!("{line} --resume {other}"), named, "--force in place of --resume");
        assert!(contents(&out) == before, "{line} changed files");
    }
}

#[test]
fn the_whole_of_an_experiment_is_run_once_at_a_time_and_its_parts_together() {
    let folder = tempfile::tempdir().unwrap();
    let grid = folder.path().join("grid.toml");
    std::fs::write(
        &grid,
        "name = \"g\"\nseeds = [0, 1]\nsteps = [\"train\"]\n\
         train = { data = \"glyphs\", rows = \"0..64\", model = \"mlp:8\", epochs = 100000000 }\n",
    )
    .unwrap();
    let line = |more: &str| format!("run {} --out {}/out {more}", grid.display(), folder.path().display());
    let stop = |child: &Child| {
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success())
    };
    let running = |count: usize| {
        let status = succeed(&line("").replacen("run", "status", 1)).out;
        status.contains(&format!("{count} running"))
    };
    let whole = spawn(&line(""));
    wait_until("a run", || running(1));
    let named = format!("is in use by process {} since 2", whole.id());
    assert_refused(&line(""), &named, "--out");
    assert_refused(&line("--cell 1/2"), &named, "--out");
    stop(&whole);
    let output = whole.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", words(&output));
    let parts = [spawn(&line("--cell 1/2")), spawn(&line("--cell 2/2"))];
    wait_until("two runs", || running(2));
    assert_refused(&line(""), "is in use by process", "--out");
    parts.iter().for_each(stop);
    for part in parts {
        let output = part.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", words(&output));
    }
    assert_no_locks(folder.path());
}
