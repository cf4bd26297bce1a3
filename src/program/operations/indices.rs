//! Whole numbers and truth values: where they come from, and how they choose among floats. Never differentiated.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::Value;
use crate::kernels;
use crate::program::cost::Cost;
use crate::program::fact::{RowAxis, Tracked, broadcast};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows::{self, COUNTS};
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Results, Size, Start};

/// The whole numbers `0, 1, …, end − 1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arange {
    /// How many.
    pub end: Size,
}

/// Rows of a matrix `[entries, dim]` by whole numbers: `[…]` to `[…, dim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// The row that is a constant: no gradient flows into it here, and no tangent out of it.
    pub padding_idx: Option<usize>,
}

/// The comparisons by PyTorch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names say it
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Truth values of a comparison, elementwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// Which; PyTorch has an operation for each.
    pub comparison: Comparison,
}

/// `input` where `condition` holds, else `other`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Where {}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    let comparison = match call.name {
        "embedding" => return Some(embedding(call)),
        "where" => return Some(choice(call)),
        "eq" => Comparison::Eq,
        "ne" | "not_equal" => Comparison::Ne,
        "lt" | "less" => Comparison::Lt,
        "le" | "less_equal" => Comparison::Le,
        "gt" | "greater" => Comparison::Gt,
        "ge" | "greater_equal" => Comparison::Ge,
        _ => return None,
    };
    let operands = call.operand("self").and_then(|a| Ok([a, call.operand("other")?]));
    Some(operands.and_then(|operands| call.gives(Compare { comparison }, operands)))
}

fn embedding(call: &mut Call<'_>) -> Results {
    let (weight, indices) = (call.operand("weight")?, call.operand("indices")?);
    // PyTorch's default of −1 stands for none.
    let padding_idx = usize::try_from(call.int("padding_idx", Some(-1))?).ok();
    call.flag("scale_grad_by_freq", false)?;
    call.flag("sparse", false)?;
    call.gives(Embedding { padding_idx }, [weight, indices])
}

fn choice(call: &mut Call<'_>) -> Results {
    let operands = [call.operand("condition")?, call.operand("self")?, call.operand("other")?];
    call.gives(Where {}, operands)
}

