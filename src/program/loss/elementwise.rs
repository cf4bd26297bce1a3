//! Losses that compare each output with a target of its own: a row's is the mean over its outputs.

use candle_core::Tensor;

use super::definition::Loss;
use super::targets::{Given, labels, misfit, primal};
use crate::Result;
use crate::autodiff::{Tape, Value, Var};
use crate::data::TargetBatch;
use crate::kernels::{Bilinear, Linear, Pointwise};
use crate::program::ProgramError;
use crate::program::composites::affine;

/// That targets have the shape of outputs `[N, …]`, where axes of size 1 do not count, and are of a kind that the loss takes.
pub(super) fn check(loss: &Loss, output: &[usize], given: Given<'_>) -> Result<()> {
    let takes_labels = matches!(loss, Loss::BceWithLogits { .. });
    let shape = match given {
        Given::Labels(shape) if takes_labels => shape,
        Given::Values(shape) => shape,
        Given::Labels(_) => return Err(misfit(loss, output, given)),
    };
    let longer = |size: &&usize| **size != 1;
    let Some(sizes) = output.get(1..) else { return Err(misfit(loss, output, given)) };
    if !sizes.iter().filter(longer).eq(shape.iter().filter(longer)) {
        return Err(misfit(loss, output, given));
    }
    if let Loss::BceWithLogits { pos_weight: Some(weight) } = loss {
        let classes = sizes.last().copied().unwrap_or(1);
        if weight.len() != 1 && weight.len() != classes {
            return Err(ProgramError::ClassWeights { got: weight.len(), classes }.into());
        }
    }
    Ok(())
}

/// The loss of each row, `[N, 1]`.
pub(super) fn loss<V: Value>(tape: &mut Tape<V>, loss: &Loss, output: &Var<V>, target: &TargetBatch) -> Result<Var<V>> {
    let from = output.dims()?.to_vec();
    check(loss, &from, Given::of(target))?;
    let n = from[0];
    let each: usize = from[1..].iter().product();
    let primal = primal(output)?;
    let values = values(target, primal)?.filter(|values| values.elem_count() == n * each);
    let values = values.ok_or_else(|| misfit(loss, &from, Given::of(target)))?.reshape((n, each))?;
    let last = from.last().copied().filter(|_| from.len() > 1).unwrap_or(1);
    let to = vec![n, each];
    let output = if from == to { output.clone() } else { tape.linear(Linear::Reshape { from, to }, output)? };
    let sum = match loss {
        Loss::BceWithLogits { pos_weight } => {
            let factors = pos_weight.as_ref().map(|weight| log_factors(weight, last, &values)).transpose()?;
            binary_cross_entropy(tape, &output, &values, factors)?
        }
        _ => {
            let shift = tape.constant(values.neg()?);
            let difference = affine(tape, &output, None, &shift)?;
            match loss {
                Loss::L1 {} => piecewise(tape, &difference, 0.0, 1.0)?,
                Loss::Huber { delta } => piecewise(tape, &difference, *delta, *delta)?,
                Loss::SmoothL1 { beta } => piecewise(tape, &difference, *beta, 1.0)?,
                _ => tape.bilinear(row_sums(n, each), &difference, &difference)?,
            }
        }
    };
    Ok(tape.linear(Linear::Scale { factor: 1.0 / each as f64 }, &sum)?)
}

fn row_sums(n: usize, each: usize) -> Bilinear {
    Bilinear::ProductSum { full: vec![n, each], small: vec![n, 1] }
}

/// Targets as real numbers; `None` where labels are not 0 and 1.
fn values(target: &TargetBatch, like: &Tensor) -> Result<Option<Tensor>> {
    let labels = match (target, labels(target)) {
        (TargetBatch::Values(values), _) => return Ok(Some(values.clone())),
        (_, Some(labels)) if labels.iter().all(|label| (0..2).contains(label)) => labels,
        _ => return Ok(None),
    };
    let labels: Vec<f64> = labels.iter().map(|&label| label as f64).collect();
    Ok(Some(Tensor::new(labels, like.device())?.to_dtype(like.dtype())?))
}

/// `1 + (p − 1) y`, `p` along the last of the outputs' axes, of size `last`.
fn log_factors(weight: &[f64], last: usize, values: &Tensor) -> Result<Tensor> {
    let shape = values.dims().to_vec();
    let weight: Vec<f64> = (0..last).map(|entry| weight[entry % weight.len()] - 1.0).collect();
    let weight = Tensor::from_vec(weight, (1, last), values.device())?.to_dtype(values.dtype())?;
    Ok((values.reshape(((), last))?.broadcast_mul(&weight)? + 1.0)?.reshape(shape)?)
}

/// `Σ a softplus(f) + (1 − y − a) f`, `a = 1 + (p − 1) y` the factors, which are 1 where absent.
fn binary_cross_entropy<V: Value>(
    tape: &mut Tape<V>,
    output: &Var<V>,
    values: &Tensor,
    factors: Option<Tensor>,
) -> Result<Var<V>> {
    let (n, each) = values.dims2()?;
    let softplus = tape.pointwise(Pointwise::Softplus, output)?;
    let (positive, slopes) = match factors {
        None => {
            let map = Linear::SumTo { from: vec![n, each], to: vec![n, 1] };
            (tape.linear(map, &softplus)?, values.neg()?)
        }
        Some(factors) => {
            let slopes = ((values + &factors)?.neg()? + 1.0)?;
            let factors = tape.constant(factors);
            (tape.bilinear(row_sums(n, each), &softplus, &factors)?, slopes)
        }
    };
    let slopes = tape.constant(slopes);
    let linear = tape.bilinear(row_sums(n, each), output, &slopes)?;
    Ok(tape.add(&positive, &linear)?)
}

/// `Σ slope/(2 width) d²` where `|d| < width`, else `slope (|d| − width/2)`, over each row.
fn piecewise<V: Value>(tape: &mut Tape<V>, difference: &Var<V>, width: f64, slope: f64) -> Result<Var<V>> {
    let primal = primal(difference)?;
    let (n, each) = primal.dims2()?;
    // On which piece an output lies is held fixed, as with ReLU.
    let at = tape.pattern.choose(primal.clone())?;
    let inside = at.abs()?.lt(width)?.to_dtype(at.dtype())?;
    let outside = (inside.neg()? + 1.0)?;
    let signs = (at.gt(0.0)?.to_dtype(at.dtype())? - at.lt(0.0)?.to_dtype(at.dtype())?)?;
    let slopes = tape.constant((signs * &outside)?.affine(slope, 0.0)?);
    let constants = tape.constant(outside.sum_keepdim(1)?.affine(-0.5 * slope * width, 0.0)?);
    let linear = tape.bilinear(row_sums(n, each), difference, &slopes)?;
    let linear = affine(tape, &linear, None, &constants)?;
    if width == 0.0 {
        return Ok(linear);
    }
    let gated = tape.linear(Linear::Gate { gate: inside }, difference)?;
    let squares = tape.bilinear(row_sums(n, each), &gated, &gated)?;
    let squares = tape.linear(Linear::Scale { factor: 0.5 * slope / width }, &squares)?;
    Ok(tape.add(&squares, &linear)?)
}
