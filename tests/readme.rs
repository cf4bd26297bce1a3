//! The README's tables say what its commands print. `tools/readme.py` writes them.

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between the marks of that name.
fn block(name: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let [start, end] = [format!("<!-- {name} -->"), format!("<!-- /{name} -->")];
    let (_, rest) = readme.split_once(&start).unwrap_or_else(|| panic!("no mark {start}"));
    rest.split_once(&end).unwrap_or_else(|| panic!("no mark {end}")).0.to_owned()
}

/// The numbers of a cell such as `2104.6829 ± 0.0004 (numeric) ± 720 (data)`.
fn numbers(cell: &str) -> Vec<f64> {
    let parts = cell.replace(',', "").replace('−', "-");
    parts.split('±').filter_map(|part| part.split_whitespace().next()?.trim_end_matches('*').parse().ok()).collect()
}

/// Names and cells of a table whose columns at least two spaces separate, line by line.
fn lines(table: &str) -> Vec<(String, Vec<Vec<f64>>)> {
    let cells = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let rows = table.lines().map(cells).filter(|cells| cells.len() == 4);
    rows.map(|cells| (cells[0].clone(), cells[1..].iter().map(|cell| numbers(cell)).collect())).collect()
}

/// Another processor adds in another order, and training carries that on: numbers with an error may move by two of it, the
/// others by 5 %. On one machine they are the same.
#[test]
#[ignore = "half a minute; .ci/run runs it"]
fn quickstart_prints_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    let output = command.arg("quickstart").arg("--out").arg(folder.path().join("quickstart")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (written, printed) = (lines(&block("quickstart")), lines(&String::from_utf8(output.stdout).unwrap()));
    assert_eq!(written.len(), 10, "{written:?}");
    let names = |table: &[(String, Vec<Vec<f64>>)]| table.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&written), names(&printed));
    for ((name, expected), (_, found)) in written.iter().zip(&printed) {
        for (expected, found) in expected.iter().zip(found) {
            let tolerance = expected.get(1).map_or(0.05 * expected[0].abs(), |error| 2.0 * error);
            assert!((expected[0] - found[0]).abs() <= tolerance, "{name}: {expected:?} in the README, now {found:?}");
        }
    }
}

/// The text beside the table says by how much f32 moved eigenvalues; the residual norm comes on top.
#[test]
fn the_measured_numbers_are_those_of_the_reference() {
    const F32: f64 = 1.4e-6;
    let rows: Vec<Vec<String>> = block("resnet20")
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    let mut references = Vec::new();
    for row in &rows {
        let (found, reference) = (numbers(&row[1]), numbers(&row[2]));
        assert!(found.len() >= 2, "{row:?}");
        if let [reference] = reference[..] {
            assert!((found[0] - reference).abs() <= found[1] + F32 * reference, "{row:?}");
            references.push((row[0].clone(), row[2].clone()));
        }
    }
    assert_eq!(references.len(), 4, "{references:?}");
    let expected = root().join("../shared/reference/pyhessian-resnet20/expected.json");
    let Ok(text) = std::fs::read_to_string(&expected) else {
        eprintln!("skipped: {} is not there", expected.display());
        return;
    };
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let top = &expected["top_eigenvalues"];
    for ((name, written), value) in
        references.iter().zip([&top[0], &top[1], &top[9], &expected["trace_exact"]["value"]])
    {
        let decimals = written.split_once('.').map_or(0, |(_, digits)| digits.len());
        let rounded = format!("{:.decimals$}", value.as_f64().unwrap());
        assert_eq!(written.replace(',', ""), rounded, "{name}");
    }
}
