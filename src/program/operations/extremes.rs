//! The largest and smallest entries of an axis, and entries in order of size.

use std::cmp::Ordering;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::reductions::{axes, axes_of, reduced};
use super::{Extremum, Select, Squeeze, To, View};
use crate::Result;
use crate::autodiff::Value;
use crate::kernels::Linear;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Operand, Results, Size, Start};

/// The largest or smallest entry over some axes; equal ones share the derivative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amax {
    /// The axes; negative ones count from the end.
    pub dim: Vec<i64>,
    /// Whether they stay, with size 1.
    pub keepdim: bool,
    /// Whether it is the largest.
    pub largest: bool,
}

/// The first entries of an axis in order of size; equal ones stay in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// How many; all where it is left out.
    pub k: Option<usize>,
    /// The axis.
    pub dim: i64,
    /// Whether the largest come first.
    pub largest: bool,
    /// Whether these are the places of the entries, not the entries.
    pub places: bool,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "amax" => over_axes(call, true),
        "amin" => over_axes(call, false),
        "any" => of_truth(call, true),
        "all" => of_truth(call, false),
        "max" => extreme(call, true),
        "min" => extreme(call, false),
        "argmax" => place_of(call, true),
        "argmin" => place_of(call, false),
        "sort" | "argsort" | "msort" => sort(call),
        "topk" => topk(call),
        "kthvalue" => ranked(call),
        "median" => median(call),
        _ => return None,
    })
}

fn over_axes(call: &mut Call<'_>, largest: bool) -> Results {
    let (x, dim, keepdim) = axes_of(call)?;
    call.gives(Amax { dim, keepdim, largest }, [x])
}

fn of_truth(call: &mut Call<'_>, largest: bool) -> Results {
    let (x, dim, keepdim) = axes_of(call)?;
    let x = call.push(To { kind: Kind::Truth }, [x]);
    call.gives(Amax { dim, keepdim, largest }, [x])
}

/// `max` and `min`: over all entries, along an axis with places, or of two values.
fn extreme(call: &mut Call<'_>, largest: bool) -> Results {
    if call.has("other") {
        let operands = [call.operand("self")?, call.operand("other")?];
        return call.gives(Extremum { largest }, operands);
    }
    if !call.has("dim") {
        return over_axes(call, largest);
    }
    let (x, dim, keepdim) = (call.operand("self")?, call.int("dim", None)?, call.flag("keepdim", false)?);
    entry(call, &x, TopK { k: Some(1), dim, largest, places: false }, 0, keepdim)
}

/// Entry and place of one rank along an axis.
fn entry(call: &mut Call<'_>, x: &Operand, order: TopK, rank: i64, keepdim: bool) -> Results {
    let dim = order.dim;
    let results = [false, true].map(|places| {
        let ordered = call.push(TopK { places, ..order.clone() }, [x.clone()]);
        let one = call.push(Select { dim, index: rank }, [ordered]);
        if keepdim { call.push(super::Unsqueeze { dim }, [one]) } else { one }
    });
    Ok(results.to_vec())
}

fn place_of(call: &mut Call<'_>, largest: bool) -> Results {
    let (x, keepdim) = (call.operand("self")?, call.flag("keepdim", false)?);
    let (x, dim) = match call.ints("dim")?.as_deref() {
        Some([dim]) => (x, *dim),
        _ => (call.push(View { size: vec![Size::fixed(-1)] }, [x]), 0),
    };
    let place = call.push(TopK { k: Some(1), dim, largest, places: true }, [x]);
    if keepdim { Ok(vec![place]) } else { call.gives(Squeeze { dim: vec![dim] }, [place]) }
}

fn sort(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let (dim, largest) =
        (call.int("dim", Some(if call.name == "msort" { 0 } else { -1 }))?, call.flag("descending", false)?);
    call.flag("stable", false)?;
    let of = |places| TopK { k: None, dim, largest, places };
    match call.name {
        "sort" => Ok([false, true].map(|places| call.push(of(places), [x.clone()])).to_vec()),
        name => call.gives(of(name == "argsort"), [x]),
    }
}

fn topk(call: &mut Call<'_>) -> Results {
    let (x, k, dim) = (call.operand("self")?, call.count("k", None)?, call.int("dim", Some(-1))?);
    let (largest, _) = (call.flag("largest", true)?, call.flag("sorted", true)?);
    let of = |places| TopK { k: Some(k), dim, largest, places };
    Ok([false, true].map(|places| call.push(of(places), [x.clone()])).to_vec())
}

fn ranked(call: &mut Call<'_>) -> Results {
    let (x, k, dim) = (call.operand("self")?, call.int("k", None)?, call.int("dim", Some(-1))?);
    let keepdim = call.flag("keepdim", false)?;
    entry(call, &x, TopK { k: None, dim, largest: false, places: false }, k - 1, keepdim)
}