impl Operation for Arange {
    columns! {
        name: "arange",
        operands: &[],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn result(&self, _operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        match usize::try_from(self.end.at(rows)) {
            Ok(end) => Ok(Fact { kind: Kind::Whole, ..Fact::float(&[end]) }),
            Err(_) => Err(format!("there are no whole numbers below {}", self.end)),
        }
    }

    fn rows(&self, _operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        match self.end.is_fixed() {
            true => Ok(None),
            false if self.end == Size::rows() => Ok(Some(RowAxis { places: true, ..RowAxis::FIRST })),
            false => Err(COUNTS.into()),
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, _operands: &[Slot<V>]) -> Result<Slot<V>> {
        Ok(Slot::Whole(Tensor::arange(0i64, self.end.at(run.rows), &run.device)?))
    }
}

impl Operation for Embedding {
    columns! {
        name: "embedding",
        operands: &["weight", "indices"],
        cost: Cost::of_result,
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (weight, indices) = (fact(operands, 0)?, fact(operands, 1)?);
        let &[_, dim] = weight.shape.as_slice() else {
            return Err(format!("expects a weight [entries, dim], but it is {:?}", weight.shape));
        };
        if indices.kind != Kind::Whole {
            return Err("expects whole numbers as indices".into());
        }
        Ok(Fact::float(&[indices.shape.as_slice(), &[dim]].concat()))
    }

    fn start(&self, _place: usize, _shapes: &[Option<&[usize]>], in_transformer: bool) -> Start {
        if in_transformer { Start::NARROW } else { Start::Normal { std: 1.0 } }
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        match (operands[0].and_then(|weight| weight.rows), operands[1].and_then(|indices| indices.rows)) {
            (Some(_), _) => Err("its weights depend on the inputs".into()),
            (None, Some(rows)) if rows.places => Err(COUNTS.into()),
            (None, rows) => Ok(rows),
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (weight, indices) = (run.var(operands, 0)?, run.whole(operands, 1)?);
        let from = weight.dims()?.to_vec();
        let (entries, dim) = (from[0], from[1]);
        let chosen = indices.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<i64>()?;
        let mut places = Vec::with_capacity(chosen.len() * dim);
        for &entry in &chosen {
            match usize::try_from(entry) {
                Ok(entry) if entry < entries => places.extend((0..dim).map(|i| (entry * dim + i) as u32)),
                _ => return Err(run.misfit(format!("entry {entry} is out of range for {entries} entries"))),
            }
        }
        let shape = [indices.dims(), &[dim]].concat();
        let places = Tensor::from_vec(places, shape.as_slice(), &run.device)?;
        let looked_up = run.tape.linear(kernels::Linear::Gather { indices: places, from }, &weight)?;
        let padded = |&entry: &i64| self.padding_idx.is_some_and(|padding| entry == padding as i64);
        if !chosen.iter().any(padded) {
            return Ok(Slot::Float(looked_up));
        }
        // Gates that let through all but the padding row, whose values are added as constants.
        let gate: Vec<f64> = chosen.iter().flat_map(|entry| vec![f64::from(u8::from(!padded(entry))); dim]).collect();
        let gate = Tensor::from_vec(gate, shape.as_slice(), &run.device)?.to_dtype(run.dtype)?;
        let live = run.tape.linear(kernels::Linear::Gate { gate: gate.clone() }, &looked_up)?;
        let Some(values) = looked_up.value().primal() else { return Ok(Slot::Float(live)) };
        let fixed = kernels::Linear::Gate { gate: gate.affine(-1.0, 1.0)? }.apply(values)?;
        let fixed = run.tape.constant(fixed);
        Ok(Slot::Float(run.tape.add(&live, &fixed)?))
    }
}

impl Operation for Compare {
    columns! {
        operands: &["input", "other"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn name(&self) -> &'static str {
        match self.comparison {
            Comparison::Eq => "eq",
            Comparison::Ne => "ne",
            Comparison::Lt => "lt",
            Comparison::Le => "le",
            Comparison::Gt => "gt",
            Comparison::Ge => "ge",
        }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let shape = broadcast(&fact(operands, 0)?.shape, &fact(operands, 1)?.shape)?;
        Ok(Fact { kind: Kind::Truth, ..Fact::float(&shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (a, b) = (run.plain(operands, 0)?, run.plain(operands, 1)?);
        // Whole numbers are exact in f64 up to 2^53, far above any index.
        let shape = broadcast(a.dims(), b.dims()).map_err(|reason| run.misfit(reason))?;
        let wide = |tensor: Tensor| tensor.to_dtype(DType::F64)?.broadcast_as(shape.as_slice());
        let (a, b) = (wide(a)?, wide(b)?);
        Ok(Slot::Whole(match self.comparison {
            Comparison::Eq => a.eq(&b)?,
            Comparison::Ne => a.ne(&b)?,
            Comparison::Lt => a.lt(&b)?,
            Comparison::Le => a.le(&b)?,
            Comparison::Gt => a.gt(&b)?,
            Comparison::Ge => a.ge(&b)?,
        }))
    }
}

impl<V: Value> Run<'_, V> {
    /// The operand without tangents: floats, whole numbers or truth values.
    pub(super) fn plain(&self, operands: &[Slot<V>], place: usize) -> Result<Tensor> {
        if let Ok(whole) = self.whole(operands, place) {
            return Ok(whole);
        }
        let var = self.var(operands, place)?;
        var.value().primal().cloned().ok_or_else(|| self.misfit("a value without primal"))
    }
}

impl Operation for Where {
    columns! {
        name: "where",
        operands: &["condition", "input", "other"],
        cost: Cost::of_result,
        start: Start::NARROW,
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (condition, a, b) = (fact(operands, 0)?, fact(operands, 1)?, fact(operands, 2)?);
        if condition.kind != Kind::Truth {
            return Err("expects truth values as its condition".into());
        }
        let kind = a.kind.joined(b.kind);
        Ok(Fact { kind, ..Fact::float(&broadcast(&broadcast(&a.shape, &b.shape)?, &condition.shape)?) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let condition = run.whole(operands, 0)?;
        if let (Ok(a), Ok(b)) = (run.whole(operands, 1), run.whole(operands, 2)) {
            let shape = condition.shape().broadcast_shape_binary_op(a.shape(), "where")?;
            let shape = shape.broadcast_shape_binary_op(b.shape(), "where")?;
            let wide = |x: &Tensor| x.to_dtype(DType::I64)?.broadcast_as(&shape)?.contiguous();
            let chosen = condition.ne(0u8)?.broadcast_as(&shape)?.where_cond(&wide(&a)?, &wide(&b)?)?;
            return Ok(Slot::Whole(chosen));
        }
        let (a, b) = (run.var(operands, 1)?, run.var(operands, 2)?);
        let shape = broadcast(a.dims()?, b.dims()?).and_then(|shape| broadcast(&shape, condition.dims()));
        let shape = shape.map_err(|reason| run.misfit(reason))?;
        let gate = condition.to_dtype(run.dtype)?.broadcast_as(shape.as_slice())?.contiguous()?;
        let (a, b) = (run.repeated(&a, &shape)?, run.repeated(&b, &shape)?);
        // Gates, not products: infinities behind a closed one would make NaN of a sum.
        let closed = gate.affine(-1.0, 1.0)?;
        let a = run.tape.linear(kernels::Linear::Gate { gate }, &a)?;
        let b = run.tape.linear(kernels::Linear::Gate { gate: closed }, &b)?;
        Ok(Slot::Float(run.tape.add(&a, &b)?))
    }
}
