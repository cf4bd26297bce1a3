//! Trainings that are killed: with `--resume` they come to the same bytes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::{assert_refused, files, succeed};

/// A short run with everything that a state holds. More kills than the usual handful: FLATNESS_KILLS=50.
const RUN: &str = "train --model resnet-cifar:8,width=4 --data glyphs --rows 0..96 --epochs 6 --batch-size 32 \
                   --optimizer fsgld:sigma=0.01,beta_inverse=1e-7 --ema 0.9 --swa-from 3 --track top:1 --every 3 \
                   --track-rows 8 --schedule cyclical:cycles=2,exploration=0.4 --samples-per-cycle 2 --threads 2";

fn line(out: &Path) -> String {
    format!("{RUN} --out {}", out.display())
}

fn spawn(line: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    command.args(line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// All files without times and without the command.
fn results(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let other = ["run.json", "timings.parquet", "report.html"];
    let kept = files(folder).into_iter().filter(|path| !other.iter().any(|name| path.ends_with(name)));
    kept.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

fn is_complete(folder: &Path) -> bool {
    let run = std::fs::read(folder.join("run.json")).ok();
    run.is_some_and(|run| serde_json::from_slice::<Value>(&run).unwrap()["complete"] == true)
}

#[test]
fn a_run_killed_at_any_moment_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let started = Instant::now();
    assert!(spawn(&line(&whole)).wait().unwrap().success());
    let took = started.elapsed();
    let expected = results(&whole);
    // A kill may come when all is written and the state is still there.
    std::fs::write(whole.join("state-18.safetensors"), "").unwrap();
    succeed(&format!("{} --resume", line(&whole)));
    assert!(results(&whole) == expected);
    let kills: u64 = std::env::var("FLATNESS_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6);
    let (mut went_on, mut finished) = (0, 0);
    for kill in 0..kills {
        let out = folder.path().join(kill.to_string());
        let mut rng = rand::rngs::StdRng::seed_from_u64(kill);
        let mut child = spawn(&line(&out));
        std::thread::sleep(took.mul_f64(rng.random_range(0.02..1.0)));
        child.kill().unwrap();
        child.wait().unwrap();
        if is_complete(&out) {
            finished += 1;
        }
        let outcome = succeed(&format!("{} --resume", line(&out)));
        went_on += usize::from(outcome.err.contains("continuing from the state"));
        let got = results(&out);
        let names = |results: &[(PathBuf, Vec<u8>)]| results.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&got), names(&expected), "kill {kill}");
        for ((name, got), (_, expected)) in got.iter().zip(&expected) {
            assert!(got == expected, "kill {kill}: {} differs", name.display());
        }
        assert!(is_complete(&out));
    }
    println!("{kills} kills: {went_on} runs went on from a state, {finished} were complete, the rest began again");
    assert!(went_on > 0, "no kill left a state");
}

#[test]
fn a_run_folder_needs_no_other_words() {
    let folder = tempfile::tempdir().unwrap();
    let [first, again, cut] = ["first", "again", "cut"].map(|name| folder.path().join(name));
    succeed(&line(&first));
    // The file alone repeats the run.
    succeed(&format!("train --config {}/config.toml --threads 1 --out {}", first.display(), again.display()));
    assert!(results(&first) == results(&again));
    // Options go before the file.
    let config = first.join("config.toml");
    let shorter = format!("train --config {} --epochs 3 --out {}", config.display(), cut.display());
    succeed(&shorter);
    assert!(std::fs::read_to_string(cut.join("config.toml")).unwrap().contains("epochs = 3"));
    // A complete run is left alone; one with other settings is refused by its differences.
    let outcome = succeed(&format!("train --resume --out {}", first.display()));
    assert!(outcome.err.contains("already complete") && outcome.out.is_empty(), "{}", outcome.err);
    assert_refused(
        &format!("{} --resume", shorter.replace("epochs 3", "epochs 4")),
        "train.epochs 3 there, 4 here",
        "--force in place of --resume",
    );
    assert_refused(&format!("train --resume --out {}/none", folder.path().display()), "--data is missing", "--data");
    std::fs::write(&config, "model = 3").unwrap();
    assert_refused(
        &format!("train --config {} --out {}/x", config.display(), folder.path().display()),
        "config.toml: ",
        "config.toml",
    );
}
