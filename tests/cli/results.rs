//! What the commands compute, against the references and against each other.

use candle_core::Tensor;
use flatness::checkpoint::TensorFile;
use flatness::report::tables::{Column, read_table};
use serde_json::Value;

use crate::support::{
    CHEAP, assert_refused, checkpoint, files, fixture, fixture_arguments, flatness, succeed, values, write,
};

const CASES: [&str; 7] = [
    "mlp-tanh-ce",
    "mlp-gelu-mse",
    "logistic-ce",
    "cnn-bn-relu-ce",
    "resnet-tiny-optA",
    "vit-tiny",
    "label-smoothing-wd",
];

/// Largest entry of the difference over the largest entry of the expected array.
fn assert_close(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    let (got, expected) = (values(got), values(expected));
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    let error = got.iter().zip(&expected).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / scale;
    assert!(error <= tolerance, "{what}: relative error {error:e}");
}

#[test]
fn products_match_the_references() {
    let folder = tempfile::tempdir().unwrap();
    let [vectors, out] = ["vectors", "products"].map(|name| folder.path().join(name));
    for case in CASES {
        let expected = TensorFile::read(&fixture(case, "expected.safetensors")).unwrap();
        write(&vectors, &[("vectors", &expected.get("v").unwrap())]);
        for (operator, l2, product, loss, gradient) in [
            ("hessian", "out", "hv", "loss", "grad"),
            ("ggn", "out", "ggn_v", "loss", "grad"),
            ("fisher", "out", "fisher_v", "loss", "grad"),
            ("hessian", "in", "hv_with_wd", "loss_with_wd", "grad_with_wd"),
        ] {
            if l2 == "in" && case != "label-smoothing-wd" {
                continue;
            }
            let line = format!("matvec {} --operator {operator} --l2 {l2} --force", fixture_arguments(case));
            let outcome = succeed(&format!("{line} --vectors {} --out {}", vectors.display(), out.display()));
            let result = TensorFile::read(&out).unwrap();
            // As in the library's own comparison: the references agree with a correct f64 program to a few 1e-15.
            for (got, wanted) in [("products", product), ("loss", loss), ("gradient", gradient)] {
                let what = format!("{case} {operator} {wanted}");
                assert_close(&what, &result.get(got).unwrap(), &expected.get(wanted).unwrap(), 1e-12);
            }
            let printed = outcome.out.lines().next().unwrap().strip_prefix("loss ").unwrap().parse::<f64>().unwrap();
            // Twelve decimals are printed.
            assert!((printed - values(&expected.get(loss).unwrap())[0]).abs() < 1e-11);
        }
    }
}

#[test]
fn checks_pass_and_compare_with_outputs_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    for case in CASES {
        let outcome = succeed(&format!("check {} --threads 2", fixture_arguments(case)));
        assert!(outcome.out.lines().count() >= 5 && !outcome.out.contains("FAIL"), "{case}\n{}", outcome.out);
        let against = folder.path().join(case);
        let data = TensorFile::read(&fixture(case, "data.safetensors")).unwrap();
        let expected = TensorFile::read(&fixture(case, "expected.safetensors")).unwrap();
        let (x, logits) = (data.get("x").unwrap(), expected.get("output").unwrap());
        write(&against, &[("x", &x), ("logits", &logits)]);
        // Outputs of a network in batch mode are not those of `check`, which evaluates with stored statistics.
        let [weights, arch] = ["weights.safetensors", "model.json"].map(|file| fixture(case, file));
        let line = format!("check {} --arch {} --against {}", weights.display(), arch.display(), against.display());
        let outcome = succeed(&line);
        assert!(outcome.out.starts_with("pass  outputs equal the reference"), "{case}\n{}", outcome.out);
        write(&against, &[("x", &x), ("logits", &(&logits + 0.1).unwrap())]);
        let outcome = flatness(&line);
        assert!(outcome.code == 1 && outcome.out.starts_with("FAIL") && outcome.err.starts_with("error: 1 of 1"));
        write(&against, &[("x", &x)]);
        assert!(flatness(&line).err.contains("has no tensor `logits`"));
    }
}

