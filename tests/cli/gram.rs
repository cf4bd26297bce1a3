//! Whole spectra from Gram matrices: beside the dense matrix, and where counts decide for them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flatness::report::tables::{Column, Table, read_table};
use serde_json::Value;

use crate::curvatures::{numbers, words};
use crate::dense::{methods, results};
use crate::support::{assert_refused, fixture_arguments, flatness, succeed, with_flag};

const REST: &str = "--plane-points 0 --slice-points 0 --no-cross-fit";
const SUMS: &str = "ggn,empirical-fisher,mc-fisher,gradient-covariance";

fn table(folder: &Path, name: &str) -> Table {
    read_table(&folder.join(format!("{name}.parquet"))).unwrap()
}

/// Every eigenvalue of each operator, ascending: nodes as often as their weights say.
fn spectra(folder: &Path) -> Vec<(String, Vec<f64>)> {
    let nodes = table(folder, "density_nodes");
    let (values, weights) = (numbers(&nodes, "node"), numbers(&nodes, "weight"));
    let mut spectra: Vec<(String, Vec<f64>)> = Vec::new();
    let total = 1.0 / weights.iter().copied().fold(f64::INFINITY, f64::min);
    for ((operator, value), weight) in words(&nodes, "operator").into_iter().zip(values).zip(weights) {
        if spectra.last().is_none_or(|(own, _)| *own != operator) {
            spectra.push((operator, Vec::new()));
        }
        let count = (weight * total).round() as usize;
        spectra.last_mut().unwrap().1.extend(vec![value; count]);
    }
    spectra
}

/// A small classifier with weight decay, and one whose labels are partly ignored and weighted.
fn models(folder: &Path) -> Vec<(String, String)> {
    let train = "train --model mlp:2 --data glyphs --rows 0..40 --epochs 3 --batch-size 8 --weight-decay 0.01";
    succeed(&format!("{train} --out {}", folder.join("model").display()));
    let model = folder.join("model/checkpoint.safetensors").display().to_string();
    let loss = "cross-entropy:ignore-index=3,weight=1|2|0|1|1|0.5|1|1|3|1";
    vec![
        ("decayed".into(), format!("{model} --l2 in")),
        ("weighted".into(), format!("{model} --loss {loss}")),
        ("convolutions".into(), fixture_arguments("cnn-bn-relu-ce")),
    ]
}

#[test]
fn gram_and_dense_matrices_have_the_same_spectra() {
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in models(folder.path()) {
        let [gram, dense] = ["gram", "dense"].map(|method| {
            let out = folder.path().join(format!("{name}-{method}"));
            let line = format!("analyze {model} --dtype f64 --operator {SUMS} {REST} --method {method}");
            succeed(&format!("{line} --out {}", out.display()));
            for table in ["eigenvalues", "trace", "density", "density_nodes"] {
                assert_eq!(methods(&out, table), [method], "{name}, {table}");
            }
            out
        });
        for ((operator, found), (other, expected)) in spectra(&gram).into_iter().zip(spectra(&dense)) {
            assert_eq!((&operator, found.len()), (&other, expected.len()), "{name}");
            let largest = expected[expected.len() - 1];
            // Entries of some thousand roundings, and two decompositions of a few n·ε‖A‖.
            let rounding = 1e-12 * largest;
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= rounding, "{name}, {operator}: {found} {expected}");
            }
        }
        let [own, others] = [&gram, &dense].map(|folder| table(folder, "summary"));
        for column in ["operator", "scope", "quantity"] {
            assert_eq!(words(&own, column), words(&others, column), "{name}");
        }
        assert!(!words(&own, "quantity").contains(&"negative_mass".to_owned()));
        let Some(Column::Flag(converged)) = own.column("converged") else { panic!("no flags") };
        assert!(converged.iter().all(|converged| *converged), "{name}");
        let scales = numbers(&others, "value");
        // The errors of traces are over rows here, and over shards there.
        for column in ["value", "std_err_data"] {
            let pairs = numbers(&own, column).into_iter().zip(numbers(&others, column));
            for (row, (found, expected)) in pairs.enumerate() {
                let quantity = &words(&own, "quantity")[row];
                // Zero but for rounding, in directions that are not determined.
                if quantity == "lambda_min" || expected.is_nan() || quantity == "trace" && column != "value" {
                    continue;
                }
                // A count has slope 1/c, c a thousandth of the largest eigenvalue, for each of the eigenvalues.
                let tolerance = if quantity == "effective_dimension" { 1e-6 } else { 1e-9 * scales[row].abs() };
                assert!((found - expected).abs() <= tolerance, "{name}, {quantity}: {found} {expected}");
            }
        }
    }
}

