//! Writes to entries chosen by whole numbers, as new values.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::choice::Layout;
use super::{Fill, Flatten, Full, Index, Mul, SliceScatter, To, Unflatten, Unsqueeze, Where};
use crate::Result;
use crate::autodiff::Value;
use crate::kernels::Linear;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis, broadcast};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Operand, Results, Size, Start};

/// `input` with the entries of `src` at the places of `index` along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scatter {
    /// The axis.
    pub dim: i64,
    /// Whether they are added to what is there; otherwise the last of several stays.
    pub add: bool,
}

/// `input` with `values` at `[i₀, i₁, …]`: whole numbers, broadcast together, choose along the first axes; `None` takes all
/// of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexPut {
    /// Whether they are added to what is there; otherwise the last of several stays.
    pub accumulate: bool,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "scatter" | "scatter_add" | "scatter_reduce" => scatter(call),
        "index_put" | "_index_put_impl" | "_unsafe_index_put" => index_put(call),
        "index_add" => along(call, true, "source"),
        "index_copy" => along(call, false, "source"),
        "index_fill" => along(call, false, "value"),
        "max_unpool2d" => unpool(call),
        "select_scatter" => select_scatter(call),
        _ => return None,
    })
}

fn scatter(call: &mut Call<'_>) -> Results {
    let (x, dim, index) = (call.operand("self")?, call.int("dim", None)?, call.operand("index")?);
    let src = call.operand(if call.has("value") { "value" } else { "src" })?;
    let includes_self = call.flag("include_self", true)?;
    call.only("include_self", includes_self, true)?;
    let reduce = call.text("reduce")?;
    let add = match (call.name, reduce.as_deref()) {
        ("scatter", None) => false,
        ("scatter_add", None) | ("scatter_reduce", Some("sum")) | ("scatter", Some("add")) => true,
        _ => return Err("this value of its argument `reduce` is not supported".into()),
    };
    let src = if src.name().is_some() { src } else { filled_like(call, &x, &index, src) };
    call.gives(Scatter { dim, add }, [x, index, src])
}

/// A number in the shape of `index` and the kind of `x`.
fn filled_like(call: &mut Call<'_>, x: &Operand, index: &Operand, number: Operand) -> Operand {
    let zeros = if call.is_whole(x) {
        call.push(Mul {}, [index.clone(), Operand::Number(0.0)])
    } else {
        call.push(To { kind: Kind::Float }, [index.clone()])
    };
    call.push(Fill {}, [zeros, number])
}

/// Truth values choose as `where` does; whole numbers write.
fn index_put(call: &mut Call<'_>) -> Results {
    let (x, indices, values) = (call.operand("self")?, call.operands("indices")?, call.operand("values")?);
    let accumulate = call.flag("accumulate", false)?;
    call.flag("unsafe", false)?;
    if let [mask] = indices.as_slice()
        && call.is_truth(mask)
    {
        if accumulate || call.shape(&values)?.iter().any(|size| *size != Size::fixed(1)) {
            return Err("it writes several values through a mask of truth values".into());
        }
        let missing = call.rank(&x)? - call.rank(mask)?;
        let mask = (0..missing).fold(mask.clone(), |mask, _| call.push(Unsqueeze { dim: -1 }, [mask]));
        return call.gives(Where {}, [mask, values, x]);
    }
    if indices.iter().any(|index| call.is_truth(index)) {
        return Err("several indices of which one holds truth values are not supported".into());
    }
    call.gives(IndexPut { accumulate }, [vec![x, values], indices].concat())
}

/// `IndexPut` with whole numbers along one axis alone.
fn along(call: &mut Call<'_>, accumulate: bool, values: &str) -> Results {
    let (x, dim, index) = (call.operand("self")?, call.int("dim", None)?, call.operand("index")?);
    let mut values = call.operand(values)?;
    if let Some(alpha) = call.number("alpha")?.filter(|alpha| *alpha != 1.0) {
        values = call.push(Mul {}, [values, Operand::Number(alpha)]);
    }
    let dim = axis(dim, call.rank(&x)?)?;
    call.gives(IndexPut { accumulate }, [vec![x, values], vec![Operand::None; dim], vec![index]].concat())
}

