//! Threads against `--threads`, as Linux counts them.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::fixture_arguments;

/// The threads that a process had in its life, by name; numbers at the ends of names are left out.
fn threads_by_name(line: &str) -> BTreeMap<String, usize> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    command.args(line.split_whitespace()).env_remove("POLARS_MAX_THREADS").env_remove("RAYON_NUM_THREADS");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    // By its number, what a thread was called last and in how many readings it was there.
    let mut seen: BTreeMap<OsString, (String, usize)> = BTreeMap::new();
    while child.try_wait().unwrap().is_none() {
        for task in std::fs::read_dir(&tasks).into_iter().flatten().flatten() {
            // A thread may end between the readings. Before it first runs it bears the name of the thread that started it.
            let Ok(times) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
            let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
            if times.starts_with("0 ") {
                continue;
            }
            let readings = seen.get(&task.file_name()).map_or(0, |(_, readings)| *readings);
            seen.insert(task.file_name(), (name.trim().to_owned(), readings + 1));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success(), "{line}");
    let mut counts = BTreeMap::new();
    // It may be interrupted before it has given itself its own name: one reading says nothing.
    for (name, _) in seen.into_values().filter(|(_, readings)| *readings > 2) {
        *counts.entry(name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()).or_default() += 1;
    }
    counts
}

/// One pool of so many threads; threads of rayon's own pool, or of one that nobody named, would bear the name of the program.
#[test]
fn a_run_has_the_threads_that_it_was_given_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let fixture = fixture_arguments("cnn-bn-relu-ce");
    let lines = [
        ("analyze", format!("analyze {fixture} --slice-points 5 --plane-points 3")),
        ("coupled", format!("analyze {fixture} --batch-norm train --slice-points 5 --plane-points 0")),
        ("train", "train --model mlp:32 --data glyphs --rows 0..2000 --epochs 8 --optimizer sam:rho=0.05".into()),
        ("langevin", "langevin --potential gaussian --chains 2000".into()),
    ];
    for (name, line) in lines {
        let on = |threads: usize| {
            let mut counted =
                threads_by_name(&format!("{line} --threads {threads} --out {}", at(&format!("{name}{threads}"))));
            // The program's name stands for the main thread, and for what nobody named; the kernel keeps 15 bytes of a name.
            let named = |counted: &mut BTreeMap<String, usize>, name: &str| counted.remove(name).unwrap_or(0);
            (named(&mut counted, "flatness-"), named(&mut counted, "flatness"), named(&mut counted, "polars-"), counted)
        };
        let (one, three) = (on(1), on(3));
        println!("{name}: {one:?}, {three:?}");
        assert_eq!((one.0, three.0), (1, 3), "{name}");
        assert_eq!((one.1, three.1), (1, 1), "{name}: threads that nobody named");
        assert!(one.2 <= 1 && three.2 <= 1, "{name}: {} and {} threads of polars", one.2, three.2);
    }
}
