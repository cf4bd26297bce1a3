//! Values that are not computed from other numbers: filled tensors, types of numbers, truth values, running counts.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::resampling::Map;
use crate::Result;
use crate::autodiff::Value;
use crate::kernels;
use crate::program::cost::Cost;
use crate::program::fact::{RowAxis, Tracked, axis, broadcast};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Operand, Results, Size, Start};

/// The same number everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Full {
    /// The shape.
    pub size: Vec<Size>,
    /// The number.
    #[serde(with = "crate::program::number")]
    pub fill_value: f64,
    /// What it is a number of.
    #[serde(rename = "dtype")]
    pub kind: Kind,
}

/// `value` repeated to the shape of `input`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {}

/// The same values as numbers of another kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct To {
    /// Which kind.
    #[serde(rename = "dtype")]
    pub kind: Kind,
}

/// Operations on truth values by PyTorch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it
pub enum Connective {
    #[serde(rename = "logical_and")]
    And,
    #[serde(rename = "logical_or")]
    Or,
    #[serde(rename = "logical_xor")]
    Xor,
    #[serde(rename = "logical_not")]
    Not,
}

/// Truth values joined, elementwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logical {
    /// How; PyTorch has an operation for each.
    pub connective: Connective,
}

/// Sums of numbers, or counts of truth values, up to each entry of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cumsum {
    /// The axis.
    pub dim: i64,
}

/// A tensor `[C]` or `[1]` as one that is broadcast along axis 1 of `like`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerChannel {}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    let joined = |connective| Logical { connective };
    Some(match call.name {
        "zeros" | "new_zeros" | "empty" | "new_empty" => full(call, Some(0.0)),
        "ones" | "new_ones" => full(call, Some(1.0)),
        "full" | "new_full" => full(call, None),
        "zeros_like" | "zero" | "empty_like" => fill(call, Some(0.0), "value"),
        "ones_like" => fill(call, Some(1.0), "value"),
        "full_like" => fill(call, None, "fill_value"),
        "fill" => fill(call, None, "value"),
        "copy" => fill(call, None, "src"),
        "to" | "_to_copy" | "type_as" => to(call),
        "__and__" | "bitwise_and" | "logical_and" => {
            pair(call).and_then(|pair| call.gives(joined(Connective::And), pair))
        }
        "__or__" | "bitwise_or" | "logical_or" => pair(call).and_then(|pair| call.gives(joined(Connective::Or), pair)),
        "__xor__" | "bitwise_xor" | "logical_xor" => {
            pair(call).and_then(|pair| call.gives(joined(Connective::Xor), pair))
        }
        "bitwise_not" | "logical_not" => call.operand("self").and_then(|x| {
            let x = if call.name == "logical_not" { truth(call, x) } else { x };
            call.gives(joined(Connective::Not), [x])
        }),
        "cumsum" => cumsum(call),
        _ => return None,
    })
}

fn full(call: &mut Call<'_>, value: Option<f64>) -> Results {
    call.optional("self")?;
    let size = call.sizes("size")?.ok_or("its sizes are missing")?;
    let fill_value =
        value.map_or_else(|| call.number("fill_value"), |value| Ok(Some(value)))?.ok_or("its value is missing")?;
    let made = call.made.as_ref().map(|(kind, _)| *kind);
    let kind = call.kind("dtype")?.or(made).ok_or("its type is missing")?;
    call.gives(Full { size, fill_value, kind }, [])
}

fn fill(call: &mut Call<'_>, value: Option<f64>, name: &str) -> Results {
    let x = call.operand("self")?;
    let value = value.map_or_else(|| call.operand(name), |value| Ok(Operand::Number(value)))?;
    call.kind("dtype")?;
    let x = match &call.made {
        Some((kind, _)) if call.is_whole(&x) || *kind != Kind::Float => {
            let kind = *kind;
            call.push(To { kind }, [x])
        }
        _ => x,
    };
    call.gives(Fill {}, [x, value])
}

/// Devices and precisions change no value here.
fn to(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    call.optional("other")?;
    match call.kind("dtype")?.or(call.made.as_ref().map(|(kind, _)| *kind)) {
        None => Ok(vec![x]),
        Some(kind) => call.gives(To { kind }, [x]),
    }
}

