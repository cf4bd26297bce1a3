//! A real trained ResNet-20 on real images, against float64 values computed elsewhere. Skips where the data is absent.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use flatness::autodiff::Pattern;
use flatness::checkpoint::Checkpoint;
use flatness::curvature::{Curvature, CurvatureOperator, ExactParams};
use flatness::data::{DataSpec, Dataset, NormalisationChoice, RowRange};
use flatness::formats::Architecture;
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::operator::LinearOperator;
use flatness::random::{Purpose, stream};
use flatness::spectral::{EigenParams, TraceParams, eigenpairs, hutchinson};
use serde_json::Value;

fn shared(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path)
}

struct Case {
    checkpoint: Checkpoint,
    data: Dataset,
    expected: Value,
}

impl Case {
    /// The checkpoint on rows 0..200 of `source`, or `None` where either is absent.
    fn read(source: &str) -> Option<Self> {
        let folder = shared("reference/pyhessian-resnet20");
        let images = shared(source);
        if !folder.exists() || !images.exists() {
            eprintln!("skipped: {} or {} is absent", folder.display(), images.display());
            return None;
        }
        let architecture = Architecture::read(&folder.join("model.json")).unwrap();
        let normalisation = architecture.normalisation.clone().unwrap();
        let checkpoint = Checkpoint::read(&folder.join("weights.safetensors"), Some(architecture)).unwrap();
        let mut spec = DataSpec::new(format!("cifar10:{}", images.display()).parse().unwrap());
        spec.rows = Some(RowRange::new(0, 200).unwrap());
        spec.normalisation = NormalisationChoice::Custom(normalisation);
        let data = spec.load().unwrap();
        let expected = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        Some(Self { checkpoint, data, expected })
    }

    fn objective(&self, dtype: DType) -> Objective<'_> {
        self.objective_on(&self.data, dtype)
    }

    fn objective_on<'a>(&'a self, data: &'a Dataset, dtype: DType) -> Objective<'a> {
        let loss = self.checkpoint.network.about.loss.clone().unwrap();
        let options = ObjectiveOptions { dtype, ..ObjectiveOptions::new(loss) };
        Objective::new(&self.checkpoint.network, data, options).unwrap()
    }

    /// Which ReLU units are open on `data`.
    fn masks(&self, data: &Dataset, dtype: DType) -> Vec<bool> {
        let objective = self.objective_on(data, dtype);
        let mut patterns = Vec::new();
        objective.gradient_with_patterns(&objective.place(&self.checkpoint.theta).unwrap(), &mut patterns).unwrap();
        let gates = patterns.into_iter().flat_map(|pattern| match pattern {
            Pattern::Record(gates) => gates,
            _ => unreachable!("an empty list asks for a record"),
        });
        gates.flat_map(|gate| values(&gate).into_iter().map(|input| input > 0.0)).collect()
    }

    /// Hessian products with eight fixed vectors, row-major.
    fn eight_products(&self, data: &Dataset, dtype: DType) -> Vec<f64> {
        let objective = self.objective_on(data, dtype);
        let n = objective.dim();
        let vectors: Vec<f64> = (0..8).flat_map(|seed| uniform(seed, n)).collect();
        let block = objective.place(&Tensor::from_vec(vectors, (8, n), &Device::Cpu).unwrap()).unwrap();
        let theta = objective.place(&self.checkpoint.theta).unwrap();
        let operator = CurvatureOperator::new(&objective, &theta, Curvature::Hessian).unwrap();
        values(&operator.apply(&block, &mut ()).unwrap().block)
    }
}

/// Entry `i` from SplitMix64, in −1..1.
fn uniform(seed: u64, n: usize) -> Vec<f64> {
    (0..n as u64)
        .map(|i| {
            let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            2.0 * ((z >> 11) as f64 / (1u64 << 53) as f64) - 1.0
        })
        .collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|entry| entry.as_f64().unwrap()).collect()
}

