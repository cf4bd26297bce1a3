//! Initial weights as PyTorch's layers draw them.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::Result;
use crate::models::{Layer, Network};
use crate::random::{Purpose, substream};

/// How a tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    /// Uniform on `(−bound, bound)`.
    Uniform { bound: f64 },
    /// Normal with mean 0.
    Normal { std: f64 },
    /// The same number everywhere.
    Constant(f64),
}

/// timm's `trunc_normal_(std=.02)`.
const NARROW: Start = Start::Normal { std: 0.02 };

/// Fresh parameters `[n]` by PyTorch's defaults, drawn tensor by tensor from `seed`.
///
/// Weights and biases of linear maps and convolutions: `U(−1/√f, 1/√f)` with `f` the weight's fan-in; for a weight this
/// is Kaiming's uniform law with `a = √5` (He et al. 2015). Normalisation layers begin with scale 1 and shift 0.
///
/// Where a network has attention, as timm's `VisionTransformer` (its mode without a name): matrices of linear maps and
/// position embeddings `N(0, 0.02²)`, cut off at ±2, which is never reached; class tokens `N(0, 1e-6²)`; biases of linear
/// maps 0; patch embeddings as PyTorch's convolutions.
///
/// A tensor's numbers depend on the seed and its place in the parameter space only.
///
/// # Errors
/// Making the tensor.
pub fn initialise(network: &Network, dtype: DType, seed: u64) -> Result<Tensor> {
    let mut starts = HashMap::new();
    let transformer = network.architecture.has_attention();
    visit(&network.architecture.layers, &mut |layer| start(layer, transformer, &mut starts));
    let mut values = Vec::with_capacity(network.space.dim());
    for (index, tensor) in network.space.tensors().iter().enumerate() {
        let start = starts.get(tensor.name.as_str()).copied().unwrap_or(Start::Constant(0.0));
        let mut rng = substream(seed, Purpose::Initialisation, index as u64);
        values.extend((0..tensor.len()).map(|_| match start {
            Start::Uniform { bound } => bound * (2.0 * unit(&mut rng) - 1.0),
            Start::Normal { std } => std * normal(&mut rng),
            Start::Constant(value) => value,
        }));
    }
    let n = values.len();
    Ok(Tensor::from_vec(values, n, &Device::Cpu)?.to_dtype(dtype)?)
}

/// Calls `f` on every layer, nested ones included, in the order of the list.
pub(super) fn visit<'a>(layers: &'a [Layer], f: &mut dyn FnMut(&'a Layer)) {
    for layer in layers {
        f(layer);
        layer.children().into_iter().for_each(|(_, list)| visit(list, f));
    }
}

/// Uniform on `[0, 1)`, a multiple of `2⁻⁵³`.
fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn start<'a>(layer: &'a Layer, transformer: bool, starts: &mut HashMap<&'a str, Start>) {
    let (weight, bias, start, shift) = match layer {
        Layer::Linear { weight, bias, .. } if transformer => (Some(weight), bias, NARROW, Start::Constant(0.0)),
        Layer::Linear { inputs, weight, bias, .. } => {
            let start = uniform(*inputs);
            (Some(weight), bias, start, start)
        }
        Layer::Conv2d { inputs, kernel, groups, weight, bias, .. } => {
            let start = uniform(inputs / groups * kernel.0[0] * kernel.0[1]);
            (Some(weight), bias, start, start)
        }
        Layer::PatchEmbedding { inputs, patch, weight, bias, .. } => {
            let start = uniform(inputs * patch.0[0] * patch.0[1]);
            (Some(weight), bias, start, start)
        }
        Layer::ClassToken { token, .. } => (Some(token), &None, Start::Normal { std: 1e-6 }, Start::Constant(0.0)),
        Layer::PositionEmbedding { embedding, .. } => (Some(embedding), &None, NARROW, Start::Constant(0.0)),
        Layer::BatchNorm2d { weight, bias, .. }
        | Layer::GroupNorm { weight, bias, .. }
        | Layer::LayerNorm { weight, bias, .. } => (weight.as_ref(), bias, Start::Constant(1.0), Start::Constant(0.0)),
        _ => return,
    };
    // A tensor that several layers share begins as its first layer says.
    if let Some(weight) = weight {
        starts.entry(weight).or_insert(start);
    }
    if let Some(bias) = bias {
        starts.entry(bias).or_insert(shift);
    }
}