#[test]
fn counts_decide_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    // 170 parameters; 32 rows of 4 classes.
    let fixture = fixture_arguments("mlp-tanh-ce");
    for (index, (settings, expected)) in [
        ("", ["dense", "gram"]),
        ("--max-matvecs 170", ["dense", "gram"]),
        ("--max-matvecs 127", ["lanczos", "lanczos"]),
        ("--max-matvecs 128", ["lanczos", "gram"]),
        ("--max-time 60", ["lanczos", "lanczos"]),
        ("--method lanczos", ["lanczos", "lanczos"]),
        ("--method dense", ["dense", "dense"]),
        // 8 biases are fewer than the rows.
        ("--scope params:0.bias", ["dense", "dense"]),
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.path().join(index.to_string());
        succeed(&format!("analyze {fixture} --operator both {REST} {settings} --out {}", out.display()));
        let eigenvalues = table(&out, "eigenvalues");
        let mut found: Vec<_> =
            words(&eigenvalues, "operator").into_iter().zip(words(&eigenvalues, "method")).collect();
        found.dedup();
        let expected = ["hessian", "ggn"].map(str::to_owned).into_iter().zip(expected.map(str::to_owned));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{settings}");
    }
    let run: Value = serde_json::from_slice(&std::fs::read(folder.path().join("0/run.json")).unwrap()).unwrap();
    let analysis = &run["configuration"]["analysis"];
    assert_eq!((&analysis["method"], &analysis["gram"]), (&"dense".into(), &serde_json::json!(["ggn"])));
    // The guard, and a product for each pair.
    assert_eq!(run["surveys"][1]["num_matvecs"], 2 + 8);

    let estimate = |settings: &str| succeed(&format!("estimate {fixture} --operator ggn {settings}")).out;
    assert!(estimate("").contains("products     23 for 8 eigenpairs and all eigenvalues from the Gram matrix"));
    assert!(estimate("--max-matvecs 127").contains("and a density from 4 start vectors"));

    let line = |settings: &str| format!("analyze {fixture} {settings} --out {}", folder.path().join("no").display());
    for (settings, named) in [
        ("--method gram", "--method gram: needs a sum of outer products, and the hessian is not known to be one"),
        ("--method gram --operator both", "the hessian is not known"),
        ("--method gram --operator ggn --max-matvecs 127", "--max-matvecs 127: with --method gram must be 128 or more"),
        ("--method gram --operator ggn --max-time 5", "--max-time with --method gram"),
    ] {
        assert_refused(&line(settings), named, "");
        assert!(!folder.path().join("no").exists(), "{settings}");
    }
    let batch_norm = fixture_arguments("cnn-bn-relu-ce");
    let line = format!("analyze {batch_norm} --batch-norm train --operator ggn");
    let out = folder.path().join("coupled");
    assert_refused(&format!("{line} --method gram --out {}", out.display()), "needs rows that are independent", "");
    succeed(&format!("{line} {REST} --out {}", out.display()));
    assert_eq!(methods(&out, "eigenvalues"), ["dense"]);
}

#[test]
fn a_network_with_many_parameters_and_few_outputs_has_its_whole_spectrum() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // 106,810 parameters and 40 rows of 10 classes.
    succeed(&format!("train --model mlp:400 --data glyphs --rows 0..40 --epochs 1 --out {}", at("model").display()));
    let line = |settings: &str, out: &str| {
        let model = at("model").join("checkpoint.safetensors").display().to_string();
        format!("analyze {model} --operator ggn {REST} {settings} --out {}", at(out).display())
    };
    let [one, two] = [1, 2].map(|threads| {
        let out = format!("threads-{threads}");
        succeed(&line(&format!("--threads {threads}"), &out));
        results(&at(&out))
    });
    assert!(one == two);
    assert_eq!(methods(&at("threads-1"), "trace"), ["gram"]);
    let nodes = table(&at("threads-1"), "density_nodes");
    assert_eq!((numbers(&nodes, "node").len(), numbers(&nodes, "node")[0]), (401, 0.0));
    let (trace, exact) = (table(&at("threads-1"), "trace"), "exact");
    succeed(&line("--method lanczos", "survey"));
    let survey = table(&at("survey"), "trace");
    assert_eq!(words(&survey, "method"), [exact]);
    for column in ["trace", "std_err_data"] {
        let [found, expected] = [&trace, &survey].map(|table| numbers(table, column)[0]);
        // Squares of numbers in f32, whose roundings have both signs.
        assert!((found - expected).abs() <= 1e-6 * expected, "{column}: {found} {expected}");
    }

    // 3/8 of 192 MiB hold the rows in three blocks beside the Gram matrix, 3/8 of 40 MiB not even the eigenvectors.
    let outcome = succeed(&line("--memory 192MiB", "blocks"));
    assert_eq!(methods(&at("blocks"), "eigenvalues"), ["gram"], "{}", outcome.err);
    let again = table(&at("blocks"), "density_nodes");
    assert_eq!(numbers(&again, "node"), numbers(&nodes, "node"));
    let outcome = succeed(&line("--memory 40MiB", "small"));
    let note = "note: --memory has too little room for the 400 rows of the Gram matrix of the ggn: a survey estimates";
    assert!(outcome.err.contains(note), "{}", outcome.err);
    assert_eq!(methods(&at("small"), "eigenvalues"), ["lanczos"]);
    let refused = flatness(&line("--memory 40MiB --method gram", "refused"));
    assert!(refused.code == 2 && refused.err.contains("takes more memory than --memory has for it"), "{}", refused.err);

    // Cut short, and on to the same bytes.
    let cut = line("--memory 192MiB --save-every 0", "cut");
    let flag = Arc::new(AtomicBool::new(false));
    let (state, raised) = (at("cut").join("state-ggn.safetensors"), flag.clone());
    let watch = std::thread::spawn(move || {
        while !state.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        raised.store(true, Ordering::Relaxed);
    });
    let outcome = with_flag(&cut, flag);
    watch.join().unwrap();
    assert_eq!(outcome.code, 130, "{}", outcome.err);
    let outcome = succeed(&format!("{cut} --resume"));
    assert!(outcome.err.contains("the ggn survey continues from"), "{}", outcome.err);
    assert!(results(&at("cut")) == results(&at("blocks")));
}
