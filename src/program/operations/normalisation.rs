//! Batch, group and layer normalisation.

use candle_core::DType;
use serde::Serialize;

use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Bilinear, Linear, Pointwise};
use crate::program::composites::{Finish, affine, channel_affine, moments};
use crate::program::infer::Cost;
use crate::program::operation::{Affinity, Operation, fact};
use crate::program::rows::{self, Tracked};
use crate::program::run::{BatchStatistics, Run, Slot};
use crate::program::{Fact, Start};

/// `(x − mean) / √(var + eps)` per channel over `N, H, W` (or over `N` for `[N, C]`), then scale and shift: stored
/// statistics in eval mode, the batch's in training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchNorm {
    /// Weight of a new value in the running averages.
    pub momentum: f64,
    /// Added to the variance.
    pub eps: f64,
}

/// Normalisation over the channels of a group and all positions of a row, then scale and shift per channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupNorm {
    /// Parts into which the channels are cut.
    pub num_groups: usize,
    /// Added to the variance.
    pub eps: f64,
}

/// Normalisation of each vector along the last axis, then scale and shift.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerNorm {
    /// Length of the vectors.
    pub normalized_shape: [usize; 1],
    /// Added to the variance.
    pub eps: f64,
}

/// Scale 1 and shift 0; running means 0 and variances 1.
fn start(place: usize) -> Start {
    Start::Constant(if place == 1 || place == 4 { 1.0 } else { 0.0 })
}

/// That each of the given operands is `[channels]` where it is there.
fn per_channel(operands: &[Option<&Fact>], channels: usize) -> Result<(), String> {
    match operands.iter().skip(1).flatten().find(|fact| fact.shape != [channels]) {
        None => Ok(()),
        Some(fact) => Err(format!("expects tensors of shape [{channels}], but one is {:?}", fact.shape)),
    }
}

/// The shape of a tensor per channel, for `rank` axes.
fn channel_shape(channels: usize, rank: usize) -> Vec<usize> {
    let mut small = vec![1; rank];
    small[1] = channels;
    small
}

