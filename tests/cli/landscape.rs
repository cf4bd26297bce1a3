//! `flatness landscape`: what it leaves, refuses and goes on with, and the snapshots of a training.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use flatness::checkpoint::Checkpoint;
use flatness::report::tables::{Column, Table, read_table};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{CHEAP, TRAINING, assert_refused, checkpoint, files, flatness, succeed, with_flag};

/// The usual small network from other seeds, and one with snapshots.
struct Others {
    _folder: TempDir,
    second: PathBuf,
    third: PathBuf,
    wider: PathBuf,
    other_rows: PathBuf,
    path: PathBuf,
}

fn others() -> &'static Others {
    static OTHERS: LazyLock<Others> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let train = |name: &str, line: &str| {
            let out = folder.path().join(name);
            succeed(&format!("train {line} --out {}", out.display()));
            out.join("checkpoint.safetensors")
        };
        let second = train("second", &format!("{TRAINING} --seed 1"));
        let third = train("third", &format!("{TRAINING} --seed 2"));
        let wider = train("wider", &TRAINING.replace("mlp:16", "mlp:17"));
        let other_rows = train("rows", &TRAINING.replace("0..32", "8..40"));
        let path = train("path", &format!("{} --snapshots 2", TRAINING.replace("epochs 1", "epochs 7")));
        Others { second, third, wider, other_rows, path, _folder: folder }
    });
    &OTHERS
}

fn line(checkpoints: &[&Path], rest: &str, out: &Path) -> String {
    let names: Vec<String> = checkpoints.iter().map(|path| path.display().to_string()).collect();
    format!("landscape {} --threads 2 {rest} --out {}", names.join(" "), out.display())
}

fn table(folder: &Path, name: &str) -> Table {
    read_table(&folder.join(format!("{name}.parquet"))).unwrap()
}

fn numbers(table: &Table, column: &str) -> Vec<f64> {
    match table.column(column) {
        Some(Column::Number(values)) => values.clone(),
        Some(Column::Count(values)) => values.iter().map(|value| *value as f64).collect(),
        other => panic!("{column}: {other:?}"),
    }
}

fn texts(table: &Table, column: &str) -> Vec<String> {
    let Some(Column::Text(values)) = table.column(column) else { panic!("{column}") };
    values.clone()
}

/// A value of summary.parquet and its data error.
fn quantity(folder: &Path, name: &str) -> (f64, f64) {
    let summary = table(folder, "summary");
    let place = texts(&summary, "quantity").iter().position(|quantity| quantity == name).unwrap();
    (numbers(&summary, "value")[place], numbers(&summary, "std_err_data")[place])
}

