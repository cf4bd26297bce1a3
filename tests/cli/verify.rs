//! `verify`, and what else is refused because a bit is not what it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{CHEAP, TRAINING, assert_refused, checkpoint, files, flatness, succeed, with_flag};

/// The bytes with a bit flipped in every 64th, in turn.
fn damages(sound: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..sound.len()).step_by(64).enumerate().map(|(turn, place)| {
        let mut damaged = sound.to_vec();
        damaged[place] ^= 1 << (turn % 8);
        damaged
    })
}

/// A command that was interrupted as soon as `state` was there, which is returned.
fn interrupted(line: &str, state: &Path) -> Vec<u8> {
    let flag = Arc::new(AtomicBool::new(false));
    let (set, awaited) = (flag.clone(), state.to_owned());
    let watch = std::thread::spawn(move || {
        while !awaited.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        set.store(true, Ordering::SeqCst);
    });
    let outcome = with_flag(line, flag);
    watch.join().unwrap();
    assert_eq!(outcome.code, 130, "{}", outcome.err);
    std::fs::read(state).unwrap()
}

#[test]
fn no_state_with_a_flipped_bit_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let [survey, grid] = ["survey", "grid"].map(|name| folder.path().join(name));
    let weights = checkpoint().display();
    let lines = [
        (format!("analyze {weights} {CHEAP} --save-every 0 --out {}", survey.display()), "state-hessian.safetensors"),
        (
            format!("landscape {weights} --points 51 --save-every 0 --threads 2 --out {}", grid.display()),
            "points.safetensors",
        ),
    ];
    for ((line, name), folder) in lines.iter().zip([survey, grid]) {
        let path = folder.join(name);
        let sound = interrupted(line, &path);
        // Each costs a start of the command: the unit test of states has every bit.
        let mut places: Vec<Vec<u8>> = damages(&sound).collect();
        let every = places.len().div_ceil(12);
        for damaged in places.drain(..).step_by(every) {
            std::fs::write(&path, damaged).unwrap();
            assert_refused(&format!("{line} --resume"), &format!("{name} is damaged"), "--force in place of --resume");
        }
        std::fs::write(&path, &sound).unwrap();
        assert!(succeed(&format!("{line} --resume")).err.contains("continu"));
    }
}

/// Everything in the folder, its `run.json` included, may be damaged, and is named; then it is whole again.
fn assert_every_bit_counts(folder: &Path) {
    let line = format!("verify {}", folder.display());
    for path in files(folder) {
        let sound = std::fs::read(&path).unwrap();
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        let mut damages: Vec<Vec<u8>> = damages(&sound).collect();
        let every = damages.len().div_ceil(4).max(1);
        for damaged in damages.drain(..).step_by(every) {
            std::fs::write(&path, damaged).unwrap();
            assert_refused(&line, &name, "copy the results again");
        }
        std::fs::remove_file(&path).unwrap();
        assert_refused(&line, if name == "run.json" { "holds no run.json" } else { &name }, "copy the results again");
        std::fs::write(&path, sound).unwrap();
    }
    succeed(&line);
}

#[test]
fn every_file_of_a_result_counts() {
    let folder = tempfile::tempdir().unwrap();
    let [train, analysis] = ["train", "analysis"].map(|name| folder.path().join(name));
    succeed(&format!("train {TRAINING} --snapshots 1 --out {}", train.display()));
    let weights = train.join("checkpoint.safetensors");
    succeed(&format!("analyze {} {CHEAP} --out {}", weights.display(), analysis.display()));
    let told = succeed(&format!("verify {} {}", train.display(), analysis.display())).out;
    let checked = format!("files, the checkpoint {}, the data", weights.display());
    assert!(told.lines().count() == 2 && told.contains(&checked), "{told}");
    assert_every_bit_counts(&analysis);
    // The snapshots and the configuration are among them.
    assert_every_bit_counts(&train);
    // The weights that went into the analysis.
    let sound = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, std::fs::read(checkpoint()).unwrap()).unwrap();
    succeed(&format!("train {TRAINING} --seed 1 --force --out {}", train.display()));
    let line = format!("verify {}", analysis.display());
    assert_refused(&line, "checkpoint.safetensors differs from what went in", "copy the results again");
    std::fs::remove_file(&weights).unwrap();
    let told = succeed(&line);
    assert!(told.err.contains("not checked: the checkpoint") && !told.out.contains("the checkpoint"), "{}", told.err);
    std::fs::write(&weights, sound).unwrap();
    // Whoever adds a file of his own changes nothing.
    std::fs::write(analysis.join("notes.txt"), "mine").unwrap();
    succeed(&line);
}