/// Maxima put back to their places within each channel, zeros around.
fn unpool(call: &mut Call<'_>) -> Results {
    let (x, index) = (call.operand("self")?, call.operand("indices")?);
    let [height, width] = call.counts("output_size", None)?.map(|size: usize| Size::fixed(size as i64));
    let shape = call.shape(&x)?;
    let [rows, channels, _, _] = shape.as_slice() else { return Err("expects images [N, C, H, W]".into()) };
    let size = vec![rows.clone(), channels.clone(), height.clone() * width.clone()];
    let zeros = call.push(Full { size, fill_value: 0.0, kind: Kind::Float }, []);
    let [x, index] = [x, index].map(|x| call.push(Flatten { start_dim: 2, end_dim: 3 }, [x]));
    let flat = call.push(Scatter { dim: 2, add: false }, [zeros, index, x]);
    call.gives(Unflatten { dim: 2, sizes: vec![height.at(0), width.at(0)] }, [flat])
}

/// One entry of an axis written, as a range of one.
fn select_scatter(call: &mut Call<'_>) -> Results {
    let (x, src) = (call.operand("self")?, call.operand("src")?);
    let (dim, start) = (call.int("dim", None)?, call.int("index", None)?);
    let src = call.push(Unsqueeze { dim }, [src]);
    let end = if start == -1 { i64::MAX } else { start.saturating_add(1) };
    call.gives(SliceScatter { dim, start, end, step: 1 }, [x, src])
}

impl Operation for Scatter {
    columns! {
        operands: &["input", "index", "src"],
        cost: Cost::of_result,
        start: Start::NARROW,
        affinity: Affinity::AFFINE,
    }