/// All files but `run.json` and `report.html`, which hold times and the command.
fn results(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let kept = files(folder).into_iter().filter(|path| !path.ends_with("run.json") && !path.ends_with("report.html"));
    kept.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn a_random_plane_is_the_same_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let [two, one] = ["two", "one"].map(|name| folder.path().join(name));
    let outcome = succeed(&line(&[checkpoint()], "--points 7", &two));
    assert!(outcome.out.contains("filter-normalised, biases and norms fixed"), "{}", outcome.out);
    succeed(&line(&[checkpoint()], "--points 7 --threads 1", &one).replace("--threads 2 ", ""));
    assert!(results(&two) == results(&one));
    for figure in ["contour", "surface"] {
        assert!(["svg", "png", "pdf"].iter().all(|ending| two.join(format!("figures/{figure}.{ending}")).exists()));
    }
    let slices = table(&two, "slices");
    assert_eq!(numbers(&slices, "x").len(), 49);
    // The middle is the checkpoint, and so is A.
    assert_eq!(numbers(&slices, "loss")[24], quantity(&two, "loss_a").0);
    let directions = table(&two, "directions");
    assert_eq!(texts(&directions, "normalisation"), ["filter", "filter"]);
    assert_eq!(texts(&directions, "one_axis_tensors"), ["fixed", "fixed"]);
    assert!((numbers(&directions, "angle_deg")[1] - 90.0).abs() < 1e-9);
    let run: Value = serde_json::from_slice(&std::fs::read(two.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["complete"], true);
    assert_eq!(slices.configuration, run["configuration"]);
    let captions = std::fs::read_to_string(two.join("figures/captions.md")).unwrap();
    for words in ["## contour", "## surface", "7 × 7 points", "cross-entropy"] {
        assert!(captions.contains(words), "{words}: {captions}");
    }
    assert!(run["files"]["figures/captions.md"]["sha256"].is_string(), "{}", run["files"]);
    // Another shape leaves no figure of the first, and another style no panel.
    succeed(&line(&[checkpoint()], "--line --points 7 --panels --width neurips --force", &one));
    assert!(one.join("figures/line.png").exists() && !one.join("figures/contour.png").exists());
    assert!(one.join("figures/line-loss.pdf").exists() && one.join("figures/line-accuracy.pdf").exists());
    let pdf = std::fs::read(one.join("figures/line.pdf")).unwrap();
    assert!(String::from_utf8_lossy(&pdf).contains("/MediaBox [0 0 396 "));
    succeed(&line(&[checkpoint()], "--line --points 7 --style annotated --force", &one));
    assert!(!one.join("figures/line-loss.pdf").exists());
    assert_refused(
        &line(&[checkpoint()], "--width wide", &folder.path().join("none")),
        "--width wide: must be icml, icml-wide",
        "",
    );
    // Another seed is another plane, at the same place.
    succeed(&line(&[checkpoint()], "--points 7 --seed 1 --force", &one));
    assert_ne!(numbers(&table(&one, "slices"), "loss")[0], numbers(&slices, "loss")[0]);
    assert_eq!(numbers(&table(&one, "slices"), "loss")[24], numbers(&slices, "loss")[24]);
}

#[test]
fn a_line_between_minima_states_its_barrier() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = succeed(&line(&[checkpoint(), &others().second], "--points 21", folder.path()));
    let (barrier, error) = quantity(folder.path(), "barrier");
    assert!(
        outcome.out.contains(&format!("barrier {barrier:.4} ± {error:.4} (s.e. over the rows)")),
        "{}",
        outcome.out
    );
    let slices = table(folder.path(), "slices");
    let (t, losses) = (numbers(&slices, "x"), numbers(&slices, "loss"));
    assert_eq!((t.len(), t[0], t[20]), (21, 0.0, 1.0));
    let (a, b) = (losses[0], losses[20]);
    assert_eq!((a, b), (quantity(folder.path(), "loss_a").0, quantity(folder.path(), "loss_b").0));
    let over = t.iter().zip(&losses).map(|(t, loss)| loss - ((1.0 - t) * a + t * b)).fold(0.0, f64::max);
    assert_eq!(barrier, over);
    assert!(folder.path().join("figures/line.png").exists());
    // The end is B itself, as an analysis of B on the same rows finds it.
    let alone = tempfile::tempdir().unwrap();
    succeed(&line(&[&others().second], "--line --points 3", alone.path()));
    assert_eq!(quantity(alone.path(), "loss_a").0, b);
}

#[test]
fn a_plane_through_three_minima_marks_them() {
    let folder = tempfile::tempdir().unwrap();
    let three = [checkpoint(), others().second.as_path(), others().third.as_path()];
    succeed(&line(&three, "--points 5", folder.path()));
    let marks = table(folder.path(), "marks");
    assert_eq!(texts(&marks, "name"), ["A", "B", "C"]);
    let (x, y) = (numbers(&marks, "x"), numbers(&marks, "y"));
    assert_eq!((x[0], y[0], y[1]), (0.0, 0.0, 0.0));
    // Distances in the plane are those of the parameters.
    let theta = |path: &Path| Checkpoint::read(path, None).unwrap().theta.to_vec1::<f64>().unwrap();
    let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let [a, b, c] = three.map(theta);
    for (i, j, expected) in [(0, 1, far(&a, &b)), (0, 2, far(&a, &c)), (1, 2, far(&b, &c))] {
        assert!(((x[i] - x[j]).hypot(y[i] - y[j]) - expected).abs() < 1e-9, "{i} {j}");
    }
}

