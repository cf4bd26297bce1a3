//! Random numbers, comparisons and small networks for the tests of the engine.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use flatness::curvature::{Curvature, CurvatureOperator};
use flatness::data::{Dataset, Inputs, Targets};
use flatness::formats::Architecture;
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::operator::LinearOperator;
use flatness::program::{BatchNormMode, Loss, Network};
use flatness::random::{Purpose, stream};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::reference::Array;

/// The stream of test `seed`.
pub fn random(seed: u64) -> ChaCha8Rng {
    stream(seed, Purpose::Check)
}

/// `len` numbers, uniform in `low..high`.
pub fn uniform(rng: &mut ChaCha8Rng, len: usize, low: f64, high: f64) -> Vec<f64> {
    (0..len).map(|_| rng.random_range(low..high)).collect()
}

/// A tensor of numbers with all digits of `dtype` (short ones would hide a changed order of sums), uniform in -1..1.
pub fn tensor(rng: &mut ChaCha8Rng, shape: &[usize], dtype: DType) -> Tensor {
    let values = uniform(rng, shape.iter().product(), -1.0, 1.0);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// All elements, row-major.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest magnitude.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |max, value| max.max(value.abs()))
}

/// Distance between 1 and the next number of a dtype.
pub fn epsilon(dtype: DType) -> f64 {
    if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON }
}

/// Every entry differs by at most `tolerance`; gives the largest difference.
#[track_caller]
pub fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) -> f64 {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    let mut worst: f64 = 0.0;
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(error <= tolerance, "{what}: entry {index} is {got:e}, expected {expected:e}, tolerance {tolerance:e}");
        worst = worst.max(error);
    }
    worst
}

/// Every entry differs by at most its own tolerance.
#[track_caller]
pub fn assert_each_close(what: &str, got: &[f64], expected: &[f64], tolerances: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    assert_eq!(got.len(), tolerances.len(), "{what}: lengths");
    for (index, ((got, expected), tolerance)) in got.iter().zip(expected).zip(tolerances).enumerate() {
        let error = (got - expected).abs();
        assert!(
            error <= *tolerance,
            "{what}: entry {index} is {got:e}, expected {expected:e}, tolerance {tolerance:e}"
        );
    }
}

/// `f′(0)` by the five-point rule: error `h⁴ f⁽⁵⁾/30 + 1.5 ε |f| / h`.
pub fn derivative(mut f: impl FnMut(f64) -> Vec<f64>) -> Vec<f64> {
    let h = 1e-3;
    let (right, left, far_right, far_left) = (f(h), f(-h), f(2.0 * h), f(-2.0 * h));
    (0..right.len()).map(|i| (8.0 * (right[i] - left[i]) - (far_right[i] - far_left[i])) / (12.0 * h)).collect()
}

/// What the five-point rule can promise here: fifth derivatives of these small networks stay below 1e5 times the
/// values' scale, so that `h⁴ f⁽⁵⁾/30` with `h` = 1e-3 is below 4e-9 of it; rounding is a thousand times smaller.
pub const DIFFERENCE_TOLERANCE: f64 = 4e-9;

/// A network with random weights and random rows.
pub struct Problem {
    pub network: Network,
    pub data: Dataset,
    pub theta: Vec<f64>,
    pub loss: Loss,
    pub train: bool,
    pub num_shards: usize,
}

