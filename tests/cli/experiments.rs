//! `run` and `status` before anything runs: what they refuse, how cells are named, parts, scripts.

use std::path::Path;
use std::process::Command;

use crate::support::{assert_refused, files, succeed};

/// A file with this text, and `run` of it into a folder beside it.
fn line(folder: &Path, text: &str) -> String {
    let file = folder.join("grid.toml");
    std::fs::write(&file, text).unwrap();
    format!("run {} --out {}", file.display(), folder.join("out").display())
}

const SOUND: &str = r#"
name = "grid"
seeds = [0, 1]
[train]
data = "glyphs"
model = "mlp:16"
[analyze]
top = 2
[[variant]]
name = "sgd"
[[variant]]
name = "sam"
train.optimizer = "sam:rho=0.1"
[profile.long]
train.epochs = 300
"#;

#[test]
fn every_cell_is_checked_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = |change: &str| format!("{SOUND}\n{change}");
    for (text, named, hint) in [
        (SOUND.replace("model =", "modle ="), "flatness train has no `modle`", "did you mean `model`?"),
        (SOUND.replace("top =", "qqq ="), "flatness analyze has no `qqq`", "flatness analyze --help"),
        (SOUND.replace("model = \"mlp:16\"", ""), "cell `sgd-s0`, train: --model is missing", "--model resnet"),
        (SOUND.replace("data = \"glyphs\"", ""), "cell `sgd-s0`, train: --data is missing", "--data glyphs"),
        (
            SOUND.replace("\"glyphs\"", "\"glyph\""),
            "train: --data glyph: data: unknown source `glyph`",
            "did you mean `glyphs`?",
        ),
        (SOUND.replace("\"glyphs\"", "\"mnist:absent\""), "absent", "relative to the folder of the experiment file"),
        (SOUND.replace("\"mlp:16\"", "\"absent.json\""), "absent.json", "--arch"),
        (SOUND.replace("sam:rho=0.1", "sam:rho=-1"), "cell `sam-s0`, train: train: `rho` is -1", ""),
        (SOUND.replace("sam:rho=0.1", "sam:rhoo=1"), "unknown field `rhoo`", "examples:"),
        (SOUND.replace("top = 2", "top = \"many\""), "analyze: --top many: not a whole number", ""),
        (SOUND.replace("top = 2", "loss = \"mes\""), "analyze: --loss mes: unknown loss", ""),
        (
            SOUND.replace("top = 2", "rows = \"5..1\""),
            "cell `sgd-s0`, analyze: --rows 5..1: data:",
            "the end must be larger",
        ),
        (SOUND.replace("top = 2", "layers = \"yes\""), "unexpected value 'yes' for '--layers'", ""),
        (file("[grid]\ntrain.batch_size = [8, 0]"), "cell `sgd-batch_size=0-s0`, train: train: `batch_size` is 0", ""),
        (file("[grid]\ntrain.bath_size = [8]"), "flatness train has no `bath-size`", "`batch-size`"),
        (
            file("[compare]\nbaseline = \"smg\""),
            "--baseline smg: unknown group; the groups are sgd, sam",
            "docs/experiments.md",
        ),
        (
            file("[compare]\nprimary = [\"lamda_max\"]"),
            "--primary lamda_max: no step measures such a quantity",
            "docs/experiments.md",
        ),
    ] {
        assert_refused(&line(folder.path(), &text), named, hint);
        assert!(!folder.path().join("out").exists(), "{named}");
    }
    let sound = line(folder.path(), SOUND);
    for (options, named, hint) in [
        ("--cell 0/2", "--cell 0/2: must be I/N", ""),
        ("--cell 3/2", "--cell 3/2: must be I/N", ""),
        ("--cell 2", "--cell 2: must be I/N", ""),
        ("--jobs 0", "--jobs 0: must be 1 to 1024", ""),
        ("--jobs many", "--jobs many: not a whole number", ""),
        ("--profile log", "unknown profile `log`", "its profiles are long"),
    ] {
        assert_refused(&format!("{sound} {options}"), named, hint);
    }
    let inside = format!("{} --out {}/grid.toml/x", sound.split(" --out").next().unwrap(), folder.path().display());
    assert_refused(&inside, "is a file, but --out names a folder", "--out");
    assert_refused(&format!("status {}/absent.toml", folder.path().display()), "cannot read", "check the path");
    assert_eq!(files(folder.path()).len(), 1);
}

