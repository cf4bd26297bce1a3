//! Losses, gradients, Hessians, GGNs and Fisher matrices against float64 values computed elsewhere.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use flatness::checkpoint::{Checkpoint, TensorFile};
use flatness::curvature::{Curvature, CurvatureOperator, ExactParams, OuterRows};
use flatness::data::{DataSpec, Dataset};
use flatness::formats::Architecture;
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::operator::{LinearOperator, OuterProducts};
use flatness::random::{Purpose, stream};
use flatness::spectral::{EigenParams, Factored, GramParams, RowBlocks, eigenpairs, gram};
use flatness::vocabulary::Scope;

const CASES: [&str; 7] = [
    "mlp-tanh-ce",
    "mlp-gelu-mse",
    "logistic-ce",
    "cnn-bn-relu-ce",
    "resnet-tiny-optA",
    "vit-tiny",
    "label-smoothing-wd",
];

fn fixture(case: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(case).join(file)
}

struct Case {
    checkpoint: Checkpoint,
    data: Dataset,
    expected: TensorFile,
}

impl Case {
    fn read(case: &str) -> Self {
        let architecture = Architecture::read(&fixture(case, "model.json")).unwrap();
        let checkpoint = Checkpoint::read(&fixture(case, "weights.safetensors"), Some(architecture)).unwrap();
        let source = format!("tensors:{}", fixture(case, "data.safetensors").display());
        let data = DataSpec::new(source.parse().unwrap()).load().unwrap();
        let expected = TensorFile::read(&fixture(case, "expected.safetensors")).unwrap();
        Self { checkpoint, data, expected }
    }

    fn options(&self, dtype: DType) -> ObjectiveOptions {
        let loss = self.checkpoint.network.about.loss.clone().unwrap();
        ObjectiveOptions { dtype, ..ObjectiveOptions::new(loss) }
    }

    fn expected(&self, name: &str) -> Vec<f64> {
        values(&self.expected.get(name).unwrap())
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest entry of the difference over the largest entry of the expected array.
fn relative_error(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    got.iter().zip(expected).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / scale
}

fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    let error = relative_error(got, expected);
    println!("{what}: relative error {error:.1e}");
    assert!(error <= tolerance, "{what}: relative error {error:e} above {tolerance:e}");
}

/// f64: 1e-12 where the reference promises 1e-9, since two correct f64 programs agree to a few 1e-15.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-12 } else { 1e-4 }
}

fn identity(n: usize, dtype: DType) -> Tensor {
    Tensor::eye(n, dtype, &Device::Cpu).unwrap()
}

#[test]
fn loss_and_gradient() {
    for name in CASES {
        for dtype in [DType::F64, DType::F32] {
            let case = Case::read(name);
            let objective = Objective::new(&case.checkpoint.network, &case.data, case.options(dtype)).unwrap();
            let theta = objective.place(&case.checkpoint.theta).unwrap();
            let report = objective.gradient(&theta, &mut ()).unwrap();
            let loss_tolerance = if dtype == DType::F64 { 1e-12 } else { 1e-5 };
            let evaluated = objective.evaluate(&theta, &mut ()).unwrap();
            assert_eq!(evaluated.loss, report.evaluation.loss, "{name}: forward and gradient pass disagree");
            assert_close(&format!("{name} {dtype:?} loss"), &[evaluated.loss], &case.expected("loss"), loss_tolerance);
            let gradient = values(&report.gradient);
            assert_close(&format!("{name} {dtype:?} grad"), &gradient, &case.expected("grad"), tolerance(dtype));
        }
    }
}

#[test]
fn products_with_hessian_ggn_and_fisher() {
    for name in CASES {
        for dtype in [DType::F64, DType::F32] {
            let case = Case::read(name);
            let objective = Objective::new(&case.checkpoint.network, &case.data, case.options(dtype)).unwrap();
            let block = objective.place(&case.expected.get("v").unwrap()).unwrap();
            for (curvature, expected) in
                [(Curvature::Hessian, "hv"), (Curvature::Ggn, "ggn_v"), (Curvature::EmpiricalFisher, "fisher_v")]
            {
                let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, curvature).unwrap();
                let product = operator.apply(&block, &mut ()).unwrap();
                let what = format!("{name} {dtype:?} {expected}");
                assert_close(&what, &values(&product.block), &case.expected(expected), tolerance(dtype));
                // One direction at a time gives the same.
                let one = operator.apply(&block.narrow(0, 3, 1).unwrap(), &mut ()).unwrap();
                let n = operator.dim();
                assert_close(&what, &values(&one.block), &case.expected(expected)[3 * n..4 * n], tolerance(dtype));
            }
        }
    }
}

