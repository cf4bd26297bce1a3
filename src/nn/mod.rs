//! Layers and losses as forward-only functions over a tape: their derivatives of every kind follow.

mod activation;
mod attention;
mod conv;
mod error;
mod loss;
mod norm;
mod pool;
mod scores;
mod tokens;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;

pub use error::NnError;
pub use loss::{count_correct, per_sample_loss, row_weights};
pub use norm::BatchStatistics;
pub use scores::ClassScores;

use crate::Result;
use crate::autodiff::{Finish, ParamSpace, Tape, Value, Var};
use crate::kernels::{Bilinear, Linear, MatMul};
use crate::models::Layer;

/// How layers with two behaviours behave.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // one exists per pass; a box would only complicate callers
pub enum Mode {
    /// Stored statistics, no dropout.
    Eval,
    /// Batch statistics; dropout where a stream for its masks is given.
    Train {
        /// Draws dropout masks; `None` leaves dropout out.
        dropout: Option<ChaCha8Rng>,
    },
}

/// One forward pass: the tape, the tensors by name, and what the pass leaves behind.
pub struct Forward<'a, V> {
    tape: &'a mut Tape<V>,
    params: HashMap<&'a str, Var<V>>,
    buffers: &'a HashMap<String, Tensor>,
    mode: Mode,
    /// Statistics of each batch normalisation in training mode, in order.
    pub statistics: Vec<BatchStatistics>,
    /// Multiply-adds of one pass over the batch, counted as direct products.
    pub multiply_adds: usize,
    /// Elements of all activations.
    pub activations: usize,
    /// Elements of the largest activation.
    pub largest_activation: usize,
}

impl<'a, V: Value> Forward<'a, V> {
    /// Puts the parameters on the tape as its first leaves, in the order of `space`.
    pub fn new(
        tape: &'a mut Tape<V>,
        space: &'a ParamSpace,
        values: &[V],
        buffers: &'a HashMap<String, Tensor>,
        mode: Mode,
    ) -> Self {
        Self::with_fixed(tape, (space, &[]), values, buffers, mode)
    }