fn close(what: &str, got: f64, expected: f64, tolerance: f64) {
    let error = ((got - expected) / expected).abs();
    println!("{what}: {got:.10} against {expected:.10}, relative error {error:.1e}");
    assert!(error <= tolerance, "{what}: {got} is not {expected}");
}

/// The first entries of `got`, relative to its largest entry: the file holds no more than the first 64.
fn close_head(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    let scale = got.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    let error = got.iter().zip(expected).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / scale;
    println!("{what}: relative error {error:.1e}");
    assert!(error <= tolerance, "{what}: relative error {error:e}");
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn loss_gradient_and_products() {
    let Some(case) = Case::read("data/cifar10-small-bin") else { return };
    for (dtype, tolerance) in [(DType::F64, 1e-8), (DType::F32, 1e-4)] {
        let objective = case.objective(dtype);
        let theta = objective.place(&case.checkpoint.theta).unwrap();
        let report = objective.gradient(&theta, &mut ()).unwrap();
        let expected = &case.expected;
        close("loss", report.evaluation.loss, expected["loss"].as_f64().unwrap(), tolerance);
        assert_eq!(report.evaluation.accuracy, 174.0 / 200.0);
        let gradient = values(&report.gradient);
        close("gradient norm", norm(&gradient), expected["grad_norm"].as_f64().unwrap(), tolerance);
        close_head("gradient head", &gradient, &list(&expected["grad_head"]), tolerance);
        let n = objective.dim();
        for (curvature, products, form_name) in
            [(Curvature::Hessian, &expected["hv"], "v_hv"), (Curvature::Ggn, &expected["ggn"]["products"], "v_gv")]
        {
            let products = products.as_array().unwrap();
            let vectors: Vec<f64> =
                products.iter().flat_map(|entry| uniform(entry["seed"].as_u64().unwrap(), n)).collect();
            let block = Tensor::from_vec(vectors.clone(), (products.len(), n), &Device::Cpu).unwrap();
            let operator = CurvatureOperator::new(&objective, &theta, curvature).unwrap();
            let product = values(&operator.apply(&objective.place(&block).unwrap(), &mut ()).unwrap().block);
            for (index, entry) in products.iter().enumerate() {
                let (v, hv) = (&vectors[index * n..][..n], &product[index * n..][..n]);
                let what = format!("{dtype:?} {curvature:?} {index}");
                let form: f64 = v.iter().zip(hv).map(|(v, hv)| v * hv).sum();
                close(&format!("{what} norm"), norm(hv), entry["norm"].as_f64().unwrap(), tolerance);
                close(&format!("{what} form"), form, entry[form_name].as_f64().unwrap(), tolerance);
                let head = list(&entry["head"]);
                close_head(&format!("{what} head"), hv, &head, tolerance);
            }
        }
    }
}

/// Products in single precision stay within 1e-5 of those in double precision on the images whose ReLU masks agree; on
/// the few others an input lies so near 0 that rounding decides its sign, and with it the piece that is differentiated.
#[test]
fn single_precision_is_close_to_double() {
    let Some(case) = Case::read("data/cifar10-small-bin") else { return };
    let (mut agreeing, mut units, mut differ) = (Vec::new(), 0, 0);
    for row in 0..case.data.len() {
        let data = case.data.select(&[row]).unwrap();
        let [single, double] = [DType::F32, DType::F64].map(|dtype| case.masks(&data, dtype));
        assert_eq!(single.len(), double.len());
        let differing = single.iter().zip(&double).filter(|(a, b)| a != b).count();
        if differing == 0 {
            agreeing.push(row);
        }
        (units, differ) = (units + double.len(), differ + differing);
    }
    println!(
        "{differ} of {units} ReLU masks differ, on {} of {} images",
        case.data.len() - agreeing.len(),
        case.data.len()
    );
    // Inputs have densities of order 1 at 0 and errors of order 1e-6.
    assert!(differ <= units / 100_000);
    for (name, data) in [("agreeing", &case.data.select(&agreeing).unwrap()), ("all", &case.data)] {
        let [single, double] = [DType::F32, DType::F64].map(|dtype| case.eight_products(data, dtype));
        let n = single.len() / 8;
        for (index, (single, double)) in single.chunks(n).zip(double.chunks(n)).enumerate() {
            let difference: Vec<f64> = single.iter().zip(double).map(|(a, b)| a - b).collect();
            let relative = norm(&difference) / norm(double);
            println!("{name} images, direction {index}: relative difference {relative:.1e}");
            assert!(name == "all" || relative <= 1e-5, "direction {index}: {relative:e}");
        }
    }
}

#[test]
fn top_eigenvalues_and_trace() {
    let Some(case) = Case::read("data/cifar10-small-bin") else { return };
    let objective = case.objective(DType::F32);
    let operator = CurvatureOperator::new(&objective, &case.checkpoint.theta, Curvature::Hessian).unwrap();
    let params = EigenParams { top: 10, bottom: 1, tolerance: 1e-3, ..EigenParams::default() };
    let report = eigenpairs(&operator, &params, &mut stream(0, Purpose::Eigenpairs), &mut ()).unwrap();
    let expected = list(&case.expected["top_eigenvalues"]);
    for (index, (&got, &expected)) in report.top.ritz_values.iter().zip(&expected).enumerate() {
        close(&format!("eigenvalue {index}"), got, expected, 1e-4);
        assert!(report.top.converged[index], "eigenvalue {index} has not converged");
    }
    println!("{} products", report.top.num_matvecs);
    assert!(report.bottom.ritz_values[0] < 0.0);

    let exact = case.expected["trace_exact"]["value"].as_f64().unwrap();
    let params = TraceParams { num_probes: 16 };
    let trace = hutchinson(&operator, &params, &mut stream(0, Purpose::Probes), &mut ()).unwrap();
    println!("trace {} ± {} (probes) ± {} (data)", trace.trace, trace.std_err_numeric, trace.std_err_data);
    assert!((trace.trace - exact).abs() <= 3.0 * trace.std_err_numeric, "{} is not {exact}", trace.trace);
}

/// One backward pass per image and class gives what the reference took from the whole matrix.
#[test]
fn the_trace_is_exact() {
    let Some(case) = Case::read("data/cifar10-small-bin") else { return };
    let expected = &case.expected["trace_exact"];
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 1e-5)] {
        let objective = case.objective(dtype);
        let theta = &case.checkpoint.theta;
        let groups: Vec<Vec<usize>> =
            (0..objective.network().space().tensors().len()).map(|index| vec![index]).collect();
        let report = objective.exact_trace(theta, &groups, &ExactParams::default(), &mut ()).unwrap();
        assert!(report.is_hessian && report.num_columns == 10);
        close(&format!("{dtype:?} trace"), report.total.trace, expected["value"].as_f64().unwrap(), tolerance);
        for (tensor, got) in objective.network().space().tensors().iter().zip(&report.groups) {
            let reference = expected["per_tensor"][format!("module.{}", tensor.name)].as_f64().unwrap();
            close(&format!("{dtype:?} {}", tensor.name), got.trace, reference, 10.0 * tolerance);
        }
        println!("{} ± {} over {} images", report.total.trace, report.total.std_err_data, objective.num_rows());
        let diagonal = values(&objective.exact_diagonal(theta, &ExactParams::default(), &mut ()).unwrap());
        close(&format!("{dtype:?} sum of the diagonal"), diagonal.iter().sum(), report.total.trace, tolerance);
    }
}

/// The Parquet files hold JPEGs, and the reference saw what Pillow made of them.
#[test]
fn jpegs_become_the_pixels_of_the_reference() {
    let (Some(jpegs), Some(pixels)) = (Case::read("data/cifar10"), Case::read("data/cifar10-small-bin")) else {
        return;
    };
    let loss = |case: &Case| {
        let objective = case.objective(DType::F32);
        objective.evaluate(&objective.place(&case.checkpoint.theta).unwrap(), &mut ()).unwrap().loss
    };
    assert_eq!(loss(&jpegs).to_bits(), loss(&pixels).to_bits());
}
