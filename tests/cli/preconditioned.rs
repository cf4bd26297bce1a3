//! The preconditioned Hessian: against PyTorch, from a training's folder, and what is refused.

use std::path::Path;

use flatness::checkpoint::{AdamState, Checkpoint, TensorFile};
use flatness::report::tables::{Table, read_table};

use crate::curvatures::{numbers, words};
use crate::support::{assert_refused, counting, fixture, fixture_arguments, succeed, write};

const REST: &str = "--dtype f64 --plane-points 0 --force";

/// The network that the states belong to, with its rows.
fn trained() -> String {
    let path = |case, file| fixture(case, file).display().to_string();
    let (weights, model) = (path("adam", "training.pth"), path("mlp-tanh-ce", "model.json"));
    format!("{weights} --arch {model} --data tensors:{}", path("mlp-tanh-ce", "data.safetensors"))
}

fn expected(name: &str) -> Vec<f64> {
    TensorFile::read(&fixture("adam", "expected.safetensors")).unwrap().get(name).unwrap().to_vec1().unwrap()
}

fn of(table: &Table, quantity: &str, column: &str) -> f64 {
    let names = words(table, "quantity").into_iter().zip(words(table, "operator"));
    let scopes = words(table, "scope");
    let row = names.zip(&scopes).position(|((name, operator), scope)| {
        name == quantity && operator == "preconditioned_hessian" && !scope.starts_with("layer:")
    });
    numbers(table, column)[row.unwrap_or_else(|| panic!("no {quantity}"))]
}

/// From the weights and states that PyTorch wrote, by the whole matrix, a survey and power iteration.
#[test]
fn its_eigenvalues_are_those_of_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let (out, eigenvalues) = (folder.path().join("out"), expected("eigenvalues"));
    let largest = eigenvalues[eigenvalues.len() - 1];
    for (state, method, error) in [
        // The state beside the weights in the file itself.
        (String::new(), "dense", 1e-11),
        (format!("--optimizer-state {}", fixture("adam", "named.pth").display()), "dense", 1e-11),
        // As far as their residuals say: the square of 1e-4, and the distance to a neighbour.
        (String::new(), "lanczos", 1e-5),
        (String::new(), "power", 1e-4),
    ] {
        let line = format!(
            "analyze {} --operator preconditioned-hessian {state} --method {method} --slice-points 5 {REST}",
            trained()
        );
        succeed(&format!("{line} --out {}", out.display()));
        let found = read_table(&out.join("eigenvalues.parquet")).unwrap();
        let top = words(&found, "end").into_iter().zip(numbers(&found, "eigenvalue")).filter(|(end, _)| end == "top");
        for ((_, found), exact) in top.zip(eigenvalues.iter().rev()) {
            assert!((found - exact).abs() <= error * largest, "{method}: {found} {exact}");
        }
        let summary = read_table(&out.join("summary.parquet")).unwrap();
        let (bottom, trace) = (of(&summary, "lambda_min", "value"), of(&summary, "trace", "value"));
        assert!((bottom - eigenvalues[0]).abs() <= error * largest, "{method}: {bottom}");
        let sum: f64 = eigenvalues.iter().sum();
        let allowed = 170.0 * 1e-11 * largest + 4.0 * of(&summary, "trace", "std_err_numeric");
        assert!((trace - sum).abs() <= allowed, "{method}: {trace} {sum}");
        assert!(of(&summary, "lambda_max", "std_err_data") > 0.0);
        assert!(of(&summary, "lambda_max_cross_fitted", "value") < largest * 1.5);
        assert_eq!(summary.configuration["optimizer_state"]["steps"], 12.0);
    }
}

/// `P^{-1/2} y` is the direction of an eigenvector in the weights, along which the loss has its eigenvalue as curvature.
#[test]
fn slices_follow_the_directions_of_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    succeed(&format!(
        "analyze {} --operator preconditioned-hessian {REST} --slice-points 201 --out {}",
        trained(),
        out.display()
    ));
    let slices = read_table(&out.join("slices.parquet")).unwrap();
    let (kinds, directions) = (words(&slices, "kind"), slices.counts("direction"));
    let rows = (0..slices.num_rows()).filter(|row| kinds[*row] == "eigenvector" && directions[*row] == 0);
    let points = rows.map(|row| (numbers(&slices, "x")[row], numbers(&slices, "loss")[row]));
    let (steps, losses): (Vec<f64>, Vec<f64>) = points.unzip();
    let middle = steps.iter().position(|step| step.abs() < 1e-12).unwrap();
    let step = steps[middle + 1] - steps[middle];
    let curvature = (losses[middle + 1] + losses[middle - 1] - 2.0 * losses[middle]) / (step * step);
    let largest = *expected("eigenvalues").last().unwrap();
    // The fourth derivative adds about step²/12 of itself.
    assert!((curvature / largest - 1.0).abs() < 1e-2, "{curvature} {largest}");
    // The stored vectors are not directions of the weights.
    let landscape =
        format!("landscape {} --directions eigenvectors --eigenvectors {} --out x", trained(), out.display());
    assert_refused(&landscape, "they belong to the preconditioned Hessian", "leave --eigenvectors out");
}

