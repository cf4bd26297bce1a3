//! Batch normalisation (Ioffe and Szegedy 2015).

use candle_core::DType;
use serde::{Deserialize, Serialize};

use super::normalisation::{Learned, channel_shape, operands_of, per_channel, start};
use super::{Add, Function, Mean, Mul, PerChannel, Sub, Variance};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Linear, Pointwise};
use crate::program::composites::{Finish, Moments, channel_affine, moments};
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{BatchStatistics, Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Start};

/// `(x − mean) / √(var + eps)` per channel over `N, H, W` (or over `N` for `[N, C]`), then scale and shift: stored
/// statistics in eval mode, the batch's in training and where none are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Weight of a new value in the running averages.
    pub momentum: f64,
    /// Added to the variance.
    pub eps: f64,
    /// Whether the batch's own statistics are taken in eval mode too, as PyTorch does with `track_running_stats=False`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_statistics: bool,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    let names = ["batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"];
    names.contains(&call.name).then(|| batch_norm(call))
}

fn batch_norm(call: &mut Call<'_>) -> Results {
    let mut operands = operands_of(call)?;
    operands.extend([call.optional("running_mean")?, call.optional("running_var")?]);
    let (momentum, eps) = (call.number("momentum")?.unwrap_or(0.1), call.number("eps")?.unwrap_or(1e-5));
    if call.flag("training", false)? && !call.in_training() {
        call.only("training", operands.split_off(3), vec![Operand::None; 2])?;
        return own_statistics(call, &operands, eps);
    }
    call.gives(BatchNorm { momentum, eps, own_statistics: false }, operands)
}

/// With the operand's own statistics in analysis too, as of weights that are standardised.
fn own_statistics(call: &mut Call<'_>, operands: &[Operand], eps: f64) -> Results {
    let x = operands[0].clone();
    let dim: Vec<i64> = (0..call.rank(&x)? as i64).filter(|&axis| axis != 1).collect();
    let mean = call.push(Mean { dim: dim.clone(), keepdim: true }, [x.clone()]);
    let variance = Variance { dim, correction: 0.0, keepdim: true, root: false };
    let variance = call.push(variance, [x.clone()]);
    let shifted = call.plus(&variance, eps);
    let inverse = call.apply(Function::Rsqrt, &shifted);
    let centred = call.push(Sub {}, [x.clone(), mean]);
    let mut y = call.push(Mul {}, [centred, inverse]);
    if let Some(weight) = operands.get(1).filter(|weight| **weight != Operand::None) {
        let weight = call.push(PerChannel {}, [weight.clone(), x.clone()]);
        y = call.push(Mul {}, [y, weight]);
    }
    if let Some(bias) = operands.get(2).filter(|bias| **bias != Operand::None) {
        let bias = call.push(PerChannel {}, [bias.clone(), x]);
        y = call.push(Add {}, [y, bias]);
    }
    Ok(vec![y])
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
        if !run.mode.is_training() && !self.own_statistics {
            return self.with_stored(run, &x, operands, Learned { weight, bias }, finish);
        }
        let count = dims.iter().product::<usize>() / dims[1];
        if count < 2 && run.mode.is_training() {
            return Err(run.misfit("batch statistics need more than one value per channel"));
        }
        let affine = run.shaped(Learned { weight, bias }, &small)?;
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
        Learned { weight, bias }: Learned<V>,
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
        Moments { means, centre }: Moments<V>,
        Learned { weight, bias }: Learned<V>,
        finish: Finish<'_, V>,
    ) -> Result<(Var<V>, Var<V>, Var<V>)> {
        let rank = centre.rank();
        let part = |start| Linear::Narrow { axis: 0, start, len: 1, size: 2, rank };
        // With m₁ = mean(x − c) and m₂ = mean((x − c)²): mean = c + m₁, var = m₂ − m₁².
        let first = run.tape.linear(part(0), &means)?;
        let second = run.tape.linear(part(1), &means)?;
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
    columns! {
        name: "batch_norm",
        operands: &["input", "weight", "bias", "running_mean", "running_var"],
        cost: Cost::of_result,
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

    fn start(&self, place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        start(place)
    }

    fn affinity(&self, in_training: bool) -> Affinity {
        let mixes = in_training || self.own_statistics;
        Affinity { products: &[(0, 1)], smooth: if mixes { &[0] } else { &[] } }
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, in_training: bool) -> Tracked {
        let rows = rows::per_row(operands)?;
        match rows {
            Some(_) if in_training || self.own_statistics => Err("its statistics are those of the whole batch".into()),
            rows => Ok(rows),
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        Ok(Slot::Float(self.forward_with(run, operands, Finish::default())?))
    }
}
