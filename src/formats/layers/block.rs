//! The block of a transformer as the layers that it stands for.

use serde::Deserialize;

use super::{GeluForm, Layer};

/// Where the normalisations stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormPlace {
    /// Before attention and MLP, inside the residual branch (Dosovitskiy et al. 2021).
    #[default]
    Pre,
    /// Behind each sum (Vaswani et al. 2017).
    Post,
}

/// The function between the two linear maps of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockActivation {
    #[default]
    Gelu,
    Relu,
    Silu,
}

/// Attention and MLP, each with its normalisation and its residual sum; tensors named as timm's under `prefix`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerBlock {
    pub prefix: String,
    pub dim: usize,
    pub heads: usize,
    pub mlp_dim: usize,
    #[serde(default = "eps")]
    pub eps: f64,
    #[serde(default)]
    pub activation: BlockActivation,
    /// Of GELU.
    #[serde(default)]
    pub form: GeluForm,
    #[serde(default)]
    pub norm: NormPlace,
    #[serde(default = "yes")]
    pub qkv_bias: bool,
}

/// timm's for vision transformers, not PyTorch's 1e-5.
fn eps() -> f64 {
    1e-6
}

fn yes() -> bool {
    true
}

impl TransformerBlock {
    /// Two residual layers in a sequence.
    pub fn expand(&self) -> Layer {
        let activation = match self.activation {
            BlockActivation::Gelu => Layer::Gelu { form: self.form },
            BlockActivation::Relu => Layer::Relu,
            BlockActivation::Silu => Layer::Silu,
        };
        let mut qkv = self.linear("attn.qkv", self.dim, 3 * self.dim);
        if let (Layer::Linear { bias, .. }, false) = (&mut qkv, self.qkv_bias) {
            *bias = None;
        }
        let attention = vec![qkv, Layer::Attention { heads: self.heads }, self.linear("attn.proj", self.dim, self.dim)];
        let mlp = vec![
            self.linear("mlp.fc1", self.dim, self.mlp_dim),
            activation,
            self.linear("mlp.fc2", self.mlp_dim, self.dim),
        ];
        let mut layers = Vec::new();
        for (norm, mut main) in [("norm1", attention), ("norm2", mlp)] {
            let norm = self.layer_norm(norm);
            match self.norm {
                NormPlace::Pre => {
                    main.insert(0, norm);
                    layers.push(Layer::Residual { main, shortcut: Vec::new() });
                }
                NormPlace::Post => layers.extend([Layer::Residual { main, shortcut: Vec::new() }, norm]),
            }
        }
        Layer::Sequence { layers }
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Layer {
        let name = format!("{}.{name}", self.prefix);
        Layer::Linear { inputs, outputs, weight: format!("{name}.weight"), bias: Some(format!("{name}.bias")) }
    }

    fn layer_norm(&self, name: &str) -> Layer {
        let name = format!("{}.{name}", self.prefix);
        let (weight, bias) = (Some(format!("{name}.weight")), Some(format!("{name}.bias")));
        Layer::LayerNorm { dim: self.dim, eps: self.eps, weight, bias }
    }
}
