//! The whole spectrum of small networks: against the matrices of the fixtures, and where a survey takes its place.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flatness::report::tables::{Column, read_table};
use serde_json::Value;

use crate::curvatures::{dense, numbers, words};
use crate::support::{assert_refused, files, fixture_arguments, flatness, succeed, with_flag};

const REST: &str = "--plane-points 0 --slice-points 0 --no-cross-fit --force";

/// Tables, vectors and figures: all that holds no times.
pub fn results(folder: &Path) -> Vec<Vec<u8>> {
    let kept = files(folder).into_iter().filter(|path| !path.ends_with("run.json") && !path.ends_with("report.html"));
    kept.map(|path| std::fs::read(path).unwrap()).collect()
}

pub fn methods(folder: &Path, table: &str) -> Vec<String> {
    let mut methods = words(&read_table(&folder.join(format!("{table}.parquet"))).unwrap(), "method");
    methods.dedup();
    methods
}

#[test]
fn a_small_network_has_its_whole_spectrum() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["mlp-tanh-ce", "mlp-gelu-mse", "cnn-bn-relu-ce"] {
        let out = folder.path().join(case);
        let line = format!("analyze {} --operator both --method dense --dtype f64 {REST}", fixture_arguments(case));
        succeed(&format!("{line} --out {}", out.display()));
        for table in ["eigenvalues", "trace", "density", "density_nodes"] {
            assert_eq!(methods(&out, table), ["dense"], "{case}, {table}");
        }
        let nodes = read_table(&out.join("density_nodes.parquet")).unwrap();
        let summary = read_table(&out.join("summary.parquet")).unwrap();
        let density = read_table(&out.join("density.parquet")).unwrap();
        assert!(numbers(&density, "std_err_numeric").iter().all(|error| *error == 0.0));
        let Some(Column::Flag(converged)) = summary.column("converged") else { panic!("no flags") };
        assert!(converged.iter().all(|converged| *converged), "{case}");
        for operator in ["hessian", "ggn"] {
            let matrix = dense(case, operator);
            let rounding = 8.0 * matrix.nrows() as f64 * f64::EPSILON * matrix.norm();
            let mut expected: Vec<f64> = matrix.clone().symmetric_eigenvalues().iter().copied().collect();
            expected.sort_by(f64::total_cmp);
            let found = numbers(&nodes, "node").into_iter().zip(words(&nodes, "operator"));
            let found: Vec<f64> = found.filter(|(_, own)| own == operator).map(|(value, _)| value).collect();
            assert_eq!(found.len(), expected.len(), "{case}");
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= rounding), "{case}, {operator}");
            let row = |quantity: &str| {
                let names = words(&summary, "quantity").into_iter().zip(words(&summary, "operator"));
                let scopes = words(&summary, "scope");
                let row = names.zip(&scopes).position(|((name, own), scope)| {
                    name == quantity && own == operator && !scope.starts_with("layer:")
                })?;
                Some((numbers(&summary, "value")[row], numbers(&summary, "std_err_numeric")[row]))
            };
            let count = expected.len() as f64;
            let sum = |f: fn(f64) -> f64| expected.iter().copied().map(f).sum::<f64>();
            for (quantity, value) in
                [("trace", sum(|v| v)), ("nuclear_norm", sum(f64::abs)), ("frobenius_norm", matrix.norm())]
            {
                let (found, error) = row(quantity).unwrap();
                assert!((found - value).abs() <= count * rounding && error == 0.0, "{case}, {operator} {quantity}");
            }
            // A sum of outer products has no negative eigenvalues to speak of.
            let negative = row("negative_mass").map(|(found, _)| found);
            assert_eq!(negative.is_some(), operator == "hessian");
            let expected = sum(|v| (-v).max(0.0)) / sum(f64::abs);
            assert!(negative.is_none_or(|found| (found - expected).abs() <= count * rounding / sum(f64::abs)));
            let run: Value = serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
            assert_eq!(run["configuration"]["analysis"]["method"], "dense");
            assert_eq!(run["surveys"][0]["num_matvecs"], matrix.nrows() + 2 + 8);
        }
        // The parts of the layers add up to the whole.
        let scopes = words(&summary, "scope").into_iter().zip(words(&summary, "quantity"));
        let traces = scopes.zip(numbers(&summary, "value")).filter(|((_, name), _)| name == "trace");
        let (parts, wholes): (Vec<_>, Vec<_>) = traces.partition(|((scope, _), _)| scope.starts_with("layer:"));
        let sum = |rows: &[((String, String), f64)]| rows.iter().map(|(_, value)| value).sum::<f64>();
        assert!((sum(&parts) - sum(&wholes)).abs() <= 1e-10 * sum(&wholes).abs(), "{case}");
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("analyze {} {REST} --scope kind:weight", fixture_arguments("mlp-gelu-mse"));
    let [one, two, three] = [1, 2, 3].map(|threads| {
        let out = folder.path().join(threads.to_string());
        succeed(&format!("{line} --threads {threads} --out {}", out.display()));
        results(&out)
    });
    assert!(one == two && two == three);
}

