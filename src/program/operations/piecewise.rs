//! Functions with kinks and steps. How PyTorch differentiates each is stated with it.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, broadcast};
use crate::program::operation::{Affinity, Operation, columns};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Results, Start};

/// `min(max(x, min), max)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clamp {
    /// The lower bound, where there is one.
    pub min: Option<f64>,
    /// The upper bound, where there is one.
    pub max: Option<f64>,
    /// Whether the derivative at a bound is 1, as that of `clamp`; that of `hardtanh` is 0.
    pub closed: bool,
}

/// The larger or the smaller of two values; where they are equal, each takes half of the derivative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extremum {
    /// Whether it is the larger.
    pub largest: bool,
}

/// Functions of derivative 0 by PyTorch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum Steps {
    Sign,
    Floor,
    Ceil,
    /// To the nearest whole number, halves to the even one.
    Round,
    Trunc,
    /// The number itself, taken for a constant.
    Detach,
}

/// A function of derivative 0, elementwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The function; PyTorch has an operation for each.
    pub function: Steps,
}

/// The quotient as a whole number; its derivative is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundedDiv {
    /// Whether it is rounded towards minus infinity, not towards 0.
    pub floor: bool,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    let step = match call.name {
        "maximum" => return Some(extremum(call, true)),
        "minimum" => return Some(extremum(call, false)),
        "sign" | "sgn" => Steps::Sign,
        "floor" => Steps::Floor,
        "ceil" => Steps::Ceil,
        "round" => Steps::Round,
        "trunc" | "fix" => Steps::Trunc,
        "detach" => Steps::Detach,
        _ => return None,
    };
    Some(call.operand("self").and_then(|x| call.gives(Step { function: step }, [x])))
}

fn extremum(call: &mut Call<'_>, largest: bool) -> Results {
    let operands = [call.operand("self")?, call.operand("other")?];
    call.gives(Extremum { largest }, operands)
}

/// Shapes and rows of values that are broadcast together.
macro_rules! elementwise {
    () => {
        fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
            let shape = operands.iter().flatten().try_fold(Vec::new(), |shape, fact| broadcast(&shape, &fact.shape))?;
            let kinds = operands.iter().flatten().map(|fact| fact.kind);
            let kind = kinds.reduce(Kind::joined).unwrap_or_default();
            Ok(Fact { kind, ..Fact::float(&shape) })
        }

        fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
            rows::elementwise(operands, result.shape.len())
        }
    };
}

/// Whole numbers, one by one.
fn whole_map(x: &Tensor, f: impl Fn(i64) -> i64) -> Result<Tensor> {
    let values = x.to_dtype(DType::I64)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<i64>()?;
    Ok(Tensor::from_vec(values.into_iter().map(f).collect::<Vec<_>>(), x.dims(), x.device())?)
}

/// Whole numbers, pair by pair.
fn whole_pairs(a: &Tensor, b: &Tensor, f: impl Fn(i64, i64) -> i64) -> Result<Tensor> {
    let shape = a.shape().broadcast_shape_binary_op(b.shape(), "pairs")?;
    let values = |x: &Tensor| {
        let x = x.to_dtype(DType::I64)?.broadcast_as(&shape)?;
        x.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<i64>()
    };
    let pairs = values(a)?.into_iter().zip(values(b)?);
    Ok(Tensor::from_vec(pairs.map(|(a, b)| f(a, b)).collect::<Vec<_>>(), &shape, a.device())?)
}

impl Operation for Clamp {
    columns! {
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    elementwise!();

    fn name(&self) -> &'static str {
        if self.closed { "clamp" } else { "hardtanh" }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (low, high) = (self.min.unwrap_or(f64::NEG_INFINITY), self.max.unwrap_or(f64::INFINITY));
        if let Some(x) = run.whole_or_none(operands, 0) {
            return Ok(Slot::Whole(whole_map(&x, |x| (x as f64).max(low).min(high) as i64)?));
        }
        let x = run.var(operands, 0)?;
        if run.tape.may_choose_within(&x) {
            let bounds = kernels::Bounds { low, high, closed: self.closed };
            return Ok(Slot::Float(run.tape.pointwise(kernels::Pointwise::Clamp(bounds), &x)?));
        }
        let primal = run.plain(operands, 0)?;
        // NaN is on no side, and passes.
        let (mut below, mut above) = (primal.le(low)?, primal.ge(high)?);
        if self.closed {
            (below, above) = (primal.lt(low)?, primal.gt(high)?);
        }
        // Pieces: 0 inside, 1 below, 2 above.
        let pieces = (below.to_dtype(DType::U32)? + (above.to_dtype(DType::U32)? * 2.0)?)?;
        let pieces = run.tape.pattern.choose(pieces)?;
        let inside = run.tape.linear(kernels::Linear::Gate { gate: pieces.eq(0u32)?.to_dtype(run.dtype)? }, &x)?;
        let mut bounds = pieces.zeros_like()?.to_dtype(run.dtype)?;
        for (piece, bound) in [(1u32, self.min), (2, self.max)] {
            // Nothing lies beyond infinity, and 0 times it would be NaN.
            if let Some(bound) = bound.filter(|bound| bound.is_finite()) {
                bounds = (bounds + (pieces.eq(piece)?.to_dtype(run.dtype)? * bound)?)?;
            }
        }
        let bounds = run.tape.constant(bounds);
        Ok(Slot::Float(run.tape.add(&inside, &bounds)?))
    }
}

