//! The families against torchvision and timm: names and shapes of the originals, and float64 values of small ones.
//!
//! `tools/reference_families.py` makes the fixtures; weights, images and directions come from the same SplitMix64 here.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use flatness::autodiff::{Saved, Tape};
use flatness::checkpoint::{Checkpoint, write_tensors};
use flatness::curvature::{Curvature, CurvatureOperator};
use flatness::data::{Dataset, Inputs, Targets};
use flatness::formats::family;
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::operator::LinearOperator;
use flatness::program::Mode;
use flatness::program::{Loss, Network};
use serde_json::Value;

const ROWS: usize = 2;

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Numbers in -1..1 from SplitMix64 started at `seed`.
fn uniform(seed: u64, n: usize) -> Vec<f64> {
    let entry = |index: u64| {
        let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        2.0 * ((z >> 11) as f64 / (1u64 << 53) as f64) - 1.0
    };
    (0..n as u64).map(entry).collect()
}

/// Matrices by their fan-in, scales and variances around 1, others small.
fn scaled(name: &str, shape: &[usize], u: f64) -> f64 {
    if name.ends_with("running_var") {
        1.0 + 0.5 * u
    } else if name.ends_with("weight") && shape.len() == 1 {
        1.0 + 0.3 * u
    } else if name.ends_with("weight") {
        (2.0 / shape[1..].iter().product::<usize>() as f64).sqrt() * u
    } else {
        0.2 * u
    }
}

fn tensor(values: Vec<f64>, shape: &[usize]) -> Tensor {
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The network with its generated buffers, and its generated parameters.
fn generated(text: &str) -> (Network, Vec<f64>) {
    let architecture = family(text, &[3, 32, 32], 10).unwrap();
    let shapes = architecture.buffers().unwrap();
    let mut numbers = uniform(2, shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()).into_iter();
    let buffers: HashMap<String, Tensor> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let values = numbers.by_ref().take(count).map(|u| scaled(&name, &shape, u)).collect();
            (name, tensor(values, &shape))
        })
        .collect();
    let network = architecture.network(buffers).unwrap();
    let mut theta = uniform(1, network.space().dim());
    for part in network.space().tensors() {
        theta[part.offset..part.offset + part.len()].iter_mut().for_each(|u| *u = scaled(&part.name, &part.shape, *u));
    }
    (network, theta)
}

fn dataset() -> Dataset {
    let inputs = Inputs::Float64(uniform(3, ROWS * 3 * 32 * 32));
    let labels = (0..ROWS as u32).map(|row| row * 3 % 10).collect();
    let targets = Targets::Classes { labels, num_classes: 10 };
    Dataset::new("test".into(), vec![3, 32, 32], inputs, targets, None).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

/// Two correct f64 programs differ by rounding alone, some 1e-14 of the largest entry through fifty layers.
#[track_caller]
fn assert_close(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    let error = got.iter().zip(expected).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / scale;
    println!("{what}: relative error {error:.1e}");
    assert!(error <= 1e-11, "{what}: relative error {error:e}");
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn values_are_those_of_torch() {
    for (text, expected) in fixture("values.json").as_object().unwrap() {
        let (network, theta) = generated(text);
        let n = network.space().dim();
        assert_eq!(expected["num_params"], n, "{text}");
        let data = dataset();
        let options = ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(Loss::cross_entropy()) };
        let objective = Objective::new(&network, &data, options).unwrap();
        let theta = tensor(theta, &[n]);
        let report = objective.gradient(&theta, &mut ()).unwrap();
        let gradient = report.gradient.to_vec1::<f64>().unwrap();
        let every = |values: &[f64]| values.iter().step_by(n / 64).copied().collect::<Vec<_>>();
        let is = |what: &str, got: &[f64]| assert_close(&format!("{text} {what}"), got, &numbers(&expected[what]));
        let mut tape = Tape::<Tensor>::new(Saved::Nothing);
        let params = network.space().split(&theta).unwrap();
        let x = tensor(uniform(3, ROWS * 3 * 32 * 32), &[ROWS, 3, 32, 32]);
        let logits = network.forward(&mut tape, &params, x, Mode::Eval).unwrap().output;
        is("logits", &logits.value().flatten_all().unwrap().to_vec1::<f64>().unwrap());
        is("loss", &[report.evaluation.loss]);
        is("grad_norm", &[norm(&gradient)]);
        is("grad_every", &every(&gradient));
        let v = uniform(4, n);
        let operator = CurvatureOperator::new(&objective, &theta, Curvature::Hessian).unwrap();
        let product = operator.apply(&tensor(v.clone(), &[1, n]), &mut ()).unwrap().block;
        let product = product.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        is("hv_norm", &[norm(&product)]);
        is("hv_every", &every(&product));
        is("v_hv", &[v.iter().zip(&product).map(|(v, h)| v * h).sum()]);
    }
}

#[test]
fn names_shapes_and_order_are_those_of_the_originals() {
    for (name, expected) in fixture("names.json").as_object().unwrap() {
        let architecture = family(name, &[3, 224, 224], 1000).unwrap();
        let space = architecture.param_space().unwrap();
        let order: Vec<&str> = space.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        let expected_order: Vec<&str> =
            expected["parameters"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(order, expected_order, "{name}");
        let params = space.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone()));
        let own: BTreeMap<String, Vec<usize>> = params.chain(architecture.buffers().unwrap()).collect();
        let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_value(expected["shapes"].clone()).unwrap();
        assert_eq!(own, shapes, "{name}");
    }
}

#[test]
fn a_state_dict_is_read_through_the_family() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let text = "vit:patch=8,width=24,depth=2,heads=3,mlp=2";
    let (network, theta) = generated(text);
    let theta = tensor(theta, &[network.space().dim()]);
    let parts = network.space().split(&theta).unwrap();
    // In a file, tensors stand in any order.
    let mut tensors: Vec<(String, Tensor)> =
        network.space().tensors().iter().map(|tensor| tensor.name.clone()).zip(parts).collect();
    tensors.reverse();
    write_tensors(&path, &tensors, &BTreeMap::new()).unwrap();
    let read = Checkpoint::read(&path, Some(family(text, &[3, 32, 32], 10).unwrap())).unwrap();
    assert_eq!(read.theta.to_vec1::<f64>().unwrap(), theta.to_vec1::<f64>().unwrap());
    let wider = Checkpoint::read(&path, Some(family("vit", &[3, 32, 32], 10).unwrap())).unwrap_err();
    assert!(wider.to_string().contains("blocks.2.norm1.weight"), "{wider}");
}
