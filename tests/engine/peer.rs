//! Gradients of models built independently with candle-nn, where candle's own autograd is right.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Conv2dConfig, Module, VarBuilder};
use flatness::program::Loss;

use crate::support::*;

/// Loss and gradient of `model` by candle's autograd, in the order of the problem's parameters.
fn by_candle(problem: &Problem, model: impl Fn(VarBuilder<'_>, &Tensor) -> Tensor) -> (f64, Vec<f64>) {
    let space = problem.network.space();
    let vars: std::collections::HashMap<String, Var> = space
        .tensors()
        .iter()
        .map(|tensor| {
            let data = &problem.theta[tensor.offset..tensor.offset + tensor.len()];
            let value = Tensor::from_slice(data, tensor.shape.as_slice(), &Device::Cpu).unwrap();
            (tensor.name.clone(), Var::from_tensor(&value).unwrap())
        })
        .collect();
    let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let builder = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
    let x = problem.inputs();
    let outputs = model(builder, &Tensor::from_vec(x.data, x.dims, &Device::Cpu).unwrap());
    let loss = match &problem.data.targets {
        flatness::data::Targets::Classes { labels, .. } => {
            let labels = Tensor::from_slice(labels, labels.len(), &Device::Cpu).unwrap();
            candle_nn::loss::cross_entropy(&outputs, &labels).unwrap()
        }
        flatness::data::Targets::Tokens { .. } => panic!("no tokens here"),
        flatness::data::Targets::Values { values, sample_shape } => {
            let width = sample_shape[0];
            let shape = (values.len() / width, width);
            let targets = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
            candle_nn::loss::mse(&outputs, &targets).unwrap()
        }
    };
    let gradients = loss.backward().unwrap();
    let gradient = space.tensors().iter().flat_map(|t| values(gradients.get(&vars[&t.name]).unwrap())).collect();
    (loss.to_scalar().unwrap(), gradient)
}

fn compare(problem: &Problem, model: impl Fn(VarBuilder<'_>, &Tensor) -> Tensor) {
    let (loss, gradient) = by_candle(problem, model);
    let report = problem.objective(DType::F64).gradient(&vector(&problem.theta), &mut ()).unwrap();
    // Two programs of some thousand additions each.
    assert_close("loss", &[report.evaluation.loss], &[loss], 1e3 * f64::EPSILON * loss);
    assert_close("gradient", &values(&report.gradient), &gradient, 1e3 * f64::EPSILON * largest(&gradient).max(1.0));
}

#[test]
fn an_mlp_with_tanh() {
    let layers = r#"[
        {"kind": "linear", "in": 5, "out": 7, "weight": "a.weight", "bias": "a.bias"}, {"kind": "tanh"},
        {"kind": "linear", "in": 7, "out": 3, "weight": "b.weight", "bias": "b.bias"}]"#;
    for loss in [Loss::cross_entropy(), Loss::Mse {}] {
        compare(&Problem::new(layers, &[5], 11, loss, 21), |vb, x| {
            let hidden = candle_nn::linear(5, 7, vb.pp("a")).unwrap().forward(x).unwrap().tanh().unwrap();
            candle_nn::linear(7, 3, vb.pp("b")).unwrap().forward(&hidden).unwrap()
        });
    }
}

#[test]
fn convolutions_with_groups_and_stride() {
    let layers = r#"[
        {"kind": "conv2d", "in": 2, "out": 4, "kernel": 3, "padding": 1, "weight": "a.weight", "bias": "a.bias"},
        {"kind": "silu"},
        {"kind": "conv2d", "in": 4, "out": 6, "kernel": 2, "stride": 2, "groups": 2, "weight": "b.weight"},
        {"kind": "tanh"}, {"kind": "flatten"},
        {"kind": "linear", "in": 36, "out": 3, "weight": "c.weight", "bias": "c.bias"}]"#;
    let loss = Loss::cross_entropy();
    compare(&Problem::new(layers, &[2, 5, 7], 6, loss, 22), |vb, x| {
        let padded = Conv2dConfig { padding: 1, ..Default::default() };
        let strided = Conv2dConfig { stride: 2, groups: 2, ..Default::default() };
        let x = candle_nn::conv2d(2, 4, 3, padded, vb.pp("a")).unwrap().forward(x).unwrap();
        let x = x.silu().unwrap();
        let x = candle_nn::conv2d_no_bias(4, 6, 2, strided, vb.pp("b")).unwrap().forward(&x).unwrap();
        let x = x.tanh().unwrap().flatten_from(1).unwrap();
        candle_nn::linear(36, 3, vb.pp("c")).unwrap().forward(&x).unwrap()
    });
}