#[test]
fn eigenvectors_are_computed_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let [analysis, computed, read] = ["analysis", "computed", "read"].map(|name| folder.path().join(name));
    succeed(&format!("analyze {} {CHEAP} --top 2 --eig-tol 1e-4 --out {}", checkpoint().display(), analysis.display()));
    succeed(&line(&[checkpoint()], "--directions eigenvectors --points 5", &computed));
    let stored = format!("--eigenvectors {} --points 5", analysis.display());
    succeed(&line(&[checkpoint()], &stored, &read));
    let [own, taken] = [&computed, &read].map(|folder| table(folder, "directions"));
    let largest = numbers(&taken, "eigenvalue")[0];
    for (own, taken) in numbers(&own, "eigenvalue").iter().zip(numbers(&taken, "eigenvalue")) {
        // Both within their residuals, 1e-4 of the largest.
        assert!((own - taken).abs() < 3e-4 * largest, "{own} {taken}");
    }
    assert!(numbers(&own, "length").iter().all(|length| (length - 1.0).abs() < 1e-6));
    let other = line(&[&others().second], &stored, &folder.path().join("none"));
    assert_refused(&other, "they belong to another checkpoint than", "on this checkpoint first");
}

#[test]
fn snapshots_make_a_trajectory() {
    let folder = tempfile::tempdir().unwrap();
    let path = &others().path;
    let snapshots = files(&path.parent().unwrap().join("snapshots"));
    let names: Vec<&str> = snapshots.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["epoch-000", "epoch-002", "epoch-004", "epoch-006", "epoch-007"]);
    // The last one is the checkpoint of the end.
    let theta = |path: &Path| Checkpoint::read(path, None).unwrap().theta.to_vec1::<f64>().unwrap();
    assert!(theta(&snapshots[4]) == theta(path));
    let outcome = succeed(&line(&[path], "--directions pca --points 5", folder.path()));
    assert!(outcome.out.contains("principal directions of 5 checkpoints"), "{}", outcome.out);
    let trajectory = table(folder.path(), "trajectory");
    assert_eq!(numbers(&trajectory, "epoch"), [0.0, 2.0, 4.0, 6.0, 7.0]);
    assert_eq!(numbers(&trajectory, "step"), [0.0, 4.0, 8.0, 12.0, 14.0]);
    let (x, y, off) = (numbers(&trajectory, "x"), numbers(&trajectory, "y"), numbers(&trajectory, "off_plane"));
    assert!(x[4].abs() < 1e-9 && y[4].abs() < 1e-9 && off[4] < 1e-9);
    let shares = numbers(&table(folder.path(), "directions"), "explained_variance");
    assert!(shares[0] >= shares[1] && shares[0] + shares[1] <= 1.0 + 1e-12, "{shares:?}");
}

#[test]
fn a_training_that_goes_on_keeps_the_same_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
    let run = |epochs: usize, out: &Path| {
        format!(
            "train {} --snapshots 1 --out {}",
            TRAINING.replace("epochs 1", &format!("epochs {epochs}")),
            out.display()
        )
    };
    succeed(&run(40, &whole));
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let snapshot = cut.join("snapshots/epoch-003.safetensors");
    let watch = std::thread::spawn(move || {
        while !snapshot.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        set.store(true, Ordering::SeqCst);
    });
    let first = with_flag(&run(40, &cut), flag);
    watch.join().unwrap();
    assert!(first.code == 130 || first.code == 0, "{}", first.err);
    if first.code == 130 {
        succeed(&format!("train --resume --out {}", cut.display()));
    }
    let snapshots = |folder: &Path| results(&folder.join("snapshots"));
    assert_eq!(snapshots(&whole).len(), 41);
    assert!(snapshots(&whole) == snapshots(&cut));
    // A run without them leaves none of the old ones.
    succeed(&format!("train {TRAINING} --force --out {}", cut.display()));
    assert!(!cut.join("snapshots").exists());
    assert!(!std::fs::read_to_string(cut.join("config.toml")).unwrap().contains("snapshots"));
}

