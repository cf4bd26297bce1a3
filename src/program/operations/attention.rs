//! Attention (Vaswani et al. 2017) and the softmax in it: in kernels of their own where these serve, else composed of
//! primitives, so that every derivative follows.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::random::check_probability;
use super::reductions::reduced;
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{self, Bilinear, Pointwise};
use crate::program::composites::{self, affine};
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis, broadcast};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Results, Start};

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "softmax" | "_softmax" | "_safe_softmax" => softmax(call, false),
        "log_softmax" | "_log_softmax" => softmax(call, true),
        "logsumexp" => logsumexp(call),
        "scaled_dot_product_attention" | "_scaled_dot_product_flash_attention_for_cpu" => attention(call),
        _ => return None,
    })
}

fn softmax(call: &mut Call<'_>, is_log: bool) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", None)?);
    call.kind("dtype")?;
    call.flag("half_to_float", false)?;
    if is_log { call.gives(LogSoftmax { dim }, [x]) } else { call.gives(Softmax { dim }, [x]) }
}

/// `x − ln softmax(x)`, which is the same for every entry.
fn logsumexp(call: &mut Call<'_>) -> Results {
    let (x, dim, keepdim) = super::reductions::axes_of(call)?;
    let &[dim] = dim.as_slice() else { return Err("several axes are not supported".into()) };
    call.gives(LogSumExp { dim, keepdim }, [x])
}

fn attention(call: &mut Call<'_>) -> Results {
    let mut operands = Vec::new();
    for name in ["query", "key", "value"] {
        operands.push(call.operand(name)?);
    }
    operands.push(call.optional("attn_mask")?);
    let (scale, dropout_p) = (call.number("scale")?, call.number("dropout_p")?.unwrap_or(0.0));
    let (is_causal, enable_gqa) = (call.flag("is_causal", false)?, call.flag("enable_gqa", false)?);
    // PyTorch drops out whatever the mode of the module.
    if !call.in_training() {
        call.only("dropout_p", dropout_p, 0.0)?;
    }
    call.gives(ScaledDotProductAttention { scale, is_causal, enable_gqa, dropout_p }, operands)
}

/// `e^x / Σ e^x` along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// The axis; a negative one counts from the end.
    pub dim: i64,
}

impl Operation for Softmax {
    columns! {
        name: "softmax",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity { products: &[], smooth: &[0] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        axis(self.dim, x.shape.len())?;
        Ok(Fact::float(&x.shape))
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

/// `ln softmax(x)` along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSoftmax {
    /// The axis; a negative one counts from the end.
    pub dim: i64,
}

impl Operation for LogSoftmax {
    columns! {
        name: "log_softmax",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity { products: &[], smooth: &[0] },
    }

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        Softmax { dim: self.dim }.result(operands, rows)
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, in_training: bool) -> Tracked {
        Softmax { dim: self.dim }.rows(operands, result, in_training)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let axis = axis(self.dim, x.dims()?.len()).map_err(|reason| run.misfit(reason))?;
        if run.has_row_kernels(&x, axis)? {
            return Ok(Slot::Float(composites::softmax(run.tape, kernels::Softmax { is_log: true }, &x)?));
        }
        let log_sum = run.log_sum_exp(&x, axis)?;
        let negative = run.negative(&log_sum)?;
        Ok(Slot::Float(affine(run.tape, &x, None, &negative)?))
    }
}

/// `ln Σ e^x` along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSumExp {
    /// The axis; a negative one counts from the end.
    pub dim: i64,
    /// Whether it stays, with size 1.
    pub keepdim: bool,
}

impl Operation for LogSumExp {
    columns! {
        name: "logsumexp",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity { products: &[], smooth: &[0] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&reduced(&fact(operands, 0)?.shape, &[self.dim], self.keepdim)?.1))
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let axes = [axis(self.dim, operands[0].map_or(0, |x| x.shape.len()))?];
        if self.keepdim { rows::together(operands[0], &axes) } else { rows::removed(operands[0], &axes) }
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let (_, kept) = reduced(x.dims()?, &[self.dim], self.keepdim).map_err(|reason| run.misfit(reason))?;
        let axis = axis(self.dim, x.dims()?.len()).map_err(|reason| run.misfit(reason))?;
        let log_sum = run.log_sum_exp(&x, axis)?;
        Ok(Slot::Float(run.reshape(&log_sum, &kept)?))
    }
}

