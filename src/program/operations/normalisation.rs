//! Normalisation of each row by itself: group, instance, layer, root mean square.

use candle_core::DType;
use serde::{Deserialize, Serialize};

use super::{BatchNorm, Flatten, ViewAs};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Bilinear, Linear, Norm, Pointwise};
use crate::program::composites::{self, Finish, affine, channel_affine};
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Op, Operand, Results, Start};

/// Normalisation over the channels of a group and all positions of a row, then scale and shift per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Parts into which the channels are cut.
    pub num_groups: usize,
    /// Added to the variance.
    pub eps: f64,
}

/// Normalisation over all positions of a row, by itself for each channel; then scale and shift per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNorm {
    /// Added to the variance.
    pub eps: f64,
}

/// Normalisation of each vector along the last axis, then scale and shift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Length of the vectors.
    pub normalized_shape: [usize; 1],
    /// Added to the variance.
    pub eps: f64,
}

/// `x / √(mean(x²) + eps)` for each vector along the last axis, then scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNorm {
    /// Length of the vectors.
    pub normalized_shape: [usize; 1],
    /// Added to the mean square; the rounding unit of the computation's numbers where it is left out, as in PyTorch.
    pub eps: Option<f64>,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "group_norm" => group_norm(call, "num_groups"),
        "native_group_norm" => {
            // Sizes that its input has too.
            let sizes = ["N", "C", "HxW"].map(|name| call.sizes(name));
            sizes.into_iter().collect::<Result<Vec<_>, _>>().and_then(|_| group_norm(call, "group"))
        }
        "instance_norm" => instance_norm(call),
        "layer_norm" | "native_layer_norm" => layer_norm(call),
        "rms_norm" | "_fused_rms_norm" => rms_norm(call),
        _ => return None,
    })
}

/// The input, then scale and shift.
pub(super) fn operands_of(call: &mut Call<'_>) -> Result<Vec<Operand>, String> {
    Ok(vec![call.operand("input")?, call.optional("weight")?, call.optional("bias")?])
}

fn group_norm(call: &mut Call<'_>, groups: &str) -> Results {
    let operands = operands_of(call)?;
    let (num_groups, eps) = (call.count(groups, None)?, call.number("eps")?.unwrap_or(1e-5));
    call.gives(GroupNorm { num_groups, eps }, operands)
}

fn instance_norm(call: &mut Call<'_>) -> Results {
    let operands = operands_of(call)?;
    let (_, eps) = (call.number("momentum")?, call.number("eps")?.unwrap_or(1e-5));
    let running = [call.optional("running_mean")?, call.optional("running_var")?];
    if call.flag("use_input_stats", true)? {
        // Running statistics are written and not read.
        return call.gives(InstanceNorm { eps }, operands);
    }
    call.gives(BatchNorm { momentum: 0.1, eps, own_statistics: false }, [operands, running.to_vec()].concat())
}

fn layer_norm(call: &mut Call<'_>) -> Results {
    let (operands, eps) = (operands_of(call)?, call.number("eps")?.unwrap_or(1e-5));
    over_last_axes(call, operands, |normalized_shape| LayerNorm { normalized_shape, eps }.into())
}

/// A normalisation of vectors along the last axes taken for one.
fn over_last_axes(call: &mut Call<'_>, operands: Vec<Operand>, norm: impl Fn([usize; 1]) -> Op) -> Results {
    let shape = call.ints("normalized_shape")?.ok_or("its shape is missing")?;
    let sizes = shape.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>();
    let len = [sizes.ok_or("its shape is negative")?.iter().product()];
    if shape.len() == 1 {
        return call.gives(norm(len), operands);
    }
    let x = operands[0].clone();
    let mut flat = Vec::new();
    for (place, operand) in operands.into_iter().enumerate() {
        let start_dim = if place == 0 { -(shape.len() as i64) } else { 0 };
        let is_left_out = operand == Operand::None;
        flat.push(if is_left_out { operand } else { call.push(Flatten { start_dim, end_dim: -1 }, [operand]) });
    }
    let y = call.push(norm(len), flat);
    call.gives(ViewAs {}, [y, x])
}

fn rms_norm(call: &mut Call<'_>) -> Results {
    let (operands, eps) = (vec![call.operand("input")?, call.optional("weight")?], call.number("eps")?);
    over_last_axes(call, operands, |normalized_shape| RmsNorm { normalized_shape, eps }.into())
}