#[test]
fn dense_matrices_and_eigenvalues() {
    for name in CASES {
        let case = Case::read(name);
        let objective = Objective::new(&case.checkpoint.network, &case.data, case.options(DType::F64)).unwrap();
        let n = objective.dim();
        for (curvature, matrix, diagonal, trace) in [
            (Curvature::Hessian, "hessian", "diag", "trace"),
            (Curvature::Ggn, "ggn", "ggn_diag", "ggn_trace"),
            (Curvature::EmpiricalFisher, "fisher_empirical", "", "fisher_trace"),
        ] {
            if n > 1500 {
                continue;
            }
            let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, curvature).unwrap();
            let dense = values(&operator.apply(&identity(n, DType::F64), &mut ()).unwrap().block);
            assert_close(&format!("{name} {matrix}"), &dense, &case.expected(matrix), 1e-12);
            let own_diagonal: Vec<f64> = (0..n).map(|i| dense[i * n + i]).collect();
            if !diagonal.is_empty() {
                assert_close(&format!("{name} {diagonal}"), &own_diagonal, &case.expected(diagonal), 1e-12);
            }
            assert_close(&format!("{name} {trace}"), &[own_diagonal.iter().sum()], &case.expected(trace), 1e-12);
            let asymmetry = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
            let asymmetry = asymmetry.fold(0.0f64, |max, (i, j)| max.max((dense[i * n + j] - dense[j * n + i]).abs()));
            assert!(asymmetry <= 1e-13 * dense.iter().fold(0.0, |max: f64, v| max.max(v.abs())), "{name} {matrix}");
            if curvature == Curvature::Hessian {
                let matrix = nalgebra::DMatrix::from_row_slice(n, n, &dense);
                let mut eigenvalues: Vec<f64> = matrix.symmetric_eigenvalues().iter().copied().collect();
                eigenvalues.sort_by(f64::total_cmp);
                assert_close(&format!("{name} spectrum"), &eigenvalues, &case.expected("hessian_eigenvalues"), 1e-9);
            }
        }
    }
}

/// Where no whole matrix is stored: the two ends of the spectrum, and the trace as the sum of the diagonal.
#[test]
fn eigenvalues_and_trace_of_the_transformer() {
    let case = Case::read("vit-tiny");
    let objective = Objective::new(&case.checkpoint.network, &case.data, case.options(DType::F64)).unwrap();
    for (curvature, names) in [
        (Curvature::Hessian, ["hessian_eigenvalues_top20", "hessian_eigenvalues_bottom5"]),
        (Curvature::Ggn, ["ggn_eigenvalues_top", ""]),
    ] {
        let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, curvature).unwrap();
        let expected = case.expected(names[0]);
        // The GGN's rank is 18 at most: 6 rows, of whose 4 logits 3 matter.
        let bottom = if names[1].is_empty() { 0 } else { 5 };
        let top = if bottom == 0 { 18 } else { expected.len() };
        // A Ritz value's error is of the order of its residual squared.
        let params = EigenParams { top, bottom, tolerance: 1e-8, ..EigenParams::default() };
        let report = eigenpairs(&operator, &params, &mut stream(5, Purpose::Check), &mut ()).unwrap();
        let error = |found: &[f64], expected: &[f64]| {
            let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
            differences.fold(0.0, f64::max) / case.expected(names[0])[0]
        };
        let top = error(&report.top.ritz_values, &expected);
        assert!(top <= 1e-9, "{curvature:?}: the largest differ by {top:e}");
        if bottom > 0 {
            let bottom = error(&report.bottom.ritz_values, &case.expected(names[1]));
            assert!(bottom <= 1e-9, "{curvature:?}: the smallest differ by {bottom:e}");
        }
    }
    let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, Curvature::Hessian).unwrap();
    let n = operator.dim();
    let block = identity(n, DType::F64);
    let mut diagonal = Vec::new();
    for start in (0..n).step_by(512) {
        let count = 512.min(n - start);
        let product = values(&operator.apply(&block.narrow(0, start, count).unwrap(), &mut ()).unwrap().block);
        diagonal.extend((0..count).map(|i| product[i * n + start + i]));
    }
    assert_close("vit-tiny diagonal", &diagonal, &case.expected("diag"), 1e-12);
    assert_close("vit-tiny trace", &[diagonal.iter().sum()], &case.expected("trace"), 1e-12);
}

