//! Ctrl-C: exit code 130, what is finished stays, nothing is half-written.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flatness::checkpoint::{Checkpoint, TensorFile};
use flatness::report::tables::{Column, read_table};
use serde_json::Value;

use crate::support::{CHEAP, TRAINING, checkpoint, files, fixture_arguments, with_flag};

/// Reads every file, so that a half-written one shows, and returns `run.json`.
fn read_all(folder: &Path) -> Value {
    let mut run = Value::Null;
    for path in files(folder) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!name.starts_with('.') && !name.contains("tmp") && !bytes.is_empty(), "{}", path.display());
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => run = serde_json::from_slice(&bytes).unwrap(),
            Some("toml") => drop(std::str::from_utf8(&bytes).unwrap().parse::<toml::Table>().unwrap()),
            Some("parquet") => drop(read_table(&path).unwrap()),
            Some("safetensors") => drop(TensorFile::read(&path).unwrap()),
            Some("svg") => assert!(bytes.ends_with(b"</svg>") || bytes.ends_with(b"</svg>\n")),
            Some("png") => assert!(bytes.ends_with(b"IEND\xaeB`\x82")),
            Some("pdf") => assert!(bytes.trim_ascii_end().ends_with(b"%%EOF")),
            Some("html") => assert!(bytes.ends_with(b"</html>\n")),
            Some("md") => assert!(bytes.ends_with(b"\n")),
            _ => panic!("{} is unexpected", path.display()),
        }
    }
    run
}

/// Sets the flag after `delay`.
fn interrupt_after(delay: Duration) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        set.store(true, Ordering::SeqCst);
    });
    flag
}

#[test]
fn before_anything_is_finished_nothing_stays() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/out");
    let logistic = fixture_arguments("logistic-ce");
    for command in [
        format!("analyze {logistic} {CHEAP}"),
        format!("train {}", TRAINING.replace("epochs 1", "epochs 3")),
        "quickstart".to_owned(),
    ] {
        let outcome = with_flag(&format!("{command} --out {}", out.display()), Arc::new(AtomicBool::new(true)));
        assert_eq!(outcome.code, 130, "{command}\n{}", outcome.err);
        assert!(outcome.err.ends_with("error: interrupted\n"), "{}", outcome.err);
        assert!(!out.parent().unwrap().exists(), "{command} left {:?}", files(folder.path()));
    }
    let outcome = with_flag(&format!("check {logistic}"), Arc::new(AtomicBool::new(true)));
    assert_eq!(outcome.code, 130);
}

#[test]
fn an_analysis_keeps_what_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    // Far more probes, then far more points, than the time allows: the point and then the eigenpairs are finished.
    for (name, settings, eigenpairs) in [
        ("eigenpairs", "--method power --tolerance 1e-15 --max-matvecs 100000000", false),
        ("probes", "--top 1 --bottom 0 --probes 100000 --steps 64 --max-matvecs 100000000", true),
        ("slices", "--top 1 --bottom 0 --probes 2 --steps 4 --slice-points 3 --plane-points 1001", true),
    ] {
        let out = folder.path().join(name);
        let line = format!("analyze {} {settings} --threads 2 --json --out {}", checkpoint().display(), out.display());
        let outcome = with_flag(&line, interrupt_after(Duration::from_millis(1_500)));
        assert_eq!(outcome.code, 130, "{line}\n{}", outcome.err);
        assert!(outcome.err.contains("interrupted: writing the parts that are finished"), "{}", outcome.err);
        let run = read_all(&out);
        assert_eq!(run["complete"], false);
        let summary: Value = serde_json::from_str(&outcome.out).unwrap();
        let quantities: Vec<&str> =
            summary["summary"].as_array().unwrap().iter().map(|row| row["quantity"].as_str().unwrap()).collect();
        assert!(quantities.starts_with(&["loss", "accuracy", "nll", "perplexity", "gradient_norm"]), "{quantities:?}");
        assert_eq!(quantities.contains(&"lambda_max"), eigenpairs, "{name}: {quantities:?}");
        assert_eq!(quantities.contains(&"trace"), name == "slices", "{name}: {quantities:?}");
        assert_eq!(out.join("eigenvectors.safetensors").exists(), eigenpairs);
    }
}

