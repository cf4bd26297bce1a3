//! Sums and means over axes.

use candle_core::DType;
use serde::{Deserialize, Serialize};

use super::To;
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Operand, Results, Start};

/// The mean over some axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mean {
    /// The axes; negative ones count from the end.
    pub dim: Vec<i64>,
    /// Whether they stay, with size 1.
    pub keepdim: bool,
}

/// The sum over some axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// The axes; negative ones count from the end.
    pub dim: Vec<i64>,
    /// Whether they stay, with size 1.
    pub keepdim: bool,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "mean" => axes_of(call).and_then(|(x, dim, keepdim)| call.gives(Mean { dim, keepdim }, [x])),
        "sum" => axes_of(call).and_then(|(x, dim, keepdim)| call.gives(Sum { dim, keepdim }, [x])),
        _ => return None,
    })
}

/// The operand, which axes, and whether they stay.
pub(super) fn axes_of(call: &mut Call<'_>) -> Result<(Operand, Vec<i64>, bool), String> {
    let (x, dim) = (call.operand("self")?, call.ints("dim")?.filter(|dim| !dim.is_empty()));
    let dim = dim.map_or_else(|| call.rank(&x).map(|rank| (0..rank as i64).collect()), Ok)?;
    let keepdim = call.flag("keepdim", false)?;
    match call.kind("dtype")? {
        Some(kind) if call.is_whole(&x) == (kind == Kind::Float) => Ok((call.push(To { kind }, [x]), dim, keepdim)),
        _ => Ok((x, dim, keepdim)),
    }
}

/// The axes to reduce in a value of so many.
pub(super) fn axes(dim: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut axes: Vec<usize> = dim.iter().map(|&dim| axis(dim, rank)).collect::<Result<_, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

/// The shape with size 1 on the reduced axes, and the shape of the result.
pub(super) fn reduced(shape: &[usize], dim: &[i64], keepdim: bool) -> Result<(Vec<usize>, Vec<usize>), String> {
    let axes = axes(dim, shape.len())?;
    let small: Vec<usize> = (0..shape.len()).map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] }).collect();
    let kept = (0..shape.len()).filter(|axis| keepdim || !axes.contains(axis)).map(|axis| small[axis]).collect();
    Ok((small, kept))
}

/// The answers that both give alike; `$scale` is the factor of the sum.
macro_rules! reduction {
    ($type:ident, $name:literal, $scale:expr) => {
        impl Operation for $type {
            columns! {
                name: $name,
                operands: &["input"],
                cost: Cost::of_result,
                start: Start::Constant(0.0),
                affinity: Affinity::AFFINE,
            }

            fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
                let x = fact(operands, 0)?;
                let kind = if x.kind == Kind::Float { Kind::Float } else { Kind::Whole };
                Ok(Fact { kind, ..Fact::float(&reduced(&x.shape, &self.dim, self.keepdim)?.1) })
            }

            fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
                let axes = axes(&self.dim, operands[0].map_or(0, |x| x.shape.len()))?;
                if self.keepdim { rows::together(operands[0], &axes) } else { rows::removed(operands[0], &axes) }
            }

            fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
                if let Some(x) = run.whole_or_none(operands, 0) {
                    let axes = axes(&self.dim, x.rank()).map_err(|reason| run.misfit(reason))?;
                    let (_, kept) = reduced(x.dims(), &self.dim, self.keepdim).map_err(|reason| run.misfit(reason))?;
                    return Ok(Slot::Whole(x.to_dtype(DType::I64)?.sum_keepdim(axes)?.reshape(kept)?));
                }
                let x: Var<V> = run.var(operands, 0)?;
                let full = x.dims()?.to_vec();
                let (small, kept) = reduced(&full, &self.dim, self.keepdim).map_err(|reason| run.misfit(reason))?;
                let sum = run.tape.linear(kernels::Linear::SumTo { from: full.clone(), to: small.clone() }, &x)?;
                let scale: Option<f64> = $scale(full.iter().product(), small.iter().product());
                let result = match scale {
                    None => sum,
                    Some(factor) => run.tape.linear(kernels::Linear::Scale { factor }, &sum)?,
                };
                Ok(Slot::Float(run.reshape(&result, &kept)?))
            }
        }
    };
}

reduction!(Mean, "mean", |full: usize, small: usize| Some(small as f64 / full as f64));
reduction!(Sum, "sum", |_: usize, _: usize| None);
