//! Writes into parts of a value, as new values.

use serde::{Deserialize, Serialize};

use super::Slice;
use super::choice::{all_of, places, strides};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::program::composites::cat;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis, element_count};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Start};

/// `input` with `src` in place of the entries `start`, `start + step`, … below `end` of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceScatter {
    /// The axis.
    pub dim: i64,
    /// The first entry; a negative one counts from the end.
    pub start: i64,
    /// The entry after the last, at most; a negative one counts from the end.
    pub end: i64,
    /// The step.
    pub step: usize,
}

/// `input` in the shape of `like`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewAs {}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "slice_scatter" => slice_scatter(call),
        "view_as" | "reshape_as" => view_as(call),
        _ => return None,
    })
}

fn slice_scatter(call: &mut Call<'_>) -> Results {
    let (x, src, dim) = (call.operand("self")?, call.operand("src")?, call.int("dim", Some(0))?);
    let (start, end) = (call.int("start", Some(0))?, call.int("end", Some(i64::MAX))?);
    let step = call.count("step", Some(1))?;
    call.gives(SliceScatter { dim, start, end, step }, [x, src])
}

fn view_as(call: &mut Call<'_>) -> Results {
    let operands: [Operand; 2] = [call.operand("self")?, call.operand("other")?];
    call.gives(ViewAs {}, operands)
}

impl SliceScatter {
    /// The axis, the first entry and the entry after the last.
    fn extent(&self, dims: &[usize], src: &[usize]) -> Result<(usize, usize, usize), String> {
        let slice = Slice { dim: self.dim, start: self.start, end: self.end, step: self.step };
        let (axis, start, end, len) = slice.extent(dims)?;
        let mut part = dims.to_vec();
        part[axis] = len;
        match part == src {
            true => Ok((axis, start, end)),
            false => Err(format!("a value of shape {src:?} does not fit a part of shape {part:?}")),
        }
    }
}

impl Operation for SliceScatter {
    columns! {
        name: "slice_scatter",
        operands: &["input", "src"],
        cost: Cost::of_result,
        start: Start::NARROW,
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, src) = (fact(operands, 0)?, fact(operands, 1)?);
        self.extent(&x.shape, &src.shape)?;
        Ok(Fact { kind: x.kind, ..Fact::float(&x.shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let axis = axis(self.dim, result.shape.len())?;
        // All of an axis, as exporters write it, touches no two entries.
        let parts = if fact(operands, 1)?.shape == result.shape { &[] } else { operands };
        for operand in parts {
            rows::together(*operand, &[axis])?;
        }
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let dims = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        let src = operands.get(1).cloned().unwrap_or(Slot::None);
        let shape = src.shape()?;
        let (axis, start, end) = self.extent(&dims, &shape).map_err(|reason| run.misfit(reason))?;
        if self.step > 1 || run.whole_or_none(operands, 0).is_some() {
            let strides = strides(&dims);
            let mut axes: Vec<Vec<usize>> = (0..dims.len()).map(|at| all_of(dims[at], strides[at])).collect();
            axes[axis] = (start..end).step_by(self.step).map(|entry| entry * strides[axis]).collect();
            return run.put(operands, src, &places(&axes), &shape, false);
        }
        let (x, src) = (run.var(operands, 0)?, run.var(operands, 1)?);
        let mut parts: Vec<Var<V>> = Vec::new();
        for (place, (from, to)) in [(0, start), (end, dims[axis])].into_iter().enumerate() {
            if from < to {
                parts.push(run.entries_of(&x, axis, from..to)?);
            }
            if place == 0 {
                parts.push(src.clone());
            }
        }
        Ok(Slot::Float(cat(run.tape, &parts, axis)?))
    }
}

impl Operation for ViewAs {
    columns! {
        name: "view_as",
        operands: &["input", "like"],
        cost: Cost::of_view,
        start: Start::NARROW,
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, like) = (fact(operands, 0)?, fact(operands, 1)?);
        match element_count(&like.shape) == Some(x.len()) {
            true => Ok(Fact { kind: x.kind, ..Fact::float(&like.shape) }),
            false => Err(format!("shape {:?} cannot be viewed as shape {:?}", x.shape, like.shape)),
        }
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::reshaped(operands[0], &result.shape)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let shape = operands.get(1).map_or(Ok(Vec::new()), Slot::shape)?;
        run.view(operands, |_| Ok(shape.clone()))
    }
}
