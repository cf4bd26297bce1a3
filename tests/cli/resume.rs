//! Killed, interrupted, out of disk: with `--resume` an analysis comes to the same bytes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use flatness::checkpoint::{TensorFile, write_state};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{TRAINING, assert_refused, checkpoint, files, succeed};

/// Two surveys that keep their states after every step.
const SETTINGS: &str = "--operator both --top 10 --bottom 5 --steps 40 --eig-tol 1e-6 --plane-points 0 --slice-points 3 \
                        --threads 2 --save-every 0";

fn line(out: &Path) -> String {
    format!("analyze {} {SETTINGS} --out {}", checkpoint().display(), out.display())
}

fn spawn(line: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// All files but `run.json` and `report.html`, which hold times and the command, by their names in the folder.
fn results(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let kept = files(folder).into_iter().filter(|path| !path.ends_with("run.json") && !path.ends_with("report.html"));
    kept.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

/// An analysis that nothing disturbs.
struct Whole {
    results: Vec<(PathBuf, Vec<u8>)>,
    took: Duration,
}

fn whole() -> &'static Whole {
    static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let line = line(folder.path());
        let started = Instant::now();
        let output = spawn(&line).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        Whole { took: started.elapsed(), results: results(folder.path()) }
    });
    &WHOLE
}

/// Equal files, none more (so no state), and a complete `run.json`.
fn assert_whole(folder: &Path) {
    let got = results(folder);
    let names = |results: &[(PathBuf, Vec<u8>)]| results.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&got), names(&whole().results));
    for ((name, got), (_, expected)) in got.iter().zip(&whole().results) {
        assert!(got == expected, "{} differs", name.display());
    }
    assert!(is_complete(folder));
}

fn is_complete(folder: &Path) -> bool {
    let run = std::fs::read(folder.join("run.json")).ok();
    run.is_some_and(|run| serde_json::from_slice::<Value>(&run).unwrap()["complete"] == true)
}

fn state(folder: &Path, operator: &str) -> PathBuf {
    folder.join(format!("state-{operator}.safetensors"))
}

/// A folder in which an analysis was killed as soon as it had left a state.
fn killed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut child = spawn(&line(folder.path()));
    while !state(folder.path(), "hessian").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a state");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The next command would remove what a kill left: a half-written file, and the lock.
    flatness::files::remove_leftovers(folder.path());
    std::fs::remove_file(folder.path().join(".flatness.lock")).unwrap();
    folder
}

#[test]
fn a_killed_analysis_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut with_state = 0;
    for part in [0.05, 0.2, 0.35, 0.5, 0.65, 0.8] {
        let out = folder.path().join(part.to_string());
        let mut child = spawn(&line(&out));
        std::thread::sleep(whole().took.mul_f64(part));
        child.kill().unwrap();
        child.wait().unwrap();
        if is_complete(&out) {
            continue;
        }
        let states = ["hessian", "ggn"].into_iter().filter(|operator| state(&out, operator).exists());
        let states: Vec<String> = states.map(|operator| format!("the {operator} survey continues from")).collect();
        with_state += states.len();
        let outcome = succeed(&format!("{} --resume", line(&out)));
        assert_eq!(outcome.err.matches("survey continues from").count(), states.len(), "{}", outcome.err);
        assert!(states.iter().all(|words| outcome.err.contains(words)), "{}", outcome.err);
        assert_whole(&out);
    }
    assert!(with_state > 0, "no kill fell into a survey");
}

#[test]
fn killed_again_and_again_it_still_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{} --resume", line(folder.path()));
    for _ in 0..4 {
        let mut child = spawn(&line);
        std::thread::sleep(whole().took.mul_f64(0.3));
        child.kill().unwrap();
        child.wait().unwrap();
        if is_complete(folder.path()) {
            break;
        }
    }
    if !is_complete(folder.path()) {
        succeed(&line);
    }
    assert_whole(folder.path());
}

#[test]
fn ctrl_c_keeps_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = spawn(&line(folder.path()));
    while !state(folder.path(), "hessian").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a state");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", words(&output));
    assert!(!is_complete(folder.path()));
    succeed(&format!("{} --resume", line(folder.path())));
    assert_whole(folder.path());
}

#[test]
fn with_nothing_there_it_just_runs() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{} --resume", line(folder.path()));
    assert!(!succeed(&line).err.contains("survey continues from"));
    assert_whole(folder.path());
    assert!(succeed(&line).err.contains("is already complete"));
    assert_whole(folder.path());
}

