//! Optimisers on gradients of real networks: three steps of every method against PyTorch's, and identities between
//! methods, bit for bit.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use flatness::autodiff::ParamSpace;
use flatness::checkpoint::{Checkpoint, TensorFile};
use flatness::data::{DataSpec, Dataset};
use flatness::formats::Architecture;
use flatness::objective::{Evaluation, GradientReport, Objective, ObjectiveOptions};
use flatness::optim::{Optimizer, OptimizerConfig, OptimizerState, Setup, Update};
use flatness::program::BatchNormMode;
use flatness::program::Mode;
use flatness::vocabulary::ParamKind;

/// Of all noise here; `tools/optimizer_fixture.py` gets the numbers, not the seed.
const SEED: u64 = 7;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A network and its rows.
struct Problem {
    checkpoint: Checkpoint,
    data: Dataset,
}

impl Problem {
    fn read(name: &str) -> Self {
        let architecture = Architecture::read(&fixture(&format!("{name}/model.json"))).unwrap();
        let weights = fixture(&format!("{name}/weights.safetensors"));
        let checkpoint = Checkpoint::read(&weights, Some(architecture)).unwrap();
        let source = format!("tensors:{}", fixture(&format!("{name}/data.safetensors")).display());
        Self { checkpoint, data: DataSpec::new(source.parse().unwrap()).load().unwrap() }
    }

    fn objective(&self, dtype: DType) -> Objective<'_> {
        let loss = self.checkpoint.network.about.loss.clone().unwrap();
        let options = ObjectiveOptions { dtype, batch_norm: BatchNormMode::Train, ..ObjectiveOptions::new(loss) };
        Objective::new(&self.checkpoint.network, &self.data, options).unwrap()
    }
}

/// Mean gradient of the batch of step `step`: 12 rows, of which 4 were in the batch before.
fn gradient(objective: &Objective<'_>, step: usize, theta: &Tensor) -> GradientReport {
    let rows: Vec<usize> = (0..12).map(|row| (8 * step + row) % objective.num_rows()).collect();
    let batch = objective.batch(&rows).unwrap();
    objective.training_gradient(theta, &batch, Mode::Train { draws: None }).unwrap()
}

/// Three updates with learning rates `rate`, `rate` and `rate/2`.
fn run(problem: &Problem, dtype: DType, text: &str, setup: Setup, rate: f64) -> Vec<Update> {
    let objective = problem.objective(dtype);
    let config: OptimizerConfig = text.parse().unwrap();
    let mut optimizer = Optimizer::new(&config, setup, problem.checkpoint.network.space()).unwrap();
    let mut theta = objective.place(&problem.checkpoint.theta).unwrap();
    let rates = [rate, rate, rate / 2.0];
    let steps = rates.into_iter().enumerate().map(|(step, rate)| {
        let update = optimizer.step(&theta, rate, &mut |theta| Ok(gradient(&objective, step, theta))).unwrap();
        theta = update.theta.clone();
        update
    });
    steps.collect()
}

/// A case's name in the fixture: the method, then `name=value` for the learning rate and the setup.
fn parse_case(name: &str) -> (&str, Setup, f64) {
    let mut words = name.split(' ');
    let (text, mut setup, mut rate) = (words.next().unwrap(), Setup { seed: SEED, ..Setup::default() }, f64::NAN);
    for word in words {
        match word.split_once('=').unwrap() {
            ("learning_rate", value) => rate = value.parse().unwrap(),
            ("weight_decay", value) => setup.weight_decay = value.parse().unwrap(),
            ("decay", value) => setup.decay = serde_json::from_value(value.into()).unwrap(),
            ("clip_norm", value) => setup.clip_norm = Some(value.parse().unwrap()),
            other => panic!("{other:?}"),
        }
    }
    (text, setup, rate)
}

#[test]
fn three_steps_of_every_method_agree_with_pytorch() {
    let problem = Problem::read("mlp-tanh-ce");
    let expected = TensorFile::read(&fixture("optimizers/steps.safetensors")).unwrap().into_tensors().unwrap();
    for method in flatness::optim::OPTIMIZERS {
        assert!(expected.keys().any(|name| parse_case(name).0.split(':').next() == Some(method)), "no {method}");
    }
    for (name, expected) in &expected {
        let (text, setup, rate) = parse_case(name);
        let start = values(&problem.checkpoint.theta);
        for (step, update) in run(&problem, DType::F64, text, setup, rate).iter().enumerate() {
            let (got, expected) = (values(&update.theta), values(&expected.get(step).unwrap()));
            let error = got.iter().zip(&expected).fold(0.0f64, |max, (a, b)| max.max((a - b).abs()));
            // Gradients of order 1 agree to some 1e-16, and AdamW divides them by numbers above 1e-3; three steps.
            assert!(error < 1e-12, "{name}: {error:e} after step {}", step + 1);
            assert!(got.iter().zip(&start).any(|(a, b)| (a - b).abs() > 1e-4), "{name} does not move");
        }
    }
}

