//! Programs that torch.export wrote, against PyTorch's float64 values: loss, output, gradient, Hessian and Gauss-Newton
//! products. Skipped, visibly, where the folder of references is absent.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use flatness::analysis::check_outputs;
use flatness::autodiff::{Saved, Tape};
use flatness::checkpoint::{ARCH_KEY, Checkpoint, TensorFile, write_checkpoint};
use flatness::curvature::{Curvature, CurvatureOperator, OuterRows};
use flatness::data::{DataSpec, Dataset};
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::operator::{LinearOperator, OuterProducts};
use flatness::program::{Loss, Mode, Parameters};
use flatness::vocabulary::Scope;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The reference programs that must agree.
const COVERED: [&str; 16] = [
    "preactivation",
    "mixer",
    "convnext",
    "torchvision-vit",
    "mobilenetv3",
    "swin",
    "hand-written",
    "own-loss",
    "unet",
    "llama",
    "gpt2",
    "bert",
    "bert-masked",
    "in-place",
    "audio",
    "lstm",
];

fn references() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/programs");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: {} does not exist", folder.display());
    None
}

struct Case {
    checkpoint: Checkpoint,
    data: Dataset,
    expected: TensorFile,
    loss: Loss,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let case = std::fs::read_to_string(folder.join("case.json")).unwrap();
        let case: serde_json::Value = serde_json::from_str(&case).unwrap();
        let loss = match case["loss"].as_str().unwrap() {
            "cross_entropy" => Loss::cross_entropy(),
            "bce_with_logits" => Loss::bce_with_logits(),
            "mse" => Loss::Mse {},
            "program" => Loss::Program {},
            other => panic!("{other}"),
        };
        let checkpoint = Checkpoint::read(&folder.join("net.pt2"), None).unwrap();
        let names: Vec<&str> =
            case["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        let own: Vec<&str> = checkpoint.network.space().tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(own, names);
        let source = format!("tensors:{}", folder.join("data.safetensors").display());
        let data = DataSpec::new(source.parse().unwrap()).load().unwrap();
        let expected = TensorFile::read(&folder.join("expected.safetensors")).unwrap();
        Self { checkpoint, data, expected, loss }
    }

    /// The relative errors of loss, output, gradient, `hv` and, where there is one, `ggn_v`, with their names.
    fn errors(&self, dtype: DType) -> Vec<(&'static str, f64)> {
        let options = ObjectiveOptions { dtype, ..ObjectiveOptions::new(self.loss.clone()) };
        let network = &self.checkpoint.network;
        let objective = Objective::new(network, &self.data, options).unwrap();
        // Masks that look rows up by their own places do not couple them.
        assert!(!objective.couples_rows(), "{:?}", objective.coupling());
        let theta = objective.place(&self.checkpoint.theta).unwrap();
        let report = objective.gradient(&theta, &mut ()).unwrap();
        let batch = objective.batch(&(0..self.data.len()).collect::<Vec<_>>()).unwrap();
        let mut tape = Tape::<Tensor>::new(Saved::Nothing);
        let params = network.space().split(&theta).unwrap();
        let output = network
            .forward_with_fixed(&mut tape, Parameters { values: &params, fixed: &[] }, batch.inputs(), Mode::Eval)
            .unwrap()
            .output;
        let block = objective.place(&self.expected.get("v").unwrap()).unwrap();
        let product = |curvature| {
            let operator = CurvatureOperator::new(&objective, &self.checkpoint.theta, curvature).unwrap();
            operator.apply(&block, &mut ()).unwrap().block
        };
        let loss = Tensor::new(&[report.evaluation.loss], &Device::Cpu).unwrap();
        let mut found = vec![
            ("loss", loss),
            ("output", output.value().clone()),
            ("grad", report.gradient),
            ("hv", product(Curvature::Hessian)),
        ];
        if self.loss != (Loss::Program {}) {
            found.push(("ggn_v", product(Curvature::Ggn)));
            found.push(("ggn_v", self.by_rows(&objective, &block)));
        }
        found.into_iter().map(|(name, got)| (name, relative_error(&got, &self.expected.get(name).unwrap()))).collect()
    }

    /// Products with the Gauss-Newton matrix as a sum of outer products, one for each output that counts.
    fn by_rows(&self, objective: &Objective<'_>, block: &Tensor) -> Tensor {
        let operator = CurvatureOperator::new(objective, &self.checkpoint.theta, Curvature::Ggn).unwrap();
        let every = Scope::All.resolve(objective.network().space()).unwrap();
        let rows = OuterRows::new(&operator, every).unwrap().unwrap();
        let factor = rows.rows(0..rows.num_rows(), &mut ()).unwrap();
        block.matmul(&factor.t().unwrap()).unwrap().matmul(&factor).unwrap()
    }
}

/// The norm of the difference over that of the expected values.
fn relative_error(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.dims(), expected.dims());
    let values =
        |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (got, expected) = (values(got), values(expected));
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(&expected).map(|(got, expected)| got - expected));
    difference / norm(&mut expected.iter().copied())
}