#[test]
fn info_needs_no_data() {
    let [weights, arch] = ["weights.safetensors", "model.json"].map(|file| fixture("cnn-bn-relu-ce", file));
    let outcome = succeed(&format!("info {} --arch {}", weights.display(), arch.display()));
    assert!(
        outcome.out.contains("parameters    299") && outcome.out.contains("[6, 4, 3, 3]") && outcome.err.is_empty()
    );
    // The program in PyTorch's words, grouped by layer.
    let program: Vec<&str> = outcome.out.lines().skip_while(|line| *line != "program").skip(1).take(3).collect();
    assert_eq!(program[..2], ["  input x: floats", "  layers[0] (conv2d)"]);
    assert!(program[2].starts_with("    conv2d = conv2d(x, ") && program[2].contains("stride=[1, 1]"), "{program:?}");
    let outcome = succeed(&format!("info {}", checkpoint().display()));
    assert!(outcome.out.contains("mlp:16") && outcome.out.contains("flatness.train"), "{}", outcome.out);
}

/// Eigenvalues of one end, from the table.
fn eigenvalues(folder: &std::path::Path, end: &str) -> Vec<f64> {
    let table = read_table(&folder.join("eigenvalues.parquet")).unwrap();
    let (Some(Column::Text(ends)), Some(Column::Number(values))) = (table.column("end"), table.column("eigenvalue"))
    else {
        panic!("columns are missing");
    };
    ends.iter().zip(values).filter(|(own, _)| *own == end).map(|(_, value)| *value).collect()
}

#[test]
fn the_smallest_fixture_is_analyzed_with_default_settings() {
    let folder = tempfile::tempdir().unwrap();
    let expected = TensorFile::read(&fixture("logistic-ce", "expected.safetensors")).unwrap();
    let ascending = values(&expected.get("hessian_eigenvalues").unwrap());
    for (name, settings, top, bottom) in [
        ("default", "", 5, 3),
        ("power", "--method power --max-matvecs 20000 --tolerance 1e-6", 5, 3),
        ("all", "--top 21 --bottom 0", 21, 0),
        ("cut", "--top 22 --bottom 4", 21, 0),
        ("none", "--top 0 --bottom 0", 0, 0),
    ] {
        let out = folder.path().join(name);
        let cheap = if name == "default" { "" } else { CHEAP };
        let fixture = fixture_arguments("logistic-ce");
        succeed(&format!("analyze {fixture} --dtype f64 {cheap} {settings} --out {}", out.display()));
        let found = [eigenvalues(&out, "top"), eigenvalues(&out, "bottom")];
        let wanted: [Vec<f64>; 2] =
            [ascending.iter().rev().take(top).copied().collect(), ascending.iter().take(bottom).copied().collect()];
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found.len(), wanted.len(), "{name}");
            // The null space has dimension 7; of its copies a block of two promises two.
            let sure = if wanted.len() == bottom { 2 } else { wanted.len() };
            for (found, wanted) in found.iter().zip(wanted).take(sure) {
                // A residual within the tolerance 1e-4 bounds the error by 1e-4 of the largest eigenvalue.
                assert!((found - wanted).abs() <= 1e-4 * ascending[20], "{name}: {found} is not {wanted}");
            }
        }
        let run: Value = serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
        assert_eq!(run["complete"], true);
    }
}

#[test]
fn json_parses_and_nothing_else_is_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("analyze {} {CHEAP} --operator both --json", checkpoint().display());
    let outcome = succeed(&format!("{line} --out {}", folder.path().join("out").display()));
    let report: Value = serde_json::from_str(&outcome.out).unwrap();
    let rows = report["summary"].as_array().unwrap();
    // The Hessian has more than 4,096 parameters, and the GGN 320 counted outputs.
    for (operator, method) in [("hessian", "exact"), ("ggn", "gram")] {
        let whole = rows.iter().filter(|row| row["operator"] == operator && row["scope"] == "all");
        let quantities: Vec<&str> = whole.map(|row| row["quantity"].as_str().unwrap()).collect();
        assert!(quantities.starts_with(&["lambda_max", "lambda_min", "trace", "frobenius_norm"]), "{quantities:?}");
        let layers = rows.iter().filter(|row| row["operator"] == operator && row["scope"] != "all");
        let of = |quantity: &str| rows.iter().find(|row| row["operator"] == operator && row["quantity"] == quantity);
        // The layers' exact traces add up to the whole's.
        let parts: f64 = layers.map(|row| row["value"].as_f64().unwrap()).sum();
        let trace = of("trace").unwrap()["value"].as_f64().unwrap();
        assert!((parts - trace).abs() <= 1e-9 * trace.abs() && of("trace").unwrap()["method"] == method, "{report}");
    }
    assert!(rows.iter().all(|row| row["value"].is_number()), "{report}");
    assert!(!outcome.err.contains('\r') && !outcome.err.contains('\x1b'), "{:?}", outcome.err);
}