    fn name(&self) -> &'static str {
        if self.add { "scatter_add" } else { "scatter" }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, index, src) = (fact(operands, 0)?, fact(operands, 1)?, fact(operands, 2)?);
        let along = axis(self.dim, x.shape.len())?;
        let fits = |at: usize| index.shape[at] <= src.shape[at] && (at == along || index.shape[at] <= x.shape[at]);
        let ranks = [index, src].iter().all(|fact| fact.shape.len() == x.shape.len());
        if index.kind != Kind::Whole || !ranks || !(0..x.shape.len()).all(fits) {
            let (index, src) = (&index.shape, &src.shape);
            return Err(format!("indices {index:?} and values {src:?} do not fit {:?}", x.shape));
        }
        Ok(Fact { kind: x.kind, ..Fact::float(&x.shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let along = axis(self.dim, result.shape.len())?;
        for operand in operands {
            rows::together(*operand, &[along])?;
        }
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (dims, index) = (operands.first().map_or(Ok(Vec::new()), Slot::shape)?, run.whole(operands, 1)?);
        let along = axis(self.dim, dims.len()).map_err(|reason| run.misfit(reason))?;
        let places = run.gathered(&dims, &index, along)?;
        let mut src = operands.get(2).cloned().unwrap_or(Slot::None);
        for (at, &len) in index.dims().iter().enumerate() {
            let (size, rank) = (src.shape()?[at], dims.len());
            if len < size {
                src = run.moved(&[src], |_| Ok(vec![Linear::Narrow { axis: at, start: 0, len, size, rank }]))?;
            }
        }
        run.put(operands, src, &places, index.dims(), self.add)
    }
}

impl Operation for IndexPut {
    columns! {
        name: "index_put",
        operands: &["input", "values", "indices"],
        cost: Cost::of_result,
        start: Start::NARROW,
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, values) = (fact(operands, 0)?, fact(operands, 1)?);
        if operands[2..].iter().flatten().any(|index| index.kind != Kind::Whole) {
            return Err("expects whole numbers as indices".into());
        }
        let shapes: Vec<_> = operands[2..].iter().map(|index| index.map(|index| index.shape.clone())).collect();
        let shape = Layout::new(x.shape.len(), &shapes)?.shape(&x.shape);
        if broadcast(&shape, &values.shape)? != shape {
            return Err(format!("values of shape {:?} do not fit places of shape {shape:?}", values.shape));
        }
        Ok(Fact { kind: x.kind, ..Fact::float(&x.shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, in_training: bool) -> Tracked {
        let (x, values) = (fact(operands, 0)?, fact(operands, 1)?);
        let looked_up: Vec<Option<&Fact>> = [&operands[..1], &operands[2..]].concat();
        let chosen = Index {}.result(&looked_up, 0)?;
        let rows = Index {}.rows(&looked_up, result, in_training)?;
        let chosen = Fact { rows, ..chosen };
        match rows::elementwise(&[Some(&chosen), Some(values)], chosen.shape.len())? {
            Some(_) if x.rows.is_none() => Err("it writes rows into a value that has none".into()),
            _ => Ok(x.rows),
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let dims = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        let (places, shape) = run.indexed(&dims, operands, 2)?;
        let values = match run.whole_or_none(operands, 1) {
            Some(values) => Slot::Whole(values.broadcast_as(shape.as_slice())?.contiguous()?),
            None => {
                let values = run.var(operands, 1)?;
                Slot::Float(run.repeated(&values, &shape)?)
            }
        };
        run.put(operands, values, &places, &shape, self.accumulate)
    }
}

impl<V: Value> Run<'_, V> {
    /// The first operand with the entries of `src`, of a shape, at places of the flattened operand.
    pub(super) fn put(
        &mut self,
        operands: &[Slot<V>],
        src: Slot<V>,
        places: &[usize],
        shape: &[usize],
        add: bool,
    ) -> Result<Slot<V>> {
        if let Some(x) = self.whole_or_none(operands, 0) {
            let flat = |x: &Tensor| x.to_dtype(DType::I64)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<i64>();
            let (mut values, written) = (flat(&x)?, flat(&self.plain(&[src], 0)?)?);
            for (&place, written) in places.iter().zip(written) {
                values[place] = if add { values[place] + written } else { written };
            }
            return Ok(Slot::Whole(Tensor::from_vec(values, x.dims(), x.device())?.to_dtype(x.dtype())?));
        }
        let (mut x, mut src) = (self.var(operands, 0)?, self.var(&[src], 0)?);
        let to = x.dims()?.to_vec();
        let gate = |open: Vec<f64>, shape: &[usize]| Tensor::from_vec(open, shape, &self.device)?.to_dtype(self.dtype);
        if !add {
            let mut open = vec![1.0; to.iter().product()];
            places.iter().for_each(|&place| open[place] = 0.0);
            let last: HashMap<usize, usize> = places.iter().enumerate().map(|(entry, &place)| (place, entry)).collect();
            let stays = |(entry, place)| f64::from(u8::from(last.get(place) == Some(&entry)));
            let stays = gate(places.iter().enumerate().map(stays).collect(), shape)?;
            x = self.tape.linear(Linear::Gate { gate: gate(open, &to)? }, &x)?;
            src = self.tape.linear(Linear::Gate { gate: stays }, &src)?;
        }
        let indices: Option<Vec<u32>> = places.iter().map(|&place| u32::try_from(place).ok()).collect();
        let indices = indices.ok_or_else(|| self.misfit("more than 2^32 entries to write to"))?;
        let indices = Tensor::from_vec(indices, shape, &self.device)?;
        let written = self.tape.linear(Linear::ScatterAdd { indices, to }, &src)?;
        Ok(Slot::Float(self.tape.add(&x, &written)?))
    }
}
