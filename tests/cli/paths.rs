//! Paths are bytes: names that are no UTF-8, links, and what is no file; and streams that cannot be written.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{TRAINING, assert_refused, checkpoint, counting, fixture, fixture_arguments, succeed, write};

/// `café` as Latin-1 writes it.
fn cafe() -> OsString {
    OsString::from_vec(b"caf\xe9".to_vec())
}

/// Runs the program in `directory` with arguments that spaces separate, `@` standing for [`cafe`].
fn run_in(directory: &Path, line: &str) -> Output {
    let word = |word: &str| {
        let parts: Vec<Vec<u8>> = word.split('@').map(|part| part.as_bytes().to_vec()).collect();
        OsString::from_vec(parts.join(&cafe().into_vec()[..]))
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    command.current_dir(directory).args(line.split_whitespace().map(word)).output().unwrap()
}

fn succeed_in(directory: &Path, line: &str) -> String {
    let output = run_in(directory, line);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{line}\n{text}");
    text
}

/// A folder with one of that name in it, which has the data of a fixture with classes.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join(cafe());
    std::fs::create_dir(&inner).unwrap();
    std::fs::copy(fixture("logistic-ce", "data.safetensors"), inner.join("data.safetensors")).unwrap();
    std::fs::copy(fixture("logistic-ce", "model.json"), inner.join("model.json")).unwrap();
    (folder, inner)
}

const CHEAP: &str = "--top 1 --bottom 0 --probes 2 --steps 4 --plane-points 0 --slice-points 3 --threads 2";

#[test]
fn every_command_works_where_names_are_no_utf8() {
    let (folder, inner) = place();
    let outer = folder.path();
    // Seen from without, and then from within, where the working folder has that name.
    let train = "train --model @/model.json --data tensors:@/data.safetensors --epochs 2 --threads 2 --seed";
    succeed_in(outer, &format!("{train} 1 --out @/a"));
    succeed_in(outer, &format!("{train} 1 --init @/a/checkpoint.safetensors --out @/b"));
    let again = succeed_in(outer, "train --resume --out @/b");
    assert!(again.contains("is already complete"), "{again}");
    // The places in the file are those that were given.
    succeed_in(outer, "train --config @/b/config.toml --out @/c");
    let weights = |name: &str| std::fs::read(inner.join(name).join("checkpoint.safetensors")).unwrap();
    assert!(weights("b") == weights("c") && weights("a") != weights("b"));
    // The data are found again by what the checkpoint and its run say.
    succeed_in(outer, &format!("analyze @/a/checkpoint.safetensors {CHEAP} --out @/analysis"));
    succeed_in(&inner, &format!("analyze b/checkpoint.safetensors {CHEAP} --out analysis-b"));
    let run: Value = serde_json::from_slice(&std::fs::read(inner.join("analysis/run.json")).unwrap()).unwrap();
    assert_eq!(run["checkpoint"], "caf\0e9/a/checkpoint.safetensors");
    let compared = succeed_in(outer, &format!("compare @/analysis @/b --by folder --out @/compared -- {CHEAP}"));
    assert!(compared.contains("2 networks") || compared.contains("mean"), "{compared}");
    succeed_in(outer, "sharpness @/a/checkpoint.safetensors --pairs 2 --ascent-steps 2 --restarts 1 --out @/sharp");
    succeed_in(outer, "landscape @/a/checkpoint.safetensors @/b/checkpoint.safetensors --points 3 --out @/line");
    succeed_in(outer, "landscape @/a/checkpoint.safetensors --eigenvectors @/analysis --line --points 3 --out @/along");
    succeed_in(outer, "overlap @/analysis @/analysis-b");
    succeed_in(outer, "convert @/a/checkpoint.safetensors --arch @/model.json --out @/@.safetensors");
    assert!(succeed_in(outer, "info @/@.safetensors").contains("parameters"));
    succeed_in(outer, "check @/a/checkpoint.safetensors");
    succeed_in(outer, "langevin --chains 64 --potential gaussian --out @/langevin");
}

#[test]
fn an_experiment_works_where_names_are_no_utf8() {
    let (folder, inner) = place();
    let text = "name = \"g\"\ntrain = { model = \"model.json\", data = \"tensors:data.safetensors\", epochs = 1 }\n\
                analyze = { probes = 2, steps = 4, top = 1, bottom = 0, plane_points = 0, slice_points = 3 }\n";
    std::fs::write(inner.join("grid.toml"), text).unwrap();
    let said = succeed_in(folder.path(), "run @/grid.toml --out @/out");
    assert!(said.contains("1 runs: 1 finished"), "{said}");
    assert!(succeed_in(folder.path(), "status @/grid.toml --out @/out").contains("1 finished"));
    let listed = succeed_in(folder.path(), "run @/grid.toml --out @/out --dry-run");
    assert!(listed.contains("finished") && listed.contains("\\x63\\x61\\x66\\xe9"), "{listed}");
}