/// The noise behind the fixture: `ε/σ` of six draws by law, and `ξ` of three steps, each `[draws, n]`.
///
/// `ε` is what a gradient at `θ = 0` sees, `ξ` what SGLD with `2 λ β⁻¹ = 1` and no gradient leaves there.
fn recorded_noise(n: usize) -> HashMap<String, Tensor> {
    let space = ParamSpace::new([("w".into(), vec![n], ParamKind::Weight)]);
    let zero = Tensor::zeros(n, DType::F64, &Device::Cpu).unwrap();
    let nan = f64::NAN;
    let evaluation = Evaluation { loss: nan, loss_std_err: nan, accuracy: nan, accuracy_std_err: nan };
    let report = GradientReport { evaluation, gradient: zero.clone(), statistics: Vec::new(), scores: None };
    let record = |text: &str, steps: usize| {
        let setup = Setup { seed: SEED, ..Setup::default() };
        let mut optimizer = Optimizer::new(&text.parse().unwrap(), setup, &space).unwrap();
        let (mut seen, mut left) = (Vec::new(), Vec::new());
        for _ in 0..steps {
            let update = optimizer.step(&zero, 1.0, &mut |theta| {
                seen.push(theta.clone());
                Ok(report.clone())
            });
            left.push(update.unwrap().theta);
        }
        (Tensor::stack(&seen, 0).unwrap(), Tensor::stack(&left, 0).unwrap())
    };
    HashMap::from([
        ("gaussian".to_owned(), record("rwp:sigma=1", 6).0),
        ("rademacher".to_owned(), record("rwp:sigma=1,perturbation=rademacher", 6).0),
        ("langevin".to_owned(), record("sgld:beta_inverse=0.5", 3).1),
    ])
}

/// Noise is part of every result: the same numbers as when the fixture was made.
#[test]
fn noise_is_that_of_the_fixture() {
    let expected = TensorFile::read(&fixture("optimizers/noise.safetensors")).unwrap();
    for (name, noise) in recorded_noise(170) {
        for (got, expected) in values(&noise).iter().zip(values(&expected.get(&name).unwrap())) {
            // Machines may differ in the last bit of a logarithm.
            assert!((got - expected).abs() <= 4.0 * f64::EPSILON * expected.abs(), "{name}: {got} {expected}");
        }
    }
}

/// First half of making the fixture anew, before `tools/optimizer_fixture.py`.
#[test]
#[ignore = "writes tests/fixtures/optimizers/noise.safetensors"]
fn write_the_noise_of_the_fixture() {
    candle_core::safetensors::save(&recorded_noise(170), fixture("optimizers/noise.safetensors")).unwrap();
}

/// Parameters, momentum buffers and statistics agree, on networks without and with batch normalisation.
#[test]
fn zero_scales_reduce_one_method_to_another_bit_for_bit() {
    let pairs = [
        ("fsgld:sigma=0,beta_inverse=1e-5", "sgld:beta_inverse=1e-5"),
        ("fsgld:sigma=0,beta_inverse=1e-5,num_perturbations=3,antithetic=true", "sgld:beta_inverse=1e-5"),
        ("fsgld:sigma=0,beta_inverse=0,momentum=0.9", "sgd"),
        ("fsgld:sigma=0.01,beta_inverse=0", "rwp:sigma=0.01,momentum=0"),
        ("fsgld:sigma=0.01,beta_inverse=0,momentum=0.9", "rwp:sigma=0.01"),
        ("sgld:beta_inverse=0", "sgd:momentum=0"),
        ("sam:rho=0", "sgd"),
        ("sam:rho=0,nesterov=true", "sgd:nesterov=true"),
        ("sam:rho=0,base=adamw", "adamw"),
        ("asam:rho=0", "sgd"),
        ("asam:rho=0,base=adamw,beta1=0.8", "adamw:beta1=0.8"),
        ("rwp:sigma=0", "sgd"),
        ("rwp:sigma=0,base=adamw", "adamw"),
    ];
    for name in ["mlp-tanh-ce", "cnn-bn-relu-ce", "resnet-tiny-optA"] {
        let problem = Problem::read(name);
        for dtype in [DType::F32, DType::F64] {
            let run = |text: &str| {
                let setup =
                    Setup { weight_decay: 0.01, clip_norm: Some(0.5), seed: SEED, threads: 2, ..Setup::default() };
                let steps = run(&problem, dtype, text, setup, 0.05);
                let statistics = steps.iter().flat_map(|update| &update.pass.statistics);
                let parts = steps.iter().map(|update| values(&update.theta)).chain(statistics.map(|s| values(&s.mean)));
                parts.flatten().map(f64::to_bits).collect::<Vec<u64>>()
            };
            for (method, reduced) in pairs {
                assert!(run(method) == run(reduced), "{method} is not {reduced} on {name} in {dtype:?}");
            }
            // And the scales do something where they are not 0.
            let plain = run("sgd");
            for text in ["fsgld:sigma=0,beta_inverse=1e-5,momentum=0.9", "rwp:sigma=0.01", "sam", "asam", "adamw"] {
                assert!(run(text) != plain, "{text} on {name}");
            }
        }
    }
}