/// All eigenvalues of a matrix from the Gram matrix of its rows, ascending, with memory for one `share` of these twice.
fn by_gram(case: &Case, (curvature, decay): (Curvature, f64), share: usize) -> Vec<f64> {
    let options = ObjectiveOptions { weight_decay: decay, ..case.options(DType::F64) };
    let objective = Objective::new(&case.checkpoint.network, &case.data, options).unwrap();
    let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, curvature).unwrap();
    let n = objective.dim();
    let every = Scope::All.resolve(objective.network().space()).unwrap();
    let rows = OuterRows::new(&operator, every).unwrap().unwrap();
    let count = rows.num_rows();
    let memory_bytes = 16 * count * count + 5 * 16 * n + (2 * count / share).max(2) * 16 * n;
    let blocks = RowBlocks::fit(count, n, DType::F64, 5, memory_bytes).unwrap();
    // More rows than columns have room for all while there is but one matrix.
    assert!(if share == 1 { blocks.count == 1 } else { blocks.count > 1 || count > n }, "{blocks:?}");
    let params = GramParams { top: 3, bottom: 2, eigen_tolerance: 1e-8, spans: vec![n], blocks };
    let mut rng = stream(5, Purpose::Survey);
    let report = gram(Factored { operator: &operator, factor: &rows }, &params, &mut rng, &mut (), &mut ()).unwrap();
    for end in [&report.survey.pairs.top, &report.survey.pairs.bottom] {
        assert!(end.converged.iter().all(|converged| *converged), "{:?}", end.residual_norms);
    }
    let rule = &report.survey.slq.probes[0];
    let counts = rule.weights.iter().map(|weight| (weight * n as f64).round() as usize);
    rule.nodes.iter().zip(counts).flat_map(|(node, count)| vec![*node; count]).collect()
}

#[test]
fn spectra_from_gram_matrices() {
    for name in CASES {
        let case = Case::read(name);
        let n = case.checkpoint.theta.elem_count();
        if n > 1500 {
            continue;
        }
        for (curvature, matrix) in [(Curvature::Ggn, "ggn"), (Curvature::EmpiricalFisher, "fisher_empirical")] {
            let matrix = nalgebra::DMatrix::from_row_slice(n, n, &case.expected(matrix));
            let mut expected: Vec<f64> = matrix.symmetric_eigenvalues().iter().copied().collect();
            expected.sort_by(f64::total_cmp);
            // The L2 term moves every eigenvalue of the GGN, and none of the Fisher matrix.
            for (decay, moved) in [(0.0, 0.0), (0.25, if curvature == Curvature::Ggn { 0.25 } else { 0.0 })] {
                let expected: Vec<f64> = expected.iter().map(|value| value + moved).collect();
                let found = by_gram(&case, (curvature, decay), 1);
                assert_close(&format!("{name} {curvature:?} {decay}"), &found, &expected, 1e-11);
                // So little memory that several blocks are needed changes nothing.
                assert_eq!(by_gram(&case, (curvature, decay), 8), found, "{name} {curvature:?}");
            }
        }
    }
    let case = Case::read("vit-tiny");
    let mut found = by_gram(&case, (Curvature::Ggn, 0.0), 1);
    found.reverse();
    let expected = case.expected("ggn_eigenvalues_top");
    assert_close("vit-tiny", &found[..expected.len()], &expected, 1e-11);
}

