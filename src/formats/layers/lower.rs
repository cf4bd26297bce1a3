//! Lowers layer lists to programs: one operation or a few for each layer, under its place in the list.

use std::collections::HashSet;

use super::layer::Layer;
use super::{GeluForm, LayerList};
use crate::Result;
use crate::program::{
    Add, AvgPool2d, BatchNorm, Cat, Conv2d, Dropout, Expand, Expect, Expected, Flatten, Function, GroupNorm, Input,
    Kind, LayerNorm, Linear, MaxPool2d, Mean, Node, Op, Operand, Pad, Permute, Place, Program, ProgramError,
    ScaledDotProductAttention, Select, Size, Slice, Unary, Unflatten,
};

/// The program of a list of layers: the same tensors, names and order.
///
/// # Errors
/// Conflicting shapes, a bad `param_order`, or a layer whose fields contradict one another.
pub(in crate::formats) fn lower(list: &LayerList) -> Result<Program> {
    let (parameters, buffers) = (list.param_space()?, list.buffers()?);
    let tensors = parameters.tensors().iter().map(|tensor| &tensor.name);
    let taken = tensors.chain(buffers.iter().map(|(name, _)| name)).cloned().collect();
    let mut lowering = Lowering { nodes: Vec::new(), taken };
    let input = lowering.fresh("x");
    let output = lowering.list(&list.layers, input.clone(), "layers")?;
    let inputs = vec![Input { name: input, kind: Kind::Float }];
    Ok(Program { inputs, parameters, buffers, constants: Vec::new(), nodes: lowering.nodes, output, loss: None })
}

struct Lowering {
    nodes: Vec<Node>,
    /// Names of values.
    taken: HashSet<String>,
}

/// A layer being lowered: its place and its kind.
struct At<'a> {
    module: &'a str,
    kind: &'static str,
}

impl At<'_> {
    fn misfit(&self, reason: impl Into<String>) -> crate::Error {
        ProgramError::misfit(&self.place(), reason).into()
    }

    fn place(&self) -> Place {
        Place { module: self.module.into(), kind: self.kind.into() }
    }
}

fn name(name: &str) -> Operand {
    Operand::Name(name.into())
}

fn optional(of: &Option<String>) -> Operand {
    of.as_deref().map_or(Operand::None, name)
}

/// Patches of an image, as channels times sides to numbers.
struct Patches {
    inputs: usize,
    dim: usize,
    patch: [usize; 2],
}

impl Lowering {
    fn list(&mut self, layers: &[Layer], mut x: String, at: &str) -> Result<String> {
        for (index, layer) in layers.iter().enumerate() {
            x = self.layer(layer, &x, &format!("{at}[{index}]"))?;
        }
        Ok(x)
    }

    /// A name that no value has yet: `conv2d`, `conv2d_1`, … as PyTorch's exporter counts.
    fn fresh(&mut self, name: &str) -> String {
        let mut fresh = name.to_owned();
        let mut count = 0;
        while !self.taken.insert(fresh.clone()) {
            count += 1;
            fresh = format!("{name}_{count}");
        }
        fresh
    }

    /// Appends an operation and names its result after it.
    fn push(&mut self, at: &At<'_>, operation: impl Into<Op>, operands: Vec<Operand>) -> String {
        let operation = operation.into();
        let name = self.fresh(operation.name());
        self.nodes.push(Node { name: name.clone(), operation, operands, place: at.place() });
        name
    }

    /// What the layer needs of its input's shape; `{}` in the text stands for it.
    fn expect(&mut self, at: &At<'_>, x: &str, sizes: &[Expected], otherwise: String) {
        let check = Expect { sizes: sizes.to_vec(), otherwise };
        self.push(at, check, vec![name(x), Operand::None]);
    }

    /// `[N, T, dim]`.
    fn expect_tokens(&mut self, at: &At<'_>, x: &str, dim: Option<usize>) {
        let (size, text) = match dim {
            Some(dim) => (Expected::Size(dim), dim.to_string()),
            None => (Expected::Any, "dim".into()),
        };
        let text = format!("expects tokens [N, T, {text}], but its input is {{}}");
        self.expect(at, x, &[Expected::Any, Expected::Any, size], text);
    }

    /// `[N, channels, H, W]`.
    fn expect_images(&mut self, at: &At<'_>, x: &str, channels: usize) {
        let text = format!("expects images [N, {channels}, H, W], but its input is {{}}");
        self.expect(at, x, &[Expected::Any, Expected::Size(channels), Expected::Any, Expected::Any], text);
    }