fn uniform(fan_in: usize) -> Start {
    Start::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::family;

    #[test]
    fn every_tensor_has_pytorch_s_law() {
        let network = |text| Network::new(family(text, &[3, 16, 16], 10).unwrap(), HashMap::new()).unwrap();
        for text in ["resnet-cifar:8", "cnn:32-64", "mlp:200-100"] {
            let network = network(text);
            let theta = initialise(&network, DType::F64, 4).unwrap();
            assert_eq!(theta.dims(), [network.space.dim()]);
            for (tensor, values) in network.space.tensors().iter().zip(network.space.split(&theta).unwrap()) {
                let values: Vec<f64> = values.flatten_all().unwrap().to_vec1().unwrap();
                let norm = tensor.name.contains("bn") || tensor.name.contains("downsample.1");
                if norm {
                    let expected = if tensor.name.ends_with("weight") { 1.0 } else { 0.0 };
                    assert!(values.iter().all(|&value| value == expected), "{}", tensor.name);
                } else if tensor.name.ends_with("weight") {
                    let bound = 1.0 / (tensor.shape[1..].iter().product::<usize>() as f64).sqrt();
                    assert!(values.iter().all(|value| value.abs() <= bound), "{}", tensor.name);
                    // Variance b²/3; the square of a uniform number has variance 4b⁴/45.
                    let n = values.len() as f64;
                    let square = values.iter().map(|value| value * value).sum::<f64>() / n;
                    let std_err = bound * bound * (4.0 / 45.0 / n).sqrt();
                    assert!((square - bound * bound / 3.0).abs() < 4.0 * std_err, "{}", tensor.name);
                }
            }
        }
    }

    #[test]
    fn a_bias_has_the_bound_of_its_weight_and_the_seed_decides() {
        let network = Network::new(family("mlp:50", &[4, 100], 10).unwrap(), HashMap::new()).unwrap();
        let values = |seed| initialise(&network, DType::F64, seed).unwrap().to_vec1::<f64>().unwrap();
        let first = values(1);
        let bias = &first[400 * 50..400 * 50 + 50];
        let largest = bias.iter().fold(0.0f64, |max, value| max.max(value.abs()));
        // 50 numbers below 0.6 of their bound would have probability 1e-11.
        assert!(largest <= 0.05 && largest > 0.03, "{largest}");
        assert_eq!(values(1), first);
        assert_ne!(values(2), first);
    }

    #[test]
    fn a_transformer_begins_as_timm_s() {
        let network = Network::new(family("vit:width=48,depth=2", &[3, 16, 16], 10).unwrap(), HashMap::new()).unwrap();
        let theta = initialise(&network, DType::F64, 4).unwrap();
        for (tensor, values) in network.space.tensors().iter().zip(network.space.split(&theta).unwrap()) {
            let values: Vec<f64> = values.flatten_all().unwrap().to_vec1().unwrap();
            let name = tensor.name.as_str();
            let square = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
            let std = match name {
                "cls_token" => 1e-6,
                // Uniform on ±1/√48: variance 1/144.
                "patch_embed.proj.weight" | "patch_embed.proj.bias" => 1.0 / 12.0,
                name if name.contains("norm") => {
                    let expected = if name.ends_with("weight") { 1.0 } else { 0.0 };
                    assert!(values.iter().all(|&value| value == expected), "{name}");
                    continue;
                }
                name if name.ends_with("bias") => {
                    assert!(values.iter().all(|&value| value == 0.0), "{name}");
                    continue;
                }
                _ => 0.02,
            };
            // The square of a normal number has variance 2σ⁴, that of a uniform one less.
            let std_err = std * std * (2.0 / values.len() as f64).sqrt();
            assert!((square - std * std).abs() < 4.0 * std_err, "{name}: {square:e}");
        }
    }
}