#[test]
fn another_analysis_does_not_go_on_from_the_state() {
    let folder = killed();
    let other = tempfile::tempdir().unwrap();
    succeed(&format!("train {TRAINING} --seed 1 --out {}", other.path().display()));
    let sound = format!("{} --resume", line(folder.path()));
    let foreign = other.path().join("checkpoint.safetensors").display().to_string();
    // The first refusal clears away what the kill left of a file that was being written.
    assert_refused(&format!("{sound} --seed 1"), "seed 0 there", "--resume");
    let before = results(folder.path());
    for (line, named) in [
        (format!("{sound} --seed 1"), "run: analysis.seed 0 there, 1 here; seed 0 there, 1 here"),
        (format!("{sound} --rows 0..31"), "data.rows \"0..32\" there, \"0..31\" here; data_sha256"),
        (sound.replace(checkpoint().to_str().unwrap(), &foreign), "run: checkpoint_sha256"),
        (format!("{sound} --trace-tol 0.02"), "run: analysis.trace_tolerance 0.01 there, 0.02 here"),
        (format!("{sound} --dtype f64"), "run: dtype \"f32\" there, \"f64\" here"),
    ] {
        assert_refused(&line, named, "with --force in place of --resume");
        assert!(results(folder.path()) == before, "{line} changed files");
    }
    // Neither the budget nor the number of threads changes a number before the end.
    assert!(
        succeed(&sound.replace("--threads 2", "--threads 1 --max-matvecs 999"))
            .err
            .contains("hessian survey continues")
    );
}

#[test]
fn damaged_states_are_named_and_force_starts_again() {
    let folder = killed();
    let path = state(folder.path(), "hessian");
    let line = line(folder.path());
    let sound = std::fs::read(&path).unwrap();
    let file = TensorFile::read(&path).unwrap();
    let configuration: Value = serde_json::from_str(&file.metadata["flatness.configuration"]).unwrap();
    // Without the old seal, since each gets one of its own.
    let mut tensors = file.into_tensors().unwrap();
    tensors.remove("sha256");
    let without = |left_out: &str| -> Vec<(String, Tensor)> {
        tensors.clone().into_iter().filter(|(name, _)| name != left_out).collect()
    };
    let mut misshapen = without("projected");
    // Two numbers, but 0.5 rows.
    let matrix = Tensor::new(&[0.5, 2.0, 1.0], &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    misshapen.push(("projected".into(), matrix));
    let put = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    let damages: [(&dyn Fn(), &str); 6] = [
        (&|| put(&sound[..sound.len() / 2]), "state-hessian.safetensors is damaged"),
        (&|| put(b"these are no tensors"), "state-hessian.safetensors is damaged"),
        (&|| put(b""), "state-hessian.safetensors is damaged"),
        (&|| put(&std::fs::read(checkpoint()).unwrap()), "state-hessian.safetensors is damaged"),
        (
            &|| write_state(&path, &without("coupling"), &configuration, &Value::Null).unwrap(),
            "of another version: coupling",
        ),
        (&|| write_state(&path, &misshapen, &configuration, &Value::Null).unwrap(), "of another version: projected"),
    ];
    for (damage, named) in damages {
        damage();
        let before = results(folder.path());
        assert_refused(&format!("{line} --resume"), named, "start again");
        assert!(results(folder.path()) == before, "{named}: files changed");
    }
    succeed(&format!("{line} --force"));
    assert_whole(folder.path());
}

#[test]
fn a_state_that_cannot_be_written_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    // In the state's place; not even root writes a file over a folder.
    let obstacle = state(folder.path(), "hessian");
    std::fs::create_dir(&obstacle).unwrap();
    let outcome = succeed(&line(folder.path()));
    let note = "note: the state could not be saved, so --resume would start from the beginning: cannot write ";
    assert!(outcome.err.contains(&format!("{note}{}", obstacle.display())), "{}", outcome.err);
    std::fs::remove_dir(obstacle).unwrap();
    assert_whole(folder.path());
}

/// Runs a line with files of at most `blocks` · 512 bytes: writing beyond is an error, as on a full disk.
fn with_small_files(line: &str, blocks: usize) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec {} {line}", env!("CARGO_BIN_EXE_flatness"));
    Command::new("sh").args(["-c", &script]).output().unwrap()
}

#[test]
fn on_a_full_disk_the_survey_goes_on_and_later_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    // 1.3 MB hold the tables, the page and the first states, but not the last ones: 100 vectors of 4282 parameters.
    let output = with_small_files(&line(folder.path()), 2_500);
    assert!(output.status.success() && words(&output).contains("could not be saved"), "{}", words(&output));
    assert_whole(folder.path());
    let folder = tempfile::tempdir().unwrap();
    // Less than the density's table.
    let output = with_small_files(&line(folder.path()), 60);
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("error: cannot write ") && !is_complete(folder.path()), "{}", words(&output));
    let whole = |(name, bytes): &(PathBuf, Vec<u8>)| whole().results.iter().any(|(n, b)| n == name && b == bytes);
    assert!(results(folder.path()).iter().all(whole), "a file is half-written");
    succeed(&format!("{} --resume", line(folder.path())));
    assert_whole(folder.path());
}