/// Folders of training and analysis of each run, as `--dry-run` lists them.
fn planned(folder: &Path, text: &str, options: &str) -> Vec<(String, String)> {
    let listed = succeed(&format!("{} --dry-run {options}", line(folder, text))).out;
    let analysis = |line: &str| line.rsplit_once('/').unwrap().1.to_owned();
    let lines: Vec<&str> = listed.lines().filter(|line| !line.starts_with("left: ")).collect();
    lines.chunks(3).map(|run| (run[0].split("  ").next().unwrap().to_owned(), analysis(run[2]))).collect()
}

fn hashes(runs: &[(String, String)]) -> Vec<(&str, &str)> {
    runs.iter().map(|(run, analysis)| (run.rsplit_once('-').unwrap().1, analysis.as_str())).collect()
}

#[test]
fn the_hash_depends_on_what_decides_the_numbers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let sound = planned(folder.path(), SOUND, "");
    let labels: Vec<&str> = sound.iter().map(|(run, _)| run.rsplit_once('-').unwrap().0).collect();
    assert_eq!(labels, ["sgd-s0", "sgd-s1", "sam-s0", "sam-s1"]);
    for (from, to) in [
        ("model =", "threads = 1\nmemory = \"1GiB\"\nmodel ="),
        ("model =", "learning_rate = 0.05\nepochs = 10\nmodel ="),
        ("sam:rho=0.1", "sam:rho=1e-1"),
        ("name = \"sam\"", "name = \"other\""),
        ("name = \"grid\"", "name = \"other\""),
        ("top = 2", "top = 2\nsave_every = 5"),
        ("top = 2", "top = 2\nlayers = false"),
    ] {
        let changed = planned(folder.path(), &SOUND.replace(from, to), "");
        assert_eq!(hashes(&changed), hashes(&sound), "{to}");
    }
    for (from, to, trains_anew) in [
        ("model =", "learning-rate = 0.051\nmodel =", true),
        ("mlp:16", "mlp:17", true),
        ("model =", "rows = \"0..9\"\nmodel =", true),
        ("model =", "noise = \"symmetric:0.1\"\nmodel =", true),
        ("[0, 1]", "[2, 3]", true),
        ("top = 2", "top = 3", false),
        ("top = 2", "top = 2\ndtype = \"f64\"", false),
        ("top = 2", "top = 2\nrows = \"0..9\"", false),
        ("top = 2", "top = 2\nseed = 1", false),
    ] {
        let changed = planned(folder.path(), &SOUND.replace(from, to), "");
        for ((train, analysis), (train_before, analysis_before)) in hashes(&changed).iter().zip(hashes(&sound)) {
            assert_eq!(*train != train_before, trains_anew, "{to}");
            assert_ne!(*analysis, analysis_before, "{to}");
        }
    }
}

#[test]
fn the_content_of_an_architecture_decides_not_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, out: usize| {
        let layer = format!(r#"{{"kind": "linear", "in": 256, "out": {out}, "weight": "w", "bias": "b"}}"#);
        std::fs::write(folder.path().join(name), format!(r#"{{"layers": [{{"kind": "flatten"}}, {layer}]}}"#)).unwrap();
    };
    let planned = |name: &str| planned(folder.path(), &SOUND.replace("mlp:16", name), "");
    write("a.json", 10);
    write("b.json", 10);
    let a = planned("a.json");
    assert_eq!(planned("b.json"), a);
    write("a.json", 11);
    assert_ne!(planned("a.json"), a);
}

#[test]
fn parts_hold_every_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let all = planned(folder.path(), SOUND, "");
    for parts in [1, 3, 5] {
        let part = |part| planned(folder.path(), SOUND, &format!("--cell {part}/{parts}"));
        let mut runs: Vec<_> = (1..=parts).flat_map(part).collect();
        runs.sort();
        let mut expected = all.clone();
        expected.sort();
        assert_eq!(runs, expected);
    }
}

#[test]
fn the_slurm_script_is_one_and_nothing_else_happens() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{} --emit slurm --profile long --jobs 2 --retry-failed", line(folder.path(), SOUND));
    let script = succeed(&line).out;
    assert!(script.contains("#SBATCH --array=1-4\n") && script.contains("#SBATCH --job-name=grid-long\n"), "{script}");
    let last = script.lines().last().unwrap();
    let (file, out) = (folder.path().join("grid.toml"), folder.path().join("out"));
    let command = format!("exec flatness run {} --profile long --out {}", file.display(), out.display());
    assert_eq!(last, format!("{command} --jobs 2 --retry-failed --cell \"$SLURM_ARRAY_TASK_ID/4\""));
    assert_eq!(files(folder.path()).len(), 1);
    assert!(!script.contains("ntasks"));
    let shared = succeed(&format!("{line} --ranks 6")).out;
    assert!(shared.contains("\n#SBATCH --ntasks=6\n#SBATCH --cpus-per-task=4\n"), "{shared}");
    assert!(shared.lines().last().unwrap().contains(" --ranks 6 --jobs 2 "), "{shared}");
    let path = folder.path().join("job.sh");
    std::fs::write(&path, &script).unwrap();
    match Command::new("bash").arg("-n").arg(&path).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => eprintln!("no bash: the script's syntax was not checked"),
    }
}