/// Scale 1 and shift 0; running means 0 and variances 1.
pub(super) fn start(place: usize) -> Start {
    Start::Constant(if place == 1 || place == 4 { 1.0 } else { 0.0 })
}

/// That each of the given operands is `[channels]` where it is there.
pub(super) fn per_channel(operands: &[Option<&Fact>], channels: usize) -> Result<(), String> {
    match operands.iter().skip(1).flatten().find(|fact| fact.shape != [channels]) {
        None => Ok(()),
        Some(fact) => Err(format!("expects tensors of shape [{channels}], but one is {:?}", fact.shape)),
    }
}

/// The shape of a tensor per channel, for `rank` axes.
pub(super) fn channel_shape(channels: usize, rank: usize) -> Vec<usize> {
    let mut small = vec![1; rank];
    small[1] = channels;
    small
}

impl Operation for GroupNorm {
    columns! {
        name: "group_norm",
        operands: &["input", "weight", "bias"],
        cost: Cost::of_result,
        affinity: Affinity { products: &[(0, 1)], smooth: &[0] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, groups) = (fact(operands, 0)?, self.num_groups);
        let [_, channels, ..] = *x.shape.as_slice() else {
            return Err(format!("expects [N, C, …], but its input is {:?}", x.shape));
        };
        if groups == 0 || channels % groups != 0 {
            return Err(format!("{groups} groups do not divide {channels} channels"));
        }
        per_channel(operands, channels)?;
        Ok(Fact::float(&x.shape))
    }

    fn start(&self, place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        start(place)
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::per_row(operands)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.optional(operands, 1)?, run.optional(operands, 2)?);
        let dims = x.dims()?.to_vec();
        let full = [dims[0], self.num_groups, dims[1..].iter().product::<usize>() / self.num_groups];
        let flat = run.reshape(&x, &full)?;
        let norm = Norm { centred: true, eps: self.eps };
        let normalised = run.normalised_rows(&flat, norm, Learned { weight: None, bias: None })?;
        let normalised = run.reshape(&normalised, &dims)?;
        let affine = run.shaped(Learned { weight, bias }, &channel_shape(dims[1], dims.len()))?;
        Ok(Slot::Float(run.scale_and_shift(&normalised, affine, Finish::default())?))
    }
}

impl InstanceNorm {
    /// With a group for each channel.
    fn groups(&self, shape: &[usize]) -> GroupNorm {
        GroupNorm { num_groups: shape.get(1).copied().unwrap_or(0), eps: self.eps }
    }
}

impl Operation for InstanceNorm {
    columns! {
        name: "instance_norm",
        operands: &["input", "weight", "bias"],
        cost: Cost::of_result,
        affinity: Affinity { products: &[(0, 1)], smooth: &[0] },
    }

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        self.groups(&fact(operands, 0)?.shape).result(operands, rows)
    }

    fn start(&self, place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        start(place)
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::per_row(operands)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let shape = run.var(operands, 0)?.dims()?.to_vec();
        self.groups(&shape).forward(run, operands)
    }
}

impl Operation for LayerNorm {
    columns! {
        name: "layer_norm",
        operands: &["input", "weight", "bias"],
        cost: Cost::of_result,
        affinity: Affinity { products: &[(0, 1)], smooth: &[0] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, [dim]) = (fact(operands, 0)?, self.normalized_shape);
        if x.shape.len() < 2 || x.shape.last() != Some(&dim) {
            return Err(format!("expects [N, …, {dim}], but its input is {:?}", x.shape));
        }
        per_channel(operands, dim)?;
        Ok(Fact::float(&x.shape))
    }

    fn start(&self, place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        start(place)
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::still(&operands[1..])?;
        rows::together(operands[0], &[result.shape.len() - 1])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.optional(operands, 1)?, run.optional(operands, 2)?);
        let norm = Norm { centred: true, eps: self.eps };
        Ok(Slot::Float(run.normalised_rows(&x, norm, Learned { weight, bias })?))
    }
}

impl Operation for RmsNorm {
    columns! {
        name: "rms_norm",
        operands: &["input", "weight"],
        cost: Cost::of_result,
        affinity: Affinity { products: &[(0, 1)], smooth: &[0] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, [dim]) = (fact(operands, 0)?, self.normalized_shape);
        if x.shape.last() != Some(&dim) || dim == 0 {
            return Err(format!("expects […, {dim}], but its input is {:?}", x.shape));
        }
        per_channel(operands, dim)?;
        Ok(Fact::float(&x.shape))
    }

