//! Matrix products: linear maps and products of two activations.

use serde::{Deserialize, Serialize};

use super::{
    Add, Arange, Compare, Comparison, Einsum, Mul, Select, Slice, Squeeze, Sub, Sum, To, Transpose, Unsqueeze, Where,
};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{self, Bilinear};
use crate::program::composites::affine;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, broadcast};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Operand, Results, Start};

/// `x Wᵀ + b` along the last axis, `W` `[out, in]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "linear" => linear(call),
        "matmul" | "mm" | "bmm" | "mv" | "dot" | "vdot" | "linalg_matmul" => matmul(call),
        "outer" | "ger" => outer(call),
        "addmm" => added(call, "mat1", "mat2"),
        "addmv" => added(call, "mat", "vec"),
        "baddbmm" | "addbmm" => added(call, "batch1", "batch2"),
        "bilinear" => bilinear(call),
        "linalg_householder_product" => reflections(call),
        _ => return None,
    })
}

fn linear(call: &mut Call<'_>) -> Results {
    let operands = [call.operand("input")?, call.operand("weight")?, call.optional("bias")?];
    call.gives(Linear {}, operands)
}

/// Vectors as matrices of one row or one column; that axis goes again.
fn matmul(call: &mut Call<'_>) -> Results {
    let a = call.operand("self")?;
    let second = ["other", "mat2", "vec", "vec2", "tensor"].into_iter().find(|name| call.has(name));
    let b = call.operand(second.unwrap_or("other"))?;
    product(call, a, b).map(|y| vec![y])
}

fn product(call: &mut Call<'_>, mut a: Operand, mut b: Operand) -> Result<Operand, String> {
    let is_vector = |call: &Call<'_>, x: &Operand| call.rank(x).is_ok_and(|rank| rank == 1);
    let vectors = [is_vector(call, &a), is_vector(call, &b)];
    if vectors[0] {
        a = call.push(Unsqueeze { dim: 0 }, [a]);
    }
    if vectors[1] {
        b = call.push(Unsqueeze { dim: 1 }, [b]);
    }
    let y = call.push(Matmul {}, [a, b]);
    Ok(match vectors {
        [false, false] => y,
        [true, false] => call.push(Squeeze { dim: vec![-2] }, [y]),
        [false, true] => call.push(Squeeze { dim: vec![-1] }, [y]),
        [true, true] => call.push(Squeeze { dim: vec![0, 1] }, [y]),
    })
}

/// `β·input + α·(a b)`, the product summed over its batch for `addbmm`.
fn added(call: &mut Call<'_>, first: &str, second: &str) -> Results {
    let (x, a, b) = (call.operand("self")?, call.operand(first)?, call.operand(second)?);
    let (beta, alpha) = (call.number("beta")?.unwrap_or(1.0), call.number("alpha")?.unwrap_or(1.0));
    let mut y = product(call, a, b)?;
    if call.name == "addbmm" {
        y = call.push(Sum { dim: vec![0], keepdim: false }, [y]);
    }
    let (y, x) = (call.times(&y, alpha), call.times(&x, beta));
    call.gives(Add {}, [y, x])
}

fn outer(call: &mut Call<'_>) -> Results {
    let (a, b) = (call.operand("self")?, call.operand("vec2")?);
    let a = call.push(Unsqueeze { dim: 1 }, [a]);
    call.gives(Mul {}, [a, b])
}

/// `Σ_ij x_i W_oij y_j + b_o`
fn bilinear(call: &mut Call<'_>) -> Results {
    let (x, y) = (call.operand("input1")?, call.operand("input2")?);
    let (weight, bias) = (call.operand("weight")?, call.optional("bias")?);
    if call.rank(&x)? != 2 {
        return Err("inputs of more than two axes are not supported".into());
    }
    let half = call.push(Einsum { equation: "ni,oij->noj".into() }, [x, weight]);
    let both = call.push(Einsum { equation: "noj,nj->no".into() }, [half, y]);
    if bias == Operand::None { Ok(vec![both]) } else { call.gives(Add {}, [both, bias]) }
}

