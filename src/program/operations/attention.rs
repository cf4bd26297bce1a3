//! Attention (Vaswani et al. 2017) and the softmax in it, composed of primitives, so that every derivative follows.

use serde::Serialize;

use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{self, Bilinear, Pointwise};
use crate::program::composites::affine;
use crate::program::fact::axis;
use crate::program::infer::Cost;
use crate::program::operation::{Affinity, Operation, fact};
use crate::program::rows::{self, Tracked};
use crate::program::run::{Run, Slot};
use crate::program::{Fact, Start};

/// `e^x / Σ e^x` along an axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Softmax {
    /// The axis; a negative one counts from the end.
    pub dim: i64,
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn operands(&self) -> &'static [&'static str] {
        &["input"]
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        axis(self.dim, x.shape.len())?;
        Ok(Fact::float(&x.shape))
    }

    fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
        Cost::of_result(result)
    }

    fn start(&self, _place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        Start::Constant(0.0)
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        Affinity { products: &[], smooth: &[0] }
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[axis(self.dim, result.shape.len())?])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let axis = axis(self.dim, x.dims()?.len()).map_err(|reason| run.misfit(reason))?;
        Ok(Slot::Float(run.softmax(&x, axis)?))
    }
}

impl<V: Value> Run<'_, V> {
    /// `e^{x − m} / Σ e^{x − m}` along an axis. The maximum `m` keeps exp from overflowing; it is a constant, since the
    /// result does not depend on it.
    fn softmax(&mut self, x: &Var<V>, axis: usize) -> Result<Var<V>> {
        let full = x.dims()?.to_vec();
        let mut small = full.clone();
        small[axis] = 1;
        let Some(primal) = x.value().primal() else {
            return Err(candle_core::Error::Msg("a softmax of a value without primal".into()).into());
        };
        let shift = self.tape.constant(primal.max_keepdim(axis)?.neg()?);
        let shifted = affine(self.tape, x, None, &shift)?;
        let exponentials = self.tape.pointwise(Pointwise::Exp, &shifted)?;
        let sum = self.tape.linear(kernels::Linear::SumTo { from: full, to: small }, &exponentials)?;
        let inverse = self.tape.pointwise(Pointwise::Reciprocal, &sum)?;
        self.product(&exponentials, &inverse)
    }
}

/// `softmax(q kᵀ · scale) v`, `[…, T, d]` each: two matrix products for each entry of the axes in front.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScaledDotProductAttention {
    /// The factor; `1/√d` where it is left out.
    pub scale: Option<f64>,
}

impl Operation for ScaledDotProductAttention {
    fn name(&self) -> &'static str {
        "scaled_dot_product_attention"
    }

    fn operands(&self) -> &'static [&'static str] {
        &["query", "key", "value"]
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (query, key, value) = (fact(operands, 0)?, fact(operands, 1)?, fact(operands, 2)?);
        match (query.shape.as_slice(), key.shape.as_slice(), value.shape.as_slice()) {
            ([front @ .., tokens, d], [of_keys @ .., keys, e], [of_values @ .., values, width])
                if front == of_keys && front == of_values && d == e && keys == values && *d > 0 =>
            {
                Ok(Fact::float(&[front, &[*tokens, *width]].concat()))
            }
            (query, key, value) => Err(format!("queries {query:?}, keys {key:?} and values {value:?} do not fit")),
        }
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let [.., tokens, width] = *result.shape.as_slice() else { return Cost::VIEW };
        let (batch, keys) =
            (result.len() / (tokens * width).max(1), operands[1].map_or(0, |key| key.shape[key.shape.len() - 2]));
        let scores = batch * tokens * keys;
        let depth = operands[0].and_then(|query| query.shape.last()).copied().unwrap_or(0);
        // Queries, keys and values are copied apart; then the scores and the result.
        let copies: usize = operands.iter().flatten().map(|fact| fact.len()).sum();
        Cost::with_activations(scores * (depth + width), &[scores, copies, result.len()])
    }

    fn start(&self, _place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        Start::NARROW
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        Affinity { products: &[(0, 2), (1, 2)], smooth: &[0, 1] }
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let rank = result.shape.len();
        for operand in operands {
            rows::together(*operand, &[rank - 2, rank - 1])?;
        }
        rows::elementwise(operands, rank)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (query, key, value) = (run.var(operands, 0)?, run.var(operands, 1)?, run.var(operands, 2)?);
        let dims = query.dims()?.to_vec();
        let front = dims.len() - 2;
        let (batch, [tokens, depth]) = (dims[..front].iter().product(), [dims[front], dims[front + 1]]);
        let [keys, width] = [value.dims()?[front], value.dims()?[front + 1]];
        let query = run.reshape(&query, &[batch, tokens, depth])?;
        let key = run.reshape(&key, &[batch, keys, depth])?;
        let value = run.reshape(&value, &[batch, keys, width])?;
        let factor = self.scale.unwrap_or(1.0 / (depth as f64).sqrt());
        let query = run.tape.linear(kernels::Linear::Scale { factor }, &query)?;
        let product = |k, n, transpose_b| {
            Bilinear::MatMul(kernels::MatMul { batch, m: tokens, k, n, transpose_a: false, transpose_b })
        };
        let scores = run.tape.bilinear(product(depth, keys, true), &query, &key)?;
        let scores = run.reshape(&scores, &[batch * tokens, keys])?;
        let weights = run.softmax(&scores, 1)?;
        let weights = run.reshape(&weights, &[batch, tokens, keys])?;
        let y = run.tape.bilinear(product(keys, width, false), &weights, &value)?;
        Ok(Slot::Float(run.reshape(&y, &[&dims[..front], &[tokens, width]].concat())?))
    }
}