    #[allow(clippy::too_many_lines)] // one arm a kind
    fn layer(&mut self, layer: &Layer, x: &str, module: &str) -> Result<String> {
        let at = &At { module, kind: layer.kind() };
        Ok(match layer {
            Layer::Linear { weight, bias, .. } => self.push(at, Linear {}, vec![name(x), name(weight), optional(bias)]),
            Layer::Conv2d { inputs, outputs, stride, padding, dilation, groups, weight, bias, .. } => {
                if *groups == 0 || inputs % groups != 0 || outputs % groups != 0 {
                    let reason = format!("{groups} groups do not divide {inputs} and {outputs} channels");
                    return Err(at.misfit(reason));
                }
                let (stride, padding, dilation, groups) = (stride.0, padding.0, dilation.0, *groups);
                let conv = Conv2d { stride, padding, dilation, groups };
                self.push(at, conv, vec![name(x), name(weight), optional(bias)])
            }
            Layer::BatchNorm2d { eps, momentum, weight, bias, running_mean, running_var, .. } => {
                if running_mean.is_some() != running_var.is_some() {
                    return Err(at.misfit("`running_mean` and `running_var` belong together: name both, or neither"));
                }
                let own_statistics = running_mean.is_none();
                let statistics = [optional(running_mean), optional(running_var)];
                let operands = [vec![name(x), optional(weight), optional(bias)], statistics.to_vec()].concat();
                self.push(at, BatchNorm { momentum: *momentum, eps: *eps, own_statistics }, operands)
            }
            Layer::GroupNorm { groups, channels, eps, weight, bias } => {
                let text = format!("expects [N, {channels}, …], but its input is {{}}");
                self.expect(at, x, &[Expected::Any, Expected::Size(*channels), Expected::Rest], text);
                let norm = GroupNorm { num_groups: *groups, eps: *eps };
                self.push(at, norm, vec![name(x), optional(weight), optional(bias)])
            }
            Layer::LayerNorm { dim, eps, weight, bias } => {
                let norm = LayerNorm { normalized_shape: [*dim], eps: *eps };
                self.push(at, norm, vec![name(x), optional(weight), optional(bias)])
            }
            Layer::Relu => self.unary(at, Function::Relu, x),
            Layer::Gelu { form: GeluForm::Erf } => self.unary(at, Function::Gelu, x),
            Layer::Gelu { form: GeluForm::Tanh } => self.unary(at, Function::GeluTanh, x),
            Layer::Silu => self.unary(at, Function::Silu, x),
            Layer::Tanh => self.unary(at, Function::Tanh, x),
            Layer::Sigmoid => self.unary(at, Function::Sigmoid, x),
            Layer::Softplus => self.unary(at, Function::Softplus, x),
            Layer::MaxPool2d { kernel, stride, padding } => {
                let (kernel_size, stride, padding) = (kernel.0, stride.unwrap_or(*kernel).0, padding.0);
                self.push(at, MaxPool2d { kernel_size, stride, padding }, vec![name(x)])
            }
            Layer::AvgPool2d { kernel, stride, padding, count_include_pad } => {
                let (kernel_size, stride, padding) = (kernel.0, stride.unwrap_or(*kernel).0, padding.0);
                let pool = AvgPool2d { kernel_size, stride, padding, count_include_pad: *count_include_pad };
                self.push(at, pool, vec![name(x)])
            }
            Layer::GlobalAvgPool2d => {
                let text = "expects images [N, C, H, W], but its input is {}".to_owned();
                self.expect(at, x, &[Expected::Any; 4], text);
                self.push(at, Mean { dim: vec![2, 3], keepdim: false }, vec![name(x)])
            }
            Layer::Flatten => self.push(at, Flatten { start_dim: 1, end_dim: -1 }, vec![name(x)]),
            Layer::Dropout { p } => self.push(at, Dropout { p: *p }, vec![name(x)]),
            Layer::SubsamplePad { inputs, outputs, stride } => {
                self.subsample_pad(at, x, [*inputs, *outputs], *stride)?
            }
            Layer::PatchEmbedding { inputs, dim, patch, weight, bias } => self.patch_embedding(
                at,
                x,
                Patches { inputs: *inputs, dim: *dim, patch: patch.0 },
                [name(weight), optional(bias)],
            )?,
            Layer::ClassToken { dim, token } => {
                self.expect_tokens(at, x, Some(*dim));
                let size = vec![Size::rows(), Size::fixed(-1), Size::fixed(-1)];
                let token = self.push(at, Expand { size }, vec![name(token)]);
                self.push(at, Cat { dim: 1 }, vec![name(&token), name(x)])
            }
            Layer::PositionEmbedding { tokens, dim, embedding } => {
                self.expect_tokens(at, x, Some(*dim));
                let text = format!("has vectors for {tokens} tokens, but its input has {{1}}");
                self.expect(at, x, &[Expected::Any, Expected::Size(*tokens), Expected::Any], text);
                self.push(at, Add {}, vec![name(x), name(embedding)])
            }
            Layer::SelectToken { index } => {
                self.expect_tokens(at, x, None);
                let text = format!("no token {index} among {{1}}");
                self.expect(at, x, &[Expected::Any, Expected::Above(*index), Expected::Any], text);
                let index = i64::try_from(*index).map_err(|_| at.misfit("the index is too large"))?;
                self.push(at, Select { dim: 1, index }, vec![name(x)])
            }
            Layer::Attention { heads } => self.attention(at, x, *heads)?,
            Layer::Sequence { layers } => self.list(layers, x.into(), &format!("{module}.layers"))?,
            Layer::Residual { main, shortcut } => {
                let main = self.list(main, x.into(), &format!("{module}.main"))?;
                let shortcut = self.list(shortcut, x.into(), &format!("{module}.shortcut"))?;
                let otherwise = "main gives {}, the shortcut {like}".to_owned();
                self.push(at, Expect { sizes: Vec::new(), otherwise }, vec![name(&main), name(&shortcut)]);
                self.push(at, Add {}, vec![name(&main), name(&shortcut)])
            }
            Layer::Concat { branches, axis } => {
                if *axis == 0 {
                    return Err(at.misfit("cannot join along axis 0, which holds the rows"));
                }
                let mut parts = Vec::with_capacity(branches.len());
                for (index, branch) in branches.iter().enumerate() {
                    parts.push(name(&self.list(branch, x.into(), &format!("{module}.branches[{index}]"))?));
                }
                let dim = i64::try_from(*axis).map_err(|_| at.misfit("the axis is too large"))?;
                self.push(at, Cat { dim }, parts)
            }
        })
    }

