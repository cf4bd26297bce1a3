//! `compare`: what it leaves, what it refuses, and what it says of few seeds.

use std::path::{Path, PathBuf};

use flatness::report::tables::{Column, Table, read_table};

use crate::support::{assert_refused, flatness, succeed};

/// Two methods at `seeds`, trained on few glyphs.
fn train(folder: &Path, seeds: &[u64]) -> Vec<PathBuf> {
    let mut made = Vec::new();
    for method in ["sgd", "sam:rho=0.2"] {
        for seed in seeds {
            let name = method.split(':').next().unwrap();
            let out = folder.join(format!("{name}-{seed}"));
            let model = "--model mlp:8 --data glyphs --rows 0..48 --epochs 3 --batch-size 16 --threads 2";
            succeed(&format!("train {model} --optimizer {method} --seed {seed} --out {}", out.display()));
            made.push(out);
        }
    }
    made
}

fn line(folders: &[PathBuf], out: &Path, options: &str) -> String {
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let analysis = "--rows 0..24 --probes 2 --steps 6 --slice-points 0 --threads 2 --no-cross-fit --method lanczos";
    format!("compare {} --out {} {options} -- {analysis}", folders.join(" "), out.display())
}

fn text(table: &Table, name: &str) -> Vec<String> {
    match table.column(name) {
        Some(Column::Text(values)) => values.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn numbers(table: &Table, name: &str) -> Vec<f64> {
    match table.column(name) {
        Some(Column::Number(values)) => values.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn groups_are_compared_by_seed_and_analyses_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let runs = train(folder.path(), &[0, 1, 2]);
    let out = folder.path().join("out");
    let outcome = succeed(&line(&runs, &out, "--baseline sgd"));
    for words in [
        "sam's trace is ",
        " sgd's: ",
        ", 3 pairs; exact p ",
        "smallest possible 0.2500)",
        "sam against sgd: weight norms",
    ] {
        assert!(outcome.out.contains(words), "{words}: {}", outcome.out);
    }
    let unknown = flatness(&line(&runs, &out, "--primary trace,mass --force"));
    assert!(
        unknown.code == 2 && unknown.err.contains("--primary mass: unknown quantity; the quantities are "),
        "{}",
        unknown.err
    );
    for file in
        ["comparison.tex", "verdict.txt", "report.html", "figures/groups.svg", "figures/differences.pdf", "run.json"]
    {
        assert!(out.join(file).exists(), "{file}");
    }
    let members = read_table(&out.join("members.parquet")).unwrap();
    // Every number of the tables again from the numbers that went in.
    let (groups, quantities, values) =
        (text(&members, "group"), text(&members, "quantity"), numbers(&members, "value"));
    let of = |group: &str, quantity: &str| -> Vec<f64> {
        (0..values.len()).filter(|i| groups[*i] == group && quantities[*i] == quantity).map(|i| values[i]).collect()
    };
    let differences = read_table(&out.join("differences.parquet")).unwrap();
    let (names, found) = (text(&differences, "quantity"), numbers(&differences, "difference"));
    for (name, difference) in names.iter().zip(found) {
        let pairs = of("sam", name).into_iter().zip(of("sgd", name)).map(|(sam, sgd)| sam - sgd).collect::<Vec<_>>();
        let mean = pairs.iter().sum::<f64>() / pairs.len() as f64;
        assert!(pairs.len() == 3 && (mean - difference).abs() <= 1e-12 * (1.0 + mean.abs()), "{name}");
    }
    for name in ["test_accuracy", "test_nll", "lambda_max", "trace", "lambda_ratio", "ggn_share", "parameter_norm"] {
        assert!(names.iter().any(|own| own == name), "{name}: {names:?}");
    }
    assert!(numbers(&differences, "p_exact_least").iter().all(|least| *least == 0.25));
    // Again: no analysis is repeated, and the tables are the same bytes.
    let before = std::fs::read(out.join("differences.parquet")).unwrap();
    let again = succeed(&line(&runs, &out, "--baseline sgd --force"));
    assert!(!again.err.contains("analysing"), "{}", again.err);
    assert_eq!(std::fs::read(out.join("differences.parquet")).unwrap(), before);
    // Folders of analyses may be named too, and groups made by another key.
    let analyses: Vec<PathBuf> = std::fs::read_dir(out.join("analyses")).unwrap().map(|e| e.unwrap().path()).collect();
    let other = folder.path().join("other");
    let by = succeed(&line(&analyses, &other, "--by folder"));
    assert!(by.out.contains("not tested, since a group has only one seed"), "{}", by.out);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let runs = train(folder.path(), &[0, 1]);
    let out = folder.path().join("out");
    let alike = [runs[0].clone(), runs[1].clone()];
    assert_refused_last(&line(&alike, &out, ""), "all 2 networks belong to group sgd", "--by KEY");
    assert_refused_last(&line(&[runs[0].clone(), runs[0].clone(), runs[2].clone()], &out, ""), "seed 0 twice", "--by");
    assert_refused_last(
        &line(&runs, &out, "--baseline smg"),
        "--baseline smg: unknown group; the groups are sam, sgd",
        "",
    );
    let absent = format!("compare {}/absent --out {}", folder.path().display(), out.display());
    assert_refused(&absent, "it does not exist", "results of run or compare");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = format!("compare {} --out {}", empty.display(), out.display());
    assert_refused(
        &empty,
        "neither a checkpoint nor a result of train, analyze, llc, run or compare",
        "results of run or compare",
    );
    let file = folder.path().join("garbage.safetensors");
    std::fs::write(&file, "garbage").unwrap();
    assert_refused(
        &format!("compare {} --out {}", file.display(), out.display()),
        "garbage.safetensors",
        "copy the file again",
    );
}

/// The last words of a command that did some work before it refused.
fn assert_refused_last(line: &str, named: &str, hint: &str) {
    let outcome = flatness(line);
    assert_eq!(outcome.code, 2, "{line}\n{}", outcome.err);
    assert!(outcome.err.contains(named) && outcome.err.contains(hint), "{named}\n{}", outcome.err);
}

#[test]
fn other_rows_are_refused_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let runs = train(folder.path(), &[0, 1]);
    let analyze = |run: &Path, rows: &str| {
        let out = run.with_extension("analysis");
        let options = "--probes 2 --steps 4 --plane-points 0 --slice-points 0 --threads 2 --force";
        succeed(&format!(
            "analyze {}/checkpoint.safetensors --rows {rows} {options} --out {}",
            run.display(),
            out.display()
        ));
        out
    };
    let mut analyses: Vec<PathBuf> = runs.iter().map(|run| analyze(run, "0..24")).collect();
    analyses[2] = analyze(&runs[2], "0..23");
    let out = folder.path().join("out");
    let folders: Vec<String> = analyses.iter().map(|folder| folder.display().to_string()).collect();
    let line = format!("compare {} --out {}", folders.join(" "), out.display());
    assert_refused_last(&line, "differ in data_sha256", "--allow-mixed");
    let mixed = succeed(&format!("{line} --allow-mixed"));
    assert!(mixed.out.contains("conditions differ in data_sha256"), "{}", mixed.out);
    // A table of another version says so.
    std::fs::write(analyses[0].join("summary.parquet"), "PAR1").unwrap();
    assert_refused_last(&format!("{line} --force"), "summary.parquet", "");
}

fn counts(table: &Table, name: &str) -> Vec<usize> {
    match table.column(name) {
        Some(Column::Count(values)) => values.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

/// Equal numbers, where "none" equals "none".
fn same(a: &[f64], b: &[f64]) -> bool {
    a.iter().map(|value| value.to_bits()).eq(b.iter().map(|value| value.to_bits()))
}

#[test]
fn a_comparison_is_made_again_from_its_members() {
    let folder = tempfile::tempdir().unwrap();
    let runs = train(folder.path(), &[0, 1, 2]);
    let (out, again) = (folder.path().join("out"), folder.path().join("again"));
    let first = succeed(&line(&runs, &out, "--baseline sgd --primary trace --by-quantity --seed 7"));
    // The table is enough.
    let alone = folder.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    std::fs::copy(out.join("members.parquet"), alone.join("members.parquet")).unwrap();
    let second = succeed(&format!("compare {} --out {}", alone.display(), again.display()));
    assert!(second.err.contains("results without hashes: 1;"), "{}", second.err);
    // Behind what the analyses print.
    assert!(first.out.ends_with(&second.out), "{}", second.out);
    for name in ["members", "comparison", "differences"] {
        let bytes = |folder: &Path| std::fs::read(folder.join(format!("{name}.parquet"))).unwrap();
        assert!(bytes(&out) == bytes(&again), "{name}");
    }
    // What the command line says wins.
    let other = succeed(&format!(
        "compare {} --baseline sam --primary lambda_max --out {} --force",
        out.display(),
        again.display()
    ));
    assert!(other.out.contains("sgd's λ₁ is ") && !other.out.contains("sgd's trace is "), "{}", other.out);
    assert!(!other.err.contains("without hashes"), "{}", other.err);
    // The settings of the trainings are recorded as well.
    let by = succeed(&format!("compare {} --by optimizer.kind --out {} --force", out.display(), again.display()));
    assert!(by.out.contains("sam's"), "{}", by.out);
    let by = format!("compare {} --by rho --out {} --force", out.display(), again.display());
    assert_refused_last(&by, "does not record its `rho`", "--by");
    std::fs::copy(out.join("comparison.parquet"), alone.join("members.parquet")).unwrap();
    assert_refused(
        &format!("compare {} --out {}/new", alone.display(), alone.display()),
        "members.parquet has no column",
        "results of run or compare",
    );
}

#[test]
fn the_committed_comparison_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("notebooks-out/noisy-labels-cpu");
    let out = folder.path().join("again");
    let outcome = succeed(&format!("compare {} --out {}", committed.display(), out.display()));
    assert!(outcome.out.contains("fsgld's λ₁ is higher than sam's: 238 against 111"), "{}", outcome.out);
    let both =
        |name: &str| [&committed, &out].map(|folder| read_table(&folder.join(format!("{name}.parquet"))).unwrap());
    let [before, after] = both("members");
    assert!(before.columns.len() == 9 && same_columns(&before, &after));
    let [before, after] = both("comparison");
    assert!(same_columns(&before, &after));
    let [before, after] = both("differences");
    assert!(same_columns(&before, &after));
    assert_eq!(counts(&after, "num_seeds"), vec![5; 100]);
}

/// Whether all columns of `before` are in `after`.
fn same_columns(before: &Table, after: &Table) -> bool {
    before.columns.iter().all(|(name, column)| {
        let found = match (column, after.column(name)) {
            (Column::Number(a), Some(Column::Number(b))) => same(a, b),
            (a, b) => Some(a) == b,
        };
        if !found {
            eprintln!("{name} differs");
        }
        found
    })
}