/// Cut after the first of three steps, with the state through a file in between, in single precision.
#[test]
fn a_saved_state_goes_on_bit_for_bit() {
    let problem = Problem::read("cnn-bn-relu-ce");
    let objective = problem.objective(DType::F32);
    let space = problem.checkpoint.network.space();
    let folder = tempfile::tempdir().unwrap();
    let more = ["fsgld:momentum=0.9,beta_inverse=1e-4", "sam:base=adamw", "asam:base=adamw", "rwp:base=adamw"];
    for text in flatness::optim::OPTIMIZERS.into_iter().chain(more) {
        let setup = || Setup { weight_decay: 0.01, seed: SEED, threads: 2, ..Setup::default() };
        let whole = run(&problem, DType::F32, text, setup(), 0.1);
        let mut state = OptimizerState { steps: 0, tensors: Vec::new() };
        let mut theta = objective.place(&problem.checkpoint.theta).unwrap();
        for (step, rate) in [0.1, 0.1, 0.05].into_iter().enumerate() {
            let mut optimizer = Optimizer::new(&text.parse().unwrap(), setup(), space).unwrap();
            optimizer.restore(state).unwrap();
            theta = optimizer.step(&theta, rate, &mut |theta| Ok(gradient(&objective, step, theta))).unwrap().theta;
            let OptimizerState { steps, tensors } = optimizer.state();
            let file = folder.path().join("state.safetensors");
            candle_core::safetensors::save(&tensors.into_iter().collect::<HashMap<_, _>>(), &file).unwrap();
            let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap().into_iter().collect();
            state = OptimizerState { steps, tensors };
            assert_eq!(values(&theta), values(&whole[step].theta), "{text}, step {step}");
        }
    }
}

/// The pass of a step is the mean of the passes taken, each at its own perturbation.
#[test]
fn several_perturbations_are_averaged() {
    let problem = Problem::read("cnn-bn-relu-ce");
    for (text, passes) in [
        ("fsgld:sigma=0.01,num_perturbations=3", 3),
        ("rwp:sigma=0.01,num_perturbations=2,antithetic=true", 4),
        ("rwp:sigma=0.01,perturbation=rademacher,antithetic=true,base=adamw", 2),
    ] {
        for dtype in [DType::F32, DType::F64] {
            let objective = problem.objective(dtype);
            let config: OptimizerConfig = text.parse().unwrap();
            let mut optimizer = Optimizer::new(&config, Setup::default(), problem.checkpoint.network.space()).unwrap();
            let theta = objective.place(&problem.checkpoint.theta).unwrap();
            let (mut points, mut reports) = (Vec::new(), Vec::new());
            let update = optimizer.step(&theta, 0.1, &mut |theta| {
                points.push(values(theta));
                reports.push(gradient(&objective, 0, theta));
                Ok(reports[reports.len() - 1].clone())
            });
            let pass = update.unwrap().pass;
            assert_eq!(reports.len(), passes, "{text}");
            assert!(points.iter().enumerate().all(|(i, point)| !points[..i].contains(point)), "{text}");
            let mut sum = reports[0].gradient.clone();
            for report in &reports[1..] {
                sum = (sum + &report.gradient).unwrap();
            }
            assert_eq!(values(&pass.gradient), values(&(sum * (1.0 / passes as f64)).unwrap()), "{text}");
            let loss = reports.iter().map(|report| report.evaluation.loss).sum::<f64>() / passes as f64;
            assert!((pass.evaluation.loss - loss).abs() < 4.0 * f64::EPSILON * loss, "{text}");
            assert_eq!(pass.statistics.len(), passes * reports[0].statistics.len(), "{text}");
        }
    }
}
