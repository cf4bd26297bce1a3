//! Experiments that run: finished, skipped, failed, killed, interrupted.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flatness::report::tables::{Column, read_table};
use tempfile::TempDir;

use crate::support::files;

/// A folder with `grid.toml`; results go to `out` in it.
struct Grid(TempDir);

impl Grid {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let grid = Self(folder);
        grid.write(text);
        grid
    }

    fn write(&self, text: &str) {
        std::fs::write(self.0.path().join("grid.toml"), text).unwrap();
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn spawn(&self, command: &str, options: &str) -> Child {
        let mut process = Command::new(env!("CARGO_BIN_EXE_flatness"));
        process.arg(command).arg(self.0.path().join("grid.toml")).arg("--out").arg(self.out());
        process.args(options.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.spawn().unwrap()
    }

    /// Exit code, stdout, stderr.
    fn run(&self, options: &str) -> (i32, String, String) {
        said(self.spawn("run", options).wait_with_output().unwrap())
    }

    fn status(&self) -> String {
        said(self.spawn("status", "").wait_with_output().unwrap()).1
    }

    fn cells(&self, column: &str) -> Vec<String> {
        match read_table(&self.out().join("cells.parquet")).unwrap().column(column) {
            Some(Column::Text(values)) => values.clone(),
            Some(Column::Number(values)) => values.iter().map(f64::to_string).collect(),
            other => panic!("{column}: {other:?}"),
        }
    }

    /// The run folder whose name starts with `label`.
    fn folder(&self, label: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap().path());
        let label = format!("{label}-");
        let mut named = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&label));
        named.next().unwrap_or_else(|| panic!("no {label}"))
    }

    fn log(&self, label: &str) -> String {
        std::fs::read_to_string(self.folder(label).join("log.txt")).unwrap()
    }

    /// Tables, checkpoints and figures by their places: all that has no time in it.
    fn results(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let timed = ["run.json", "timings.parquet", "log.txt", "cells.parquet", "means.parquet", "report.html"];
        let kept = files(&self.out()).into_iter().filter(|path| !timed.iter().any(|name| path.ends_with(name)));
        kept.map(|path| (path.strip_prefix(self.out()).unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
    }
}

fn said(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Trainings of milliseconds and cheap analyses.
const SMALL: &str = r#"
name = "small"
seeds = [0, 1]
train = { data = "glyphs", rows = "0..32", model = "mlp:16", epochs = 1, batch_size = 16 }
analyze = { probes = 2, steps = 4, top = 1, bottom = 0, plane_points = 0, slice_points = 3 }
[[variant]]
name = "sgd"
[[variant]]
name = "sam"
train.optimizer = "sam:rho=0.1"
"#;

#[test]
fn a_grid_runs_once_and_is_skipped_after_that() {
    let grid = Grid::new(SMALL);
    let (code, out, err) = grid.run("--jobs 2");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("sgd n=2") && out.contains("sam n=2") && out.contains("hessian_lambda_max"), "{out}");
    assert!(err.contains("[4/4] ") && err.contains("test accuracy 0.") && err.contains("4 runs: 4 finished"), "{err}");
    assert_eq!(grid.cells("state"), ["finished"; 4]);
    assert_eq!(grid.cells("variant"), ["sgd", "sgd", "sam", "sam"]);
    assert!(grid.cells("test_loss").iter().chain(&grid.cells("hessian_trace")).all(|value| value != "NaN"));
    for (train, analysis) in grid.cells("train_folder").iter().zip(grid.cells("analyze_folder")) {
        assert!(grid.out().join(train).join("checkpoint.safetensors").exists());
        assert!(grid.out().join(analysis).join("summary.parquet").exists());
    }
    // Each table of the comparison is there once, among the results.
    for name in ["members.parquet", "comparison.parquet", "differences.parquet"] {
        assert!(grid.out().join(name).exists() && !grid.out().join("report").join(name).exists(), "{name}");
    }
    assert!(grid.out().join("report/verdict.txt").exists());
    let status = grid.status();
    assert!(status.contains("4 cells: 4 finished"), "{status}");
    let (before, log) = (grid.results(), grid.log("sam-s1"));
    let (code, again, err) = grid.run("");
    assert_eq!((code, again), (0, out), "{err}");
    assert!(!err.contains("[4/4]"), "{err}");
    assert!(grid.results() == before && grid.log("sam-s1") == log);
    // What it wrote down is an experiment of the same runs.
    let written = std::fs::read_to_string(grid.out().join("experiment.toml")).unwrap();
    grid.write(&written);
    let listed = grid.run("--dry-run").1;
    assert!(listed.matches("  finished\n").count() == 4 && listed.ends_with("that can be estimated\n"), "{listed}");
}

#[test]
fn parts_one_after_the_other_do_all() {
    let grid = Grid::new(SMALL);
    let (code, _, err) = grid.run("--cell 1/2");
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("2 runs: 2 finished"), "{err}");
    assert_eq!(grid.cells("state"), ["finished", "pending", "finished", "pending"]);
    assert_eq!(grid.run("--cell 2/2").0, 0);
    assert_eq!(grid.cells("state"), ["finished"; 4]);
}