impl<V: Value> Run<'_, V> {
    /// `ln Σ e^x` along an axis, which stays with size 1.
    fn log_sum_exp(&mut self, x: &Var<V>, axis: usize) -> Result<Var<V>> {
        let (_, sum, shift) = self.exponentials(x, axis)?;
        let log = self.tape.pointwise(Pointwise::Log, &sum)?;
        let maximum = self.negative(&shift)?;
        Ok(self.tape.add(&log, &maximum)?)
    }

    /// `e^{x − m} / Σ e^{x − m}` along an axis.
    pub(super) fn softmax(&mut self, x: &Var<V>, axis: usize) -> Result<Var<V>> {
        if self.has_row_kernels(x, axis)? {
            return Ok(composites::softmax(self.tape, kernels::Softmax { is_log: false }, x)?);
        }
        let (exponentials, sum, _) = self.exponentials(x, axis)?;
        let inverse = self.tape.pointwise(Pointwise::Reciprocal, &sum)?;
        self.product(&exponentials, &inverse)
    }

    /// Whether a kernel serves an axis: the last, on a CPU.
    fn has_row_kernels(&self, x: &Var<V>, axis: usize) -> Result<bool> {
        Ok(self.device.is_cpu() && axis + 1 == x.dims()?.len())
    }

    /// `e^{x − m}`, its sum along an axis, and `−m`. The maximum `m` keeps exp from overflowing; it is a constant, since
    /// the results do not depend on it.
    fn exponentials(&mut self, x: &Var<V>, axis: usize) -> Result<(Var<V>, Var<V>, Var<V>)> {
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
        Ok((exponentials, sum, shift))
    }
}

/// `softmax(q kᵀ · scale + mask) v`, `[…, T, d]` each: two matrix products for each entry of the axes in front.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaledDotProductAttention {
    /// The factor; `1/√d` where it is left out.
    pub scale: Option<f64>,
    /// Whether a token sees itself and those before it alone.
    pub is_causal: bool,
    /// Whether a key serves several queries in turn: axis −3 of the queries is a multiple of that of keys and values. One
    /// key serves all.
    pub enable_gqa: bool,
    /// In training, the probability of each weight to be zeroed; the others are scaled by `1/(1 − p)`.
    #[serde(default)]
    pub dropout_p: f64,
}

impl ScaledDotProductAttention {
    /// The axes in front of tokens and depth, and how many queries each key serves.
    fn front<'a>(&self, query: &'a [usize], key: &[usize], value: &[usize]) -> Result<(&'a [usize], usize), String> {
        let misfit = || format!("queries {query:?}, keys {key:?} and values {value:?} do not fit");
        match (query, key, value) {
            ([front @ .., _, d], [of_keys @ .., keys, e], [of_values @ .., values, _])
                if of_keys == of_values && d == e && keys == values && *d > 0 =>
            {
                let served = match (front, of_keys) {
                    (front, of_keys) if front == of_keys => 1,
                    ([rest @ .., heads], [others @ .., few])
                        if (self.enable_gqa || *few == 1) && rest == others && *few > 0 && heads % few == 0 =>
                    {
                        heads / few
                    }
                    _ => return Err(misfit()),
                };
                Ok((front, served))
            }
            _ => Err(misfit()),
        }
    }
}