#[test]
fn images_with_such_names_are_rows_too() {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("data/train").join(cafe());
    let other = OsString::from_vec(b"\xe9.png".to_vec());
    let data = folder.path().join("data");
    for path in [class.join("a.png"), class.join(other), data.join("train/z/b.png"), data.join("test/z/c.png")] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(fixture("images", "source_centre_21.png"), path).unwrap();
    }
    let said = succeed_in(folder.path(), "train --model mlp:4 --data images:data --image-size 8 --epochs 1 --out out");
    assert!(said.contains("wrote out"), "{said}");
    let metrics = succeed_in(folder.path(), "analyze out/checkpoint.safetensors --plane-points 0 --slice-points 0");
    assert!(metrics.contains("3 train rows"), "{metrics}");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let pipes = ["p", "p.json", "p.toml", "p.npy", "p.safetensors", "vectors", "s/run.json"];
    std::fs::create_dir(path("s")).unwrap();
    for pipe in pipes {
        assert!(Command::new("mkfifo").arg(path(pipe)).status().unwrap().success());
    }
    for (link, target) in [("link.safetensors", "p"), ("zero", "/dev/zero"), ("link.toml", "s")] {
        symlink(if target.starts_with('/') { target.into() } else { path(target) }, path(link)).unwrap();
    }
    let (own, out) = (checkpoint().display(), path("out"));
    let pipe = "it is a named pipe, not a file";
    let started = Instant::now();
    for (line, named) in [
        (format!("info {}", path("p")), pipe),
        (format!("info {}", path("link.safetensors")), pipe),
        (format!("info {}", path("zero")), "it is a device, not a file"),
        ("info /dev/stdin".into(), "it is a stream, not a file"),
        (format!("info {own} --arch {}", path("p.json")), pipe),
        (format!("info {own} --arch {}", path("p.safetensors")), pipe),
        (format!("analyze {own} --data tensors:{} --out {out}", path("p.safetensors")), pipe),
        (format!("analyze {own} --data tokens:{},context=3 --out {out}", path("p.npy")), pipe),
        (format!("analyze {own} --data mnist:{} --out {out}", path("p")), "Not a directory"),
        (format!("analyze {own} --data glyphs --labels cifar10n:worse:{} --out {out}", path("p")), pipe),
        (format!("train {TRAINING} --init {} --out {out}", path("p")), pipe),
        (format!("train {TRAINING} --config {} --out {out}", path("p.toml")), pipe),
        (format!("matvec {own} --vectors {} --out {out}", path("vectors")), pipe),
        (format!("run {} --out {out}", path("p.toml")), pipe),
        (format!("run {} --out {out}", path("link.toml")), "it is a folder, not a file"),
        (format!("landscape {own} --eigenvectors {} --out {out}", path("p")), pipe),
        (format!("overlap {} {own}", path("p")), pipe),
        (format!("check {own} --against {}", path("p")), pipe),
        (format!("train {TRAINING} --out {}", path("p")), "is a file, but --out names a folder"),
        (format!("convert {own} --out {} --force", path("p.safetensors")), "p.safetensors is not a regular file"),
    ] {
        let output = run_in(folder.path(), &line);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && err.contains(named), "{line}\n{err}");
    }
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(!Path::new(&out).exists());
    // A run.json that would block is none.
    succeed(&format!("train {TRAINING} --force --out {}", path("s")));
}

#[test]
fn an_output_replaces_a_link_and_a_linked_folder_is_the_one_it_leads_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("mine"), "mine").unwrap();
    std::fs::create_dir(path("real")).unwrap();
    symlink(path("real"), path("out")).unwrap();
    symlink(path("mine"), path("real/metrics.parquet")).unwrap();
    symlink(path("mine"), path("w.safetensors")).unwrap();
    succeed(&format!("train {TRAINING} --out {}", path("out").display()));
    let convert = format!("convert {} --out {}", checkpoint().display(), path("w.safetensors").display());
    assert_refused(&convert, "exists", "--force");
    succeed(&format!("{convert} --force"));
    assert_eq!(std::fs::read(path("mine")).unwrap(), b"mine");
    assert!(path("out").is_symlink() && path("real/run.json").exists());
    assert!(!path("real/metrics.parquet").is_symlink() && !path("w.safetensors").is_symlink());
}

/// Exit code and stderr of a command of the shell in which `$F` is the program.
fn shell(script: &str) -> (Option<i32>, String) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("F", env!("CARGO_BIN_EXE_flatness")).env("C", checkpoint());
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[cfg(target_os = "linux")]
#[test]
fn words_that_cannot_be_written_are_an_error_unless_nobody_reads_them() {
    for script in ["$F info $C > /dev/full", "$F --help > /dev/full", "$F overlap --help > /dev/full"] {
        let (code, err) = shell(script);
        assert_eq!(code, Some(2), "{script}\n{err}");
        assert!(err.contains("error: cannot write the output: No space left"), "{script}\n{err}");
    }
    assert_eq!(shell("$F check $C 2> /dev/full > /dev/null").0, Some(2));
    for script in ["$F info $C | true", "$F info $C 2>&1 | head -n1"] {
        let (code, err) = shell(&format!("{{ {script}; }} 2>&1 >/dev/null; exit 0"));
        assert!(code == Some(0) && err.is_empty(), "{script}\n{err}");
    }
    let (code, err) = shell("{ $F info $C; echo $? >&2; } | true");
    assert_eq!((code, err.as_str()), (Some(0), "0\n"));
}

#[test]
fn texts_in_files_and_arguments_are_not_taken_for_paths_of_bytes() {
    // An argument that is no path and no UTF-8 is refused in words.
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(folder.path(), "train --model mlp:4 --data glyphs --optimizer @ --out out");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && err.contains("invalid UTF-8"), "{err}");
    let vectors = folder.path().join(OsStr::new("vectors.safetensors"));
    write(&vectors, &[("vectors", &counting(&[1, 3]))]);
    let arguments = fixture_arguments("logistic-ce");
    assert_refused(
        &format!("matvec {arguments} --vectors {} --out x", vectors.display()),
        "vectors have shape",
        "rows",
    );
}