#[test]
fn the_examples_of_the_page_are_sound() {
    let page = include_str!("../../docs/experiments.md");
    let examples: Vec<&str> =
        page.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("toml\n")).collect();
    assert!(examples.len() >= 4 && examples[0].starts_with("name = "));
    let has = |example: &str, key: &str| example.lines().any(|line| line.starts_with(key));
    for example in examples {
        // The first is a whole file, the others are parts of one.
        let mut text = example.to_owned();
        if !has(example, "[train]") {
            text = format!("train = {{ data = \"glyphs\", model = \"mlp:8\" }}\n{text}");
        }
        if !example.starts_with("name =") {
            text = format!("name = \"a\"\n{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        succeed(&format!("{} --dry-run", line(folder.path(), &text)));
    }
}

#[test]
fn every_experiment_of_the_project_is_sound_with_every_profile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    if !root.join("../shared/data/cifar10").exists() {
        eprintln!("skipped: ../shared/data is not there");
        return;
    }
    let entries = std::fs::read_dir(root.join("experiments")).unwrap().map(|entry| entry.unwrap().path());
    let experiments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    assert!(experiments.len() >= 6);
    // Not in the folder of data sets, or made by a command of its own.
    let absent = ["data/cifar100", "data/webvision", "vit-start", "vit-b16"];
    let mut sound = 0;
    for path in experiments {
        let text = std::fs::read_to_string(&path).unwrap();
        let profiles = text.lines().filter_map(|line| line.strip_prefix("[profile.")?.strip_suffix(']'));
        let options = profiles.map(|profile| format!("--profile {profile}")).chain([String::new()]);
        for option in options {
            // A script takes the same checks as the runs, and times nothing.
            let line = format!("run {} --emit slurm --out {} {option}", path.display(), out.path().display());
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_flatness"));
            let output =
                command.args(line.split_whitespace()).env("FLATNESS_DATA", root.join("../shared/data")).output();
            let output = output.unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            let lacks = absent.iter().any(|name| err.contains(name)) && output.status.code() == Some(2);
            assert!(output.status.success() || lacks, "{line}\n{err}");
            sound += usize::from(output.status.success());
        }
    }
    assert!(sound >= 25, "{sound}");
}

#[test]
fn the_example_file_is_sound() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/glyphs.toml");
    let out = tempfile::tempdir().unwrap();
    for profile in ["", "--profile smoke"] {
        let outcome = succeed(&format!("run {file} --dry-run --out {} {profile}", out.path().display()));
        let estimate = outcome.out.lines().last().unwrap();
        assert!(estimate.starts_with("left: about ") && estimate.contains("(train "), "{estimate}");
        assert!(estimate.ends_with("kinds of training timed: 4"), "{estimate}");
    }
    // Its comment on axes too: one training for two analyses.
    let text = std::fs::read_to_string(file).unwrap();
    let text = ["# [grid]", "# \"train", "# \"analyze"].iter().fold(text, |text, line| text.replace(line, &line[2..]));
    std::fs::write(out.path().join("grid.toml"), text).unwrap();
    let outcome = succeed(&format!("run {0}/grid.toml --dry-run --out {0}/out", out.path().display()));
    assert!(outcome.err.contains("32 cells, 16 runs"), "{}", outcome.err);
}