#[test]
fn what_makes_no_landscape_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (one, out) = (checkpoint(), folder.path().join("none"));
    let refuse = |checkpoints: &[&Path], rest: &str, named: &str, hint: &str| {
        assert_refused(&line(checkpoints, rest, &out), named, hint);
        assert!(!out.exists());
    };
    refuse(&[one, &others().wider], "", "are different networks", "one architecture");
    refuse(&[one, &others().other_rows], "", "trained on different data: rows", "--data");
    refuse(&[one, one], "", "A and B have the same parameters", "differ");
    refuse(&[one], "--points 4", "--points 4: must be an odd number", "");
    refuse(&[one], "--half-width 0", "--half-width 0: must be", "");
    refuse(&[one], "--half-width wide", "--half-width wide: not a number", "");
    refuse(&[one], "--seed x", "--seed x: not a whole number", "");
    refuse(&[one], "--half-width nan", "--half-width NaN: must be", "");
    refuse(&[one], "--directions between", "needs two or three checkpoints", "");
    refuse(&[one, &others().second], "--directions pca", "goes through one checkpoint", "");
    refuse(&[one], "--directions pca", "there is no folder", "--snapshots");
    refuse(&[one], "--directions random --eigenvectors x", "--eigenvectors does not belong to", "");
    refuse(&[one], "--save-every -1", "--save-every -1", "");
    assert_eq!(flatness(&format!("landscape --out {}", out.display())).code, 2);
    // Named for both, other rows are the same rows.
    let named = "--data glyphs --rows 0..32 --points 5";
    succeed(&line(&[one, &others().other_rows], named, &out));
    assert_refused(&line(&[one], "", &out), "already holds a result", "--force");
}

const LONG: &str = "--points 51 --save-every 0";

#[test]
fn ctrl_c_keeps_the_points_and_another_input_never_gets_them() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
    let flag = Arc::new(AtomicBool::new(false));
    let (set, state) = (flag.clone(), cut.join("points.safetensors"));
    let watch = std::thread::spawn(move || {
        while !state.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        set.store(true, Ordering::SeqCst);
    });
    let outcome = with_flag(&line(&[checkpoint()], LONG, &cut), flag);
    watch.join().unwrap();
    assert_eq!(outcome.code, 130, "{}", outcome.err);
    assert!(outcome.err.contains("repeat the command with --resume"), "{}", outcome.err);
    let before = results(&cut);
    assert_eq!(before.len(), 1);
    let resume = |rest: &str| line(&[checkpoint()], &format!("{LONG} --resume {rest}"), &cut);
    for (rest, named) in [
        ("--seed 1", "landscape.points_sha256"),
        ("--normalisation layer", "landscape.normalisation \"filter\" there, \"layer\" here"),
        ("--half-width 0.5", "landscape.reach"),
        ("--rows 0..31", "data.rows"),
        ("--dtype f64", "dtype \"f32\" there, \"f64\" here"),
        ("--loss cross-entropy:0.1", "loss.label_smoothing"),
    ] {
        assert_refused(&resume(rest), named, "with --force in place of --resume");
        assert!(results(&cut) == before, "{rest} changed files");
    }
    let foreign = resume("").replace(checkpoint().to_str().unwrap(), others().second.to_str().unwrap());
    assert_refused(&foreign, "checkpoint_sha256", "--resume");
    let outcome = succeed(&resume("--threads 1").replace("--threads 2 ", ""));
    assert!(outcome.err.contains("note: continuing after the "), "{}", outcome.err);
    succeed(&line(&[checkpoint()], LONG, &whole));
    assert!(results(&cut) == results(&whole));
}

#[test]
fn a_killed_grid_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
    let words = line(&[checkpoint()], LONG, &cut);
    let mut child = Command::new(env!("CARGO_BIN_EXE_flatness"))
        .args(words.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !cut.join("points.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without points");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let outcome = succeed(&format!("{words} --resume"));
    assert!(outcome.err.contains("note: continuing after the "), "{}", outcome.err);
    succeed(&line(&[checkpoint()], LONG, &whole));
    assert!(results(&cut) == results(&whole));
}

/// `analyze` and `landscape` meet at the checkpoint itself.
#[test]
fn analyze_keeps_its_slices() {
    let folder = tempfile::tempdir().unwrap();
    let [analysis, plane] = ["analysis", "plane"].map(|name| folder.path().join(name));
    succeed(&format!("analyze {} {CHEAP} --top 1 --out {}", checkpoint().display(), analysis.display()));
    succeed(&line(&[checkpoint()], "--points 3", &plane));
    let slices = table(&analysis, "slices");
    let middle = numbers(&slices, "x").iter().position(|x| *x == 0.0).unwrap();
    assert_eq!(numbers(&slices, "loss")[middle], quantity(&plane, "loss_a").0);
}