fn pair(call: &mut Call<'_>) -> Result<[Operand; 2], String> {
    let pair = [call.operand("self")?, call.operand("other")?];
    Ok(if call.name.starts_with("logical") { pair.map(|x| truth(call, x)) } else { pair })
}

/// Whether a number is not 0.
fn truth(call: &mut Call<'_>, x: Operand) -> Operand {
    if call.is_truth(&x) { x } else { call.push(To { kind: Kind::Truth }, [x]) }
}

fn cumsum(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", None)?);
    match call.kind("dtype")? {
        Some(kind) if call.is_whole(&x) == (kind == Kind::Float) => {
            let x = call.push(To { kind }, [x]);
            call.gives(Cumsum { dim }, [x])
        }
        _ => call.gives(Cumsum { dim }, [x]),
    }
}

/// The answers that are alike.
macro_rules! answers {
    ($operands:expr) => {
        fn operands(&self) -> &'static [&'static str] {
            $operands
        }

        fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
            Cost::of_result(result)
        }

        fn start(&self, _place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
            Start::Constant(0.25)
        }

        fn affinity(&self, _in_training: bool) -> Affinity {
            Affinity::AFFINE
        }
    };
    ($name:literal, $operands:expr) => {
        fn name(&self) -> &'static str {
            $name
        }

        answers!($operands);
    };
}

impl Full {
    fn shape(&self, rows: usize) -> Result<Vec<usize>, String> {
        let size =
            |size: &Size| usize::try_from(size.at(rows)).map_err(|_| format!("a size of {size} is not possible"));
        self.size.iter().map(size).collect()
    }
}

impl Operation for Full {
    answers!("full", &[]);

    fn result(&self, _operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        Ok(Fact { kind: self.kind, ..Fact::float(&self.shape(rows)?) })
    }

    fn rows(&self, _operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let along = self.size.iter().position(|size| *size == Size::rows());
        Ok(along.map(|axis| RowAxis { axis, ..RowAxis::FIRST }))
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, _operands: &[Slot<V>]) -> Result<Slot<V>> {
        let shape = self.shape(run.rows).map_err(|reason| run.misfit(reason))?;
        let dtype = match self.kind {
            Kind::Float => run.dtype,
            Kind::Whole => DType::I64,
            Kind::Truth => DType::U8,
        };
        let filled = Tensor::new(self.fill_value, &run.device)?.to_dtype(dtype)?.broadcast_as(shape)?.contiguous()?;
        Ok(if self.kind == Kind::Float { Slot::Float(run.tape.constant(filled)) } else { Slot::Whole(filled) })
    }
}

