//! Parts of values: entries of an axis, and values joined along one.

use serde::{Deserialize, Serialize};

use super::Unsqueeze;
use super::shapes::kept;
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels;
use crate::program::composites::cat;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Start};

/// One entry of an axis, which goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// The axis.
    pub dim: i64,
    /// The entry; a negative one counts from the end.
    pub index: i64,
}

/// Entries `start`, `start + step`, … below `end` of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The axis.
    pub dim: i64,
    /// The first entry; a negative one counts from the end.
    pub start: i64,
    /// The entry after the last, at most; a negative one counts from the end.
    pub end: i64,
    /// The step.
    pub step: usize,
}

/// One of `chunks` parts of an axis, equal but for the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// How many parts.
    pub chunks: usize,
    /// The axis.
    pub dim: i64,
    /// Which part.
    pub index: usize,
}

/// Values side by side along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cat {
    /// The axis.
    pub dim: i64,
}

/// Zeros around an axis: PyTorch's `pad` for one axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// The axis.
    pub dim: i64,
    /// Zeros before and behind.
    pub pad: [usize; 2],
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "select" => select(call),
        "slice" => slice(call),
        "narrow" => narrow(call),
        "split" | "split_with_sizes" | "unsafe_split" | "unsafe_split_with_sizes" => split(call),
        "tensor_split" => tensor_split(call),
        "chunk" | "unsafe_chunk" => chunk(call),
        "unbind" => unbind(call),
        "cat" | "concat" | "concatenate" => cat_of(call),
        "stack" => stack(call),
        _ => return None,
    })
}

fn select(call: &mut Call<'_>) -> Results {
    let (x, dim, index) = (call.operand("self")?, call.int("dim", None)?, call.int("index", None)?);
    call.gives(Select { dim, index }, [x])
}

fn slice(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", Some(0))?);
    let (start, end) = (call.int("start", Some(0))?, call.int("end", Some(i64::MAX))?);
    let step = call.count("step", Some(1))?;
    call.gives(Slice { dim, start, end, step }, [x])
}

fn narrow(call: &mut Call<'_>) -> Results {
    let (x, dim, start) = (call.operand("self")?, call.int("dim", None)?, call.int("start", None)?);
    let end = start.saturating_add(call.int("length", None)?);
    call.gives(Slice { dim, start, end, step: 1 }, [x])
}

fn split(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", Some(0))?);
    let size = call.ints("split_size")?;
    let sizes = size.map_or_else(|| call.ints("split_sizes"), |size| Ok(Some(size)))?.ok_or("its sizes are missing")?;
    let (mut start, mut parts) = (0i64, Vec::new());
    for index in 0..call.count {
        let size = sizes.get(if sizes.len() == 1 { 0 } else { index }).copied().ok_or("it has too few sizes")?;
        let end = start.saturating_add(size);
        parts.push(call.push(Slice { dim, start, end, step: 1 }, [x.clone()]));
        start = end;
    }
    Ok(parts)
}

fn chunk(call: &mut Call<'_>) -> Results {
    let (x, chunks, dim) = (call.operand("self")?, call.count("chunks", None)?, call.int("dim", Some(0))?);
    Ok((0..call.count).map(|index| call.push(Chunk { chunks, dim, index }, [x.clone()])).collect())
}

/// Parts of an axis that differ by one at most, the larger first; or cut before some entries.
fn tensor_split(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", Some(0))?);
    let cuts = match call.ints("indices")? {
        Some(cuts) => cuts,
        None => {
            let (sections, shape) = (call.int("sections", None)?.max(1), call.shape(&x)?);
            let size = shape[axis(dim, shape.len())?].clone();
            if !size.is_fixed() {
                return Err("it cuts the rows apart".into());
            }
            let (each, more) = (size.at(0) / sections, size.at(0) % sections);
            (1..sections).map(|part| part * each + part.min(more)).collect()
        }
    };
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([i64::MAX]);
    Ok(starts.zip(ends).map(|(start, end)| call.push(Slice { dim, start, end, step: 1 }, [x.clone()])).collect())
}

fn unbind(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", Some(0))?);
    Ok((0..call.count).map(|index| call.push(Select { dim, index: index as i64 }, [x.clone()])).collect())
}

fn cat_of(call: &mut Call<'_>) -> Results {
    let (parts, dim) = (call.operands("tensors")?, call.int("dim", Some(0))?);
    call.gives(Cat { dim }, parts)
}

fn stack(call: &mut Call<'_>) -> Results {
    let (parts, dim) = (call.operands("tensors")?, call.int("dim", Some(0))?);
    let parts: Vec<Operand> = parts.into_iter().map(|part| call.push(Unsqueeze { dim }, [part])).collect();
    call.gives(Cat { dim }, parts)
}

impl Select {
    fn entry(&self, dims: &[usize]) -> Result<(usize, usize), String> {
        let axis = axis(self.dim, dims.len())?;
        let size = dims[axis];
        let entry = if self.index < 0 { self.index + size as i64 } else { self.index };
        match usize::try_from(entry) {
            Ok(entry) if entry < size => Ok((axis, entry)),
            _ => Err(format!("entry {} is out of range for {size} entries", self.index)),
        }
    }
}