impl Operation for ScaledDotProductAttention {
    columns! {
        name: "scaled_dot_product_attention",
        operands: &["query", "key", "value", "attn_mask"],
        start: Start::NARROW,
        affinity: Affinity { products: &[(0, 2), (1, 2), (2, 3)], smooth: &[0, 1, 3] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        check_probability("dropout_p", self.dropout_p)?;
        let (query, key, value) = (fact(operands, 0)?, fact(operands, 1)?, fact(operands, 2)?);
        let (front, _) = self.front(&query.shape, &key.shape, &value.shape)?;
        let [tokens, keys] = [query, key].map(|fact| fact.shape[fact.shape.len() - 2]);
        let scores = [front, &[tokens, keys]].concat();
        if let Some(mask) = operands.get(3).copied().flatten()
            && (broadcast(&mask.shape, &scores)? != scores || mask.kind == Kind::Whole)
        {
            return Err(format!("a mask of shape {:?} does not fit scores of shape {scores:?}", mask.shape));
        }
        Ok(Fact::float(&[front, &[tokens, value.shape[value.shape.len() - 1]]].concat()))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let [.., tokens, width] = *result.shape.as_slice() else { return Cost::VIEW };
        let (batch, keys) =
            (result.len() / (tokens * width).max(1), operands[1].map_or(0, |key| key.shape[key.shape.len() - 2]));
        let scores = batch * tokens * keys;
        let depth = operands[0].and_then(|query| query.shape.last()).copied().unwrap_or(0);
        // Queries, keys and values are copied apart; then the result, and the scores where the kernel that does without them cannot
        // be used: dropout draws on them, and a mask of floats may be a parameter.
        let copies: usize = operands.iter().take(3).flatten().map(|fact| fact.len()).sum();
        let masked = operands.get(3).copied().flatten().is_some_and(|mask| mask.kind == Kind::Float);
        let stored = if masked || self.dropout_p > 0.0 { scores } else { 0 };
        Cost::with_activations(scores * (depth + width), &[stored, copies, result.len()])
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let rank = result.shape.len();
        for operand in operands.iter().take(3) {
            rows::together(*operand, &[rank - 2, rank - 1])?;
        }
        if let Some(mask) = operands.get(3).copied().flatten() {
            let own = mask.shape.len();
            rows::together(Some(mask), &[own.saturating_sub(2), own.saturating_sub(1)])?;
        }
        // Grouped heads are axis −3 of keys and queries alike, in other numbers.
        let per_head = |fact: &Fact| fact.rows.is_some_and(|rows| rank >= 3 && rows.axis + 3 == fact.shape.len());
        let few =
            operands[1].map(|key| key.shape.len() >= 3 && key.shape[key.shape.len() - 3] != result.shape[rank - 3]);
        if few == Some(true) && operands.iter().flatten().any(|fact| per_head(fact)) {
            return Err("it serves several heads with the same keys".into());
        }
        rows::elementwise(operands, rank)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (query, key, value) = (run.var(operands, 0)?, run.var(operands, 1)?, run.var(operands, 2)?);
        let (dims, key_dims, value_dims) = (query.dims()?.to_vec(), key.dims()?.to_vec(), value.dims()?.to_vec());
        let (_, served) = self.front(&dims, &key_dims, &value_dims).map_err(|reason| run.misfit(reason))?;
        let front = dims.len() - 2;
        let (batch, [tokens, depth]) = (dims[..front].iter().product::<usize>(), [dims[front], dims[front + 1]]);
        let [keys, width] = [value_dims[front], value_dims[front + 1]];
        let factor = self.scale.unwrap_or(1.0 / (depth as f64).sqrt());
        let query = run.reshape(&query, &[batch, tokens, depth])?;
        let mask = match operands.get(3) {
            None | Some(Slot::None) => None,
            Some(_) => {
                let mask = run.additive_mask(operands, 3)?;
                Some(run.with_rank(&mask, dims.len())?)
            }
        };
        let is_still = mask.as_ref().is_none_or(|mask| !mask.is_recorded() && mask.value().parts().tangents.is_none());
        if run.device.is_cpu() && is_still && self.dropout_p == 0.0 {
            let mask = mask
                .as_ref()
                .and_then(|mask| mask.value().primal())
                .map(|mask| one_per_head(mask, &dims[..front], [tokens, keys]));
            let attention = kernels::Attention {
                heads: batch,
                served,
                tokens,
                keys,
                depth,
                width,
                scale: factor,
                is_causal: self.is_causal,
                mask: mask.transpose()?,
            };
            let key = run.reshape(&key, &[batch / served, keys, depth])?;
            let value = run.reshape(&value, &[batch / served, keys, width])?;
            let y = composites::attention(run.tape, attention, &kernels::Qkv { query, key, value })?;
            return Ok(Slot::Float(run.reshape(&y, &[&dims[..front], &[tokens, width]].concat())?));
        }
        let [key, value] = [run.served(&key, &key_dims, served)?, run.served(&value, &value_dims, served)?];
        let query = run.tape.linear(kernels::Linear::Scale { factor }, &query)?;
        let product = |k, n, transpose_b| {
            Bilinear::MatMul(kernels::MatMul { batch, m: tokens, k, n, transpose_a: false, transpose_b })
        };
        let mut scores = run.tape.bilinear(product(depth, keys, true), &query, &key)?;
        if let Some(mask) = mask {
            scores = run.reshape(&scores, &[&dims[..front], &[tokens, keys]].concat())?;
            scores = run.sum_of(&scores, &mask)?;
        }
        if self.is_causal {
            scores = run.reshape(&scores, &[batch, tokens, keys])?;
            let open = |place: usize| if place % keys > place / keys { f64::NEG_INFINITY } else { 0.0 };
            let mask: Vec<f64> = (0..tokens * keys).map(open).collect();
            let mask = Tensor::from_vec(mask, (1, tokens, keys), &run.device)?.to_dtype(run.dtype)?;
            let mask = run.tape.constant(mask);
            scores = affine(run.tape, &scores, None, &mask)?;
        }
        let scores = run.reshape(&scores, &[batch * tokens, keys])?;
        let weights = run.softmax(&scores, 1)?;
        let weights = run.dropped(weights, self.dropout_p)?;
        let weights = run.reshape(&weights, &[batch, tokens, keys])?;
        let y = run.tape.bilinear(product(keys, width, false), &weights, &value)?;
        Ok(Slot::Float(run.reshape(&y, &[&dims[..front], &[tokens, width]].concat())?))
    }
}

/// A mask `[heads, tokens, keys]` for scores with these axes in front, or `[1, tokens, keys]` where it is the same for all.
fn one_per_head(mask: &Tensor, axes: &[usize], [tokens, keys]: [usize; 2]) -> Result<Tensor> {
    let (front, _) = mask.dims().split_at(mask.rank() - 2);
    if front.iter().all(|&size| size == 1) {
        return Ok(mask.flatten_to(mask.rank() - 3)?.broadcast_as((1, tokens, keys))?.contiguous()?);
    }
    Ok(mask.broadcast_as([axes, &[tokens, keys]].concat())?.contiguous()?.reshape(((), tokens, keys))?)
}

impl<V: Value> Run<'_, V> {
    /// Keys or values `[…, T, d]` as `[batch, T, d]`, each of axis −3 so many times in a row.
    fn served(&mut self, x: &Var<V>, dims: &[usize], times: usize) -> Result<Var<V>> {
        let &[.., tokens, depth] = dims else { return Err(self.misfit("too few axes")) };
        let batch = dims[..dims.len() - 2].iter().product::<usize>();
        if times == 1 {
            return self.reshape(x, &[batch, tokens, depth]);
        }
        let x = self.reshape(x, &[batch, 1, tokens, depth])?;
        let x = self.broadcast(&x, &[batch, times, tokens, depth])?;
        self.reshape(&x, &[batch * times, tokens, depth])
    }

    /// A mask as what is added to scores: 0 where a truth value holds, else minus infinity; floats as they are.
    fn additive_mask(&mut self, operands: &[Slot<V>], place: usize) -> Result<Var<V>> {
        let Some(mask) = self.whole_or_none(operands, place) else { return self.var(operands, place) };
        let open = mask.ne(0u8)?;
        let zeros = Tensor::zeros(mask.dims(), self.dtype, &self.device)?;
        let closed = (zeros.clone() + f64::NEG_INFINITY)?;
        Ok(self.tape.constant(open.where_cond(&zeros, &closed)?))
    }
}
