//! Checkpoints and losses as people have them, against PyTorch's float64 values. Skipped, visibly, where the folder of cases
//! is absent.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn cases() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: {} does not exist", folder.display());
    None
}

#[test]
fn values_are_those_of_pytorch() {
    let Some(folder) = cases() else { return };
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let out = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
        command.current_dir(folder.join(name)).args(["analyze", case["weights"].as_str().unwrap()]);
        command.args(case["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()));
        command.args(["--dtype", "f64", "--json", "--out"]).arg(out.path().join("result"));
        let expect = case["expect"].as_object().unwrap();
        if !expect.contains_key("exit") {
            let settings = "--top 2 --bottom 2 --eig-tol 1e-9 --slice-points 0 --plane-points 0 --no-cross-fit";
            command.args(settings.split_whitespace());
        }
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = expect.get("exit").and_then(Value::as_i64).unwrap_or(0);
        if output.status.code().map(i64::from) != Some(code) {
            wrong.push(format!("{name}: {words}"));
            continue;
        }
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        for (key, value) in expect.iter().filter(|(key, _)| *key != "exit") {
            let (quantity, exact) = match key.as_str() {
                "top" => ("lambda_max", true),
                "bottom" => ("lambda_min", true),
                "loss" => ("loss", true),
                "trace" => ("trace", false),
                "frobenius" => ("frobenius_norm", false),
                other => panic!("{other}"),
            };
            let mut rows = report["summary"].as_array().unwrap().iter();
            let row = rows.find(|row| row["quantity"] == quantity && row["scope"] == "all").unwrap();
            let (got, value) = (row["value"].as_f64().unwrap(), value.as_f64().unwrap());
            // Probes have an error of their own.
            let numeric = if exact { 0.0 } else { row["std_err_numeric"].as_f64().unwrap_or(0.0) };
            let difference = (got - value).abs();
            if difference.is_nan() || difference > 4.0 * numeric + 1e-7 * value.abs().max(1e-3) {
                wrong.push(format!("{name}: {key} is {got}, not {value}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
