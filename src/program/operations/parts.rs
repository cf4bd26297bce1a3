//! Parts of values: entries of an axis, and values joined along one.

use serde::Serialize;

use super::shapes::{arrangement, kept};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels;
use crate::program::composites::cat;
use crate::program::fact::axis;
use crate::program::infer::Cost;
use crate::program::operation::{Affinity, Operation, fact};
use crate::program::rows::{self, Tracked};
use crate::program::run::{Run, Slot};
use crate::program::{Fact, Start};

/// One entry of an axis, which goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Select {
    /// The axis.
    pub dim: i64,
    /// The entry; a negative one counts from the end.
    pub index: i64,
}

/// Entries `start`, `start + step`, … below `end` of an axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// The axis.
    pub dim: i64,
    /// The first entry.
    pub start: usize,
    /// The entry after the last, at most; the axis' size where it is larger.
    pub end: usize,
    /// The step.
    pub step: usize,
}

/// Values side by side along an axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cat {
    /// The axis.
    pub dim: i64,
}

/// Zeros around an axis: PyTorch's `pad` for one axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pad {
    /// The axis.
    pub dim: i64,
    /// Zeros before and behind.
    pub pad: [usize; 2],
}

impl Select {
    fn entry(&self, dims: &[usize]) -> Result<(usize, usize), String> {
        let axis = axis(self.dim, dims.len())?;
        let size = dims[axis];
        let entry = if self.index < 0 { self.index + size as i64 } else { self.index };
        match usize::try_from(entry) {
            Ok(entry) if entry < size => Ok((axis, entry)),
            _ => Err(format!("no entry {} among {size}", self.index)),
        }
    }
}

impl Operation for Select {
    arrangement!("select", Cost::of_result);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let (axis, _) = self.entry(&x.shape)?;
        Ok(kept(x, [&x.shape[..axis], &x.shape[axis + 1..]].concat()))
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let axis = axis(self.dim, operands[0].map_or(0, |x| x.shape.len()))?;
        rows::removed(operands[0], &[axis])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let dims = x.dims()?.to_vec();
        let (axis, start) = self.entry(&dims).map_err(|reason| run.misfit(reason))?;
        let narrow = kernels::Linear::Narrow { axis, start, len: 1, size: dims[axis], rank: dims.len() };
        let one = run.tape.linear(narrow, &x)?;
        Ok(Slot::Float(run.reshape(&one, &[&dims[..axis], &dims[axis + 1..]].concat())?))
    }
}

impl Slice {
    /// The axis, the entry after the last, and how many there are.
    fn extent(&self, dims: &[usize]) -> Result<(usize, usize, usize), String> {
        let axis = axis(self.dim, dims.len())?;
        if self.step == 0 {
            return Err("stride must be at least 1".into());
        }
        let end = self.end.min(dims[axis]);
        match end.checked_sub(self.start) {
            Some(len) if len > 0 => Ok((axis, end, len.div_ceil(self.step))),
            _ => Err(format!("no entry from {} to {} among {}", self.start, self.end, dims[axis])),
        }
    }
}

impl Operation for Slice {
    arrangement!("slice", Cost::of_result);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let (axis, _, len) = self.extent(&x.shape)?;
        let mut shape = x.shape.clone();
        shape[axis] = len;
        Ok(kept(x, shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[axis(self.dim, result.shape.len())?])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let mut x = run.var(operands, 0)?;
        let mut dims = x.dims()?.to_vec();
        let (axis, end, len) = self.extent(&dims).map_err(|reason| run.misfit(reason))?;
        if end - self.start < dims[axis] {
            let (start, size, rank) = (self.start, dims[axis], dims.len());
            x = run.tape.linear(kernels::Linear::Narrow { axis, start, len: end - start, size, rank }, &x)?;
            dims[axis] = end - self.start;
        }
        if self.step > 1 {
            let plane = [dims[axis], dims[axis + 1..].iter().product()];
            let outer = dims[..axis].iter().product();
            x = run.reshape(&x, &[outer, plane[0], plane[1]])?;
            x = run.tape.linear(kernels::Linear::Subsample { input: plane, step: [self.step, 1] }, &x)?;
            dims[axis] = len;
            x = run.reshape(&x, &dims)?;
        }
        Ok(Slot::Float(x))
    }
}

impl Operation for Cat {
    fn name(&self) -> &'static str {
        "cat"
    }

    fn operands(&self) -> &'static [&'static str] {
        &["tensors"]
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let first = fact(operands, 0)?;
        let mut shape = first.shape.clone();
        let joined = axis(self.dim, shape.len());
        for operand in &operands[1..] {
            let other = operand.ok_or_else(|| "an operand is missing".to_owned())?;
            let fits = |axis: usize| {
                other.shape.len() == shape.len() && (0..shape.len()).all(|i| i == axis || other.shape[i] == shape[i])
            };
            match joined {
                Ok(axis) if fits(axis) => shape[axis] += other.shape[axis],
                _ => {
                    let (first, other) = (&first.shape, &other.shape);
                    return Err(format!("cannot join {first:?} and {other:?} along axis {}", self.dim));
                }
            }
        }
        joined?;
        Ok(kept(first, shape))
    }

    fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
        Cost::of_result(result)
    }

    arrangement!();

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let axis = axis(self.dim, result.shape.len())?;
        for operand in operands {
            rows::together(*operand, &[axis])?;
        }
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let parts: Vec<Var<V>> = (0..operands.len()).map(|place| run.var(operands, place)).collect::<Result<_>>()?;
        let rank = parts.first().map_or(Ok(0), |part| part.dims().map(<[usize]>::len))?;
        let axis = axis(self.dim, rank).map_err(|reason| run.misfit(reason))?;
        Ok(Slot::Float(cat(run.tape, &parts, axis)?))
    }
}

impl Operation for Pad {
    arrangement!("pad", Cost::of_result);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let axis = axis(self.dim, x.shape.len())?;
        let mut shape = x.shape.clone();
        let [before, behind] = self.pad;
        shape[axis] = shape[axis].saturating_add(before).saturating_add(behind);
        Ok(kept(x, shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[axis(self.dim, result.shape.len())?])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let dims = x.dims()?.to_vec();
        let axis = axis(self.dim, dims.len()).map_err(|reason| run.misfit(reason))?;
        let ([start, behind], len) = (self.pad, dims[axis]);
        let pad = kernels::Linear::Pad { axis, start, len, size: start + len + behind, rank: dims.len() };
        Ok(Slot::Float(run.tape.linear(pad, &x)?))
    }
}
