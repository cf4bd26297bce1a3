//! Products over an axis, whole and up to each entry, without a division, so that zeros do no harm; differences along an
//! axis.

use serde::{Deserialize, Serialize};

use super::reductions::reduced;
use super::{Cat, Slice, Sub, View};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::Linear;
use crate::program::composites::cat;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Size, Start};

/// The product of the entries of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prod {
    /// The axis.
    pub dim: i64,
    /// Whether it stays, with size 1.
    pub keepdim: bool,
}

/// The products of the entries of an axis up to each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cumprod {
    /// The axis.
    pub dim: i64,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "diff" => diff(call),
        "prod" => prod(call),
        "cumprod" => call.operand("self").and_then(|x| {
            let dim = call.int("dim", None)?;
            call.kind("dtype")?;
            call.gives(Cumprod { dim }, [x])
        }),
        _ => return None,
    })
}

/// Each entry less the one before it.
fn diff(call: &mut Call<'_>) -> Results {
    let (x, n, dim) = (call.operand("self")?, call.int("n", Some(1))?, call.int("dim", Some(-1))?);
    call.only("n", n, 1)?;
    let parts = [call.optional("prepend")?, x, call.optional("append")?];
    let parts: Vec<Operand> = parts.into_iter().filter(|part| part.name().is_some()).collect();
    let x = if parts.len() == 1 { parts[0].clone() } else { call.push(Cat { dim }, parts) };
    let later = call.push(Slice { dim, start: 1, end: i64::MAX, step: 1 }, [x.clone()]);
    let earlier = call.push(Slice { dim, start: 0, end: -1, step: 1 }, [x]);
    call.gives(Sub {}, [later, earlier])
}

fn prod(call: &mut Call<'_>) -> Results {
    let (x, dim, keepdim) = (call.operand("self")?, call.ints("dim")?, call.flag("keepdim", false)?);
    call.kind("dtype")?;
    let (x, dim) = match dim.as_deref() {
        Some(&[dim]) => (x, dim),
        _ => (call.push(View { size: vec![Size::fixed(-1)] }, [x]), 0),
    };
    call.gives(Prod { dim, keepdim }, [x])
}

impl Operation for Prod {
    columns! {
        name: "prod",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(1.0),
        affinity: Affinity { products: &[(0, 0)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&reduced(&fact(operands, 0)?.shape, &[self.dim], self.keepdim)?.1))
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let axes = [axis(self.dim, operands[0].map_or(0, |x| x.shape.len()))?];
        if self.keepdim { rows::together(operands[0], &axes) } else { rows::removed(operands[0], &axes) }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let mut x = run.var(operands, 0)?;
        let full = x.dims()?.to_vec();
        let (_, kept) = reduced(&full, &[self.dim], self.keepdim).map_err(|reason| run.misfit(reason))?;
        let axis = axis(self.dim, full.len()).map_err(|reason| run.misfit(reason))?;
        if full[axis] == 0 {
            return Err(run.misfit("there is no entry"));
        }
        while x.dims()?[axis] > 1 {
            let (size, half) = (x.dims()?[axis], x.dims()?[axis] / 2);
            let [first, second] = [run.entries_of(&x, axis, 0..half)?, run.entries_of(&x, axis, half..2 * half)?];
            let mut parts = vec![run.product(&first, &second)?];
            if size % 2 == 1 {
                parts.push(run.entries_of(&x, axis, size - 1..size)?);
            }
            x = cat(run.tape, &parts, axis)?;
        }
        Ok(Slot::Float(run.reshape(&x, &kept)?))
    }
}

impl Operation for Cumprod {
    columns! {
        name: "cumprod",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(1.0),
        affinity: Affinity { products: &[(0, 0)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        axis(self.dim, x.shape.len())?;
        Ok(Fact::float(&x.shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[axis(self.dim, result.shape.len())?])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let mut x = run.var(operands, 0)?;
        let axis = axis(self.dim, x.dims()?.len()).map_err(|reason| run.misfit(reason))?;
        let size = x.dims()?[axis];
        // Products of 1, 2, 4, … entries that end at each.
        let mut reach = 1;
        while reach < size {
            let (later, before) = (run.entries_of(&x, axis, reach..size)?, run.entries_of(&x, axis, 0..size - reach)?);
            let parts = [run.entries_of(&x, axis, 0..reach)?, run.product(&later, &before)?];
            x = cat(run.tape, &parts, axis)?;
            reach *= 2;
        }
        Ok(Slot::Float(x))
    }
}

impl<V: Value> Run<'_, V> {
    /// A range of entries of an axis.
    pub(super) fn entries_of(&mut self, x: &Var<V>, axis: usize, range: std::ops::Range<usize>) -> Result<Var<V>> {
        let dims = x.dims()?;
        let (size, rank) = (dims[axis], dims.len());
        Ok(self.tape.linear(Linear::Narrow { axis, start: range.start, len: range.len(), size, rank }, x)?)
    }
}
