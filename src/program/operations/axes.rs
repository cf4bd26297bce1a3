//! Axes: in another order, of size 1, repeated.

use serde::{Deserialize, Serialize};

use super::shapes::{kept, reshapes};
use crate::Result;
use crate::autodiff::Value;
use crate::kernels;
use crate::program::cost::Cost;
use crate::program::fact::{RowAxis, Tracked, axis};
use crate::program::operation::{Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Results, Size};

/// Axis `i` of the result is axis `dims[i]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permute {
    /// A permutation.
    pub dims: Vec<i64>,
}

/// Two axes, each in the place of the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// The one.
    pub dim0: i64,
    /// The other.
    pub dim1: i64,
}

/// One more axis, of size 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsqueeze {
    /// Its place in the result.
    pub dim: i64,
}

/// Without those of some axes that have size 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Squeeze {
    /// The axes.
    pub dim: Vec<i64>,
}

/// Repeats along axes of size 1; −1 keeps a size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expand {
    /// The sizes, as many as the result has axes.
    pub size: Vec<Size>,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "permute" => permute(call),
        "transpose" | "swapaxes" | "swapdims" => transpose(call),
        "t" | "numpy_T" => call.operand("self").and_then(|x| call.gives(Transpose { dim0: 0, dim1: -1 }, [x])),
        "adjoint" | "mT" => call.operand("self").and_then(|x| call.gives(Transpose { dim0: -2, dim1: -1 }, [x])),
        "unsqueeze" => unsqueeze(call),
        "squeeze" => squeeze(call),
        "expand" | "broadcast_to" => expand(call),
        "expand_as" => expand_as(call),
        "broadcast_tensors" => broadcast_tensors(call),
        _ => return None,
    })
}

fn permute(call: &mut Call<'_>) -> Results {
    let (x, dims) = (call.operand("self")?, call.ints("dims")?.ok_or("its axes are missing")?);
    call.gives(Permute { dims }, [x])
}

fn transpose(call: &mut Call<'_>) -> Results {
    let names = if call.has("axis0") { ["axis0", "axis1"] } else { ["dim0", "dim1"] };
    let (x, [dim0, dim1]) = (call.operand("self")?, names);
    let (dim0, dim1) = (call.int(dim0, None)?, call.int(dim1, None)?);
    call.gives(Transpose { dim0, dim1 }, [x])
}

fn unsqueeze(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", None)?);
    call.gives(Unsqueeze { dim }, [x])
}

fn squeeze(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let dim = match call.ints("dim")? {
        Some(dim) => dim,
        // PyTorch does not take the rows for one.
        None => {
            let shape = call.shape(&x)?;
            (0..).zip(&shape).filter(|(_, size)| **size == Size::fixed(1)).map(|(dim, _)| dim).collect()
        }
    };
    call.gives(Squeeze { dim }, [x])
}

fn expand(call: &mut Call<'_>) -> Results {
    let (x, size) = (call.operand("self")?, call.sizes("size")?.ok_or("its sizes are missing")?);
    call.flag("implicit", false)?;
    call.gives(Expand { size }, [x])
}

fn broadcast_tensors(call: &mut Call<'_>) -> Results {
    let (values, made) = (call.operands("tensors")?, call.made.clone());
    let (_, size) = made.ok_or("the shape of its results is not known")?;
    Ok(values.into_iter().map(|x| call.push(Expand { size: size.clone() }, [x])).collect())
}

fn expand_as(call: &mut Call<'_>) -> Results {
    let (x, other) = (call.operand("self")?, call.operand("other")?);
    let size = call.shape(&other)?;
    call.gives(Expand { size }, [x])
}

/// Shape, rows and numbers of a value whose axes are taken in the order of `self.axes`.
macro_rules! permutes {
    () => {
        fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
            let x = fact(operands, 0)?;
            Ok(kept(x, self.axes(x.shape.len())?.into_iter().map(|axis| x.shape[axis]).collect()))
        }

        fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
            rows::permuted(operands[0], &self.axes(result.shape.len())?)
        }

        fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
            run.moved(operands, |dims| Ok(vec![kernels::Linear::Permute { axes: self.axes(dims.len())? }]))
        }
    };
}