impl Operation for Fill {
    answers!("fill", &["input", "value"]);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, value) = (fact(operands, 0)?, fact(operands, 1)?);
        if broadcast(&x.shape, &value.shape)? != x.shape {
            return Err(format!("{:?} cannot be repeated to {:?}", value.shape, x.shape));
        }
        Ok(Fact { kind: x.kind, ..Fact::float(&x.shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let shape = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        if let Some(x) = run.whole_or_none(operands, 0) {
            let value = run.whole(operands, 1)?.to_dtype(x.dtype())?;
            return Ok(Slot::Whole(value.broadcast_as(shape)?.contiguous()?));
        }
        let value = run.var(operands, 1)?;
        Ok(Slot::Float(run.repeated(&value, &shape)?))
    }
}

impl Operation for To {
    answers!(&["input"]);

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Float => "to_float",
            Kind::Whole => "to_int",
            Kind::Truth => "to_bool",
        }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact { kind: self.kind, ..Fact::float(&fact(operands, 0)?.shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        match (run.whole_or_none(operands, 0), self.kind) {
            (None, Kind::Float) => Ok(operands.first().cloned().unwrap_or(Slot::None)),
            (Some(x), Kind::Float) => Ok(Slot::Float(run.tape.constant(x.to_dtype(run.dtype)?))),
            (None, kind) => {
                let x = run.plain(operands, 0)?;
                Ok(Slot::Whole(if kind == Kind::Whole { x.to_dtype(DType::I64)? } else { x.ne(&x.zeros_like()?)? }))
            }
            (Some(x), Kind::Whole) => Ok(Slot::Whole(x.to_dtype(DType::I64)?)),
            (Some(x), Kind::Truth) => Ok(Slot::Whole(x.ne(&x.zeros_like()?)?)),
        }
    }
}

impl Operation for Logical {
    columns! {
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn name(&self) -> &'static str {
        match self.connective {
            Connective::And => "logical_and",
            Connective::Or => "logical_or",
            Connective::Xor => "logical_xor",
            Connective::Not => "logical_not",
        }
    }

    fn operands(&self) -> &'static [&'static str] {
        if self.connective == Connective::Not { &["input"] } else { &["input", "other"] }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        if operands.iter().flatten().any(|fact| fact.kind != Kind::Truth) {
            return Err("expects truth values".into());
        }
        let shape = operands.iter().flatten().try_fold(Vec::new(), |shape, fact| broadcast(&shape, &fact.shape))?;
        Ok(Fact { kind: Kind::Truth, ..Fact::float(&shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let holds = |place: usize| Ok::<_, crate::Error>(run.whole(operands, place)?.ne(0u8)?);
        let a = holds(0)?;
        Ok(Slot::Whole(match self.connective {
            Connective::And => a.broadcast_mul(&holds(1)?)?,
            Connective::Or => a.broadcast_maximum(&holds(1)?)?,
            Connective::Xor => a.broadcast_ne(&holds(1)?)?,
            Connective::Not => a.eq(0u8)?,
        }))
    }
}

impl Operation for Cumsum {
    answers!("cumsum", &["input"]);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        axis(self.dim, x.shape.len())?;
        let kind = if x.kind == Kind::Float { Kind::Float } else { Kind::Whole };
        Ok(Fact { kind, ..Fact::float(&x.shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[axis(self.dim, result.shape.len())?])?;
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let Some(x) = run.whole_or_none(operands, 0) else {
            let x = run.var(operands, 0)?;
            let along = axis(self.dim, x.dims()?.len()).map_err(|reason| run.misfit(reason))?;
            let map = Map::of(x.dims()?[along], x.dims()?[along], |to, from| f64::from(u8::from(from <= to)));
            return Ok(Slot::Float(run.along(&x, along, &map)?));
        };
        let x = x.to_dtype(DType::I64)?;
        let along = axis(self.dim, x.rank()).map_err(|reason| run.misfit(reason))?;
        let (dims, inner) = (x.dims().to_vec(), x.dims()[along + 1..].iter().product::<usize>());
        let mut values = x.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<i64>()?;
        for place in 0..values.len() {
            if place / inner.max(1) % dims[along] > 0 {
                values[place] += values[place - inner];
            }
        }
        Ok(Slot::Whole(Tensor::from_vec(values, dims, &run.device)?))
    }
}

impl PerChannel {
    fn shape(weight: &[usize], rank: usize) -> Result<Vec<usize>, String> {
        let &[channels] = weight else { return Err(format!("expects a tensor [C], but it is {weight:?}")) };
        let mut shape = vec![1; rank];
        if let Some(size) = shape.get_mut(1) {
            *size = channels;
        }
        if rank < 2 && channels != 1 {
            return Err("there are no channels".into());
        }
        Ok(shape)
    }
}

impl Operation for PerChannel {
    answers!("per_channel", &["input", "like"]);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (weight, like) = (fact(operands, 0)?, fact(operands, 1)?);
        Ok(Fact { kind: weight.kind, ..Fact::float(&Self::shape(&weight.shape, like.shape.len())?) })
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        match operands[0].and_then(|weight| weight.rows) {
            None => Ok(None),
            Some(_) => Err("its channels depend on the inputs".into()),
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let rank = operands.get(1).map_or(Ok(0), |like| Ok::<_, crate::Error>(like.shape()?.len()))?;
        run.moved(operands, |dims| {
            Ok(vec![kernels::Linear::Reshape { from: dims.to_vec(), to: Self::shape(dims, rank)? }])
        })
    }
}