#[test]
fn a_training_keeps_its_last_finished_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("train {} --out {}", TRAINING.replace("epochs 1", "epochs 1000000"), folder.path().display());
    let outcome = with_flag(&line, interrupt_after(Duration::from_millis(1_500)));
    assert_eq!(outcome.code, 130, "{}", outcome.err);
    assert_eq!(read_all(folder.path())["complete"], false);
    Checkpoint::read(&folder.path().join("checkpoint.safetensors"), None).unwrap();
    let metrics = read_table(&folder.path().join("metrics.parquet")).unwrap();
    let Some(Column::Count(epochs)) = metrics.column("epoch") else { panic!("no epochs") };
    assert!(!epochs.is_empty() && epochs.iter().copied().eq(1..=epochs.len()));
}

/// A process that takes far longer than any test.
#[cfg(unix)]
fn long(line: &str, out: &Path) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_flatness"))
        .args(line.split_whitespace())
        .arg("--out")
        .arg(out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[cfg(unix)]
fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn the_process_ends_with_130_at_a_signal_and_prints_no_bars() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        format!("analyze {} --probes 100000 --steps 64 --max-matvecs 100000000 --threads 2", checkpoint().display());
    let started = ["-INT", "-TERM", "-HUP"].map(|name| (name, long(&line, &folder.path().join(name))));
    // Long enough for a bar, were this a terminal.
    std::thread::sleep(Duration::from_millis(4_000));
    for (name, child) in started {
        signal(name, child.id());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{name}: {err}");
        assert!(err.contains("interrupted: writing the parts that are finished"), "{err}");
        assert!(!err.contains('\r') && !err.contains('\x1b'), "{err:?}");
        assert_eq!(read_all(&folder.path().join(name))["complete"], false);
    }
}

#[cfg(unix)]
#[test]
fn a_training_keeps_its_last_epoch_at_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("train {}", TRAINING.replace("epochs 1", "epochs 100000000"));
    for name in ["-TERM", "-HUP"] {
        let out = folder.path().join(name);
        let child = long(&line, &out);
        while !out.join("metrics.parquet").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(name, child.id());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(read_all(&out)["stop"], "interrupted");
        Checkpoint::read(&out.join("checkpoint.safetensors"), None).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut child = long(&format!("train {}", TRAINING.replace("epochs 1", "epochs 100000000")), &out);
    while !out.join("metrics.parquet").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Stopped, it cannot end at the first one before the second comes; each is seen, since they are different.
    ["-STOP", "-INT", "-TERM", "-CONT"].into_iter().for_each(|name| signal(name, child.id()));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!out.join("run.json").exists(), "it took its time to write a result");
}

#[test]
fn a_training_that_diverges_ends_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let train = |settings: &str, name: &str| {
        let out = folder.path().join(name).display().to_string();
        let line = format!("train {} {settings} --out {out}", TRAINING.replace("epochs 1", "epochs 60"));
        with_flag(&line, Arc::default())
    };
    let outcome = train("--learning-rate 1e30", "at-once");
    assert!(outcome.code == 2 && outcome.err.contains("not finite at epoch 1"), "{}", outcome.err);
    assert!(!folder.path().join("at-once").exists());
    // Each step takes three times the weights from them: they double, and are finite for some epochs.
    let settings = "--learning-rate 1 --weight-decay 3 --momentum 0 --schedule constant";
    let outcome = train(settings, "later");
    assert!(outcome.code == 2 && outcome.err.contains("not finite at epoch"), "{}", outcome.err);
    let run = read_all(&folder.path().join("later"));
    assert!(run["complete"] == false && run["stop"].as_str().unwrap().contains("not finite"), "{run}");
    Checkpoint::read(&folder.path().join("later/checkpoint.safetensors"), None).unwrap();
}

#[test]
fn the_process_reports_errors_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("train-00000-of-00001.parquet"), b"PAR1 these are no pages PAR1").unwrap();
    let data = format!("cifar10:{}", folder.path().display());
    for (arguments, named) in [(["info", "absent"], "absent"), (["train", "--model=mlp:4"], "--out")] {
        let output = Command::new(env!("CARGO_BIN_EXE_flatness")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains(named));
    }
    let out = folder.path().join("out");
    let line = ["train", "--model=mlp:4", "--data", &data, "--out", out.to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_flatness")).args(line).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && !err.contains("panicked"), "{err}");
}
