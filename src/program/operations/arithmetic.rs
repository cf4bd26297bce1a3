//! Sums, differences and products of two values, broadcast together.

use candle_core::DType;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels;
use crate::program::composites::affine;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, broadcast};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Start};

/// `input + other`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {}

/// `input − other`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sub {}

/// `input · other`, elementwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mul {}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "add" => scaled(call).and_then(|operands| call.gives(Add {}, operands)),
        "sub" | "subtract" => scaled(call).and_then(|operands| call.gives(Sub {}, operands)),
        "mul" | "multiply" => both(call).and_then(|operands| call.gives(Mul {}, operands)),
        _ => return None,
    })
}

/// The operands, a number as the second where one is.
fn both(call: &mut Call<'_>) -> Result<[Operand; 2], String> {
    let (a, b) = (call.operand("self")?, call.operand("other")?);
    Ok(if matches!(a, Operand::Number(_)) { [b, a] } else { [a, b] })
}

/// `input` and `α·other`
fn scaled(call: &mut Call<'_>) -> Result<[Operand; 2], String> {
    let (a, b) = (call.operand("self")?, call.operand("other")?);
    let b = match call.number("alpha")? {
        None | Some(1.0) => b,
        Some(alpha) => call.push(Mul {}, [b, Operand::Number(alpha)]),
    };
    Ok([a, b])
}

/// Shapes and rows of two values that are broadcast together.
macro_rules! broadcast_pair {
    () => {
        fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
            let (a, b) = (fact(operands, 0)?, fact(operands, 1)?);
            let shape = broadcast(&a.shape, &b.shape)?;
            Ok(Fact { kind: a.kind.joined(b.kind), ..Fact::float(&shape) })
        }

        fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
            rows::elementwise(operands, result.shape.len())
        }
    };
}

impl Operation for Add {
    columns! {
        name: "add",
        operands: &["input", "other"],
        cost: Cost::of_result,
        // A learned embedding of positions, as timm draws it.
        start: Start::NARROW,
        affinity: Affinity::AFFINE,
    }

    broadcast_pair!();

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        match whole_pair(run, operands)? {
            Some((a, b)) => Ok(Slot::Whole(a.broadcast_add(&b)?)),
            None => sum(run, operands, false),
        }
    }
}

impl Operation for Sub {
    columns! {
        name: "sub",
        operands: &["input", "other"],
        cost: Cost::of_result,
        start: Start::NARROW,
        affinity: Affinity::AFFINE,
    }

    broadcast_pair!();

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        match whole_pair(run, operands)? {
            Some((a, b)) => Ok(Slot::Whole(a.broadcast_sub(&b)?)),
            None => sum(run, operands, true),
        }
    }
}

impl Operation for Mul {
    columns! {
        name: "mul",
        operands: &["input", "other"],
        cost: Cost::of_result,
        // A learned scale.
        start: Start::Constant(1.0),
        affinity: Affinity { products: &[(0, 1)], smooth: &[] },
    }

    broadcast_pair!();

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        if let Some((a, b)) = whole_pair(run, operands)? {
            return Ok(Slot::Whole(a.broadcast_mul(&b)?));
        }
        if let Some(Slot::Number(factor)) = operands.get(1) {
            let x = run.var(operands, 0)?;
            return Ok(Slot::Float(run.tape.linear(kernels::Linear::Scale { factor: *factor }, &x)?));
        }
        let [full, small] = pair(run, operands)?;
        Ok(Slot::Float(run.product(&full, &small)?))
    }
}

/// Both operands, where neither is a tensor of floats.
fn whole_pair<V: Value>(
    run: &Run<'_, V>,
    operands: &[Slot<V>],
) -> Result<Option<(candle_core::Tensor, candle_core::Tensor)>> {
    let floats = operands.iter().any(|slot| match slot {
        Slot::Float(_) => true,
        Slot::Stored(stored) => stored.exact.dtype().is_float(),
        Slot::Number(number) => number.fract() != 0.0,
        Slot::Whole(_) | Slot::None => false,
    });
    let numbers_alone = operands.iter().all(|slot| matches!(slot, Slot::Number(_)));
    if floats || numbers_alone {
        return Ok(None);
    }
    let whole = |place| Ok::<_, crate::Error>(run.whole(operands, place)?.to_dtype(DType::I64)?);
    Ok(Some((whole(0)?, whole(1)?)))
}

/// `a + b` or `a − b`.
fn sum<V: Value>(run: &mut Run<'_, V>, operands: &[Slot<V>], minus: bool) -> Result<Slot<V>> {
    let (a, b) = (run.var(operands, 0)?, run.var(operands, 1)?);
    let b = if minus { run.negative(&b)? } else { b };
    Ok(Slot::Float(run.sum_of(&a, &b)?))
}

/// Both operands with equal ranks: one of the full shape, then the other.
fn pair<V: Value>(run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<[Var<V>; 2]> {
    let (a, b) = (run.var(operands, 0)?, run.var(operands, 1)?);
    let shape = broadcast(a.dims()?, b.dims()?).map_err(|reason| run.misfit(reason))?;
    let (a, b) = (run.with_rank(&a, shape.len())?, run.with_rank(&b, shape.len())?);
    Ok(match (a.dims()? == shape, b.dims()? == shape) {
        (true, _) => [a, b],
        (false, true) => [b, a],
        (false, false) => [run.broadcast(&a, &shape)?, b],
    })
}

impl<V: Value> Run<'_, V> {
    /// `a + b`, broadcast together.
    pub(super) fn sum_of(&mut self, a: &Var<V>, b: &Var<V>) -> Result<Var<V>> {
        let shape = broadcast(a.dims()?, b.dims()?).map_err(|reason| self.misfit(reason))?;
        let (a, b) = (self.with_rank(a, shape.len())?, self.with_rank(b, shape.len())?);
        Ok(match (a.dims()? == shape, b.dims()? == shape) {
            (true, true) => self.tape.add(&a, &b)?,
            (true, false) => affine(self.tape, &a, None, &b)?,
            (false, true) => affine(self.tape, &b, None, &a)?,
            (false, false) => {
                let a = self.broadcast(&a, &shape)?;
                affine(self.tape, &a, None, &b)?
            }
        })
    }

    /// The value with axes of size 1 in front, up to `rank` of them.
    pub(super) fn with_rank(&mut self, x: &Var<V>, rank: usize) -> Result<Var<V>> {
        let dims = x.dims()?;
        let to = [&vec![1; rank - dims.len()], dims].concat();
        self.reshape(x, &to)
    }

    /// The value repeated to a shape, aligned at the end.
    pub(super) fn repeated(&mut self, x: &Var<V>, to: &[usize]) -> Result<Var<V>> {
        let x = self.with_rank(x, to.len())?;
        self.broadcast(&x, to)
    }

    /// The value repeated along axes of size 1.
    pub(super) fn broadcast(&mut self, x: &Var<V>, to: &[usize]) -> Result<Var<V>> {
        let from = x.dims()?.to_vec();
        if from == to {
            return Ok(x.clone());
        }
        Ok(self.tape.linear(kernels::Linear::Broadcast { from, to: to.to_vec() }, x)?)
    }
}