#[test]
fn one_thread_and_two_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["mlp:16", "cnn:4", "resnet-cifar:8,width=4"] {
        let run = |threads: usize| {
            let place = folder.path().join(format!("{model}-{threads}"));
            let [train, flat] = ["train", "flat"].map(|name| place.join(name).display().to_string());
            let rest = format!("--threads {threads} --seed 5");
            let data = "--data glyphs --rows 0..48 --noise symmetric:0.2 --epochs 2 --batch-size 20";
            let method = "--optimizer fsgld:sigma=0.02,beta_inverse=1e-8";
            succeed(&format!("train --model {model} {data} {method} {rest} --out {train}"));
            let cheap = CHEAP.replace("--threads 2", "");
            succeed(&format!("analyze {train}/checkpoint.safetensors {cheap} --operator both {rest} --out {flat}"));
            // Times are in these two alone.
            let timed = |path: &std::path::PathBuf| {
                ["run.json", "timings.parquet", "report.html"].iter().any(|name| path.ends_with(name))
            };
            let kept = files(&place).into_iter().filter(|path| !timed(path));
            kept.map(|path| (path.strip_prefix(&place).unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
        };
        let [one, two]: [Vec<_>; 2] = [run(1), run(2)];
        assert_eq!(one.len(), two.len());
        assert!(one.iter().any(|(path, _)| path.ends_with("flat/eigenvectors.safetensors")));
        for ((path, one), (_, two)) in one.iter().zip(&two) {
            assert!(one == two, "{model}: {} depends on the number of threads", path.display());
        }
    }
}

#[test]
fn a_result_overlaps_with_itself_and_not_with_another_space() {
    let folder = tempfile::tempdir().unwrap();
    let analyze = |scope: &str| {
        let out = folder.path().join(scope.replace(':', "-")).display().to_string();
        succeed(&format!("analyze {} {CHEAP} --scope {scope} --out {out}", checkpoint().display()));
        out
    };
    let (all, weights) = (analyze("all"), analyze("kind:weight"));
    let report: Value = serde_json::from_str(&succeed(&format!("overlap {all} {all} --json")).out).unwrap();
    for end in ["top", "bottom"] {
        // Unit vectors in f32.
        assert!((report[end]["overlap"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{report}");
    }
    assert_refused(&format!("overlap {all} {weights}"), "cannot be compared", "one --scope");
}

/// Prefixes of names, as wrappers and training scripts leave them; where two sets of weights fit, one is chosen.
#[test]
fn weights_are_found_under_prefixes() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = TensorFile::read(&fixture("logistic-ce", "weights.safetensors")).unwrap().into_tensors().unwrap();
    let write_under = |name: &str, prefixes: &[&str]| {
        let named = |prefix: &&str| {
            let prefix = prefix.to_string();
            tensors.iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor.clone()))
        };
        let mut all: Vec<_> = prefixes.iter().flat_map(named).collect();
        all.push(("optimizer.step".into(), candle_core::Tensor::new(&[3.0f64], &candle_core::Device::Cpu).unwrap()));
        let path = folder.path().join(name);
        flatness::checkpoint::write_tensors(&path, &all, &Default::default()).unwrap();
        path.display().to_string()
    };
    let arguments = fixture_arguments("logistic-ce");
    let rest = arguments.split_once(' ').unwrap().1;
    let line = |weights: &str, name: &str| {
        format!("analyze {weights} {rest} {CHEAP} --json --out {}", folder.path().join(name).display())
    };
    let summary = |line: &str| serde_json::from_str::<Value>(&succeed(line).out).unwrap()["summary"].clone();
    let plain = summary(&line(arguments.split_once(' ').unwrap().0, "plain"));
    let wrapped = write_under("wrapped.safetensors", &["module._orig_mod."]);
    assert_eq!(summary(&line(&wrapped, "wrapped")), plain);
    let noted = succeed(&format!("{} --force", line(&wrapped, "wrapped"))).err;
    assert!(noted.contains("note: the names of the weights begin with `module._orig_mod.` in the file"), "{noted}");
    assert!(noted.contains("no use for: optimizer.step"), "{noted}");
    let two = write_under("two.safetensors", &["ema.", "model."]);
    assert_refused(&line(&two, "two"), "several sets of weights that fit: ema, model", "--weights-key");
    assert_eq!(summary(&line(&format!("{two} --weights-key ema"), "two")), plain);
    assert_refused(
        &line(&format!("{two} --weights-key swa"), "swa"),
        "contains no weights for this network under `swa`",
        "leave",
    );
}