/// The first columns of `Π (I − τᵢ vᵢ vᵢᵀ)`, `vᵢ` column `i` below its diagonal entry, which counts as 1.
fn reflections(call: &mut Call<'_>) -> Results {
    let (x, tau) = (call.operand("input")?, call.operand("tau")?);
    let (shape, count) = (call.shape(&x)?, call.shape(&tau)?);
    let ([rows, columns], [count]) = (shape.as_slice(), count.as_slice()) else {
        return Err("several matrices are not supported".into());
    };
    let [rows, columns] = [rows, columns].map(|end| call.push(Arange { end: end.clone() }, []));
    let rows = call.push(Unsqueeze { dim: 1 }, [rows]);
    let below = call.push(Compare { comparison: Comparison::Gt }, [rows.clone(), columns.clone()]);
    let on_it = call.push(Compare { comparison: Comparison::Eq }, [rows, columns]);
    let mut y = call.push(To { kind: Kind::Float }, [on_it]);
    let vectors = call.push(Where {}, [below, x, y.clone()]);
    for index in (0..count.at(0)).rev() {
        let v = call.push(Slice { dim: 1, start: index, end: index + 1, step: 1 }, [vectors.clone()]);
        let factor = call.push(Select { dim: 0, index }, [tau.clone()]);
        let row = call.push(Transpose { dim0: 0, dim1: 1 }, [v.clone()]);
        let seen = call.push(Matmul {}, [row, y.clone()]);
        let change = call.push(Matmul {}, [v, seen]);
        let change = call.push(Mul {}, [change, factor]);
        y = call.push(Sub {}, [y, change]);
    }
    Ok(vec![y])
}

impl Operation for Linear {
    columns! {
        name: "linear",
        operands: &["input", "weight", "bias"],
        affinity: Affinity { products: &[(0, 1)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, weight) = (fact(operands, 0)?, fact(operands, 1)?);
        let &[outputs, inputs] = weight.shape.as_slice() else {
            return Err(format!("expects a weight [out, in], but it is {:?}", weight.shape));
        };
        if x.shape.last() != Some(&inputs) || x.shape.len() < 2 {
            return Err(format!("expects [N, …, {inputs}], but its input is {:?}", x.shape));
        }
        if inputs == 0 || outputs == 0 {
            return Err("`in` and `out` must be at least 1".into());
        }
        if let Some(bias) = operands.get(2).copied().flatten()
            && bias.shape != [outputs]
        {
            return Err(format!("expects a bias [{outputs}], but it is {:?}", bias.shape));
        }
        let mut shape = x.shape.clone();
        shape.pop();
        shape.push(outputs);
        Ok(Fact::float(&shape))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let inputs = operands[0].and_then(|x| x.shape.last()).copied().unwrap_or(0);
        Cost::with_activations(result.len() * inputs, &[result.len()])
    }

    fn start(&self, place: usize, shapes: &[Option<&[usize]>], in_transformer: bool) -> Start {
        match (in_transformer, place) {
            (true, 2) => Start::Constant(0.0),
            (true, _) => Start::NARROW,
            (false, _) => {
                Start::fan_in(shapes.get(1).copied().flatten().and_then(<[usize]>::last).copied().unwrap_or(1))
            }
        }
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::still(&operands[1..])?;
        rows::together(operands[0], &[result.shape.len() - 1])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.var(operands, 1)?, run.optional(operands, 2)?);
        let (mut shape, inputs) = (x.dims()?.to_vec(), weight.dims()?[1]);
        let y = run.rows_times_matrix(&x, inputs, &weight, bias.as_ref())?;
        shape.pop();
        shape.push(weight.dims()?[0]);
        Ok(Slot::Float(run.reshape(&y, &shape)?))
    }
}