#[test]
fn what_has_no_hashes_is_not_verified() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("verify {}", folder.path().display());
    assert_refused(&line, "holds no run.json", "repeat the commands");
    std::fs::write(folder.path().join("run.json"), "{\"complete\": true}").unwrap();
    assert_refused(&line, "written before results carried hashes", "repeat the commands");
}

#[test]
fn data_that_changed_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.safetensors");
    std::fs::copy(crate::support::fixture("mlp-tanh-ce", "data.safetensors"), &data).unwrap();
    let arguments = crate::support::fixture_arguments("mlp-tanh-ce");
    let (own, _) = arguments.rsplit_once("tensors:").unwrap();
    let out = folder.path().join("out");
    succeed(&format!("analyze {own}tensors:{} {CHEAP} --out {}", data.display(), out.display()));
    let line = format!("verify {}", out.display());
    assert!(succeed(&line).out.contains("the data"));
    let mut bytes = std::fs::read(&data).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&data, bytes).unwrap();
    assert_refused(&line, "the data differs from what went in", "copy");
    std::fs::remove_file(&data).unwrap();
    assert!(succeed(&line).err.contains("not checked: the data are not there"));
}

/// Folders of two trainings, analyzed.
fn analyzed(folder: &Path) -> Vec<PathBuf> {
    let analyzed = |method: &str| {
        let [train, out] = ["train", "out"].map(|name| folder.join(format!("{method}-{name}")));
        succeed(&format!("train {TRAINING} --optimizer {method} --out {}", train.display()));
        succeed(&format!("analyze {}/checkpoint.safetensors {CHEAP} --out {}", train.display(), out.display()));
        out
    };
    ["sgd", "sam:rho=0.1"].map(analyzed).to_vec()
}

#[test]
fn compare_refuses_tables_that_were_changed() {
    let folder = tempfile::tempdir().unwrap();
    let results = analyzed(folder.path());
    let [first, second] = [&results[0], &results[1]];
    let out = folder.path().join("compare");
    let line = format!("compare {} {} --out {}", first.display(), second.display(), out.display());
    let told = succeed(&line);
    assert!(!told.err.contains("without hashes"), "{}", told.err);
    succeed(&format!("verify {}", out.display()));
    let line = format!("{line} --force");
    // Another sound table in a table's place.
    let table = first.join("summary.parquet");
    let sound = std::fs::read(&table).unwrap();
    std::fs::copy(second.join("summary.parquet"), &table).unwrap();
    assert_refused(&line, "summary.parquet differs", "copy the results again");
    std::fs::write(&table, sound).unwrap();
    // Figures go into no number.
    std::fs::remove_dir_all(first.join("figures")).unwrap();
    succeed(&line);
    // A result of an earlier version.
    let run = first.join("run.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&run).unwrap()).unwrap();
    ["files", "sha256"].iter().for_each(|key| _ = value.as_object_mut().unwrap().remove(*key));
    std::fs::write(&run, value.to_string()).unwrap();
    let told = succeed(&line);
    assert!(told.err.contains("results without hashes: 1;"), "{}", told.err);
}

#[test]
fn an_experiment_is_verified_with_all_its_cells() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.toml");
    let text = "name = \"two\"\nseeds = [0, 1]\n[train]\ndata = \"glyphs\"\nrows = \"0..32\"\nmodel = \"mlp:16\"\nepochs = 1\n\
                batch_size = 16\n[analyze]\nprobes = 2\nsteps = 4\nplane_points = 0\nslice_points = 3\n";
    std::fs::write(&file, text).unwrap();
    let out = folder.path().join("out");
    // Steps are processes of the program itself.
    let program = env!("CARGO_BIN_EXE_flatness");
    let ran = std::process::Command::new(program).arg("run").arg(&file).arg("--out").arg(&out).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let line = format!("verify {}", out.display());
    let told = succeed(&line).out;
    // The experiment, its report, and a training and an analysis for each seed.
    assert_eq!(told.lines().count(), 6, "{told}");
    let table = files(&out).into_iter().find(|path| path.ends_with("trace.parquet")).unwrap();
    let sound = std::fs::read(&table).unwrap();
    std::fs::write(&table, b"other").unwrap();
    let outcome = flatness(&line);
    let named = format!("{}: trace.parquet differs", table.parent().unwrap().display());
    assert!(outcome.code == 2 && outcome.err.contains(&named), "{}", outcome.err);
    std::fs::write(&table, sound).unwrap();
    // A cell that is gone, and one that was never checked in.
    std::fs::remove_file(table.with_file_name("run.json")).unwrap();
    let outcome = flatness(&line);
    let named = format!("{} has no run.json", table.parent().unwrap().display());
    assert!(outcome.code == 2 && outcome.err.contains(&named), "{}", outcome.err);
    std::fs::write(out.join("cells.parquet"), b"other").unwrap();
    assert_eq!(flatness(&line).code, 2);
}