impl BatchNorm {
    /// The operation with what follows it.
    pub(super) fn forward_with<V: Value>(
        &self,
        run: &mut Run<'_, V>,
        operands: &[Slot<V>],
        finish: Finish<'_, V>,
    ) -> Result<Var<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.optional(operands, 1)?, run.optional(operands, 2)?);
        let dims = x.dims()?.to_vec();
        let small = channel_shape(dims[1], dims.len());
        if !run.mode.is_training() {
            return self.with_stored(run, &x, operands, (weight, bias), finish);
        }
        let count = dims.iter().product::<usize>() / dims[1];
        if count < 2 {
            return Err(run.misfit("batch statistics need more than one value per channel"));
        }
        let affine = run.shaped((weight, bias), &small)?;
        let (y, mean, variance) = match moments(run.tape, &x, &small)? {
            Some(moments) => self.with_moments(run, &x, moments, affine, finish)?,
            None => {
                let (centred, mean) = run.centre(&x, &dims, &small)?;
                let (normalised, variance) = run.standardise(&centred, &dims, &small, self.eps)?;
                (run.scale_and_shift(&normalised, affine, finish)?, mean, variance)
            }
        };
        let names = [3, 4].map(|place| run.operand_name(place).map(str::to_owned));
        if let ([Some(running_mean), Some(running_var)], Some(mean), Some(variance)) =
            (names, mean.value().primal(), variance.value().primal())
        {
            let unbiased = count as f64 / (count - 1) as f64;
            let (mean, var) = (mean.flatten_all()?, (variance.flatten_all()? * unbiased)?);
            let momentum = self.momentum;
            run.statistics.push(BatchStatistics { running_mean, running_var, momentum, mean, var });
        }
        Ok(y)
    }

    /// `x·s + t` with `s = γ / √(var + eps)` and `t = β − mean·s`: statistics are constants, `γ` and `β` are not.
    fn with_stored<V: Value>(
        &self,
        run: &mut Run<'_, V>,
        x: &Var<V>,
        operands: &[Slot<V>],
        (weight, bias): (Option<Var<V>>, Option<Var<V>>),
        finish: Finish<'_, V>,
    ) -> Result<Var<V>> {
        let dims = x.dims()?.to_vec();
        let small = channel_shape(dims[1], dims.len());
        let (Some(Slot::Stored(mean)), Some(Slot::Stored(var))) = (operands.get(3), operands.get(4)) else {
            return Err(run.misfit("there are no stored statistics"));
        };
        // f64 whatever the network's dtype: a variance as small as eps would lose digits.
        let inverse = (var.exact.to_dtype(DType::F64)? + self.eps)?.sqrt()?.recip()?;
        let offset = (mean.exact.to_dtype(DType::F64)? * &inverse)?.neg()?;
        let constant = |tensor: candle_core::Tensor| tensor.to_dtype(run.dtype)?.reshape(small.clone());
        let (inverse, offset) = (run.tape.constant(constant(inverse)?), run.tape.constant(constant(offset)?));
        let (scale, mut shift) = match weight {
            None => (inverse, offset),
            Some(weight) => {
                let weight = run.reshape(&weight, &small)?;
                (run.product(&weight, &inverse)?, run.product(&weight, &offset)?)
            }
        };
        if let Some(bias) = bias {
            let bias = run.reshape(&bias, &small)?;
            shift = run.tape.add(&shift, &bias)?;
        }
        Ok(channel_affine(run.tape, x, Some(&scale), &shift, finish)?)
    }

    /// `x·s + t` with `s = γ / √(var + eps)` and `t = β − mean·s`, all variables: one pass for the moments of `x` and one
    /// for the map, forwards and backwards. Also mean and (biased) variance.
    fn with_moments<V: Value>(
        &self,
        run: &mut Run<'_, V>,
        x: &Var<V>,
        (moments, centre): (Var<V>, candle_core::Tensor),
        (weight, bias): (Option<Var<V>>, Option<Var<V>>),
        finish: Finish<'_, V>,
    ) -> Result<(Var<V>, Var<V>, Var<V>)> {
        let rank = centre.rank();
        let part = |start| Linear::Narrow { axis: 0, start, len: 1, size: 2, rank };
        // With m₁ = mean(x − c) and m₂ = mean((x − c)²): mean = c + m₁, var = m₂ − m₁².
        let first = run.tape.linear(part(0), &moments)?;
        let second = run.tape.linear(part(1), &moments)?;
        let square = run.product(&first, &first)?;
        let square = run.negative(&square)?;
        let variance = run.tape.add(&second, &square)?;
        let eps = run.tape.constant((centre.zeros_like()? + self.eps)?);
        let centre = run.tape.constant(centre);
        let mean = run.tape.add(&first, &centre)?;
        let shifted = run.tape.add(&variance, &eps)?;
        let mut scale = run.tape.pointwise(Pointwise::Rsqrt, &shifted)?;
        if let Some(weight) = weight {
            scale = run.product(&scale, &weight)?;
        }
        let offset = run.product(&mean, &scale)?;
        let mut shift = run.negative(&offset)?;
        if let Some(bias) = bias {
            shift = run.tape.add(&shift, &bias)?;
        }
        Ok((channel_affine(run.tape, x, Some(&scale), &shift, finish)?, mean, variance))
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn operands(&self) -> &'static [&'static str] {
        &["input", "weight", "bias", "running_mean", "running_var"]
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let channels = operands.iter().skip(1).flatten().next().and_then(|fact| fact.shape.first()).copied();
        if x.shape.len() < 2 || channels.is_some_and(|channels| x.shape[1] != channels) {
            let channels = channels.map_or("C".into(), |channels| channels.to_string());
            return Err(format!("expects [N, {channels}, …], but its input is {:?}", x.shape));
        }
        per_channel(operands, x.shape[1])?;
        Ok(Fact::float(&x.shape))
    }

    fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
        Cost::of_result(result)
    }

    fn start(&self, place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        start(place)
    }

    fn affinity(&self, in_training: bool) -> Affinity {
        Affinity { products: &[(0, 1)], smooth: if in_training { &[0] } else { &[] } }
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, in_training: bool) -> Tracked {
        let rows = rows::per_row(operands)?;
        match rows {
            Some(_) if in_training => Err("its statistics are those of the whole batch".into()),
            rows => Ok(rows),
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        Ok(Slot::Float(self.forward_with(run, operands, Finish::default())?))
    }
}