    fn start(&self, place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        start(place)
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::still(&operands[1..])?;
        rows::together(operands[0], &[result.shape.len() - 1])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight) = (run.var(operands, 0)?, run.optional(operands, 1)?);
        let unit = if run.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        let norm = Norm { centred: false, eps: self.eps.unwrap_or(unit) };
        Ok(Slot::Float(run.normalised_rows(&x, norm, Learned { weight, bias: None })?))
    }
}

/// The learned scale and shift of what is normalised.
pub(super) struct Learned<V> {
    pub(super) weight: Option<Var<V>>,
    pub(super) bias: Option<Var<V>>,
}

impl<V: Value> Run<'_, V> {
    /// Each vector along the last axis normalised, then scaled and shifted.
    fn normalised_rows(&mut self, x: &Var<V>, norm: Norm, learned: Learned<V>) -> Result<Var<V>> {
        if self.device.is_cpu() {
            return Ok(composites::norm(self.tape, norm, x, learned.weight.as_ref(), learned.bias.as_ref())?);
        }
        let dims = x.dims()?.to_vec();
        let len = dims.last().copied().unwrap_or(1);
        let (full, small) = ([dims.iter().product::<usize>() / len, len], [dims.iter().product::<usize>() / len, 1]);
        let mut y = self.reshape(x, &full)?;
        if norm.centred {
            y = self.centre(&y, &full, &small)?.0;
        }
        let (y, _) = self.standardise(&y, &full, &small, norm.eps)?;
        let learned = self.shaped(learned, &[1, len])?;
        let y = self.scale_and_shift(&y, learned, Finish::default())?;
        self.reshape(&y, &dims)
    }

    /// `x − mean` and the mean, over the axes where `small` has 1.
    pub(super) fn centre(&mut self, x: &Var<V>, full: &[usize], small: &[usize]) -> Result<(Var<V>, Var<V>)> {
        let mean = self.mean(x, full, small)?;
        let negative = self.negative(&mean)?;
        Ok((affine(self.tape, x, None, &negative)?, mean))
    }

    /// `x / √(mean(x²) + eps)` and `mean(x²)`, the (biased) variance of a centred `x`.
    pub(super) fn standardise(
        &mut self,
        x: &Var<V>,
        full: &[usize],
        small: &[usize],
        eps: f64,
    ) -> Result<(Var<V>, Var<V>)> {
        let square = Bilinear::ProductSum { full: full.to_vec(), small: small.to_vec() };
        let sum = self.tape.bilinear(square, x, x)?;
        let factor = small.iter().product::<usize>() as f64 / full.iter().product::<usize>() as f64;
        let variance = self.tape.linear(Linear::Scale { factor }, &sum)?;
        let eps = match variance.value().primal() {
            Some(primal) => self.tape.constant(primal.zeros_like()?.affine(0.0, eps)?),
            None => return Err(candle_core::Error::Msg("a variance without primal".into()).into()),
        };
        let shifted = self.tape.add(&variance, &eps)?;
        let inverse = self.tape.pointwise(Pointwise::Rsqrt, &shifted)?;
        Ok((self.product(x, &inverse)?, variance))
    }

    /// Scale and shift in the shape in which they are broadcast.
    pub(super) fn shaped(&mut self, learned: Learned<V>, small: &[usize]) -> Result<Learned<V>> {
        let mut shape = |var: Option<Var<V>>| var.map(|var| self.reshape(&var, small)).transpose();
        Ok(Learned { weight: shape(learned.weight)?, bias: shape(learned.bias)? })
    }

    pub(super) fn scale_and_shift(
        &mut self,
        x: &Var<V>,
        Learned { weight, bias }: Learned<V>,
        finish: Finish<'_, V>,
    ) -> Result<Var<V>> {
        if let Some(bias) = bias {
            return Ok(channel_affine(self.tape, x, weight.as_ref(), &bias, finish)?);
        }
        let mut y = match weight {
            Some(weight) => self.product(x, &weight)?,
            None => x.clone(),
        };
        if let Some(addend) = finish.addend {
            y = self.tape.add(&y, addend)?;
        }
        Ok(if finish.relu { self.tape.relu(&y)? } else { y })
    }
}
