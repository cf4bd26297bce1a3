//! Every command that saves results under kill -9, SIGINT and SIGTERM at random moments, with a full disk in between: after
//! `--resume` all ends are the same bytes, and no other process ever sees a result that is not whole.
//!
//! `FLATNESS_KILLS=N` tries N kills over all commands, in place of a handful.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// Kills of an ordinary run.
const KILLS: u64 = 10;
const MODEL: &str = "train --model mlp:16 --data glyphs --rows 0..120 --epochs 3 --seed 1 --threads 1";

/// A command, and how it goes on after a kill.
struct Work {
    name: &'static str,
    /// Its arguments but `--out`; `{model}` is a folder with a trained network.
    line: &'static str,
    resume: &'static str,
}

const WORKS: [Work; 6] = [
    Work {
        name: "train",
        line: "train --model resnet-cifar:8,width=4 --data glyphs --rows 0..96 --epochs 5 --batch-size 32 --ema 0.9 --threads 2",
        resume: "--resume",
    },
    Work {
        name: "analyze",
        line: "analyze {model}/checkpoint.safetensors --top 6 --bottom 3 --eig-tol 1e-10 --max-matvecs 400 --save-every 0.02 --threads 2",
        resume: "--resume",
    },
    Work {
        name: "landscape",
        line: "landscape {model}/checkpoint.safetensors --points 21 --save-every 0.02 --threads 2",
        resume: "--resume",
    },
    Work {
        name: "llc",
        line: "llc {model}/checkpoint.safetensors --gamma 1000 --draws 400 --save-every 0.02 --threads 2",
        resume: "--resume",
    },
    Work { name: "run", line: "run {folder}/e.toml --jobs 2", resume: "" },
    Work { name: "compare", line: "compare {model} {other} --by folder", resume: "--force" },
];

const EXPERIMENT: &str = r#"
name = "kills"
steps = ["train", "analyze"]
seeds = [1, 2]

[train]
model = "mlp:8"
data = "glyphs"
rows = "0..80"
epochs = 2

[analyze]
method = "lanczos"
top = 2
bottom = 1
plane_points = 0

[grid]
"train.optimizer" = ["sgd", "sam:rho=0.05"]
"#;

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    command.args(line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn succeed(line: &str) {
    let output = command(line).output().unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// [`succeed`], as soon as no process that the killed one started is at work.
fn go_on(line: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let output = command(line).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            break;
        }
        let is_busy = words.contains("run by another process") || words.contains("is in use by");
        assert!(is_busy && Instant::now() < until, "{line}\n{words}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// All files below `folder` with their bytes, but for times.
fn results(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                folders.push(path);
            } else if !TIMED.contains(&name.as_str()) {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path.strip_prefix(folder).unwrap().to_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}

/// Files that say when and how long, and the lock, which a child of a killed process may hold to its own end.
const TIMED: [&str; 7] =
    ["run.json", "timings.parquet", "cells.parquet", "means.parquet", "log.txt", "report.html", ".flatness.lock"];

fn is_whole(folder: &Path) -> bool {
    let run = std::fs::read(folder.join("run.json")).ok().map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap());
    run.is_some_and(|run| run["complete"] != false)
}

/// Ends a process by a signal, and waits for it.
fn end(child: &mut Child, signal: &str) {
    // What has ended by itself is no fault.
    let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
    let until = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it goes on after {signal}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same command where no file may have more than a few KiB: what a full disk does.
fn with_full_disk(line: &str) {
    let binary = env!("CARGO_BIN_EXE_flatness");
    let script = format!("trap '' XFSZ; ulimit -f 4; exec {binary} {line}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 2)), "{line}: {:?}\n{words}", output.status);
    assert!(!words.contains("panicked"), "{words}");
}

#[test]
fn whatever_ends_a_process_nothing_is_lost() {
    let kills = std::env::var("FLATNESS_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("e.toml"), EXPERIMENT).unwrap();
    succeed(&format!("{MODEL} --out {}", at("model").display()));
    succeed(&format!("{MODEL} --out {}", at("other").display()).replace("--seed 1", "--seed 2"));
    for model in ["model", "other"] {
        let analysis = at(model).join("analysis");
        let line = format!(
            "analyze {}/checkpoint.safetensors --method lanczos --top 2 --out {}",
            at(model).display(),
            analysis.display()
        );
        succeed(&line);
    }
    let line = |work: &Work, out: &Path| {
        let line = work.line.replace("{model}", &at("model").display().to_string());
        let line = line.replace("{other}", &at("other").display().to_string());
        format!("{} --out {}", line.replace("{folder}", &folder.path().display().to_string()), out.display())
    };
    let expected = WORKS.each_ref().map(|work| {
        let (out, started) = (at(work.name), Instant::now());
        succeed(&line(work, &out));
        (results(&out), started.elapsed())
    });
    let mut counts = [[0usize; 3]; WORKS.len()];
    for kill in 0..kills {
        let mut rng = rand::rngs::StdRng::seed_from_u64(kill);
        let place = kill as usize % WORKS.len();
        let (work, (expected, took)) = (&WORKS[place], &expected[place]);
        let out = at(&format!("{}-{kill}", work.name));
        let once = line(work, &out);
        let mut child = command(&once).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took.mul_f64(rng.random_range(0.02..1.0)));
        let signal = ["-KILL", "-INT", "-TERM"][kill as usize / WORKS.len() % 3];
        end(&mut child, signal);
        counts[place][0] += usize::from(is_whole(&out));
        let again = format!("{once} {}", work.resume);
        if rng.random_bool(0.3) {
            with_full_disk(&again);
            counts[place][1] += 1;
        }
        if !is_whole(&out) || work.name == "compare" {
            go_on(&again);
            counts[place][2] += 1;
        }
        let got = results(&out);
        let names = |results: &[(PathBuf, Vec<u8>)]| -> BTreeSet<PathBuf> {
            results.iter().map(|(name, _)| name.clone()).collect()
        };
        let differing: Vec<PathBuf> = names(&got).symmetric_difference(&names(expected)).cloned().collect();
        assert!(differing.is_empty(), "{} after kill {kill} ({signal}): {differing:?}", work.name);
        for ((name, got), (_, expected)) in got.iter().zip(expected) {
            assert!(got == expected, "{} after kill {kill} ({signal}): {} differs", work.name, name.display());
        }
        std::fs::remove_dir_all(&out).unwrap();
    }
    for (work, [whole, full, resumed]) in WORKS.iter().zip(counts) {
        println!("{}: {whole} were whole already, {full} met a full disk, {resumed} went on", work.name);
    }
}
