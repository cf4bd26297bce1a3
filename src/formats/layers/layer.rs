//! The layer kinds and their fields.

use serde::{Deserialize, Serialize};

use crate::vocabulary::ParamKind;

/// Height and width; written as one number where they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ExtentForm", into = "ExtentForm")]
pub struct Extent(pub [usize; 2]);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ExtentForm {
    Square(usize),
    Pair([usize; 2]),
}

impl From<ExtentForm> for Extent {
    fn from(form: ExtentForm) -> Self {
        match form {
            ExtentForm::Square(size) => Self([size; 2]),
            ExtentForm::Pair(pair) => Self(pair),
        }
    }
}

impl From<Extent> for ExtentForm {
    fn from(Extent([height, width]): Extent) -> Self {
        if height == width { Self::Square(height) } else { Self::Pair([height, width]) }
    }
}

fn one() -> Extent {
    Extent([1, 1])
}

fn none() -> Extent {
    Extent([0, 0])
}

fn one_group() -> usize {
    1
}

fn norm_eps() -> f64 {
    1e-5
}

fn norm_momentum() -> f64 {
    0.1
}

fn yes() -> bool {
    true
}

fn channel_axis() -> usize {
    1
}

/// Which formula of GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GeluForm {
    /// `x Φ(x)`
    #[default]
    Erf,
    /// The tanh approximation.
    Tanh,
}

/// One layer: its kind, its fields and the names of its tensors, as in PyTorch.
///
/// Tensors are `[N, …]`, images `[N, C, H, W]`. `docs/models.md` describes every kind for users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)] // the fields are PyTorch's, and docs/models.md names each
pub enum Layer {
    /// `x Wᵀ + b`, weight `[out, in]`.
    Linear {
        #[serde(rename = "in")]
        inputs: usize,
        #[serde(rename = "out")]
        outputs: usize,
        weight: String,
        #[serde(default)]
        bias: Option<String>,
    },
    /// Cross-correlation, weight `[out, in/groups, h, w]`.
    Conv2d {
        #[serde(rename = "in")]
        inputs: usize,
        #[serde(rename = "out")]
        outputs: usize,
        kernel: Extent,
        #[serde(default = "one")]
        stride: Extent,
        #[serde(default = "none")]
        padding: Extent,
        #[serde(default = "one")]
        dilation: Extent,
        #[serde(default = "one_group")]
        groups: usize,
        weight: String,
        #[serde(default)]
        bias: Option<String>,
    },
    /// Batch normalisation over `N, H, W` (or over `N` for `[N, C]`): stored statistics in eval mode, or the batch's where
    /// none are named.
    #[serde(alias = "batch_norm1d")]
    BatchNorm2d {
        channels: usize,
        #[serde(default = "norm_eps")]
        eps: f64,
        #[serde(default = "norm_momentum")]
        momentum: f64,
        #[serde(default)]
        weight: Option<String>,
        #[serde(default)]
        bias: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        running_mean: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        running_var: Option<String>,
    },
    /// Normalisation over the channels of a group and all positions.
    GroupNorm {
        groups: usize,
        channels: usize,
        #[serde(default = "norm_eps")]
        eps: f64,
        #[serde(default)]
        weight: Option<String>,
        #[serde(default)]
        bias: Option<String>,
    },
    /// Normalisation of each vector along the last axis.
    LayerNorm {
        dim: usize,
        #[serde(default = "norm_eps")]
        eps: f64,
        #[serde(default)]
        weight: Option<String>,
        #[serde(default)]
        bias: Option<String>,
    },
    /// `max(x, 0)`, derivative 0 at 0.
    Relu,
    /// Gaussian error linear unit.
    Gelu {
        #[serde(default)]
        form: GeluForm,
    },
    /// `x sigmoid(x)`
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// `ln(1 + eˣ)`
    Softplus,
    /// Maximum of each window; padding counts as minus infinity.
    MaxPool2d {
        kernel: Extent,
        #[serde(default)]
        stride: Option<Extent>,
        #[serde(default = "none")]
        padding: Extent,
    },
    /// Mean of each window.
    AvgPool2d {
        kernel: Extent,
        #[serde(default)]
        stride: Option<Extent>,
        #[serde(default = "none")]
        padding: Extent,
        #[serde(default = "yes")]
        count_include_pad: bool,
    },
    /// Mean over height and width, giving `[N, C]`.
    GlobalAvgPool2d,
    /// `[N, …]` to `[N, product]`.
    Flatten,
    /// The identity in analysis; in training zeroes entries with probability `p` and scales the rest by `1/(1 − p)`.
    Dropout {
        #[serde(default)]
        p: f64,
    },
    /// Every `stride`-th row and column, with zero channels around: the parameter-free shortcut of He et al. (2016).
    SubsamplePad {
        #[serde(rename = "in")]
        inputs: usize,
        #[serde(rename = "out")]
        outputs: usize,
        stride: usize,
    },
    /// Square patches of an image as tokens, `[N, C, H, W]` to `[N, T, dim]`, in row-major order of the patches.
    PatchEmbedding {
        #[serde(rename = "in")]
        inputs: usize,
        dim: usize,
        patch: Extent,
        weight: String,
        #[serde(default)]
        bias: Option<String>,
    },
    /// A learned token in front of the others.
    ClassToken { dim: usize, token: String },
    /// A learned vector added to each token.
    PositionEmbedding { tokens: usize, dim: usize, embedding: String },
    /// One token alone, `[N, T, dim]` to `[N, dim]`.
    SelectToken { index: usize },
    /// `softmax(q kᵀ / √d) v` in each head, `[N, T, 3·dim]` to `[N, T, dim]`: queries, keys and values side by side, each
    /// with the heads one after the other.
    Attention { heads: usize },
    /// One layer after the other, as one.
    Sequence { layers: Vec<Layer> },
    /// `main(x) + shortcut(x)`; an empty list is the identity.
    Residual {
        main: Vec<Layer>,
        #[serde(default)]
        shortcut: Vec<Layer>,
    },
    /// The branches' outputs side by side along `axis` (1: channels).
    Concat {
        branches: Vec<Vec<Layer>>,
        #[serde(default = "channel_axis")]
        axis: usize,
    },
}

