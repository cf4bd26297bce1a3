//! `llc`: what it leaves, what it refuses, and what it says of chains that have not settled.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use flatness::report::tables::{Table, read_table};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{assert_refused, files, flatness, succeed, with_flag};

/// Settings at which the chains around [`minimum`] settle in a moment.
const QUICK: &str = "--draws 2000 --gamma 100 --step-size 5e-4 --burn-in 200";
/// A training that ends in a minimum of its rows.
const TRAINING: &str = "--model mlp:4 --data glyphs --rows 0..64 --epochs 200 --batch-size 64 --learning-rate 0.1";

/// A network at a minimum.
fn minimum() -> &'static Path {
    static TRAINED: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        succeed(&format!("train {TRAINING} --threads 2 --out {}", folder.path().join("small").display()));
        let path = folder.path().join("small/checkpoint.safetensors");
        (folder, path)
    });
    &TRAINED.1
}

fn line(options: &str, out: &Path) -> String {
    format!("llc {} {options} --out {}", minimum().display(), out.display())
}

fn table(folder: &Path, name: &str) -> Table {
    read_table(&folder.join(format!("{name}.parquet"))).unwrap()
}

/// Tables and drawings by name.
fn results(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let kept = files(folder).into_iter().filter(|path| !path.ends_with("run.json") && !path.ends_with("report.html"));
    let name = |path: &Path| path.strip_prefix(folder).unwrap().display().to_string();
    kept.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn tables_and_figures_and_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, more: &str| {
        let out = folder.path().join(name);
        (succeed(&line(&format!("{QUICK} {more}"), &out)), out)
    };
    let ((said, one), (_, two)) = (run("one", "--threads 1"), run("two", "--threads 2"));
    assert!(results(&one) == results(&two));
    assert!(said.out.contains("llc ") && said.out.contains("nβ = 15.39"), "{}", said.out);
    let found = table(&one, "llc");
    let (value, error) = (found.number("value", 0), found.number("std_err_numeric", 0));
    assert!(found.flag("converged", 0) && value > 0.0 && error < 0.1 * value, "{value} ± {error}");
    assert!(found.text("quantity", 0) == "llc" && found.text("fault", 0).is_empty() && found.flag("headline", 0));
    assert!(found.configuration["llc"]["gamma"] == 100.0 && found.configuration["checkpoint_sha256"].is_string());
    let traces = table(&one, "traces");
    assert_eq!(traces.num_rows(), 4 * 2200);
    assert!(traces.flag("burn_in", 199) && !traces.flag("burn_in", 200) && traces.counts("step")[2200] == 0);
    // The estimate is the mean over what counts.
    let counted: Vec<f64> = (0..traces.num_rows())
        .filter(|row| !traces.flag("burn_in", *row))
        .map(|row| traces.number("excess", row))
        .collect();
    let mean = counted.iter().sum::<f64>() / counted.len() as f64;
    assert!((mean / value - 1.0).abs() < 1e-12);
    assert!(one.join("figures/llc_traces.pdf").exists() && !one.join("figures/llc_sweep.pdf").exists());
    assert!(one.join("report.html").exists());
    // Other rows in each step, and another seed.
    let others = [("rows", "--batch 16"), ("seed", "--seed 1")];
    let numbers = others.map(|(name, more)| table(&run(name, more).1, "llc").number("value", 0));
    assert!(numbers.iter().all(|other| other.is_finite() && *other != value), "{numbers:?}");
}

#[test]
fn a_sweep_recommends_a_setting() {
    let folder = tempfile::tempdir().unwrap();
    let said = succeed(&line("--draws 1500 --burn-in 200 --step-size 4e-4 --gamma 200 --sweep", folder.path()));
    let found = table(folder.path(), "llc");
    assert_eq!(found.num_rows(), 9);
    let taken: Vec<usize> = (0..9).filter(|row| found.flag("headline", *row)).collect();
    assert!(taken.len() == 1 && found.flag("converged", taken[0]), "{}", said.out);
    let words = format!("recommended: --gamma {} --step-size", found.number("gamma", taken[0]));
    assert!(said.out.contains(&words) && said.out.contains("taken"), "{}", said.out);
    assert!(folder.path().join("figures/llc_sweep.svg").exists());
}

