//! How commands speak: `--json`, `--quiet`, `--verbose`, completions, manual pages.

use serde_json::Value;

use crate::support::{CHEAP, checkpoint, files, flatness, succeed};

#[test]
fn every_answer_can_be_json() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let small = checkpoint().display().to_string();
    let vectors = folder.path().join("vectors.safetensors");
    let ask = |line: &str| {
        let outcome = succeed(&format!("{line} --json"));
        serde_json::from_str::<Value>(&outcome.out).unwrap_or_else(|error| panic!("{line}: {error}\n{}", outcome.out))
    };
    let rows = |answer: &Value, table: &str| answer[table].as_array().map_or(0, Vec::len);

    let run = ask(&format!("train --model mlp:4 --data glyphs --rows 0..32 --epochs 2 --out {}", at("run")));
    assert!(rows(&run, "metrics") == 2 && run["metrics"][1]["epoch"] == 2 && run["folder"] == at("run"), "{run}");
    let analysis = ask(&format!("analyze {small} {CHEAP} --method lanczos --out {}", at("analysis")));
    assert!(rows(&analysis, "eigenvalues") == 8 && analysis["statement"].as_str().unwrap().contains("cross-entropy"));
    let lambda = analysis["summary"].as_array().unwrap().iter().find(|row| row["quantity"] == "lambda_max").unwrap();
    assert_eq!(lambda["value"], analysis["eigenvalues"][0]["eigenvalue"]);
    let line = ask(&format!("landscape {small} --line --points 5 --out {}", at("line")));
    assert!(rows(&line, "slices") == 5, "{line}");
    let sharpness =
        ask(&format!("sharpness {small} --rows 0..8 --pairs 2 --ascent-steps 2 --restarts 1 --out {}", at("s")));
    assert!(rows(&sharpness, "sharpness") > 20);
    let evaluation = ask(&format!("evaluate {small} --rows 0..50 --resamples 2 --out {}", at("evaluation")));
    assert!(rows(&evaluation, "predictions") == 50 && rows(&evaluation, "evaluation") > 8, "{evaluation}");
    let overlap = ask(&format!("overlap {0} {0}", at("analysis")));
    assert!((overlap["top"]["overlap"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    let estimate = ask(&format!("estimate {small} --method lanczos"));
    assert!(estimate["matvecs"].as_u64().unwrap() > 0 && estimate["seconds"].as_f64().unwrap() > 0.0);
    let info = ask(&format!("info {small}"));
    assert!(info["num_params"].as_u64().unwrap() > 0 && info["metadata"]["flatness.arch"].is_object(), "{info}");
    let check = ask(&format!("check {small} --rows 0..8"));
    assert!(check["findings"].as_array().unwrap().iter().all(|finding| finding["passed"] != false), "{check}");
    let verified = ask(&format!("verify {}", at("analysis")));
    assert!(verified["results"][0]["verified"] == true && verified["faults"] == serde_json::json!([]));
    let converted = ask(&format!("convert {small} --out {}", at("copy.safetensors")));
    assert_eq!(converted["file"], at("copy.safetensors"));
    crate::support::write(
        &vectors,
        &[("vectors", &crate::support::counting(&[1, info["num_params"].as_u64().unwrap() as usize]))],
    );
    let products = ask(&format!("matvec {small} --vectors {} --out {}", vectors.display(), at("products.safetensors")));
    assert!(products["loss"].as_f64().unwrap() > 0.0);
}

#[test]
fn quiet_leaves_the_answer_and_errors_and_verbose_adds_what_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let line = |name: &str| {
        format!(
            "analyze {} {CHEAP} --method lanczos --out {}",
            checkpoint().display(),
            folder.path().join(name).display()
        )
    };
    let quiet = succeed(&format!("{} --quiet", line("quiet")));
    assert!(quiet.err.is_empty() && quiet.out.contains("lambda_max"), "{}{}", quiet.out, quiet.err);
    let refused = flatness(&format!("{} --quiet", line("quiet")));
    assert!(refused.code == 2 && refused.err.contains("already holds a result") && refused.err.contains("hint:"));
    let verbose = succeed(&format!("{} --verbose", line("verbose")));
    assert!(verbose.err.contains("micro-batches of ") && verbose.err.contains("took "), "{}", verbose.err);
    assert_eq!(flatness(&format!("{} -q -v", line("both"))).code, 2);
    // All that was asked for, and nothing wider than half a screen.
    assert_eq!(quiet.out.lines().filter(|line| line.starts_with("  largest ")).count(), 5, "{}", quiet.out);
    let tables = quiet.out.lines().take_while(|line| !line.contains("cross-entropy"));
    assert!(
        tables.filter(|line| !line.contains("not resolved")).all(|line| line.chars().count() <= 60),
        "{}",
        quiet.out
    );
}

#[test]
fn shells_and_man_get_what_they_read() {
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef flatness"), ("fish", "complete -c flatness")] {
        assert!(succeed(&format!("completions {shell}")).out.contains(part), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    succeed(&format!("man --out {}", folder.path().join("man1").display()));
    let pages = files(folder.path());
    assert!(pages.iter().any(|page| page.ends_with("man1/flatness-analyze.1")), "{pages:?}");
    assert!(std::fs::read_to_string(&pages[0]).unwrap().contains(".TH"), "{pages:?}");
}
