//! Vision transformers (Dosovitskiy et al. 2021), with timm's names and shapes.

use super::parts::{image, linear, size};
use crate::formats::layers::{BlockActivation, NormPlace, TransformerBlock};
use crate::formats::{Extent, GeluForm, Layer, LayerList, ModelError};

/// What a transformer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Height and width of a patch.
    patch: usize,
    /// Numbers of a token.
    width: usize,
    /// Blocks.
    depth: usize,
    heads: usize,
    /// Width of the MLP over `width`.
    mlp: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { patch: 4, width: 192, depth: 9, heads: 3, mlp: 4 }
    }
}

impl Sizes {
    /// ViT-B/16 of the paper.
    pub(crate) const B16: Self = Self { patch: 16, width: 768, depth: 12, heads: 12, mlp: 4 };
}

/// timm's, not PyTorch's 1e-5.
const EPS: f64 = 1e-6;

pub(super) fn layers(
    mut sizes: Sizes,
    arguments: &[&str],
    input: &[usize],
    outputs: usize,
) -> Result<Vec<Layer>, String> {
    for argument in arguments {
        let (key, value) = argument.split_once('=').ok_or_else(|| format!("unknown argument `{argument}`"))?;
        let target = match key {
            "patch" => &mut sizes.patch,
            "width" => &mut sizes.width,
            "depth" => &mut sizes.depth,
            "heads" => &mut sizes.heads,
            "mlp" => &mut sizes.mlp,
            _ => return Err(format!("unknown argument `{key}`")),
        };
        *target = size(key, value)?;
    }
    let Sizes { patch, width, depth, heads, mlp } = sizes;
    let [channels, height, width_px] = image(input)?;
    if height % patch != 0 || width_px % patch != 0 || height == 0 || width_px == 0 {
        return Err(format!("patches of {patch}x{patch} do not tile images {input:?}; choose another patch="));
    }
    if width % heads != 0 {
        return Err(format!("{heads} heads do not divide a width of {width}"));
    }
    if depth > 10_000 {
        return Err(format!("depth {depth} is above 10000"));
    }
    let named = |part: &str| format!("patch_embed.proj.{part}");
    let mut layers = vec![
        Layer::PatchEmbedding {
            inputs: channels,
            dim: width,
            patch: Extent([patch; 2]),
            weight: named("weight"),
            bias: Some(named("bias")),
        },
        Layer::ClassToken { dim: width, token: "cls_token".into() },
        Layer::PositionEmbedding {
            tokens: (height / patch) * (width_px / patch) + 1,
            dim: width,
            embedding: "pos_embed".into(),
        },
    ];
    layers.extend((0..depth).map(|index| block(index, width, heads, mlp)));
    let (weight, bias) = (Some("norm.weight".into()), Some("norm.bias".into()));
    layers.push(Layer::LayerNorm { dim: width, eps: EPS, weight, bias });
    layers.extend([Layer::SelectToken { index: 0 }, linear("head", width, outputs)]);
    Ok(layers)
}

fn block(index: usize, dim: usize, heads: usize, mlp: usize) -> Layer {
    let block = TransformerBlock {
        prefix: format!("blocks.{index}"),
        dim,
        heads,
        mlp_dim: mlp * dim,
        eps: EPS,
        activation: BlockActivation::Gelu,
        form: GeluForm::Erf,
        norm: NormPlace::Pre,
        qkv_bias: true,
    };
    block.expand()
}

/// timm's order: class token and positions come before the patch embedding.
pub(super) fn param_order(list: &LayerList) -> Result<Vec<String>, ModelError> {
    let mut names: Vec<String> = list.param_space()?.tensors().iter().map(|tensor| tensor.name.clone()).collect();
    // Stable: the rest stays in the order of the layers.
    names.sort_by_key(|name| ["cls_token", "pos_embed"].iter().position(|first| first == name).unwrap_or(2));
    Ok(names)
}