#[test]
fn where_products_time_or_memory_are_short_a_survey_estimates() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let fixture = fixture_arguments("mlp-tanh-ce");
    for (index, (settings, method)) in [
        // 170 parameters.
        ("--max-matvecs 169", "lanczos"),
        ("--max-matvecs 170", "dense"),
        ("--max-time 60", "lanczos"),
        ("--method lanczos", "lanczos"),
        ("--method power --eig-tol 0.1", "power"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.path().join(index.to_string());
        succeed(&format!("analyze {fixture} {REST} {settings} --out {}", out.display()));
        assert_eq!(methods(&out, "eigenvalues"), [method], "{settings}");
    }
    // 2,146 parameters: two matrices take 74 MB, and have 3/8 of the memory.
    succeed(&format!("train --model mlp:8 --data glyphs --rows 0..32 --epochs 0 --out {}", at("model")));
    let model = format!("{}/checkpoint.safetensors", at("model"));
    let outcome = succeed(&format!("analyze {model} {REST} --memory 128MiB --out {}", at("small")));
    let note = "note: --memory has no room for a matrix of 2146 × 2146, twice: a survey estimates its spectrum";
    assert!(outcome.err.contains(note), "{}", outcome.err);
    assert_eq!(methods(Path::new(&at("small")), "eigenvalues"), ["lanczos"]);
    let estimate = |settings: &str| flatness(&format!("estimate {model} {settings}")).out;
    assert!(estimate("").contains("products     2169 for 8 eigenpairs and all eigenvalues from the matrix"));
    assert!(estimate("--memory 128MiB").contains("and a density from 4 start vectors"));
    let line = |settings: &str| format!("analyze {model} --method dense {settings} --out {}", at("refused"));
    for (settings, named) in [
        ("--max-matvecs 2145", "--max-matvecs 2145: with --method dense must be 2146 or more"),
        ("--memory 128MiB", "a matrix of 2146 × 2146"),
        ("--max-time 5", "--max-time with --method dense"),
    ] {
        assert_refused(&line(settings), named, "");
        assert!(!Path::new(&at("refused")).exists(), "{settings}");
    }
}

#[test]
fn an_interrupted_matrix_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    succeed(&format!("train --model mlp:3 --data glyphs --rows 0..32 --epochs 1 --out {}", at("model").display()));
    let line = |out: &str| {
        let checkpoint = at("model").join("checkpoint.safetensors").display().to_string();
        format!("analyze {checkpoint} {} --save-every 0 --out {}", REST.replace("--force", ""), at(out).display())
    };
    succeed(&line("whole"));
    let flag = Arc::new(AtomicBool::new(false));
    let (state, raised) = (at("cut").join("state-hessian.safetensors"), flag.clone());
    let watch = std::thread::spawn(move || {
        while !state.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        raised.store(true, Ordering::Relaxed);
    });
    let outcome = with_flag(&line("cut"), flag);
    watch.join().unwrap();
    assert_eq!(outcome.code, 130, "{}", outcome.err);
    assert!(at("cut/summary.parquet").exists() && at("cut/state-hessian.safetensors").exists());
    // Another method is another computation.
    assert_refused(
        &format!("{} --resume --method lanczos", line("cut")),
        "analysis.method \"dense\" there",
        "--resume",
    );
    let outcome = succeed(&format!("{} --resume", line("cut")));
    assert!(outcome.err.contains("the hessian survey continues from"), "{}", outcome.err);
    assert!(results(&at("cut")) == results(&at("whole")));
}
