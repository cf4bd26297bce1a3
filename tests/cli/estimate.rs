//! What `estimate` says before a survey runs.

use serde_json::Value;

use crate::support::{assert_refused, checkpoint, fixture, fixture_arguments, succeed};

#[test]
fn the_estimate_adds_up() {
    let line = format!("estimate {} --top 2 --bottom 1 --probes 4 --steps 6 --threads 2", checkpoint().display());
    let outcome = succeed(&format!("{line} --json"));
    let report: Value = serde_json::from_str(&outcome.out).unwrap();
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {report}"));
    // Six products a pair and thirty more, which is more than four probes of six steps; three closing products, the guard's two, and 13 for
    // cross-fitting. Defaults:
    // 21 points along two eigenvectors and two random lines, 25 × 25 on the plane; an exact trace of ten outputs.
    assert_eq!(report["matvecs"].as_u64(), Some(2 + 6 * 3 + 30 + 3 + 13));
    assert_eq!(report["evaluations"].as_u64(), Some(21 * 4 + 25 * 25));
    assert_eq!(report["block_size"].as_u64(), Some(4));
    let parts = number("seconds_per_gradient") * 11.0
        + number("seconds_per_matvec") * 66.0
        + number("seconds_per_evaluation") * (21.0 * 4.0 + 625.0);
    assert!((number("seconds") - parts).abs() <= 1e-12 * parts && parts > 0.0);
    // What was timed is a part of the time that timing took.
    let timed = number("seconds_per_gradient") + 4.0 * number("seconds_per_matvec") + number("seconds_per_evaluation");
    assert!(number("measuring_seconds") >= timed);
    // At least the parameters, four vectors and their products in f32, and not more than was planned with.
    let vectors = 4.0 * (1.0 + 4.0 + 4.0) * number("num_params");
    assert!(number("memory_bytes") >= vectors && number("memory_bytes") < 2.0 * f64::from(1 << 30));

    let outcome = succeed(&line);
    for words in ["products     66 for 3 eigenpairs and a density from 4 start vectors", "one block of 4", "MiB"] {
        assert!(outcome.out.contains(words), "no `{words}` in\n{}", outcome.out);
    }
}

#[test]
fn the_forecast_of_products_is_kept_by_the_survey_of_a_small_network() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "--top 2 --bottom 1 --probes 2 --steps 4 --threads 2 --json";
    let estimate = succeed(&format!("estimate {} {settings}", checkpoint().display())).out;
    let estimate: Value = serde_json::from_str(&estimate).unwrap();
    let out = folder.path().join("out");
    let rest = "--plane-points 0 --slice-points 0";
    let report = succeed(&format!("analyze {} {settings} {rest} --out {}", checkpoint().display(), out.display())).out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let rows = report["summary"].as_array().unwrap();
    let top = rows.iter().find(|row| row["quantity"] == "lambda_max").unwrap();
    let (found, guess) = (top["num_matvecs"].as_f64().unwrap(), estimate["matvecs"].as_f64().unwrap());
    // "About six a pair and thirty more" is a habit of spectra like these, good to a factor of two.
    assert!(found <= 2.0 * guess && guess <= 2.0 * found, "{found} products, {guess} expected");
}

#[test]
fn bad_input_is_refused() {
    let logistic = fixture_arguments("logistic-ce");
    let [weights, arch] = ["weights.safetensors", "model.json"].map(|file| fixture("logistic-ce", file));
    for (line, named, hint) in [
        (format!("estimate {logistic} --probes 1"), "--probes 1", ""),
        (format!("estimate {logistic} --steps 0"), "--steps 0", ""),
        (format!("estimate {} --arch {}", weights.display(), arch.display()), "does not record which data", "--data"),
        (format!("estimate absent.safetensors --arch {}", arch.display()), "absent.safetensors", "check the path"),
    ] {
        assert_refused(&line, named, hint);
    }
}