#[test]
fn another_analysis_trains_nothing_anew() {
    let grid = Grid::new(SMALL);
    assert_eq!(grid.run("").0, 0);
    grid.write(&SMALL.replace("top = 1", "top = 2"));
    assert!(grid.status().contains("4 interrupted"), "{}", grid.status());
    assert_eq!(grid.run("").0, 0);
    let log = grid.log("sgd-s0");
    assert_eq!([log.matches("$ flatness train").count(), log.matches("$ flatness analyze").count()], [1, 2], "{log}");
}

#[test]
fn a_failing_cell_stops_no_other_and_is_tried_again_only_when_asked() {
    let bad = "[[variant]]\nname = \"bad\"\ntrain.learning_rate = 1e30\n[[variant]]\nname = \"sam\"";
    let grid = Grid::new(&SMALL.replace("[[variant]]\nname = \"sam\"", bad));
    let (code, out, err) = grid.run("");
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("sgd n=2") && out.contains("sam n=2") && !out.contains("bad"), "{out}");
    assert!(err.contains("6 runs: 4 finished, 2 failed"), "{err}");
    let reason = "in train: train: the ";
    let lines = err.lines().filter(|line| line.starts_with("failed: bad-s") && line.contains(reason));
    assert_eq!(lines.filter(|line| line.contains("not finite at epoch 1")).count(), 2, "{err}");
    assert!(err.ends_with("--retry-failed tries again\n"), "{err}");
    assert_eq!(grid.cells("state"), ["finished", "finished", "failed", "failed", "finished", "finished"]);
    assert!(grid.cells("reason")[2].contains("not finite"));
    assert!(grid.status().contains("6 cells: 4 finished, 2 failed"), "{}", grid.status());
    let tries = || grid.log("bad-s0").matches("$ flatness train").count();
    let (code, _, err) = grid.run("");
    assert_eq!((code, tries()), (1, 1), "{err}");
    assert!(err.contains("failed earlier: train: the"), "{err}");
    assert_eq!((grid.run("--retry-failed").0, tries()), (1, 2));
}

#[test]
fn an_analysis_that_fails_leaves_the_training_and_the_other_analyses() {
    let grid =
        Grid::new(&format!("{}\n[grid]\nanalyze.rows = [\"0..999999\", \"0..16\"]", SMALL.replace("[0, 1]", "[0]")));
    let (code, _, err) = grid.run("");
    assert_eq!(code, 1, "{err}");
    assert_eq!(grid.cells("state"), ["failed", "finished", "failed", "finished"]);
    assert!(grid.cells("reason")[0].contains("reach past the end"), "{:?}", grid.cells("reason"));
    assert!(grid.cells("test_loss").iter().all(|value| value != "NaN"));
}

/// An analysis of about a second or more that keeps its state after every step.
const LONG: &str = r#"
name = "long"
train = { data = "glyphs", rows = "0..256", model = "mlp:32", epochs = 1, batch_size = 16 }
analyze = { probes = 4, steps = 40, top = 10, bottom = 5, eig_tol = 1e-6, plane_points = 81, slice_points = 3, save_every = 0 }
"#;

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn has_state(folder: &Path) -> bool {
    folder.exists() && files(folder).iter().any(|path| path.ends_with("state-hessian.safetensors"))
}

