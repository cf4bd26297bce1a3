//! Variances, standard deviations and Euclidean norms over axes.

use serde::{Deserialize, Serialize};

use super::reductions::{axes, axes_of, reduced};
use super::{Add, Amax, Clamp, Mean, Mul, Pow, Sub, Sum, Unsqueeze};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Bilinear, Linear, Pointwise};
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Start};

/// `Σ (x − mean)² / (n − correction)` over `n` entries of some axes, or its root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variance {
    /// The axes; negative ones count from the end.
    pub dim: Vec<i64>,
    /// What `n` is lessened by: 1 for the unbiased estimate.
    pub correction: f64,
    /// Whether the axes stay, with size 1.
    pub keepdim: bool,
    /// Whether it is the standard deviation.
    pub root: bool,
}

/// `√Σ x²` over some axes; its derivative at 0 is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    /// The axes; negative ones count from the end.
    pub dim: Vec<i64>,
    /// Whether they stay, with size 1.
    pub keepdim: bool,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "var" => variance(call, false),
        "std" => variance(call, true),
        "var_mean" => variance_and_mean(call, false),
        "std_mean" => variance_and_mean(call, true),
        "norm" | "linalg_vector_norm" | "frobenius_norm" => norm(call),
        "_weight_norm" | "_weight_norm_interface" => weight_norm(call),
        "cosine_similarity" => cosine_similarity(call),
        "pairwise_distance" => pairwise_distance(call),
        "cdist" | "_cdist_forward" => distances(call),
        _ => return None,
    })
}

fn operation(call: &mut Call<'_>, root: bool) -> Result<(Operand, Variance), String> {
    let unbiased = call.flag("unbiased", true)?;
    let correction = call.number("correction")?.unwrap_or(f64::from(u8::from(unbiased)));
    let (x, dim, keepdim) = axes_of(call)?;
    Ok((x, Variance { dim, correction, keepdim, root }))
}

fn variance(call: &mut Call<'_>, root: bool) -> Results {
    let (x, variance) = operation(call, root)?;
    call.gives(variance, [x])
}

fn variance_and_mean(call: &mut Call<'_>, root: bool) -> Results {
    let (x, variance) = operation(call, root)?;
    let mean = Mean { dim: variance.dim.clone(), keepdim: variance.keepdim };
    Ok(vec![call.push(variance, [x.clone()]), call.push(mean, [x])])
}

/// `(Σ |x|^p)^(1/p)`; the largest and the smallest `|x|` for infinite `p`.
fn norm(call: &mut Call<'_>) -> Results {
    let order = if call.has("ord") { call.number("ord")? } else { call.number("p")? };
    let (x, dim, keepdim) = axes_of(call)?;
    norm_of(call, &x, order.unwrap_or(2.0), dim, keepdim)
}

fn norm_of(call: &mut Call<'_>, x: &Operand, order: f64, dim: Vec<i64>, keepdim: bool) -> Results {
    if order == 2.0 {
        return call.gives(Norm { dim, keepdim }, [x.clone()]);
    }
    let size = call.absolute(x);
    match order {
        1.0 => call.gives(Sum { dim, keepdim }, [size]),
        f64::INFINITY => call.gives(Amax { dim, keepdim, largest: true }, [size]),
        f64::NEG_INFINITY => call.gives(Amax { dim, keepdim, largest: false }, [size]),
        0.0 => Err("the norm of order 0 is not supported".into()),
        order => {
            let powers = call.push(Pow { exponent: order }, [size]);
            let sum = call.push(Sum { dim, keepdim }, [powers]);
            call.gives(Pow { exponent: 1.0 / order }, [sum])
        }
    }
}

/// `g v / ‖v‖`, norms over all axes but one.
fn weight_norm(call: &mut Call<'_>) -> Results {
    let (v, g, kept) = (call.operand("v")?, call.operand("g")?, call.int("dim", Some(0))?);
    let dim = (0..call.rank(&v)? as i64).filter(|&axis| axis != kept).collect();
    let norm = call.push(Norm { dim, keepdim: true }, [v.clone()]);
    let scale = call.quotient(&g, norm.clone());
    let weight = call.push(Mul {}, [v, scale]);
    Ok([weight, norm][..call.count.min(2)].to_vec())
}

