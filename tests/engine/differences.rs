//! Differences of candle's own gradients, for a model of candle-nn, against the engine's exact products.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, VarBuilder, VarMap};
use flatness::curvature::{Curvature, FiniteDifferenceHessian, VarGradient};
use flatness::data::Targets;
use flatness::operator::LinearOperator;
use flatness::program::Loss;

use crate::support::*;

const LAYERS: &str = r#"[
    {"kind": "linear", "in": 5, "out": 7, "weight": "b.weight", "bias": "b.bias"}, {"kind": "tanh"},
    {"kind": "linear", "in": 7, "out": 3, "weight": "a.weight", "bias": "a.bias"}]"#;

fn problem() -> Problem {
    Problem::new(LAYERS, &[5], 11, Loss::cross_entropy(), 23)
}

/// The same network with the same weights in a `VarMap`, and its loss.
fn by_candle(problem: &Problem) -> (Vec<(String, Var)>, impl Fn() -> Result<Tensor>) {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
    let first = candle_nn::linear(5, 7, builder.pp("b")).unwrap();
    let second = candle_nn::linear(7, 3, builder.pp("a")).unwrap();
    let vars = map.data().lock().unwrap().clone();
    for tensor in problem.network.space().tensors() {
        let values = &problem.theta[tensor.offset..tensor.offset + tensor.len()];
        let values = Tensor::from_slice(values, tensor.shape.as_slice(), &Device::Cpu).unwrap();
        vars[&tensor.name].set(&values).unwrap();
    }
    let x = problem.inputs();
    let x = Tensor::from_vec(x.data, x.dims, &Device::Cpu).unwrap();
    let Targets::Classes { labels, .. } = &problem.data.targets else { unreachable!("built with classes") };
    let labels = Tensor::from_slice(labels, labels.len(), &Device::Cpu).unwrap();
    let loss = move || candle_nn::loss::cross_entropy(&second.forward(&first.forward(&x)?.tanh()?)?, &labels);
    (vars.into_iter().collect(), loss)
}

/// Columns of `[k, n]`, row-major, taken from the engine's order into that of the names.
fn by_name(problem: &Problem, rows: &[f64]) -> Vec<f64> {
    let mut tensors: Vec<_> = problem.network.space().tensors().iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |row: &[f64]| -> Vec<f64> {
        tensors.iter().flat_map(|tensor| row[tensor.offset..tensor.offset + tensor.len()].to_vec()).collect()
    };
    rows.chunks(problem.dim()).flat_map(row).collect()
}

#[test]
fn a_model_of_candle_nn_has_the_engines_hessian() {
    let problem = problem();
    let (vars, loss) = by_candle(&problem);
    let model = VarGradient::new(vars, loss).unwrap();
    let names: Vec<&str> = model.shapes().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.bias", "a.weight", "b.bias", "b.weight"]);
    let theta = model.theta().unwrap();
    assert_eq!(values(&theta), by_name(&problem, &problem.theta));

    let hessian = FiniteDifferenceHessian::new(&theta, |theta| model.gradient(theta)).unwrap();
    assert_eq!((hessian.dim(), hessian.block_size()), (problem.dim(), 1));
    let block = tensor(&mut random(24), &[3, problem.dim()], DType::F64);
    let expected = products(&problem.objective(DType::F64), &problem.theta, Curvature::Hessian, &block);
    let permuted = Tensor::from_vec(by_name(&problem, &values(&block)), block.dims(), &Device::Cpu).unwrap();
    let got = values(&hessian.apply(&permuted, &mut ()).unwrap().block);
    // ‖v‖ is about 5 and s = h‖v‖ about 6·10⁻⁶·(1 + 4) = 3·10⁻⁵. Truncation: ‖v‖ s²/6 = 8·10⁻¹⁰ times the third
    // derivative of the gradient, below 10 for weights and inputs below 1; rounding: ‖v‖ times 100 ε/(2 s) = 2·10⁻⁹.
    assert_close("products", &got, &by_name(&problem, &expected), 1e-8);
    assert_eq!(values(&model.theta().unwrap()), values(&theta));
}

#[test]
fn a_fused_norm_of_candle_nn_is_caught() {
    let single = |value: f32| Tensor::full(value, 5, &Device::Cpu).unwrap();
    let norm = candle_nn::LayerNorm::new(single(1.0), single(0.0), 1e-5);
    let x = Var::new(&[[1f32, 2.0, 3.0, 4.0, 6.0]], &Device::Cpu).unwrap();
    let vars = [("x".to_owned(), x.clone())];
    let model = VarGradient::new(vars, || norm.forward(&x)?.sqr()?.sum_all()).unwrap();
    let error = model.gradient(&model.theta().unwrap()).unwrap_err();
    assert!(error.to_string().contains("variable `x` receives no gradient"), "{error}");
}