impl Permute {
    fn axes(&self, rank: usize) -> Result<Vec<usize>, String> {
        let axes: Vec<usize> = self.dims.iter().map(|&dim| axis(dim, rank)).collect::<Result<_, _>>()?;
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        match sorted == (0..rank).collect::<Vec<_>>() {
            true => Ok(axes),
            false => Err(format!("{:?} is not a permutation of {rank} dimensions", self.dims)),
        }
    }
}

impl Operation for Permute {
    columns! {
        name: "permute",
        moves: Cost::of_result,
    }

    permutes!();
}

impl Expand {
    fn shape(&self, dims: &[usize], rows: usize) -> Result<Vec<usize>, String> {
        let misfit = || format!("{dims:?} cannot be repeated to {}", serde_json::json!(self.size));
        let front = self.size.len().checked_sub(dims.len()).ok_or_else(misfit)?;
        let size = |(place, size): (usize, &Size)| {
            let from = place.checked_sub(front).map_or(1, |axis| dims[axis]);
            match (size.at(rows), from) {
                (-1, from) => Ok(from),
                (to, 1) => usize::try_from(to).map_err(|_| misfit()),
                (to, from) if usize::try_from(to) == Ok(from) => Ok(from),
                _ => Err(misfit()),
            }
        };
        self.size.iter().enumerate().map(size).collect()
    }
}

impl Operation for Expand {
    columns! {
        name: "expand",
        moves: Cost::of_result,
    }

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        Ok(kept(x, self.shape(&x.shape, rows)?))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        // Along an axis that depends on N, every row gets the same; a value that has rows keeps them.
        let Some(x) = operands[0] else { return Ok(None) };
        if let Some(rows) = x.rows {
            return Ok(Some(rows.at(rows.axis + result.shape.len() - x.shape.len())));
        }
        let front = self.size.len() - x.shape.len();
        let repeated = |place: &usize| place.checked_sub(front).map_or(1, |axis| x.shape[axis]) == 1;
        let along = (0..self.size.len()).filter(repeated).find(|&place| self.size[place] == Size::rows());
        Ok(along.map(|axis| RowAxis { axis, ..RowAxis::FIRST }))
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let rows = run.rows;
        run.moved(operands, |dims| {
            let to = self.shape(dims, rows)?;
            let from = [&vec![1; to.len() - dims.len()], dims].concat();
            let with_rank = kernels::Linear::Reshape { from: dims.to_vec(), to: from.clone() };
            let repeat = (from != to).then_some(kernels::Linear::Broadcast { from, to });
            Ok(std::iter::once(with_rank).chain(repeat).collect())
        })
    }
}

impl Transpose {
    fn axes(&self, rank: usize) -> Result<Vec<usize>, String> {
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(axis(self.dim0, rank)?, axis(self.dim1, rank)?);
        Ok(axes)
    }
}

impl Operation for Transpose {
    columns! {
        name: "transpose",
        moves: Cost::of_result,
    }

    permutes!();
}

impl Unsqueeze {
    fn shape(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        let mut shape = dims.to_vec();
        shape.insert(axis(self.dim, dims.len() + 1)?, 1);
        Ok(shape)
    }
}

impl Operation for Unsqueeze {
    columns! {
        name: "unsqueeze",
        moves: Cost::of_view,
    }

    reshapes!();

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let at = axis(self.dim, result.shape.len())?;
        let rows = operands[0].and_then(|x| x.rows);
        Ok(rows.map(|rows| rows.at(rows.axis + usize::from(at <= rows.axis))))
    }
}

impl Squeeze {
    /// The axes that go.
    fn axes(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        let axes: Vec<usize> = self.dim.iter().map(|&dim| axis(dim, dims.len())).collect::<Result<_, _>>()?;
        Ok((0..dims.len()).filter(|at| axes.contains(at) && dims[*at] == 1).collect())
    }

    fn shape(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        let axes = self.axes(dims)?;
        Ok((0..dims.len()).filter(|at| !axes.contains(at)).map(|at| dims[at]).collect())
    }
}

impl Operation for Squeeze {
    columns! {
        name: "squeeze",
        moves: Cost::of_view,
    }

    reshapes!();

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let axes = self.axes(operands[0].map_or(&[], |x| &x.shape))?;
        rows::removed(operands[0], &axes)
    }
}