/// The lower of the two in the middle.
fn median(call: &mut Call<'_>) -> Results {
    let (x, dim, keepdim) = (call.operand("self")?, call.ints("dim")?, call.flag("keepdim", false)?);
    let Some([dim]) = dim.as_deref().and_then(<[i64]>::first_chunk) else {
        return Err("without an axis it is not supported".into());
    };
    let shape = call.shape(&x)?;
    let size = shape.get(axis(*dim, shape.len())?).filter(|size| size.is_fixed());
    let middle = (size.ok_or("it takes the rows together")?.at(0) - 1) / 2;
    entry(call, &x, TopK { k: None, dim: *dim, largest: false, places: false }, middle, keepdim)
}

impl Operation for Amax {
    columns! {
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn name(&self) -> &'static str {
        if self.largest { "amax" } else { "amin" }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        if x.is_empty() {
            return Err("there is no entry".into());
        }
        Ok(Fact { kind: x.kind, ..Fact::float(&reduced(&x.shape, &self.dim, self.keepdim)?.1) })
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let axes = axes(&self.dim, operands[0].map_or(0, |x| x.shape.len()))?;
        if self.keepdim { rows::together(operands[0], &axes) } else { rows::removed(operands[0], &axes) }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let plain = run.plain(operands, 0)?;
        let axes = axes(&self.dim, plain.rank()).map_err(|reason| run.misfit(reason))?;
        let (small, kept) = reduced(plain.dims(), &self.dim, self.keepdim).map_err(|reason| run.misfit(reason))?;
        let extreme = axes.iter().try_fold(plain.clone(), |left, &axis| {
            if self.largest { left.max_keepdim(axis) } else { left.min_keepdim(axis) }
        })?;
        if run.whole_or_none(operands, 0).is_some() {
            return Ok(Slot::Whole(extreme.reshape(kept)?));
        }
        // What is not beaten, NaN too: a maximum that dropped it would hide broken weights from the loss.
        let beaten = if self.largest { plain.broadcast_lt(&extreme)? } else { plain.broadcast_gt(&extreme)? };
        let gate = run.tape.pattern.choose(beaten.eq(0u8)?.to_dtype(run.dtype)?)?;
        let shares = run.tape.constant(gate.sum_keepdim(axes)?.recip()?);
        let (x, from) = (run.var(operands, 0)?, plain.dims().to_vec());
        let best = run.tape.linear(Linear::Gate { gate }, &x)?;
        let sum = run.tape.linear(Linear::SumTo { from, to: small }, &best)?;
        let result = run.product(&sum, &shares)?;
        Ok(Slot::Float(run.reshape(&result, &kept)?))
    }
}

impl TopK {
    /// The axis and how many entries of it.
    fn count(&self, dims: &[usize]) -> Result<(usize, usize), String> {
        let axis = axis(self.dim, dims.len())?;
        match self.k.unwrap_or(dims[axis]) {
            k if k <= dims[axis] => Ok((axis, k)),
            k => Err(format!("cannot take {k} of {} entries", dims[axis])),
        }
    }

    /// Which of two comes first; NaN counts as the largest.
    fn order(&self, a: f64, b: f64) -> Ordering {
        let ascending = a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
        if self.largest { ascending.reverse() } else { ascending }
    }
}

impl Operation for TopK {
    columns! {
        name: "topk",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let (axis, k) = self.count(&x.shape)?;
        let mut shape = x.shape.clone();
        shape[axis] = k;
        Ok(Fact { kind: if self.places { Kind::Whole } else { x.kind }, ..Fact::float(&shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[axis(self.dim, result.shape.len())?])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let plain = run.plain(operands, 0)?;
        let mut shape = plain.dims().to_vec();
        let (axis, k) = self.count(&shape).map_err(|reason| run.misfit(reason))?;
        let (size, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
        let values = plain.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        shape[axis] = k;
        let count: usize = shape.iter().product();
        let (mut entries, mut places) = (vec![0i64; count], vec![0usize; count]);
        let lanes = values.len() / size.max(1);
        for lane in 0..lanes {
            let (outer, offset) = (lane / inner.max(1), lane % inner.max(1));
            let place = |entry: usize| (outer * size + entry) * inner + offset;
            let mut order: Vec<usize> = (0..size).collect();
            order.sort_by(|&a, &b| self.order(values[place(a)], values[place(b)]));
            for (rank, &entry) in order[..k].iter().enumerate() {
                let at = (outer * k + rank) * inner + offset;
                (entries[at], places[at]) = (entry as i64, place(entry));
            }
        }
        if self.places {
            return Ok(Slot::Whole(Tensor::from_vec(entries, shape, &run.device)?));
        }
        run.chosen(operands, &places, &shape)
    }
}