/// No products: the diagonal comes from one backward pass per row and output.
#[test]
fn exact_diagonals_and_traces() {
    for name in CASES {
        let case = Case::read(name);
        let smooth = name.starts_with("mlp-") || name == "vit-tiny";
        for dtype in [DType::F64, DType::F32] {
            let objective = Objective::new(&case.checkpoint.network, &case.data, case.options(dtype)).unwrap();
            let (theta, params) = (&case.checkpoint.theta, ExactParams::default());
            let diagonal = values(&objective.exact_diagonal(theta, &params, &mut ()).unwrap());
            let groups: Vec<Vec<usize>> =
                (0..objective.network().space().tensors().len()).map(|index| vec![index]).collect();
            let report = objective.exact_trace(theta, &groups, &params, &mut ()).unwrap();
            let what = format!("{name} {dtype:?}");
            assert_close(&format!("{what} diagonal"), &diagonal, &case.expected("ggn_diag"), tolerance(dtype));
            let tolerance = if dtype == DType::F64 { 1e-12 } else { 1e-5 };
            assert_close(&format!("{what} trace"), &[report.total.trace], &case.expected("ggn_trace"), tolerance);
            assert_eq!(report.is_hessian, !smooth, "{what}");
            if report.is_hessian {
                assert_close(
                    &format!("{what} Hessian trace"),
                    &[report.total.trace],
                    &case.expected("trace"),
                    tolerance,
                );
            }
        }
    }
}

#[test]
fn weight_decay_is_in_or_out_as_asked() {
    let case = Case::read("label-smoothing-wd");
    let weight_decay = case.checkpoint.network.about.weight_decay;
    assert_eq!(weight_decay, 5e-4);
    let options = ObjectiveOptions { weight_decay, ..case.options(DType::F64) };
    let objective = Objective::new(&case.checkpoint.network, &case.data, options).unwrap();
    let report = objective.gradient(&case.checkpoint.theta, &mut ()).unwrap();
    assert_close("loss with decay", &[report.evaluation.loss], &case.expected("loss_with_wd"), 1e-12);
    assert_close("grad with decay", &values(&report.gradient), &case.expected("grad_with_wd"), 1e-12);
    let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, Curvature::Hessian).unwrap();
    let product = operator.apply(&case.expected.get("v").unwrap(), &mut ()).unwrap();
    assert_close("hv with decay", &values(&product.block), &case.expected("hv_with_wd"), 1e-12);
}

#[test]
fn a_product_that_is_not_finite_names_its_rows() {
    let case = Case::read("mlp-tanh-ce");
    let objective = Objective::new(&case.checkpoint.network, &case.data, case.options(DType::F64)).unwrap();
    let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, Curvature::Hessian).unwrap();
    let block = (case.expected.get("v").unwrap() * f64::NAN).unwrap();
    for error in [operator.apply(&block, &mut ()).err(), operator.multiply(&block, &mut ()).err()] {
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("not finite on a micro-batch (shard 0, number of rows"), "{error}");
    }
}

#[test]
fn products_do_not_depend_on_threads_or_on_the_cut_into_shards() {
    let case = Case::read("resnet-tiny-optA");
    let block = &case.expected.get("v").unwrap();
    let product = |threads: usize, num_shards: usize| {
        let mut options = ObjectiveOptions { num_shards, ..case.options(DType::F64) };
        options.execution.threads = threads;
        let objective = Objective::new(&case.checkpoint.network, &case.data, options).unwrap();
        let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, Curvature::Hessian).unwrap();
        let product = operator.apply(block, &mut ()).unwrap();
        (values(&product.block), product.shards, values(&operator.multiply(block, &mut ()).unwrap()))
    };
    let (one, shards, without_forms) = product(1, 4);
    for threads in [2, 5] {
        let (block, _, multiplied) = product(threads, 4);
        assert!(block == one && multiplied == without_forms, "the number of threads changed bits");
    }
    assert_close("one shard", &product(2, 1).0, &one, 1e-13);
    assert_close("without forms", &without_forms, &one, 1e-13);
    // The shards' forms add up to the form of the whole.
    let shards = shards.unwrap();
    let n = one.len() / 8;
    let v = values(block);
    for direction in 0..8 {
        let whole: f64 = (0..n).map(|i| v[direction * n + i] * one[direction * n + i]).sum();
        let total: usize = shards.rows.iter().sum();
        let parts: f64 =
            shards.rows.iter().zip(&shards.forms).map(|(&rows, f)| rows as f64 / total as f64 * f[direction]).sum();
        assert!((whole - parts).abs() <= 1e-12 * whole.abs().max(1.0), "{whole} is not {parts}");
    }
}
