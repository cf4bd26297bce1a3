//! Operators and scopes of `analyze`, against the dense matrices of the fixtures.

use std::path::Path;

use flatness::checkpoint::TensorFile;
use flatness::report::tables::{Column, Table, read_table};
use nalgebra::DMatrix;
use serde_json::Value;

use crate::support::{assert_refused, fixture, fixture_arguments, succeed, values};

const REST: &str = "--dtype f64 --eig-tol 1e-8 --plane-points 0 --slice-points 3 --threads 2";

/// A matrix of the fixture.
pub fn dense(case: &str, name: &str) -> DMatrix<f64> {
    let file = TensorFile::read(&fixture(case, "expected.safetensors")).unwrap();
    let tensor = file.get(name).unwrap();
    let (rows, columns) = tensor.dims2().unwrap();
    DMatrix::from_row_slice(rows, columns, &values(&tensor))
}

/// Whether a tensor of that name is meant.
type Choice<'a> = &'a dyn Fn(&str) -> bool;

/// Names and places of the tensors that `wanted` chooses, from the fixture's own list.
fn places(case: &str, wanted: impl Fn(&str) -> bool) -> (Vec<String>, Vec<usize>) {
    let model: Value = serde_json::from_slice(&std::fs::read(fixture(case, "model.json")).unwrap()).unwrap();
    let (mut names, mut places) = (Vec::new(), Vec::new());
    for tensor in model["parameters"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        if wanted(name) {
            let len: u64 = tensor["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).product();
            let offset = tensor["offset"].as_u64().unwrap();
            names.push(name.to_owned());
            places.extend((offset..offset + len).map(|place| place as usize));
        }
    }
    (names, places)
}

pub fn numbers(table: &Table, name: &str) -> Vec<f64> {
    let Some(Column::Number(values)) = table.column(name) else { panic!("no numbers {name}") };
    values.clone()
}

pub fn words(table: &Table, name: &str) -> Vec<String> {
    let Some(Column::Text(words)) = table.column(name) else { panic!("no words {name}") };
    words.clone()
}

/// The eigenvalues in the table of one operator are the outermost ones of `matrix`, within their residuals.
fn assert_ends(folder: &Path, operator: &str, matrix: &DMatrix<f64>) {
    let table = read_table(&folder.join("eigenvalues.parquet")).unwrap();
    let (found, residuals) = (numbers(&table, "eigenvalue"), numbers(&table, "residual_norm"));
    let ends = words(&table, "operator").into_iter().zip(words(&table, "end"));
    let mut ascending: Vec<f64> = matrix.clone().symmetric_eigenvalues().iter().copied().collect();
    ascending.sort_by(f64::total_cmp);
    // Two dense decompositions agree to a few ε‖A‖ per dimension.
    let rounding = 8.0 * ascending.len() as f64 * f64::EPSILON * matrix.norm();
    let mut counts = [0, 0];
    for (row, (_, end)) in ends.enumerate().filter(|(_, (own, _))| own == operator) {
        let top = end == "top";
        let index = counts[usize::from(top)];
        counts[usize::from(top)] += 1;
        let wanted = if top { ascending[ascending.len() - 1 - index] } else { ascending[index] };
        let error = (found[row] - wanted).abs();
        assert!(error <= residuals[row] + rounding, "{operator}, {end} {index}: {} is not {wanted}", found[row]);
    }
    assert_eq!(counts, [3, 5], "{operator}");
}

#[test]
fn a_scope_gives_the_block_of_its_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let case = "cnn-bn-relu-ce";
    let hessian = dense(case, "hessian");
    let norm = |name: &str| name.starts_with("1.") || name.starts_with("5.");
    let scopes: [(&str, Choice<'_>); 4] = [
        ("all", &|_| true),
        ("kind:norm", &norm),
        ("layer:4", &|name| name.starts_with("4.")),
        ("params:*.weight", &|name| name.ends_with(".weight")),
    ];
    for (scope, wanted) in scopes {
        let out = folder.path().join(scope.replace([':', '*'], "-"));
        succeed(&format!("analyze {} {REST} --scope {scope} --out {}", fixture_arguments(case), out.display()));
        let (names, places) = places(case, wanted);
        let block = hessian.select_rows(&places).select_columns(&places);
        assert_ends(&out, "hessian", &block);
        let file = TensorFile::read(&out.join("eigenvectors.safetensors")).unwrap();
        assert_eq!(
            (file.metadata["flatness.scope"].as_str(), file.get("top").unwrap().dims().to_vec()),
            (scope, vec![5, places.len()])
        );
        assert_eq!(serde_json::from_str::<Vec<String>>(&file.metadata["flatness.params"]).unwrap(), names);
        // The vectors belong to the values: `Bv = λv`, within 1e-8 of the largest.
        let vectors = DMatrix::from_row_slice(5, places.len(), &values(&file.get("top").unwrap()));
        let eigenvalues = serde_json::from_str::<Vec<f64>>(&file.metadata["flatness.top_eigenvalues"]).unwrap();
        for (vector, eigenvalue) in vectors.row_iter().zip(eigenvalues) {
            let residual = (&block * vector.transpose() - vector.transpose() * eigenvalue).norm();
            assert!(residual <= 2e-8 * block.norm(), "{scope}: {residual:e}");
        }
        // The exact trace: a sum over as many entries as the block has rows.
        let trace = read_table(&out.join("trace.parquet")).unwrap();
        let error = (numbers(&trace, "trace")[0] - block.trace()).abs();
        assert!(error <= 1e-12 * block.norm() * places.len() as f64 && words(&trace, "scope") == [scope], "{scope}");
        for table in ["eigenvalues", "density", "density_nodes"] {
            let table = read_table(&out.join(format!("{table}.parquet"))).unwrap();
            assert!(words(&table, "scope").iter().all(|own| own == scope));
        }
        // Masses of the scope's layers alone, and all of them.
        let layers = read_table(&out.join("eigenvector_layers.parquet")).unwrap();
        let total: f64 = numbers(&layers, "mass").iter().sum();
        assert!((total - 8.0).abs() < 1e-12, "{scope}: {total}");
        let layer = |name: &String| name.rsplit_once('.').unwrap().0.to_owned();
        assert!(words(&layers, "layer").iter().all(|own| names.iter().map(layer).any(|name| name == *own)));
    }
}

#[test]
fn the_layers_of_a_scope_are_their_parameters_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let case = "mlp-tanh-ce";
    let hessian = dense(case, "hessian");
    for scope in ["all", "kind:bias"] {
        let out = folder.path().join(scope.replace(':', "-"));
        let line = format!("analyze {} {REST} --layers --scope {scope}", fixture_arguments(case));
        succeed(&format!("{line} --out {}", out.display()));
        let summary = read_table(&out.join("summary.parquet")).unwrap();
        let (found, residuals) = (numbers(&summary, "value"), numbers(&summary, "std_err_numeric"));
        let names = words(&summary, "scope").into_iter().zip(words(&summary, "quantity"));
        let rows: Vec<(usize, String)> = names
            .enumerate()
            .filter(|(_, (own, quantity))| own.starts_with("layer:") && quantity == "lambda_max")
            .map(|(row, (own, _))| (row, own))
            .collect();
        assert_eq!(rows.iter().map(|(_, own)| own.as_str()).collect::<Vec<_>>(), ["layer:0", "layer:2", "layer:4"]);
        for (row, own) in rows {
            let layer = own.strip_prefix("layer:").unwrap();
            let (_, places) = places(case, |name| {
                name.starts_with(&format!("{layer}.")) && (scope == "all" || name.ends_with(".bias"))
            });
            let block = hessian.select_rows(&places).select_columns(&places);
            let largest = block.symmetric_eigenvalues().max();
            let rounding = 8.0 * places.len() as f64 * f64::EPSILON * block.norm();
            assert!((found[row] - largest).abs() <= residuals[row] + rounding, "{scope}, {own}: {}", found[row]);
        }
    }
}