impl Operation for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn operands(&self) -> &'static [&'static str] {
        &["input", "weight", "bias"]
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

    fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
        Cost::of_result(result)
    }

    fn start(&self, place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        start(place)
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        Affinity { products: &[(0, 1)], smooth: &[0] }
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::per_row(operands)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.optional(operands, 1)?, run.optional(operands, 2)?);
        let dims = x.dims()?.to_vec();
        let full = vec![dims[0], self.num_groups, dims[1..].iter().product::<usize>() / self.num_groups];
        let small = [dims[0], self.num_groups, 1];
        let flat = run.reshape(&x, &full)?;
        let (centred, _) = run.centre(&flat, &full, &small)?;
        let (normalised, _) = run.standardise(&centred, &full, &small, self.eps)?;
        let normalised = run.reshape(&normalised, &dims)?;
        let affine = run.shaped((weight, bias), &channel_shape(dims[1], dims.len()))?;
        Ok(Slot::Float(run.scale_and_shift(&normalised, affine, Finish::default())?))
    }
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn operands(&self) -> &'static [&'static str] {
        &["input", "weight", "bias"]
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, [dim]) = (fact(operands, 0)?, self.normalized_shape);
        if x.shape.len() < 2 || x.shape.last() != Some(&dim) {
            return Err(format!("expects [N, …, {dim}], but its input is {:?}", x.shape));
        }
        per_channel(operands, dim)?;
        Ok(Fact::float(&x.shape))
    }

    fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
        // The normalised vectors, and these scaled and shifted.
        Cost::with_activations(0, &[result.len(), result.len()])
    }

    fn start(&self, place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        start(place)
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        Affinity { products: &[(0, 1)], smooth: &[0] }
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        if operands[1..].iter().flatten().any(|fact| fact.rows.is_some()) {
            return Err("its weights depend on the inputs".into());
        }
        rows::together(operands[0], &[result.shape.len() - 1])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.optional(operands, 1)?, run.optional(operands, 2)?);
        let (dims, [dim]) = (x.dims()?.to_vec(), self.normalized_shape);
        let rows = dims[..dims.len() - 1].iter().product();
        let (full, small) = ([rows, dim], [rows, 1]);
        let flat = run.reshape(&x, &full)?;
        let (centred, _) = run.centre(&flat, &full, &small)?;
        let (normalised, _) = run.standardise(&centred, &full, &small, self.eps)?;
        let affine = run.shaped((weight, bias), &[1, dim])?;
        let y = run.scale_and_shift(&normalised, affine, Finish::default())?;
        Ok(Slot::Float(run.reshape(&y, &dims)?))
    }
}

impl<V: Value> Run<'_, V> {
    /// `x − mean` and the mean, over the axes where `small` has 1.
    fn centre(&mut self, x: &Var<V>, full: &[usize], small: &[usize]) -> Result<(Var<V>, Var<V>)> {
        let mean = self.mean(x, full, small)?;
        let negative = self.negative(&mean)?;
        Ok((affine(self.tape, x, None, &negative)?, mean))
    }

    /// `x / √(mean(x²) + eps)` and `mean(x²)`, the (biased) variance of a centred `x`.
    fn standardise(&mut self, x: &Var<V>, full: &[usize], small: &[usize], eps: f64) -> Result<(Var<V>, Var<V>)> {
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
    #[allow(clippy::type_complexity)] // the pair is what `scale_and_shift` takes
    fn shaped(
        &mut self,
        (weight, bias): (Option<Var<V>>, Option<Var<V>>),
        small: &[usize],
    ) -> Result<(Option<Var<V>>, Option<Var<V>>)> {
        let mut shape = |var: Option<Var<V>>| var.map(|var| self.reshape(&var, small)).transpose();
        Ok((shape(weight)?, shape(bias)?))
    }

    fn scale_and_shift(
        &mut self,
        x: &Var<V>,
        (weight, bias): (Option<Var<V>>, Option<Var<V>>),
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