/// Every kind by name.
pub const KINDS: [&str; 28] = [
    "linear",
    "conv2d",
    "batch_norm2d",
    "batch_norm1d",
    "group_norm",
    "layer_norm",
    "relu",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "softplus",
    "max_pool2d",
    "avg_pool2d",
    "global_avg_pool2d",
    "flatten",
    "dropout",
    "subsample_pad",
    "patch_embedding",
    "class_token",
    "position_embedding",
    "select_token",
    "attention",
    "transformer_block",
    "sequence",
    "residual",
    "concat",
    "identity",
];

/// A tensor that a layer names: `(name, shape, role)`; no role marks a buffer.
pub(super) type Named<'a> = (&'a str, Vec<usize>, Option<ParamKind>);

impl Layer {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Conv2d { .. } => "conv2d",
            Self::BatchNorm2d { .. } => "batch_norm2d",
            Self::GroupNorm { .. } => "group_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Relu => "relu",
            Self::Gelu { .. } => "gelu",
            Self::Silu => "silu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Softplus => "softplus",
            Self::MaxPool2d { .. } => "max_pool2d",
            Self::AvgPool2d { .. } => "avg_pool2d",
            Self::GlobalAvgPool2d => "global_avg_pool2d",
            Self::Flatten => "flatten",
            Self::Dropout { .. } => "dropout",
            Self::SubsamplePad { .. } => "subsample_pad",
            Self::PatchEmbedding { .. } => "patch_embedding",
            Self::ClassToken { .. } => "class_token",
            Self::PositionEmbedding { .. } => "position_embedding",
            Self::SelectToken { .. } => "select_token",
            Self::Attention { .. } => "attention",
            Self::Sequence { .. } => "sequence",
            Self::Residual { .. } => "residual",
            Self::Concat { .. } => "concat",
        }
    }

    /// The layer's own tensors, those of nested layers aside.
    pub(super) fn tensors(&self) -> Vec<Named<'_>> {
        match self {
            Self::Linear { inputs, outputs, weight, bias } => {
                let mut named: Vec<Named<'_>> = vec![(weight, vec![*outputs, *inputs], Some(ParamKind::Weight))];
                named.extend(bias.as_deref().map(|bias| (bias, vec![*outputs], Some(ParamKind::Bias))));
                named
            }
            Self::Conv2d { inputs, outputs, kernel, groups, weight, bias, .. } => {
                let shape = vec![*outputs, inputs / groups.max(&1), kernel.0[0], kernel.0[1]];
                let mut named: Vec<Named<'_>> = vec![(weight, shape, Some(ParamKind::Weight))];
                named.extend(bias.as_deref().map(|bias| (bias, vec![*outputs], Some(ParamKind::Bias))));
                named
            }
            Self::BatchNorm2d { channels, weight, bias, running_mean, running_var, .. } => {
                let shape = || vec![*channels];
                let mut named: Vec<Named<'_>> = Vec::new();
                named.extend(weight.as_deref().map(|name| (name, shape(), Some(ParamKind::Norm))));
                named.extend(bias.as_deref().map(|name| (name, shape(), Some(ParamKind::Norm))));
                named.extend(
                    [running_mean, running_var].into_iter().flatten().map(|name| (name.as_str(), shape(), None)),
                );
                named
            }
            Self::PatchEmbedding { inputs, dim, patch, weight, bias } => {
                let shape = vec![*dim, *inputs, patch.0[0], patch.0[1]];
                let mut named: Vec<Named<'_>> = vec![(weight, shape, Some(ParamKind::Weight))];
                named.extend(bias.as_deref().map(|bias| (bias, vec![*dim], Some(ParamKind::Bias))));
                named
            }
            Self::ClassToken { dim, token } => vec![(token, vec![1, 1, *dim], Some(ParamKind::Weight))],
            Self::PositionEmbedding { tokens, dim, embedding } => {
                vec![(embedding, vec![1, *tokens, *dim], Some(ParamKind::Weight))]
            }
            Self::GroupNorm { channels, weight, bias, .. } | Self::LayerNorm { dim: channels, weight, bias, .. } => {
                [weight, bias]
                    .into_iter()
                    .filter_map(|name| Some((name.as_deref()?, vec![*channels], Some(ParamKind::Norm))))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Calls `f` on every tensor name of this layer, to rename it.
    pub(super) fn rename(&mut self, f: &impl Fn(&mut String)) {
        match self {
            Self::Linear { weight, bias, .. }
            | Self::Conv2d { weight, bias, .. }
            | Self::PatchEmbedding { weight, bias, .. } => {
                f(weight);
                bias.iter_mut().for_each(f);
            }
            Self::BatchNorm2d { weight, bias, running_mean, running_var, .. } => {
                weight.iter_mut().chain(bias).chain(running_mean).chain(running_var).for_each(f);
            }
            Self::GroupNorm { weight, bias, .. } | Self::LayerNorm { weight, bias, .. } => {
                weight.iter_mut().chain(bias).for_each(f);
            }
            Self::ClassToken { token: name, .. } | Self::PositionEmbedding { embedding: name, .. } => f(name),
            _ => {}
        }
    }

    /// The lists of layers inside.
    pub(crate) fn children(&self) -> Vec<(&'static str, &[Layer])> {
        match self {
            Self::Sequence { layers } => vec![("layers", layers)],
            Self::Residual { main, shortcut } => vec![("main", main), ("shortcut", shortcut)],
            Self::Concat { branches, .. } => branches.iter().map(|branch| ("branches", branch.as_slice())).collect(),
            _ => Vec::new(),
        }
    }

    /// The same, to change them.
    pub(super) fn children_mut(&mut self) -> Vec<&mut Vec<Layer>> {
        match self {
            Self::Sequence { layers } => vec![layers],
            Self::Residual { main, shortcut } => vec![main, shortcut],
            Self::Concat { branches, .. } => branches.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}