#[test]
fn a_training_leaves_what_an_analysis_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = (folder.path().join("run"), folder.path().join("out"));
    let training =
        "--model mlp:16 --data glyphs --rows 0..32 --epochs 2 --batch-size 16 --threads 2 --learning-rate 0.01";
    let train = |optimizer: &str| {
        succeed(&format!("train {training} --optimizer {optimizer} --force --out {}", run.display()));
    };
    train("adamw");
    let checkpoint = run.join("checkpoint.safetensors");
    let analyze = |more: &str| {
        let line = format!("analyze {} --operator hessian,preconditioned-hessian {more}", checkpoint.display());
        format!("{line} --method lanczos --plane-points 0 --slice-points 0 --force --out {}", out.display())
    };
    succeed(&analyze(""));
    let by_default = read_table(&out.join("summary.parquet")).unwrap();
    succeed(&analyze(&format!("--optimizer-state {}", run.display())));
    let named = read_table(&out.join("summary.parquet")).unwrap();
    let largest = of(&by_default, "lambda_max", "value");
    assert_eq!(largest, of(&named, "lambda_max", "value"));
    assert_eq!(by_default.configuration, named.configuration);
    assert_eq!(named.configuration["optimizer_state"]["steps"], 4.0);
    // Sharpness along Adam's steps is a number, or there is a reason.
    let sharpness = folder.path().join("sharpness");
    let options = "--pairs 2 --ascent-steps 2 --restarts 1 --dtype f64";
    let state = format!("--optimizer-state {}", run.display());
    succeed(&format!("sharpness {} {options} {state} --out {}", checkpoint.display(), sharpness.display()));
    let table = read_table(&sharpness.join("sharpness.parquet")).unwrap();
    let row = words(&table, "quantity").iter().position(|name| name == "critical_sharpness_adam").unwrap();
    let (critical, reason) = (numbers(&table, "value")[row], words(&table, "reason")[row].clone());
    assert_eq!(critical.is_finite(), reason.is_empty(), "{critical} {reason}");
    // The weights of other steps are not those of the state; what SGD leaves is none.
    let kept = folder.path().join("optimizer.safetensors");
    std::fs::copy(run.join("optimizer.safetensors"), &kept).unwrap();
    train("sgd");
    assert!(!run.join("optimizer.safetensors").exists());
    assert_refused(&analyze(""), "there is no state of an optimiser for", "--optimizer-state");
    let other = format!("--optimizer-state {}", kept.display());
    assert_refused(
        &analyze(&other),
        "cannot serve as the state of the optimiser: it belongs to other weights",
        "saved with these weights",
    );
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let state = |name: &str| format!("--optimizer-state {}", fixture("adam", name).display());
    let line = |state: &str| format!("analyze {} --operator preconditioned-hessian {state} --out x", trained());
    for (name, what, hint) in [
        (
            "groups.pth",
            "the second moment of `0.weight` has shape [8], but the parameter has [8, 10]",
            "named_parameters",
        ),
        ("sgd.pth", "it is not the state of Adam or AdamW", "of Adam or AdamW that was saved"),
        ("expected.safetensors", "it is not the optimizer.safetensors of a training with adamw", "named_parameters"),
        ("missing.pth", "there is no state of an optimiser for", "--optimizer-state"),
    ] {
        assert_refused(&line(&state(name)), what, hint);
    }
    let weights = format!("--optimizer-state {}", fixture("tensors", "zip.pth").display());
    assert_refused(&line(&weights), "it does not hold the state of an optimiser", "of Adam or AdamW that was saved");
    let other = fixture_arguments("logistic-ce");
    let line = format!("analyze {other} --operator preconditioned-hessian {} --out x", state("training.pth"));
    assert_refused(&line, "cannot serve as the state of the optimiser: it has 6 parameters", "named_parameters");
    // A state that nothing would read.
    let line = format!("analyze {} {} --out x", trained(), state("training.pth"));
    assert_refused(&line, "is for --operator preconditioned-hessian", "");
    // Commands that take no state say where one belongs.
    let folder = tempfile::tempdir().unwrap();
    let vectors = folder.path().join("vectors.safetensors");
    write(&vectors, &[("vectors", &counting(&[1, 170]))]);
    let line = format!("matvec {} --operator preconditioned-hessian --vectors {}", trained(), vectors.display());
    assert_refused(
        &format!("{line} --out x"),
        "the preconditioned Hessian needs the state of Adam",
        "--optimizer-state",
    );
    assert!(!Path::new("x").exists());
}

/// `P` itself, by order and by names, and with the largest moments of AMSGrad.
#[test]
fn the_diagonal_is_that_of_pytorch() {
    let architecture = flatness::formats::Architecture::read(&fixture("mlp-tanh-ce", "model.json")).unwrap();
    let checkpoint = Checkpoint::read(&fixture("adam", "training.pth"), Some(architecture)).unwrap();
    for (name, diagonal) in
        [("training.pth", "diagonal"), ("named.pth", "diagonal"), ("amsgrad.pth", "diagonal_amsgrad")]
    {
        let state = AdamState::read(Some(&fixture("adam", name)), &checkpoint).unwrap();
        let found = state.preconditioner(checkpoint.network.space(), &Default::default()).unwrap();
        let scale = found.scale().unwrap().to_vec1::<f64>().unwrap();
        for (scale, exact) in scale.into_iter().zip(expected(diagonal)) {
            assert!((scale * exact.sqrt() - 1.0).abs() < 16.0 * f64::EPSILON, "{name}: {scale} {exact}");
        }
    }
}