    /// The same, with the tensors marked in `fixed` (by their place in `space`; `false` where it is too short) held fixed:
    /// they get no gradient, and the backward pass ends at the first layer whose tensors are not fixed. All other
    /// gradients are those of [`Forward::new`], bit for bit.
    pub fn with_fixed(
        tape: &'a mut Tape<V>,
        (space, fixed): (&'a ParamSpace, &[bool]),
        values: &[V],
        buffers: &'a HashMap<String, Tensor>,
        mode: Mode,
    ) -> Self {
        let mut params = HashMap::new();
        for (index, (tensor, value)) in space.tensors().iter().zip(values).enumerate() {
            let is_fixed = fixed.get(index).copied().unwrap_or(false);
            let var = if is_fixed { tape.fixed_leaf(value.clone()) } else { tape.leaf(value.clone()) };
            params.insert(tensor.name.as_str(), var);
        }
        let (statistics, multiply_adds, activations, largest_activation) = (Vec::new(), 0, 0, 0);
        Self { tape, params, buffers, mode, statistics, multiply_adds, activations, largest_activation }
    }

    /// The network's output for a batch `x` `[N, …]`.
    ///
    /// # Errors
    /// A layer whose input does not fit it, by its place in the list; a batch without a number in it.
    pub fn run(&mut self, layers: &[Layer], x: Tensor) -> Result<Var<V>> {
        if x.elem_count() == 0 {
            let place = Place { at: "layers", kind: "input" };
            return Err(place.misfit(format!("nothing to compute on in a batch of shape {:?}", x.dims())));
        }
        let x = self.tape.constant(x);
        self.list(layers, x, "layers")
    }

    fn list(&mut self, layers: &[Layer], mut x: Var<V>, at: &str) -> Result<Var<V>> {
        let mut index = 0;
        while let Some(layer) = layers.get(index) {
            let relu = finishes(layer) && matches!(layers.get(index + 1), Some(Layer::Relu));
            let finish = Finish { addend: None, relu };
            x = self.layer(layer, &x, finish, &format!("{at}[{index}]"))?;
            self.count(x.dims()?.iter().product());
            index += 1 + usize::from(relu);
        }
        Ok(x)
    }

    /// One layer; `finish` asks for more only of those that [`finishes`] names.
    fn layer(&mut self, layer: &Layer, x: &Var<V>, finish: Finish<'_, V>, at: &str) -> Result<Var<V>> {
        let place = Place { at, kind: layer.kind() };
        match layer {
            Layer::Linear { inputs, outputs, weight, bias } => {
                self.linear(x, *inputs, *outputs, (weight, bias.as_deref()), &place)
            }
            Layer::Conv2d { .. } => self.conv2d(layer, x, finish, &place),
            Layer::BatchNorm2d { .. } => self.batch_norm(layer, x, finish, &place),
            Layer::GroupNorm { groups, channels, eps, weight, bias } => {
                self.group_norm(x, (*groups, *channels, *eps), (weight.as_deref(), bias.as_deref()), &place)
            }
            Layer::LayerNorm { dim, eps, weight, bias } => {
                self.layer_norm(x, (*dim, *eps), (weight.as_deref(), bias.as_deref()), &place)
            }
            Layer::Relu => Ok(self.tape.relu(x)?),
            Layer::Gelu { .. } | Layer::Silu | Layer::Tanh | Layer::Sigmoid | Layer::Softplus => {
                Ok(self.tape.pointwise(activation::function(layer)?, x)?)
            }
            Layer::MaxPool2d { kernel, stride, padding } => {
                let geometry = pool::geometry(x.dims()?, kernel, stride, padding, true, &place)?;
                Ok(self.tape.max_pool(&geometry, x)?)
            }
            Layer::AvgPool2d { kernel, stride, padding, count_include_pad } => {
                let geometry = pool::geometry(x.dims()?, kernel, stride, padding, *count_include_pad, &place)?;
                Ok(self.tape.linear(Linear::AveragePool(geometry), x)?)
            }
            Layer::GlobalAvgPool2d => self.global_average_pool(x, &place),
            Layer::Flatten => self.reshape(x, |dims| vec![dims[0], dims[1..].iter().product()]),
            Layer::Dropout { p } => self.dropout(x, *p, &place),
            Layer::SubsamplePad { inputs, outputs, stride } => {
                self.subsample_pad(x, (*inputs, *outputs, *stride), &place)
            }
            Layer::PatchEmbedding { .. } => self.patch_embedding(layer, x, &place),
            Layer::ClassToken { dim, token } => self.class_token(x, *dim, token, &place),
            Layer::PositionEmbedding { tokens, dim, embedding } => {
                self.position_embedding(x, (*tokens, *dim), embedding, &place)
            }
            Layer::SelectToken { index } => self.select_token(x, *index, &place),
            Layer::Attention { heads } => self.attention(x, *heads, &place),
            Layer::Sequence { layers } => self.list(layers, x.clone(), &format!("{at}.layers")),
            Layer::Residual { main, shortcut } => {
                // A batch normalisation at the end of the main path adds the shortcut in its own pass.
                let last = main.split_last().filter(|(last, _)| matches!(last, Layer::BatchNorm2d { .. }));
                let first = last.map_or(&main[..], |(_, first)| first);
                let y = self.list(first, x.clone(), &format!("{at}.main"))?;
                let shortcut = self.list(shortcut, x.clone(), &format!("{at}.shortcut"))?;
                if y.dims()? != shortcut.dims()? {
                    let (main, shortcut) = (y.dims()?, shortcut.dims()?);
                    return Err(place.misfit(format!("main gives {main:?}, the shortcut {shortcut:?}")));
                }
                match last {
                    None => Ok(self.tape.add(&y, &shortcut)?),
                    Some((last, first)) => {
                        let finish = Finish { addend: Some(&shortcut), ..finish };
                        self.layer(last, &y, finish, &format!("{at}.main[{}]", first.len()))
                    }
                }
            }
            Layer::Concat { branches, axis } => self.concat(branches, x, *axis, &place),
        }
    }

    /// Counts an activation of so many elements.
    fn count(&mut self, elements: usize) {
        self.activations += elements;
        self.largest_activation = self.largest_activation.max(elements);
    }

    fn param(&self, name: &str) -> Result<Var<V>> {
        Ok(self.params.get(name).ok_or_else(|| NnError::MissingTensor { name: name.into() })?.clone())
    }

    fn reshape(&mut self, x: &Var<V>, shape: impl Fn(&[usize]) -> Vec<usize>) -> Result<Var<V>> {
        let from = x.dims()?.to_vec();
        let to = shape(&from);
        Ok(self.tape.linear(Linear::Reshape { from, to }, x)?)
    }

    /// `x Wᵀ + b` along the last axis.
    fn linear(
        &mut self,
        x: &Var<V>,
        inputs: usize,
        outputs: usize,
        (weight, bias): (&str, Option<&str>),
        place: &Place<'_>,
    ) -> Result<Var<V>> {
        let dims = x.dims()?.to_vec();
        if dims.last() != Some(&inputs) || dims.len() < 2 {
            return Err(place.misfit(format!("expects [N, …, {inputs}], but its input is {dims:?}")));
        }
        if inputs == 0 || outputs == 0 {
            return Err(place.misfit("`in` and `out` must be at least 1".into()));
        }
        let rows: usize = dims[..dims.len() - 1].iter().product();
        let y = self.rows_times_matrix(x, [rows, inputs, outputs], (weight, bias), place)?;
        self.reshape(&y, |_| dims[..dims.len() - 1].iter().copied().chain([outputs]).collect())
    }

    /// `x Wᵀ + b`, `[1, rows, outputs]`, where `x` has `rows · inputs` elements and `W` `outputs · inputs`.
    fn rows_times_matrix(
        &mut self,
        x: &Var<V>,
        [rows, inputs, outputs]: [usize; 3],
        (weight, bias): (&str, Option<&str>),
        place: &Place<'_>,
    ) -> Result<Var<V>> {
        place.element_count(&[rows, outputs])?;
        let product = MatMul { batch: 1, m: rows, k: inputs, n: outputs, transpose_a: false, transpose_b: true };
        self.multiply_adds += rows * inputs * outputs;
        let weight = self.param(weight)?;
        let weight = self.reshape(&weight, |_| vec![1, outputs, inputs])?;
        let x = self.reshape(x, |_| vec![1, rows, inputs])?;
        let mut y = self.tape.bilinear(Bilinear::MatMul(product), &x, &weight)?;
        if let Some(bias) = bias {
            let bias = self.param(bias)?;
            let bias = self.reshape(&bias, |dims| vec![1, 1, dims[0]])?;
            y = self.tape.affine(&y, None, &bias, Finish::default())?;
        }
        Ok(y)
    }

    fn dropout(&mut self, x: &Var<V>, p: f64, place: &Place<'_>) -> Result<Var<V>> {
        use rand::Rng;
        if !(0.0..=1.0).contains(&p) {
            return Err(place.misfit(format!("`p` is {p}, but a probability lies in 0..=1")));
        }
        let Mode::Train { dropout: Some(rng) } = &mut self.mode else { return Ok(x.clone()) };
        if p == 0.0 {
            return Ok(x.clone());
        }
        let full = x.dims()?.to_vec();
        let kept = 1.0 / (1.0 - p);
        // 53 random bits make a uniform number in 0..1.
        let mut draw = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mask: Vec<f64> = (0..full.iter().product()).map(|_| if draw() < p { 0.0 } else { kept }).collect();
        let like = x.value().primal().map(|primal| (primal.dtype(), primal.device().clone()));
        let (dtype, device) = like.unwrap_or((DType::F32, Device::Cpu));
        let mask = Tensor::from_vec(mask, full.clone(), &device)?.to_dtype(dtype)?;
        let mask = self.tape.constant(mask);
        Ok(self.tape.bilinear(Bilinear::Product { small: full.clone(), full }, x, &mask)?)
    }

    fn concat(&mut self, branches: &[Vec<Layer>], x: &Var<V>, axis: usize, place: &Place<'_>) -> Result<Var<V>> {
        let outputs: Vec<Var<V>> = branches
            .iter()
            .enumerate()
            .map(|(index, branch)| self.list(branch, x.clone(), &format!("{}.branches[{index}]", place.at)))
            .collect::<Result<_>>()?;
        let first = outputs.first().ok_or_else(|| place.misfit("no branches".into()))?.dims()?.to_vec();
        let mut size = 0;
        for output in &outputs {
            let dims = output.dims()?;
            let fits = dims.len() == first.len() && (0..dims.len()).all(|i| i == axis || dims[i] == first[i]);
            if axis == 0 || axis >= first.len() || !fits {
                return Err(place.misfit(format!("cannot join {first:?} and {dims:?} along axis {axis}")));
            }
            size += dims[axis];
        }
        let (mut start, mut sum): (usize, Option<Var<V>>) = (0, None);
        for output in &outputs {
            let len = output.dims()?[axis];
            let padded = self.tape.linear(Linear::Pad { axis, start, len, size, rank: first.len() }, output)?;
            start += len;
            sum = Some(match sum {
                None => padded,
                Some(sum) => self.tape.add(&sum, &padded)?,
            });
        }
        sum.ok_or_else(|| place.misfit("no branches".into()))
    }
}

/// Whether a layer ends in an affine map that can take a ReLU along in its pass.
fn finishes(layer: &Layer) -> bool {
    match layer {
        Layer::BatchNorm2d { .. } | Layer::Conv2d { bias: Some(_), .. } => true,
        Layer::Residual { main, .. } => matches!(main.last(), Some(Layer::BatchNorm2d { .. })),
        _ => false,
    }
}

/// Where a layer stands, for its errors.
struct Place<'a> {
    at: &'a str,
    kind: &'static str,
}