#[test]
fn every_operator_is_the_matrix_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let case = "mlp-tanh-ce";
    let operators = "residual,mc-fisher,empirical-fisher,gradient-covariance,ggn,both";
    let line =
        format!("analyze {} {REST} --operator {operators} --out {}", fixture_arguments(case), folder.path().display());
    succeed(&line);
    let [hessian, ggn, fisher] = ["hessian", "ggn", "fisher_empirical"].map(|name| dense(case, name));
    let file = TensorFile::read(&fixture(case, "expected.safetensors")).unwrap();
    let gradient = nalgebra::DVector::from_vec(values(&file.get("grad").unwrap()));
    let covariance = &fisher - &gradient * gradient.transpose();
    let residual = &hessian - &ggn;
    let trace = read_table(&folder.path().join("trace.parquet")).unwrap();
    let order = ["residual", "mc_fisher", "empirical_fisher", "gradient_covariance", "ggn", "hessian"];
    assert_eq!(words(&trace, "operator"), order);
    let [traces, probes, rows] = ["trace", "std_err_numeric", "std_err_data"].map(|name| numbers(&trace, name));
    for (index, (name, matrix)) in [
        ("residual", &residual),
        ("empirical_fisher", &fisher),
        ("gradient_covariance", &covariance),
        ("ggn", &ggn),
        ("hessian", &hessian),
    ]
    .into_iter()
    .enumerate()
    {
        assert_ends(folder.path(), name, matrix);
        let place = if index == 0 { 0 } else { index + 1 };
        let error = (traces[place] - matrix.trace()).abs();
        assert!(error <= 4.0 * probes[place] + 1e-12 * matrix.norm(), "{name}: trace off by {error}");
    }
    // One label for each row: on average the GGN, with an error that the spread over shards shows.
    assert!((traces[1] - ggn.trace()).abs() <= 4.0 * rows[1].hypot(probes[1]) && traces[1] != ggn.trace());
    for table in ["eigenvalues", "density", "density_nodes", "summary", "eigenvector_layers"] {
        let found = words(&read_table(&folder.path().join(format!("{table}.parquet"))).unwrap(), "operator");
        assert!(order.iter().all(|name| found.iter().any(|own| own == name)), "{table}");
    }
}

#[test]
fn labels_are_drawn_from_a_softmax_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let line = format!("analyze {} --operator mc-fisher --out {}", fixture_arguments("mlp-gelu-mse"), out.display());
    for (line, loss) in [(line.clone(), "mean squared error"), (format!("{line} --loss bce"), "binary cross-entropy")] {
        assert_refused(&line, &format!("but the loss is {loss}"), "use the GGN");
        assert!(!out.exists());
    }
}
