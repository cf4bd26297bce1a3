//! Shapes: the same numbers in another arrangement.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::Value;
use crate::kernels;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis};
use crate::program::operation::{Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Results, Size};

/// Axes `start_dim` to `end_dim` as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {
    /// The first axis.
    pub start_dim: i64,
    /// The last axis.
    pub end_dim: i64,
}

/// Another shape; one size may be −1, which is inferred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// The sizes.
    pub size: Vec<Size>,
}

/// One axis as several; one size may be −1, which is inferred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unflatten {
    /// The axis.
    pub dim: i64,
    /// What it becomes.
    pub sizes: Vec<i64>,
}

/// The kind of an operand in another shape.
pub(super) fn kept(fact: &Fact, shape: Vec<usize>) -> Fact {
    Fact { kind: fact.kind, shape, rows: None }
}

/// The sizes of a view of `len` elements.
fn resolved(sizes: &[i64], len: usize) -> Result<Vec<usize>, String> {
    let known = sizes
        .iter()
        .filter(|&&size| size >= 0)
        .try_fold(1usize, |product, &size| usize::try_from(size).ok().and_then(|size| product.checked_mul(size)));
    let (known, left) = (known.unwrap_or(usize::MAX), sizes.iter().filter(|&&size| size < 0).count());
    let inferred = len.checked_div(known).unwrap_or(0);
    let fits = match left {
        0 => known == len,
        1 => known > 0 && known * inferred == len,
        _ => false,
    };
    if !fits {
        return Err(format!("{len} numbers cannot be viewed as shape {sizes:?}"));
    }
    Ok(sizes.iter().map(|&size| usize::try_from(size).unwrap_or(inferred)).collect())
}

impl<V: Value> Run<'_, V> {
    /// A view of floats or whole numbers.
    pub(super) fn view(
        &mut self,
        operands: &[Slot<V>],
        shape: impl Fn(&[usize]) -> Result<Vec<usize>, String>,
    ) -> Result<Slot<V>> {
        self.moved(operands, |dims| Ok(vec![kernels::Linear::Reshape { from: dims.to_vec(), to: shape(dims)? }]))
    }

    /// The first operand without any entry of an axis, which depends on nothing.
    pub(super) fn nothing(&self, operands: &[Slot<V>], axis: usize) -> Result<Slot<V>> {
        let plain = self.plain(operands, 0)?;
        let mut shape = plain.dims().to_vec();
        shape[axis] = 0;
        let empty = candle_core::Tensor::zeros(shape, plain.dtype(), &self.device)?;
        let is_whole = self.whole_or_none(operands, 0).is_some();
        Ok(if is_whole { Slot::Whole(empty) } else { Slot::Float(self.tape.constant(empty)) })
    }

    /// The first operand, floats or whole numbers, through maps that only move numbers about; `maps` knows its shape.
    pub(super) fn moved(
        &mut self,
        operands: &[Slot<V>],
        maps: impl Fn(&[usize]) -> Result<Vec<kernels::Linear>, String>,
    ) -> Result<Slot<V>> {
        let is_idle = |map: &kernels::Linear| matches!(map, kernels::Linear::Reshape { from, to } if from == to);
        if let Some(mut whole) = self.whole_or_none(operands, 0) {
            let maps = maps(whole.dims()).map_err(|reason| self.misfit(reason))?;
            for map in maps.iter().filter(|map| !is_idle(map)) {
                whole = kernels::fallback::linear(map, &whole)?;
            }
            return Ok(Slot::Whole(whole));
        }
        let mut x = self.var(operands, 0)?;
        let maps = maps(x.dims()?).map_err(|reason| self.misfit(reason))?;
        for map in maps.into_iter().filter(|map| !is_idle(map)) {
            x = self.tape.linear(map, &x)?;
        }
        Ok(Slot::Float(x))
    }
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "flatten" => flatten(call),
        "view" | "reshape" | "_unsafe_view" => reshape(call),
        "unflatten" => unflatten(call),
        _ => return None,
    })
}

fn flatten(call: &mut Call<'_>) -> Results {
    let (start_dim, end_dim) = (call.int("start_dim", Some(0))?, call.int("end_dim", Some(-1))?);
    let x = call.operand("self")?;
    call.gives(Flatten { start_dim, end_dim }, [x])
}

fn reshape(call: &mut Call<'_>) -> Results {
    let size = call.sizes("size")?;
    let size = size.map_or_else(|| call.sizes("shape"), |size| Ok(Some(size)))?.ok_or("its shape is missing")?;
    let x = call.operand("self")?;
    call.gives(View { size }, [x])
}

fn unflatten(call: &mut Call<'_>) -> Results {
    let (dim, sizes) = (call.int("dim", None)?, call.ints("sizes")?.ok_or("its sizes are missing")?);
    let x = call.operand("self")?;
    call.gives(Unflatten { dim, sizes }, [x])
}

/// Shape and numbers of a value whose entries stay in their order, in the shape that `self.shape` makes of its own.
macro_rules! reshapes {
    () => {
        fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
            let x = fact(operands, 0)?;
            Ok(kept(x, self.shape(&x.shape)?))
        }

        fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
            run.view(operands, |dims| self.shape(dims))
        }
    };
}
pub(super) use reshapes;

impl Flatten {
    fn shape(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        // One number per row is a vector of one.
        if let (&[rows], 1) = (dims, self.start_dim) {
            return Ok(vec![rows, 1]);
        }
        let (start, end) = (axis(self.start_dim, dims.len())?, axis(self.end_dim, dims.len())?);
        if start > end {
            return Err(format!("dimension {} comes after {}", self.start_dim, self.end_dim));
        }
        Ok([&dims[..start], &[dims[start..=end].iter().product()], &dims[end + 1..]].concat())
    }
}

impl Operation for Flatten {
    columns! {
        name: "flatten",
        moves: Cost::of_view,
    }

    reshapes!();

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::reshaped(operands[0], &result.shape)
    }
}

impl View {
    fn shape(&self, dims: &[usize], rows: usize) -> Result<Vec<usize>, String> {
        let sizes: Vec<i64> = self.size.iter().map(|size| size.at(rows)).collect();
        resolved(&sizes, dims.iter().product())
    }
}

impl Operation for View {
    columns! {
        name: "view",
        moves: Cost::of_view,
    }

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        Ok(kept(x, self.shape(&x.shape, rows)?))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::reshaped(operands[0], &result.shape)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let rows = run.rows;
        run.view(operands, |dims| self.shape(dims, rows))
    }
}

impl Unflatten {
    fn shape(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        let axis = axis(self.dim, dims.len())?;
        Ok([&dims[..axis], &resolved(&self.sizes, dims[axis])?, &dims[axis + 1..]].concat())
    }
}

impl Operation for Unflatten {
    columns! {
        name: "unflatten",
        moves: Cost::of_view,
    }

    reshapes!();

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::reshaped(operands[0], &result.shape)
    }
}