impl Operation for Extremum {
    columns! {
        operands: &["input", "other"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    elementwise!();

    fn name(&self) -> &'static str {
        if self.largest { "maximum" } else { "minimum" }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        if let (Ok(a), Ok(b)) = (run.whole(operands, 0), run.whole(operands, 1)) {
            let choose = if self.largest { i64::max } else { i64::min };
            return Ok(Slot::Whole(whole_pairs(&a, &b, choose)?));
        }
        let (a, b) = (run.var(operands, 0)?, run.var(operands, 1)?);
        let shape = broadcast(a.dims()?, b.dims()?).map_err(|reason| run.misfit(reason))?;
        let (a, b) = (run.repeated(&a, &shape)?, run.repeated(&b, &shape)?);
        let (Some(first), Some(second)) = (a.value().primal(), b.value().primal()) else {
            return Err(run.misfit("values without primal"));
        };
        let (less, more) = (first.lt(second)?, first.gt(second)?);
        let (won, lost) = if self.largest { (more, less) } else { (less, more) };
        // Pieces: 1 the first, 2 the second, 0 both are equal or one is NaN.
        let pieces = (won.to_dtype(DType::U32)? + (lost.to_dtype(DType::U32)? * 2.0)?)?;
        let pieces = run.tape.pattern.choose(pieces)?;
        let gate = |other: u32| Ok::<_, crate::Error>(pieces.ne(other)?.to_dtype(run.dtype)?);
        let (ours, theirs) = (gate(2)?, gate(1)?);
        let a = run.tape.linear(kernels::Linear::Gate { gate: ours }, &a)?;
        let b = run.tape.linear(kernels::Linear::Gate { gate: theirs }, &b)?;
        let sum = run.tape.add(&a, &b)?;
        let halves = run.tape.constant(pieces.eq(0u32)?.to_dtype(run.dtype)?.affine(-0.5, 1.0)?);
        Ok(Slot::Float(run.product(&sum, &halves)?))
    }
}

impl Operation for Step {
    columns! {
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    elementwise!();

    fn name(&self) -> &'static str {
        match self.function {
            Steps::Sign => "sign",
            Steps::Floor => "floor",
            Steps::Ceil => "ceil",
            Steps::Round => "round",
            Steps::Trunc => "trunc",
            Steps::Detach => "detach",
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        if let Some(x) = run.whole_or_none(operands, 0) {
            return Ok(Slot::Whole(if self.function == Steps::Sign { whole_map(&x, i64::signum)? } else { x }));
        }
        let x = run.plain(operands, 0)?;
        let f = match self.function {
            // `signum` of 0 would be 1.
            Steps::Sign => |x: f64| if x == 0.0 { 0.0 } else { x.signum() },
            Steps::Floor => f64::floor,
            Steps::Ceil => f64::ceil,
            Steps::Round => f64::round_ties_even,
            Steps::Trunc => f64::trunc,
            Steps::Detach => return Ok(Slot::Float(run.tape.constant(x))),
        };
        let values = x.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let values: Vec<f64> = values.into_iter().map(f).collect();
        let values = Tensor::from_vec(values, x.dims(), &run.device)?.to_dtype(run.dtype)?;
        Ok(Slot::Float(run.tape.constant(values)))
    }
}

impl Operation for RoundedDiv {
    columns! {
        name: "div",
        operands: &["input", "other"],
        cost: Cost::of_result,
        start: Start::Constant(1.0),
        affinity: Affinity::AFFINE,
    }

    elementwise!();

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        if let (Ok(a), Ok(b)) = (run.whole(operands, 0), run.whole(operands, 1)) {
            if b.to_dtype(DType::I64)?.eq(0i64)?.to_dtype(DType::U32)?.sum_all()?.to_scalar::<u32>()? > 0 {
                return Err(run.misfit("it divides a whole number by 0"));
            }
            let floor = |a: i64, b: i64| {
                let quotient = a.wrapping_div(b);
                if a.wrapping_rem(b) != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
            };
            let divide = |a, b| if self.floor { floor(a, b) } else { i64::wrapping_div(a, b) };
            return Ok(Slot::Whole(whole_pairs(&a, &b, divide)?));
        }
        let wide = |var: Var<V>| match var.value().primal() {
            Some(primal) => Ok(primal.to_dtype(DType::F64)?),
            None => Err(run.misfit("a value without primal")),
        };
        let (a, b) = (wide(run.var(operands, 0)?)?, wide(run.var(operands, 1)?)?);
        let quotient = a.broadcast_div(&b)?;
        let truncated = || quotient.abs()?.floor()? * quotient.sign()?;
        let rounded = if self.floor { quotient.floor()? } else { truncated()? };
        Ok(Slot::Float(run.tape.constant(rounded.to_dtype(run.dtype)?)))
    }
}
