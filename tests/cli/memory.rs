//! Peak memory against `--memory`, as Linux counts it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::succeed;

/// `VmHWM` of a process while it runs, in bytes: the last reading before its end.
fn peak_bytes(line: &str) -> usize {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    let mut child = command.args(line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kibibytes =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = kibibytes.map_or(peak, |kibibytes: usize| peak.max(1024 * kibibytes));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success(), "{line}");
    peak
}

#[test]
fn the_peak_stays_within_what_was_planned() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    // 399 370 parameters: 1.6 MB for a vector.
    succeed(&format!("train --model mlp:512-512 --data glyphs --rows 0..500 --epochs 0 --out {}", at("model")));
    let checkpoint = Path::new(&at("model")).join("checkpoint.safetensors").display().to_string();
    let base = peak_bytes(&format!("info {checkpoint}"));
    // One product of four vectors takes some 85 MiB here, whatever is planned: with much less there is no promise.
    for (name, mebibytes) in [("middle", 256), ("large", 1024)] {
        let settings = "--plane-points 0 --slice-points 0 --steps 64 --density-tol 1e-6 --threads 2";
        let line = format!("analyze {checkpoint} {settings} --memory {mebibytes}MiB --out {}", at(name));
        let peak = peak_bytes(&line);
        println!("--memory {mebibytes} MiB: peak {} MiB, {} of them without work", peak >> 20, base >> 20);
        assert!(peak > base && peak <= base + (mebibytes << 20), "--memory {mebibytes} MiB: peak {} MiB", peak >> 20);
    }
    // Said beforehand: 148 vectors in 3/8 of the memory.
    for (memory, is_told) in [("256MiB", true), ("1GiB", false)] {
        let told = succeed(&format!("estimate {checkpoint} --memory {memory}")).err;
        assert_eq!(
            told.contains("does not hold the whole basis of a survey") && told.contains("1GiB would be enough"),
            is_told,
            "{told}"
        );
    }
}

#[test]
fn the_peak_stays_within_what_was_planned_through_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    succeed(&format!("train --model resnet-cifar:20 --data glyphs --rows 0..60 --epochs 0 --out {}", at("model")));
    let checkpoint = Path::new(&at("model")).join("checkpoint.safetensors").display().to_string();
    let base = peak_bytes(&format!("info {checkpoint}"));
    let settings =
        "--top 10 --bottom 10 --max-matvecs 150 --no-cross-fit --plane-points 0 --slice-points 0 --threads 2";
    for mebibytes in [192, 384] {
        let out = at(&mebibytes.to_string());
        let peak = peak_bytes(&format!("analyze {checkpoint} {settings} --memory {mebibytes}MiB --out {out}"));
        let run: serde_json::Value =
            serde_json::from_slice(&std::fs::read(Path::new(&out).join("run.json")).unwrap()).unwrap();
        let survey = &run["surveys"][0];
        println!("peak {} MiB, {} of them without work; {survey}", peak >> 20, base >> 20);
        assert!(survey["memory_bound"] == true && survey["num_restarts"].as_u64() >= Some(1), "{survey}");
        assert!(peak > base && peak <= base + (mebibytes << 20), "--memory {mebibytes} MiB: peak {} MiB", peak >> 20);
    }
}