impl Problem {
    /// `layers` as JSON; `outputs` is the width of real targets or the number of classes.
    pub fn new(layers: &str, shape: &[usize], rows: usize, loss: Loss, seed: u64) -> Self {
        let architecture = Architecture::from_json(&format!("{{\"layers\": {layers}}}"), "test").unwrap();
        let mut rng = random(seed);
        let mut buffers = HashMap::new();
        for (name, shape) in architecture.buffers().unwrap() {
            let len = shape.iter().product();
            let (low, high) = if name.ends_with("var") { (0.5, 2.0) } else { (-0.3, 0.3) };
            let values = uniform(&mut rng, len, low, high);
            buffers.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
        }
        let network = architecture.network(buffers).unwrap();
        let theta = uniform(&mut rng, network.space().dim(), -0.8, 0.8);
        let inputs = Inputs::Float64(uniform(&mut rng, rows * shape.iter().product::<usize>(), -1.0, 1.0));
        let targets = match loss {
            Loss::CrossEntropy(_) => {
                Targets::Classes { labels: (0..rows as u32).map(|row| (2 * row + 1) % 3).collect(), num_classes: 3 }
            }
            _ => Targets::Values { values: uniform(&mut rng, 3 * rows, 0.0, 1.0), sample_shape: vec![3] },
        };
        let data = Dataset::new("test".into(), shape.to_vec(), inputs, targets, None).unwrap();
        Self { network, data, theta, loss, train: false, num_shards: 16 }
    }

    pub fn options(&self, dtype: DType) -> ObjectiveOptions {
        let mut options =
            ObjectiveOptions { dtype, num_shards: self.num_shards, ..ObjectiveOptions::new(self.loss.clone()) };
        options.batch_norm = if self.train { BatchNormMode::Train } else { BatchNormMode::Eval };
        options.execution.threads = 2;
        options
    }

    pub fn objective(&self, dtype: DType) -> Objective<'_> {
        Objective::new(&self.network, &self.data, self.options(dtype)).unwrap()
    }

    pub fn dim(&self) -> usize {
        self.theta.len()
    }

    /// Inputs as the reference takes them.
    pub fn inputs(&self) -> Array {
        let Inputs::Float64(values) = &self.data.inputs else { unreachable!("built from f64") };
        let dims = [&[self.data.len()], self.data.sample_shape.as_slice()].concat();
        Array { dims, data: values.clone() }
    }

    /// Parameters at `theta` and buffers by name.
    pub fn named(&self, theta: &[f64]) -> HashMap<String, Array> {
        let params = self.network.space().tensors().iter().map(|tensor| {
            let data = theta[tensor.offset..tensor.offset + tensor.len()].to_vec();
            (tensor.name.clone(), Array { dims: tensor.shape.clone(), data })
        });
        let buffers = self
            .network
            .buffers()
            .iter()
            .map(|(name, tensor)| (name.clone(), Array { dims: tensor.dims().to_vec(), data: values(tensor) }));
        params.chain(buffers).collect()
    }
}

/// A vector of the parameter space in f64.
pub fn vector(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

/// The products with the rows of `block`, row-major.
pub fn products(objective: &Objective<'_>, theta: &[f64], curvature: Curvature, block: &Tensor) -> Vec<f64> {
    products_of_draw(objective, theta, (curvature, 0), block)
}

/// The same with the seed of the labels of a Monte Carlo Fisher matrix.
pub fn products_of_draw(
    objective: &Objective<'_>,
    theta: &[f64],
    (curvature, seed): (Curvature, u64),
    block: &Tensor,
) -> Vec<f64> {
    let operator = CurvatureOperator::new(objective, &vector(theta), curvature).unwrap().with_label_seed(seed);
    let block = objective.place(block).unwrap();
    values(&operator.apply(&block, &mut ()).unwrap().block)
}

/// The whole matrix, row-major.
pub fn dense(objective: &Objective<'_>, theta: &[f64], curvature: Curvature) -> Vec<f64> {
    products(objective, theta, curvature, &Tensor::eye(theta.len(), DType::F64, &Device::Cpu).unwrap())
}

/// Rounding in a symmetric product is `ε` times the number of additions behind an entry, at most a few thousand here.
#[track_caller]
pub fn assert_symmetric(what: &str, matrix: &[f64], n: usize) {
    let tolerance = 4096.0 * f64::EPSILON * largest(matrix);
    for (i, j) in (0..n).flat_map(|i| (0..i).map(move |j| (i, j))) {
        let (a, b) = (matrix[i * n + j], matrix[j * n + i]);
        assert!((a - b).abs() <= tolerance, "{what}: ({i}, {j}) is {a:e}, its mirror {b:e}");
    }
}