impl<V: Value> Run<'_, V> {
    /// `x Wᵀ + b`, `[1, rows, outputs]`, where the elements of `x` are rows of `inputs` numbers and those of `W`
    /// `[outputs, …]` are `[outputs, inputs]`.
    pub(super) fn rows_times_matrix(
        &mut self,
        x: &Var<V>,
        inputs: usize,
        weight: &Var<V>,
        bias: Option<&Var<V>>,
    ) -> Result<Var<V>> {
        let (rows, outputs) = (x.dims()?.iter().product::<usize>() / inputs, weight.dims()?[0]);
        let product =
            kernels::MatMul { batch: 1, m: rows, k: inputs, n: outputs, transpose_a: false, transpose_b: true };
        let weight = self.reshape(weight, &[1, outputs, inputs])?;
        let x = self.reshape(x, &[1, rows, inputs])?;
        let y = self.tape.bilinear(Bilinear::MatMul(product), &x, &weight)?;
        match bias {
            None => Ok(y),
            Some(bias) => {
                let bias = self.reshape(bias, &[1, 1, outputs])?;
                Ok(affine(self.tape, &y, None, &bias)?)
            }
        }
    }
}

/// The matrix product of the last two axes, `[…, m, k]` and `[…, k, n]`, the axes in front broadcast together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matmul {}

impl Matmul {
    /// The axes in front, and `m`, `k`, `n`.
    fn sizes(&self, a: &[usize], b: &[usize]) -> Result<(Vec<usize>, [usize; 3]), String> {
        match (a, b) {
            ([front @ .., m, k], [other @ .., rows, n]) if k == rows => Ok((broadcast(front, other)?, [*m, *k, *n])),
            _ => Err(format!("expects […, m, k] and […, k, n], but its operands are {a:?} and {b:?}")),
        }
    }
}

impl Operation for Matmul {
    columns! {
        name: "matmul",
        operands: &["input", "other"],
        affinity: Affinity { products: &[(0, 1)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (a, b) = (fact(operands, 0)?, fact(operands, 1)?);
        let (front, [m, _, n]) = self.sizes(&a.shape, &b.shape)?;
        Ok(Fact::float(&[front.as_slice(), &[m, n]].concat()))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let inner = operands[0].and_then(|a| a.shape.last()).copied().unwrap_or(0);
        Cost::with_activations(result.len() * inner, &[result.len()])
    }

    fn start(&self, _place: usize, shapes: &[Option<&[usize]>], in_transformer: bool) -> Start {
        let inner = shapes.iter().flatten().next().and_then(|shape| shape.iter().rev().nth(1)).copied();
        if in_transformer { Start::NARROW } else { Start::fan_in(inner.unwrap_or(1)) }
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let rank = result.shape.len();
        // `m` of the first and `n` of the second stay; everything in front goes along; `k` is summed.
        let mut moved = [None, None];
        for (place, summed) in [(0, 1), (1, 2)] {
            let Some(fact) = operands[place] else { continue };
            rows::together(Some(fact), &[fact.shape.len() - summed])?;
            moved[place] = fact.rows.map(|rows| rows.at(rows.axis + rank - fact.shape.len()));
        }
        match moved {
            [Some(a), Some(b)] if a != b || a.axis + 2 >= rank => Err("it multiplies each row with every other".into()),
            [first, second] => Ok(first.or(second)),
        }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (a, b) = (run.var(operands, 0)?, run.var(operands, 1)?);
        let (front, [m, k, n]) = self.sizes(a.dims()?, b.dims()?).map_err(|reason| run.misfit(reason))?;
        let shape = [front.as_slice(), &[m, n]].concat();
        let batch = front.iter().product::<usize>();
        // One matrix for all: the rows of all others one after the other.
        let (batch, m) = if b.dims()?.len() == 2 { (1, batch * m) } else { (batch, m) };
        let (a, b) = match batch {
            1 => (a, b),
            _ => (
                run.repeated(&a, &[front.as_slice(), &[m, k]].concat())?,
                run.repeated(&b, &[front.as_slice(), &[k, n]].concat())?,
            ),
        };
        let product = kernels::MatMul { batch, m, k, n, transpose_a: false, transpose_b: false };
        let (a, b) = (run.reshape(&a, &[batch, m, k])?, run.reshape(&b, &[batch, k, n])?);
        let y = run.tape.bilinear(Bilinear::MatMul(product), &a, &b)?;
        Ok(Slot::Float(run.reshape(&y, &shape)?))
    }
}