    fn unary(&mut self, at: &At<'_>, function: Function, x: &str) -> String {
        self.push(at, Unary::from(function), vec![name(x)])
    }

    /// Every `stride`-th row and column, with zero channels around: He et al. (2016), option A, as commonly coded, with half
    /// of the new channels on either side.
    fn subsample_pad(&mut self, at: &At<'_>, x: &str, channels: [usize; 2], stride: usize) -> Result<String> {
        let [inputs, outputs] = channels;
        if outputs < inputs || stride == 0 {
            return Err(at.misfit("`out` must be at least `in`, and stride at least 1"));
        }
        self.expect_images(at, x, inputs);
        let mut x = x.to_owned();
        for dim in [2, 3].into_iter().filter(|_| stride > 1) {
            x = self.push(at, Slice { dim, start: 0, end: i64::MAX, step: stride }, vec![name(&x)]);
        }
        let before = (outputs - inputs) / 2;
        Ok(self.push(at, Pad { dim: 1, pad: [before, outputs - inputs - before] }, vec![name(&x)]))
    }

    fn patch_embedding(
        &mut self,
        at: &At<'_>,
        x: &str,
        Patches { inputs, dim, patch }: Patches,
        [weight, bias]: [Operand; 2],
    ) -> Result<String> {
        if inputs == 0 || dim == 0 || patch.contains(&0) {
            return Err(at.misfit("`in`, `dim` and `patch` must be at least 1"));
        }
        self.expect_images(at, x, inputs);
        let [height, width] = patch;
        let text = format!("patches of {height}x{width} do not tile an image of {{2}}x{{3}}");
        let tiles = [Expected::Any, Expected::Any, Expected::MultipleOf(height), Expected::MultipleOf(width)];
        self.expect(at, x, &tiles, text);
        let conv = Conv2d { stride: patch, padding: [0; 2], dilation: [1; 2], groups: 1 };
        let y = self.push(at, conv, vec![name(x), weight, bias]);
        let y = self.push(at, Flatten { start_dim: 2, end_dim: 3 }, vec![name(&y)]);
        Ok(self.push(at, Permute { dims: vec![0, 2, 1] }, vec![name(&y)]))
    }

    /// `softmax(q kᵀ / √d) v` in each head, `[N, T, 3·dim]` to `[N, T, dim]`.
    fn attention(&mut self, at: &At<'_>, x: &str, heads: usize) -> Result<String> {
        self.expect_tokens(at, x, None);
        let text = format!("queries, keys and values of {heads} heads do not divide {{2}} numbers");
        let divides = Expected::MultipleOf(heads.saturating_mul(3));
        self.expect(at, x, &[Expected::Any, Expected::Any, divides], text);
        let heads = i64::try_from(heads).map_err(|_| at.misfit("too many heads"))?;
        let y = self.push(at, Unflatten { dim: 2, sizes: vec![3, heads, -1] }, vec![name(x)]);
        let y = self.push(at, Permute { dims: vec![2, 0, 3, 1, 4] }, vec![name(&y)]);
        let part = |this: &mut Self, index| name(&this.push(at, Select { dim: 0, index }, vec![name(&y)]));
        let operands = vec![part(self, 0), part(self, 1), part(self, 2)];
        let y = self.push(at, ScaledDotProductAttention::default(), operands);
        let y = self.push(at, Permute { dims: vec![0, 2, 1, 3] }, vec![name(&y)]);
        Ok(self.push(at, Flatten { start_dim: 2, end_dim: 3 }, vec![name(&y)]))
    }
}