/// Processes whose parent is `parent`.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent_of = |process: &u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // After the name in brackets: state, parent.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    numbers.filter(|process| parent_of(process) == Some(parent)).collect()
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn killed_in_the_middle_it_goes_on_to_the_same_bytes() {
    let undisturbed = Grid::new(LONG);
    assert_eq!(undisturbed.run("").0, 0);
    let grid = Grid::new(LONG);
    let mut runner = grid.spawn("run", "");
    wait_until("a state", || has_state(&grid.out()));
    let step = children(runner.id());
    assert_eq!(step.len(), 1);
    runner.kill().unwrap();
    runner.wait().unwrap();
    // The step lives on, and holds its folder. (Stopped, it would not: the kernel ends stopped orphans.)
    assert!(grid.status().contains("1 running"), "{}", grid.status());
    let (code, _, err) = grid.run("");
    assert!(code == 1 && err.contains("is run by another process"), "{err}");
    signal("-KILL", step[0]);
    wait_until("the lock's end", || grid.status().contains("1 interrupted"));
    let (code, _, err) = grid.run("");
    assert_eq!(code, 0, "{err}");
    let log = grid.log("s0");
    assert!(log.contains(" --resume\n") && log.contains("survey continues from"), "{log}");
    assert!(grid.results() == undisturbed.results());
    assert_eq!(grid.cells("state"), ["finished"]);
}

#[cfg(target_os = "linux")]
#[test]
fn where_going_on_has_failed_another_try_starts_from_nothing() {
    let grid = Grid::new(LONG);
    let runner = grid.spawn("run", "");
    wait_until("a state", || has_state(&grid.out()));
    signal("-KILL", children(runner.id())[0]);
    runner.wait_with_output().unwrap();
    let state = files(&grid.out()).into_iter().find(|path| path.ends_with("state-hessian.safetensors")).unwrap();
    std::fs::write(state, b"no state").unwrap();
    let (code, _, err) = grid.run("");
    assert!(code == 1 && err.contains("state-hessian.safetensors is damaged"), "{err}");
    assert_eq!(grid.run("--retry-failed").0, 0);
    let log = grid.log("s0");
    let lines = log.lines().filter(|line| line.starts_with("$ flatness analyze"));
    let ends: Vec<&str> = lines.map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(ends[1..], ["--resume", "--force"], "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_step_that_is_killed_counts_as_interrupted() {
    let grid = Grid::new(LONG);
    let runner = grid.spawn("run", "");
    wait_until("a state", || has_state(&grid.out()));
    signal("-KILL", children(runner.id())[0]);
    let (code, _, err) = said(runner.wait_with_output().unwrap());
    assert!(code == 1 && err.contains("1 runs: 1 interrupted") && err.contains("hint: repeat the command"), "{err}");
    assert!(grid.log("s0").contains("killed: signal: 9"), "{}", grid.log("s0"));
    assert_eq!(grid.run("").0, 0);
}

#[test]
fn ctrl_c_stops_the_steps_and_says_what_is_left() {
    let grid = Grid::new(&format!("seeds = [0, 1, 2]\n{LONG}"));
    let runner = grid.spawn("run", "");
    wait_until("a state", || has_state(&grid.out()));
    signal("-INT", runner.id());
    let (code, _, err) = said(runner.wait_with_output().unwrap());
    assert_eq!(code, 130, "{err}");
    assert!(err.contains("3 runs: 1 interrupted, 2 not begun"), "{err}");
    assert!(err.ends_with("hint: repeat the command to continue with the remaining runs\n"), "{err}");
    assert!(grid.log("s0").contains("interrupted: writing the parts that are finished"), "{}", grid.log("s0"));
    let status = grid.status();
    assert!(status.contains("1 interrupted, 2 pending"), "{status}");
    assert_eq!(grid.run("--jobs 2").0, 0);
    assert_eq!(grid.cells("state"), ["finished"; 3]);
}