/// `Σ a b / (max(‖a‖, eps) max(‖b‖, eps))`
fn cosine_similarity(call: &mut Call<'_>) -> Results {
    let operands = [call.operand("x1")?, call.operand("x2")?];
    let (dim, eps) = (call.int("dim", Some(1))?, call.number("eps")?.unwrap_or(1e-8));
    let mut unit = |x: Operand| {
        let norm = call.push(Norm { dim: vec![dim], keepdim: true }, [x.clone()]);
        let norm = call.push(Clamp { min: Some(eps), max: None, closed: true }, [norm]);
        call.quotient(&x, norm)
    };
    let units = operands.map(&mut unit);
    let products = call.push(Mul {}, units);
    call.gives(Sum { dim: vec![dim], keepdim: false }, [products])
}

fn pairwise_distance(call: &mut Call<'_>) -> Results {
    let (a, b) = (call.operand("x1")?, call.operand("x2")?);
    let (order, eps) = (call.number("p")?.unwrap_or(2.0), call.number("eps")?.unwrap_or(1e-6));
    let keepdim = call.flag("keepdim", false)?;
    let difference = call.push(Sub {}, [a, b]);
    let shifted = call.push(Add {}, [difference, Operand::Number(eps)]);
    norm_of(call, &shifted, order, vec![-1], keepdim)
}

/// The distance of each of the vectors of one operand from each of the other's.
fn distances(call: &mut Call<'_>) -> Results {
    let (a, b) = (call.operand("x1")?, call.operand("x2")?);
    let order = call.number("p")?.unwrap_or(2.0);
    call.optional("compute_mode")?;
    let a = call.push(Unsqueeze { dim: -2 }, [a]);
    let b = call.push(Unsqueeze { dim: -3 }, [b]);
    let difference = call.push(Sub {}, [a, b]);
    norm_of(call, &difference, order, vec![-1], false)
}

/// The answers that both give alike.
macro_rules! answers {
    () => {
        columns! {
            operands: &["input"],
            cost: Cost::of_result,
            start: Start::Constant(0.0),
            affinity: Affinity { products: &[], smooth: &[0] },
        }

        fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
            Ok(Fact::float(&reduced(&fact(operands, 0)?.shape, &self.dim, self.keepdim)?.1))
        }

        fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
            let axes = axes(&self.dim, operands[0].map_or(0, |x| x.shape.len()))?;
            if self.keepdim { rows::together(operands[0], &axes) } else { rows::removed(operands[0], &axes) }
        }
    };
}

impl Operation for Variance {
    answers!();

    fn name(&self) -> &'static str {
        if self.root { "std" } else { "var" }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let full = x.dims()?.to_vec();
        let (small, kept) = reduced(&full, &self.dim, self.keepdim).map_err(|reason| run.misfit(reason))?;
        let (centred, _) = run.centre(&x, &full, &small)?;
        let sum = run.sum_of_squares(&centred, &full, &small)?;
        let count = full.iter().product::<usize>() as f64 / small.iter().product::<usize>() as f64;
        let factor = 1.0 / (count - self.correction).max(0.0);
        let variance = run.tape.linear(Linear::Scale { factor }, &sum)?;
        let result = if self.root { run.safe_root(&variance)? } else { variance };
        Ok(Slot::Float(run.reshape(&result, &kept)?))
    }
}

impl Operation for Norm {
    answers!();

    fn name(&self) -> &'static str {
        "linalg_vector_norm"
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let full = x.dims()?.to_vec();
        let (small, kept) = reduced(&full, &self.dim, self.keepdim).map_err(|reason| run.misfit(reason))?;
        let sum = run.sum_of_squares(&x, &full, &small)?;
        let root = run.safe_root(&sum)?;
        Ok(Slot::Float(run.reshape(&root, &kept)?))
    }
}

impl<V: Value> Run<'_, V> {
    /// `Σ x²` over the axes where `small` has 1.
    fn sum_of_squares(&mut self, x: &Var<V>, full: &[usize], small: &[usize]) -> Result<Var<V>> {
        let square = Bilinear::ProductSum { full: full.to_vec(), small: small.to_vec() };
        Ok(self.tape.bilinear(square, x, x)?)
    }

    /// `√x`, with derivative 0 at 0.
    fn safe_root(&mut self, x: &Var<V>) -> Result<Var<V>> {
        let Some(primal) = x.value().primal() else { return Err(self.misfit("a value without primal")) };
        let gate = primal.clone();
        let ones = self.tape.constant(gate.le(0.0)?.to_dtype(self.dtype)?);
        let lifted = self.tape.add(x, &ones)?;
        let root = self.tape.pointwise(Pointwise::Sqrt, &lifted)?;
        Ok(self.tape.linear(Linear::Gate { gate }, &root)?)
    }
}
