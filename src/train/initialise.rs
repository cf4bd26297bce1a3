//! Initial weights as PyTorch's layers draw them.

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::Result;
use crate::program::{Network, Start};
use crate::random::uniform;
use crate::random::{Purpose, substream};

/// Fresh parameters `[n]` by PyTorch's defaults, drawn tensor by tensor from `seed`.
///
/// Weights and biases of linear maps and convolutions: `U(−1/√f, 1/√f)` with `f` the weight's fan-in; for a weight this
/// is Kaiming's uniform law with `a = √5` (He et al. 2015). Normalisation layers begin with scale 1 and shift 0.
///
/// A network with attention is initialised as timm's `VisionTransformer` (in its unnamed mode): matrices of linear maps
/// and position embeddings `N(0, 0.02²)`, truncated at ±2, which is never reached; class tokens `N(0, 1e-6²)`; biases
/// of linear maps 0; patch embeddings as PyTorch's convolutions.
///
/// The numbers of a tensor depend only on the seed and on its place in the parameter space.
///
/// # Errors
/// Making the tensor.
pub fn initialise(network: &Network, dtype: DType, seed: u64) -> Result<Tensor> {
    let starts = network.program().starts();
    let mut values = Vec::with_capacity(network.space().dim());
    for (index, tensor) in network.space().tensors().iter().enumerate() {
        let start = starts.get(tensor.name.as_str()).copied().unwrap_or(Start::Constant(0.0));
        let mut rng = substream(seed, Purpose::Initialisation, index as u64);
        values.extend((0..tensor.len()).map(|_| match start {
            Start::Uniform { bound } => bound * (2.0 * uniform(&mut rng) - 1.0),
            Start::Normal { std } => std * normal(&mut rng),
            Start::Constant(value) => value,
        }));
    }
    let n = values.len();
    Ok(Tensor::from_vec(values, n, &Device::Cpu)?.to_dtype(dtype)?)
}

fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::formats::family;

    #[test]
    fn every_tensor_has_pytorch_s_law() {
        let network = |text| family(text, &[3, 16, 16], 10).unwrap().network(HashMap::new()).unwrap();
        for text in ["resnet-cifar:8", "cnn:32-64", "mlp:200-100"] {
            let network = network(text);
            let theta = initialise(&network, DType::F64, 4).unwrap();
            assert_eq!(theta.dims(), [network.space().dim()]);
            for (tensor, values) in network.space().tensors().iter().zip(network.space().split(&theta).unwrap()) {
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
        let network = family("mlp:50", &[4, 100], 10).unwrap().network(HashMap::new()).unwrap();
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
        let network = family("vit:width=48,depth=2", &[3, 16, 16], 10).unwrap().network(HashMap::new()).unwrap();
        let theta = initialise(&network, DType::F64, 4).unwrap();
        for (tensor, values) in network.space().tensors().iter().zip(network.space().split(&theta).unwrap()) {
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
