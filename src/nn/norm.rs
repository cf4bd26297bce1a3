//! Batch, group and layer normalisation, composed of primitives, so that every derivative follows.

use candle_core::{DType, Tensor};

use super::{Forward, Mode, NnError, Place};
use crate::Result;
use crate::autodiff::{Finish, Value, Var};
use crate::kernels::{Bilinear, Linear, Pointwise};
use crate::models::Layer;

/// Batch statistics of one normalisation layer, for the running averages.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// Name of the running mean.
    pub running_mean: String,
    /// Name of the running variance.
    pub running_var: String,
    /// Weight of the new value in the running average.
    pub momentum: f64,
    /// Mean per channel, `[C]`.
    pub mean: Tensor,
    /// Unbiased variance per channel, `[C]`.
    pub var: Tensor,
}

impl<V: Value> Forward<'_, V> {
    pub(super) fn batch_norm(
        &mut self,
        layer: &Layer,
        x: &Var<V>,
        finish: Finish<'_, V>,
        place: &Place<'_>,
    ) -> Result<Var<V>> {
        let Layer::BatchNorm2d { channels, eps, momentum, weight, bias, running_mean, running_var } = layer else {
            return Ok(x.clone());
        };
        let dims = x.dims()?.to_vec();
        if dims.len() < 2 || dims[1] != *channels {
            return Err(place.misfit(format!("expects [N, {channels}, …], but its input is {dims:?}")));
        }
        let mut small = vec![1; dims.len()];
        small[1] = *channels;
        let affine = (weight.as_deref(), bias.as_deref());
        if matches!(self.mode, Mode::Eval) {
            return self.batch_norm_eval(x, (running_mean, running_var, *eps), affine, &small, finish);
        }
        let count = dims.iter().product::<usize>() / channels;
        if count < 2 {
            return Err(place.misfit("batch statistics need more than one value per channel".into()));
        }
        let (y, mean, variance) = match self.tape.moments(x, &small)? {
            Some((moments, centre)) => self.batch_norm_fused(x, (moments, centre, *eps), affine, &small, finish)?,
            None => {
                let (centred, mean) = self.centre(x, &dims, &small)?;
                let (normalised, variance) = self.standardise(&centred, &dims, &small, *eps)?;
                (self.scale_and_shift(&normalised, affine, &small, finish)?, mean, variance)
            }
        };
        if let (Some(mean), Some(variance)) = (mean.value().primal(), variance.value().primal()) {
            let unbiased = count as f64 / (count - 1) as f64;
            self.statistics.push(BatchStatistics {
                running_mean: running_mean.clone(),
                running_var: running_var.clone(),
                momentum: *momentum,
                mean: mean.flatten_all()?,
                var: (variance.flatten_all()? * unbiased)?,
            });
        }
        Ok(y)
    }

    /// `x·s + t` with `s = γ / √(var + eps)` and `t = β − mean·s`, all variables: one pass for the moments of `x` and one
    /// for the map, forwards and backwards. Also mean and (biased) variance.
    fn batch_norm_fused(
        &mut self,
        x: &Var<V>,
        (moments, centre, eps): (Var<V>, Tensor, f64),
        (weight, bias): (Option<&str>, Option<&str>),
        small: &[usize],
        finish: Finish<'_, V>,
    ) -> Result<(Var<V>, Var<V>, Var<V>)> {
        let product = Bilinear::Product { full: small.to_vec(), small: small.to_vec() };
        let part = |start| Linear::Narrow { axis: 0, start, len: 1, size: 2, rank: small.len() };
        let minus = Linear::Scale { factor: -1.0 };
        // With m₁ = mean(x − c) and m₂ = mean((x − c)²): mean = c + m₁, var = m₂ − m₁².
        let first = self.tape.linear(part(0), &moments)?;
        let second = self.tape.linear(part(1), &moments)?;
        let square = self.tape.bilinear(product.clone(), &first, &first)?;
        let square = self.tape.linear(minus.clone(), &square)?;
        let variance = self.tape.add(&second, &square)?;
        let eps = self.tape.constant((centre.zeros_like()? + eps)?);
        let centre = self.tape.constant(centre);
        let mean = self.tape.add(&first, &centre)?;
        let shifted = self.tape.add(&variance, &eps)?;
        let mut scale = self.tape.pointwise(Pointwise::Rsqrt, &shifted)?;
        if let Some(weight) = weight {
            let weight = self.param(weight)?;
            let weight = self.reshape(&weight, |_| small.to_vec())?;
            scale = self.tape.bilinear(product.clone(), &scale, &weight)?;
        }
        let offset = self.tape.bilinear(product, &mean, &scale)?;
        let mut shift = self.tape.linear(minus, &offset)?;
        if let Some(bias) = bias {
            let bias = self.param(bias)?;
            let bias = self.reshape(&bias, |_| small.to_vec())?;
            shift = self.tape.add(&shift, &bias)?;
        }
        Ok((self.tape.affine(x, Some(&scale), &shift, finish)?, mean, variance))
    }

    /// `x·s + t` with `s = γ / √(var + eps)` and `t = β − mean·s`: statistics are constants, `γ` and `β` are not.
    fn batch_norm_eval(
        &mut self,
        x: &Var<V>,
        (mean, var, eps): (&str, &str, f64),
        (weight, bias): (Option<&str>, Option<&str>),
        small: &[usize],
        finish: Finish<'_, V>,
    ) -> Result<Var<V>> {
        let buffer = |name: &str| self.buffers.get(name).ok_or_else(|| NnError::MissingTensor { name: name.into() });
        let dtype = x.value().primal().map_or(DType::F64, |primal| primal.dtype());
        // f64 whatever the network's dtype: a variance as small as eps would lose digits.
        let inverse = (buffer(var)?.to_dtype(DType::F64)? + eps)?.sqrt()?.recip()?;
        let offset = (buffer(mean)?.to_dtype(DType::F64)? * &inverse)?.neg()?;
        let constant = |tensor: Tensor| tensor.to_dtype(dtype)?.reshape(small.to_vec());
        let (inverse, offset) = (self.tape.constant(constant(inverse)?), self.tape.constant(constant(offset)?));
        let (scale, mut shift) = match weight {
            None => (inverse, offset),
            Some(weight) => {
                let weight = self.param(weight)?;
                let weight = self.reshape(&weight, |_| small.to_vec())?;
                let product = Bilinear::Product { full: small.to_vec(), small: small.to_vec() };
                (
                    self.tape.bilinear(product.clone(), &weight, &inverse)?,
                    self.tape.bilinear(product, &weight, &offset)?,
                )
            }
        };
        if let Some(bias) = bias {
            let bias = self.param(bias)?;
            let bias = self.reshape(&bias, |_| small.to_vec())?;
            shift = self.tape.add(&bias, &shift)?;
        }
        Ok(self.tape.affine(x, Some(&scale), &shift, finish)?)
    }

    pub(super) fn group_norm(
        &mut self,
        x: &Var<V>,
        (groups, channels, eps): (usize, usize, f64),
        affine: (Option<&str>, Option<&str>),
        place: &Place<'_>,
    ) -> Result<Var<V>> {
        let dims = x.dims()?.to_vec();
        if dims.len() < 2 || dims[1] != channels {
            return Err(place.misfit(format!("expects [N, {channels}, …], but its input is {dims:?}")));
        }
        if groups == 0 || channels % groups != 0 {
            return Err(place.misfit(format!("{groups} groups do not divide {channels} channels")));
        }
        let grouped = vec![dims[0], groups, dims[1..].iter().product::<usize>() / groups];
        let small = vec![dims[0], groups, 1];
        let flat = self.reshape(x, |_| grouped.clone())?;
        let (centred, _) = self.centre(&flat, &grouped, &small)?;
        let (normalised, _) = self.standardise(&centred, &grouped, &small, eps)?;
        let normalised = self.reshape(&normalised, |_| dims.clone())?;
        let mut per_channel = vec![1; dims.len()];
        per_channel[1] = channels;
        self.scale_and_shift(&normalised, affine, &per_channel, Finish::default())
    }

    /// `(x − mean) / √(var + eps)` along the last axis, then scale and shift per feature.
    pub(super) fn layer_norm(
        &mut self,
        x: &Var<V>,
        (dim, eps): (usize, f64),
        affine: (Option<&str>, Option<&str>),
        place: &Place<'_>,
    ) -> Result<Var<V>> {
        let dims = x.dims()?.to_vec();
        if dims.len() < 2 || dims.last() != Some(&dim) {
            return Err(place.misfit(format!("expects [N, …, {dim}], but its input is {dims:?}")));
        }
        let rows = dims[..dims.len() - 1].iter().product();
        let (full, small) = (vec![rows, dim], vec![rows, 1]);
        let flat = self.reshape(x, |_| full.clone())?;
        let (centred, _) = self.centre(&flat, &full, &small)?;
        let (normalised, _) = self.standardise(&centred, &full, &small, eps)?;
        self.count(rows * dim);
        let y = self.scale_and_shift(&normalised, affine, &[1, dim], Finish::default())?;
        self.reshape(&y, |_| dims.clone())
    }

    /// `x − mean` and the mean, over the axes where `small` has 1.
    fn centre(&mut self, x: &Var<V>, full: &[usize], small: &[usize]) -> Result<(Var<V>, Var<V>)> {
        let mean = self.mean(x, full, small)?;
        let negative = self.tape.linear(Linear::Scale { factor: -1.0 }, &mean)?;
        Ok((self.tape.affine(x, None, &negative, Finish::default())?, mean))
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
        let product = Bilinear::Product { full: full.to_vec(), small: small.to_vec() };
        Ok((self.tape.bilinear(product, x, &inverse)?, variance))
    }

    fn mean(&mut self, x: &Var<V>, full: &[usize], small: &[usize]) -> Result<Var<V>> {
        let sum = self.tape.linear(Linear::SumTo { from: full.to_vec(), to: small.to_vec() }, x)?;
        let factor = small.iter().product::<usize>() as f64 / full.iter().product::<usize>() as f64;
        Ok(self.tape.linear(Linear::Scale { factor }, &sum)?)
    }

    fn scale_and_shift(
        &mut self,
        x: &Var<V>,
        (weight, bias): (Option<&str>, Option<&str>),
        small: &[usize],
        finish: Finish<'_, V>,
    ) -> Result<Var<V>> {
        let mut param = |name: &str| {
            let value = self.param(name)?;
            self.reshape(&value, |_| small.to_vec())
        };
        let (weight, bias) = (weight.map(&mut param).transpose()?, bias.map(&mut param).transpose()?);
        if let Some(bias) = bias {
            return Ok(self.tape.affine(x, weight.as_ref(), &bias, finish)?);
        }
        let product = Bilinear::Product { full: x.dims()?.to_vec(), small: small.to_vec() };
        let mut y = match weight {
            Some(weight) => self.tape.bilinear(product, x, &weight)?,
            None => x.clone(),
        };
        if let Some(addend) = finish.addend {
            y = self.tape.add(&y, addend)?;
        }
        Ok(if finish.relu { self.tape.relu(&y)? } else { y })
    }
}