/// Compares all values of these cases in both precisions.
fn compare(folder: &Path, cases: &[&str]) {
    let mut wrong = Vec::new();
    for case in cases {
        // A case that cannot be read does not hide the others.
        let Ok(read) = std::panic::catch_unwind(|| Case::read(&folder.join(case))) else {
            wrong.push(format!("{case}: not read"));
            continue;
        };
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
            let found = std::panic::catch_unwind(AssertUnwindSafe(|| read.errors(dtype)));
            let Ok(found) = found else {
                wrong.push(format!("{case}: no values in {}", dtype.as_str()));
                continue;
            };
            for (name, error) in found {
                println!("{case:<16} {} {name:<6} {error:.1e}", dtype.as_str());
                // A NaN is no agreement either.
                if error.is_nan() || error > tolerance {
                    wrong.push(format!("{case}: {name} in {}: {error:.1e}", dtype.as_str()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values_are_those_of_pytorch() {
    let Some(folder) = references() else { return };
    compare(&folder, &COVERED);
}

/// Families of operations, each in one small network that `tools/make_program_fixtures.py` makes.
#[test]
fn families_of_operations_agree_with_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs");
    compare(&folder, &["activations", "reductions", "indices", "images", "sequences"]);
}

/// The command line takes an archive where it takes a checkpoint.
#[test]
fn matvec_reads_archives() {
    let Some(folder) = references() else { return };
    let out = tempfile::tempdir().unwrap();
    for (case, loss) in [("bert", "cross-entropy"), ("own-loss", "program")] {
        let file = |name: &str| folder.join(case).join(name).display().to_string();
        let expected = TensorFile::read(&folder.join(case).join("expected.safetensors")).unwrap();
        let (vectors, products) = (out.path().join(format!("{case}-v")), out.path().join(format!("{case}-p")));
        let tensors = [("vectors".to_owned(), expected.get("v").unwrap())];
        flatness::checkpoint::write_tensors(&vectors, &tensors, &Default::default()).unwrap();
        let (data, vectors, products) = (
            format!("tensors:{}", file("data.safetensors")),
            vectors.display().to_string(),
            products.display().to_string(),
        );
        let net = file("net.pt2");
        let arguments = ["matvec", &net, "--data", &data, "--loss", loss, "--operator", "hessian"];
        let rest = ["--dtype", "f64", "--vectors", &vectors, "--out", &products];
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_flatness"))
            .args(arguments.iter().chain(&rest))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let got = TensorFile::read(Path::new(&products)).unwrap();
        assert!(relative_error(&got.get("products").unwrap(), &expected.get("hv").unwrap()) < 1e-9);
    }
}

/// A program in a checkpoint's metadata is the program that went in: the same bits come out.
#[test]
fn programs_come_back_from_checkpoints() {
    let Some(folder) = references() else { return };
    let out = tempfile::tempdir().unwrap();
    for case in COVERED {
        let first = Case::read(&folder.join(case));
        let path = out.path().join(format!("{case}.safetensors"));
        let network = &first.checkpoint.network;
        let metadata = [(ARCH_KEY.to_owned(), network.about.description.clone())].into();
        write_checkpoint(&path, network, &first.checkpoint.theta, &metadata).unwrap();
        let again = Checkpoint::read(&path, None).unwrap();
        assert_eq!(again.network.about, network.about, "{case}");
        assert_eq!(again.network.program().nodes, network.program().nodes, "{case}");
        let gradient = |checkpoint: &Checkpoint| {
            let options = ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(first.loss.clone()) };
            let objective = Objective::new(&checkpoint.network, &first.data, options).unwrap();
            let theta = objective.place(&checkpoint.theta).unwrap();
            objective.gradient(&theta, &mut ()).unwrap().gradient.to_vec1::<f64>().unwrap()
        };
        assert_eq!(gradient(&again), gradient(&first.checkpoint), "{case}");
    }
}

/// What a module does in training only comes from its other program: here a factor 1/0.8 and batch statistics.
#[test]
fn training_runs_the_program_of_training() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs/training-mode");
    let file = |name: &str| folder.join(name);
    let checkpoint = Checkpoint::read(&file("net.safetensors"), None).unwrap();
    let data =
        DataSpec::new(format!("tensors:{}", file("data.safetensors").display()).parse().unwrap()).load().unwrap();
    let loss = checkpoint.network.about.loss.clone().unwrap();
    let options = ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(loss) };
    let objective = Objective::new(&checkpoint.network, &data, options).unwrap();
    let theta = objective.place(&checkpoint.theta).unwrap();
    let batch = objective.batch(&(0..data.len()).collect::<Vec<_>>()).unwrap();
    let draws = Some(ChaCha8Rng::seed_from_u64(1));
    let report = objective.training_gradient(&theta, &batch, Mode::Train { draws }).unwrap();
    let expected = TensorFile::read(&file("expected.safetensors")).unwrap();
    assert!(relative_error(&report.gradient, &expected.get("grad").unwrap()) < 1e-12);
    let loss = Tensor::new(&[report.evaluation.loss], &Device::Cpu).unwrap();
    assert!(relative_error(&loss, &expected.get("loss").unwrap()) < 1e-12);
    // Analysis runs the other one.
    assert_ne!(objective.gradient(&theta, &mut ()).unwrap().evaluation.loss, report.evaluation.loss);
}

/// The same network written by two older releases, with pickled weights, against its outputs in PyTorch.
#[test]
fn archives_of_older_releases_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tensors");
    // The oldest names the tied weight after its last place.
    for (name, tied) in [("export-2.5", "out.weight"), ("export-2.8", "fc.weight")] {
        let checkpoint = Checkpoint::read(&folder.join(format!("{name}.pt2")), None).unwrap();
        let names: Vec<&str> = checkpoint.network.space().tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        let expected = ["conv.weight", "conv.bias", "norm.weight", "norm.bias", tied, "fc.bias", "back.weight"];
        assert_eq!(names, expected, "{name}");
        let outputs = TensorFile::read(&folder.join(format!("{name}.safetensors"))).unwrap();
        let finding = check_outputs(&checkpoint, &outputs).unwrap();
        assert_eq!(finding.passed, Some(true), "{finding:?}");
    }
}