impl Operation for Select {
    columns! {
        name: "select",
        moves: Cost::of_result,
    }

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
        run.moved(operands, |dims| {
            let (axis, start) = self.entry(dims)?;
            let narrow = kernels::Linear::Narrow { axis, start, len: 1, size: dims[axis], rank: dims.len() };
            let (mut from, mut to) = (dims.to_vec(), dims.to_vec());
            from[axis] = 1;
            to.remove(axis);
            Ok(vec![narrow, kernels::Linear::Reshape { from, to }])
        })
    }
}

impl Slice {
    /// The axis, the first entry, the entry after the last, and how many there are.
    pub(super) fn extent(&self, dims: &[usize]) -> Result<(usize, usize, usize, usize), String> {
        let axis = axis(self.dim, dims.len())?;
        if self.step == 0 {
            return Err("stride must be at least 1".into());
        }
        let size = i64::try_from(dims[axis]).unwrap_or(i64::MAX);
        let place = |place: i64| if place < 0 { place.saturating_add(size).max(0) } else { place.min(size) };
        let (start, end) = (place(self.start) as usize, place(self.end) as usize);
        match end.checked_sub(start) {
            Some(len) => Ok((axis, start, end, len.div_ceil(self.step))),
            None => Ok((axis, start, start, 0)),
        }
    }
}

impl Operation for Slice {
    columns! {
        name: "slice",
        moves: Cost::of_result,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let (axis, _, _, len) = self.extent(&x.shape)?;
        let mut shape = x.shape.clone();
        shape[axis] = len;
        Ok(kept(x, shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let axis = axis(self.dim, result.shape.len())?;
        match operands[0] {
            // All of an axis, as exporters write it.
            Some(x) if x.shape == result.shape => Ok(x.rows),
            x => rows::together(x, &[axis]),
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let dims = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        let (axis, _, _, len) = self.extent(&dims).map_err(|reason| run.misfit(reason))?;
        if len == 0 {
            return run.nothing(operands, axis);
        }
        run.moved(operands, |dims| {
            let (axis, start, end, len) = self.extent(dims)?;
            let (mut maps, mut narrowed) = (Vec::new(), dims.to_vec());
            if end - start < dims[axis] {
                let (size, rank) = (dims[axis], dims.len());
                maps.push(kernels::Linear::Narrow { axis, start, len: end - start, size, rank });
                narrowed[axis] = end - start;
            }
            if self.step > 1 {
                let plane = [narrowed[axis], narrowed[axis + 1..].iter().product()];
                let cut = vec![narrowed[..axis].iter().product(), plane[0], plane[1]];
                let (after, mut to) = (vec![cut[0], len, plane[1]], narrowed.clone());
                to[axis] = len;
                maps.push(kernels::Linear::Reshape { from: narrowed, to: cut });
                maps.push(kernels::Linear::Subsample { input: plane, step: [self.step, 1] });
                maps.push(kernels::Linear::Reshape { from: after, to });
            }
            Ok(maps)
        })
    }
}

impl Chunk {
    /// The part as a slice.
    fn slice(&self, dims: &[usize]) -> Result<Slice, String> {
        let size = dims[axis(self.dim, dims.len())?].div_ceil(self.chunks.max(1));
        let place = |index: usize| i64::try_from(index.saturating_mul(size)).unwrap_or(i64::MAX);
        Ok(Slice { dim: self.dim, start: place(self.index), end: place(self.index + 1), step: 1 })
    }
}

impl Operation for Chunk {
    columns! {
        name: "chunk",
        moves: Cost::of_result,
    }

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        self.slice(&fact(operands, 0)?.shape)?.result(operands, rows)
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, in_training: bool) -> Tracked {
        self.slice(&fact(operands, 0)?.shape)?.rows(operands, result, in_training)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let shape = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        self.slice(&shape).map_err(|reason| run.misfit(reason))?.forward(run, operands)
    }
}

impl Operation for Cat {
    columns! {
        name: "cat",
        operands: &["tensors"],
        cost: Cost::of_result,
        start: Start::TOKEN,
        affinity: Affinity::AFFINE,
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

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let axis = axis(self.dim, result.shape.len())?;
        for operand in operands {
            rows::together(*operand, &[axis])?;
        }
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let whole: Option<Vec<candle_core::Tensor>> =
            (0..operands.len()).map(|place| run.whole_or_none(operands, place)).collect();
        if let Some(whole) = whole {
            let axis =
                axis(self.dim, whole.first().map_or(0, |part| part.rank())).map_err(|reason| run.misfit(reason))?;
            return Ok(Slot::Whole(candle_core::Tensor::cat(&whole, axis)?));
        }
        let mut parts: Vec<Var<V>> =
            (0..operands.len()).map(|place| run.var(operands, place)).collect::<Result<_>>()?;
        // What is empty adds nothing, but has no memory to read.
        if parts.iter().any(|part| part.dims().is_ok_and(|dims| !dims.contains(&0))) {
            parts.retain(|part| part.dims().is_ok_and(|dims| !dims.contains(&0)));
        }
        let rank = parts.first().map_or(Ok(0), |part| part.dims().map(<[usize]>::len))?;
        let axis = axis(self.dim, rank).map_err(|reason| run.misfit(reason))?;
        Ok(Slot::Float(cat(run.tape, &parts, axis)?))
    }
}

impl Operation for Pad {
    columns! {
        name: "pad",
        moves: Cost::of_result,
    }

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
        run.moved(operands, |dims| {
            let axis = axis(self.dim, dims.len())?;
            let ([start, behind], len) = (self.pad, dims[axis]);
            Ok(vec![kernels::Linear::Pad { axis, start, len, size: start + len + behind, rank: dims.len() }])
        })
    }
}