#[test]
fn chains_that_do_not_settle_give_no_number_and_say_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    for (options, fault, advice) in [
        ("--step-size 1e3 --draws 300", "not_finite", "choose --step-size 2.5e2 or less"),
        ("--step-size 1e-4 --gamma 10 --burn-in 20 --draws 60", "r_hat", "choose --burn-in 8000 and"),
        ("--step-size 2e-3 --gamma 100 --burn-in 200", "step_size_bias", "choose --step-size "),
    ] {
        let said = succeed(&line(&format!("{options} --force"), folder.path()));
        let found = table(folder.path(), "llc");
        assert_eq!(found.text("fault", 0), fault, "{}", said.out);
        assert!(found.number("value", 0).is_nan() && !found.flag("converged", 0));
        assert!(said.out.contains("no number: ") && said.out.contains(advice), "{}", said.out);
        let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
        assert!(page.contains(advice) && !page.contains("<dt>learning coefficient</dt>"));
    }
}

#[test]
fn settings_without_sense_are_refused() {
    let line = |options: &str| line(options, Path::new("x"));
    for (option, named) in [
        ("--gamma 0", "--gamma 0: must be above 0"),
        ("--step-size -1", "--step-size -1: must be above 0"),
        ("--beta nan", "--beta NaN: must be above 0"),
        ("--chains 1", "--chains 1: must be 2 to 128"),
        ("--draws 7", "--draws 7: must be 8 to"),
        ("--batch 0", "--batch 0: must be 1 or more"),
    ] {
        assert_refused(&line(option), named, "");
    }
    assert!(!Path::new("x").exists());
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, out] = ["whole", "out"].map(|name| folder.path().join(name));
    let options = "--draws 1500 --burn-in 20 --save-every 0";
    succeed(&line(options, &whole));
    let (state, flag) = (out.join("state-chains-0.safetensors"), Arc::new(AtomicBool::new(false)));
    let set = flag.clone();
    let watcher = std::thread::spawn({
        let state = state.clone();
        move || {
            while !state.exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            set.store(true, Ordering::SeqCst);
        }
    });
    let stopped = with_flag(&line(options, &out), flag);
    watcher.join().unwrap();
    assert!(stopped.code == 130 && stopped.err.contains("--resume to continue"), "{}", stopped.err);
    assert!(state.exists() && !out.join("run.json").exists() && !out.join("llc.parquet").exists());
    assert_refused(&line(&format!("{options} --resume --seed 1"), &out), "seed 0 there, 1 here", "--resume");
    let resumed = succeed(&line(&format!("{options} --resume"), &out));
    assert!(resumed.err.contains("the chains continue from"), "{}", resumed.err);
    assert!(results(&whole) == results(&out));
    let again = succeed(&line(&format!("{options} --resume"), &out));
    assert!(again.err.contains("is already complete"), "{}", again.err);
}

#[test]
fn comparisons_and_experiments_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let grid = folder.path().join("grid.toml");
    std::fs::write(
        &grid,
        "name = \"g\"\nseeds = [0, 1]\nsteps = [\"train\", \"analyze\", \"llc\"]\n\
         train = { data = \"glyphs\", rows = \"0..64\", model = \"mlp:4\", epochs = 200, batch-size = 64, \
         learning-rate = 0.1, optimizer = \"{which}\" }\n\
         analyze = { top = 1, bottom = 0, plane-points = 0, slice-points = 3, probes = 2, steps = 4 }\n\
         llc = { gamma = 100.0, step-size = 5e-4, burn-in = 200, draws = 2000 }\n\
         grid = { which = [\"sgd\", \"sam\"] }\n",
    )
    .unwrap();
    let out = folder.path().join("out");
    // The program itself, since it starts others like it.
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_flatness"));
    let output = program.arg("run").arg(&grid).arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cells = table(&out, "cells");
    assert!(cells.numbers("llc").iter().all(|value| value.is_finite()), "{:?}", cells.numbers("llc"));
    assert_eq!(table(&out, "llc").num_rows(), 4);
    let found = table(&out, "differences");
    let row = (0..found.num_rows()).find(|row| found.text("quantity", *row) == "llc").unwrap();
    assert!(!found.flag("primary", row) && found.number("difference", row).is_finite());
    // By itself: the comparison makes the analysis.
    let own = folder.path().join("own");
    let folders = cells.texts("llc_folder").iter().map(|name| out.join(name).display().to_string());
    let outcome = flatness(&format!(
        "compare {} --by folder --out {} -- --probes 2 --steps 4 --slice-points 3",
        folders.take(2).collect::<Vec<_>>().join(" "),
        own.display()
    ));
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let run: Value = serde_json::from_slice(&std::fs::read(own.join("run.json")).unwrap()).unwrap();
    assert!(run["members"][0]["llc"].is_string() && outcome.out.contains("learning coefficient"), "{}", outcome.out);
}