impl Place<'_> {
    fn misfit(&self, reason: String) -> crate::Error {
        crate::models::ModelError::Shape { at: self.at.into(), kind: self.kind, reason }.into()
    }

    /// The elements of an activation about to be made, where a machine can hold them.
    fn element_count(&self, shape: &[usize]) -> Result<usize> {
        let count = crate::models::element_count(shape);
        count.ok_or_else(|| self.misfit(format!("an output of shape {shape:?} is too large")))
    }

    /// `[N, T, dim]`.
    fn tokens(&self, dims: &[usize], dim: Option<usize>) -> Result<[usize; 3]> {
        match *dims {
            [n, t, d] if dim.is_none_or(|dim| dim == d) => Ok([n, t, d]),
            _ => {
                let dim = dim.map_or("dim".into(), |dim| dim.to_string());
                Err(self.misfit(format!("expects tokens [N, T, {dim}], but its input is {dims:?}")))
            }
        }
    }

    /// `[N, C, H, W]` with `channels` channels.
    fn image(&self, dims: &[usize], channels: Option<usize>) -> Result<[usize; 4]> {
        match *dims {
            [n, c, h, w] if channels.is_none_or(|channels| channels == c) => Ok([n, c, h, w]),
            _ => {
                let channels = channels.map_or("C".into(), |channels| channels.to_string());
                Err(self.misfit(format!("expects images [N, {channels}, H, W], but its input is {dims:?}")))
            }
        }
    }
}
