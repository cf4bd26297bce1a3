//! Attention in one kernel.

use candle_core::Result;

use super::own;
use crate::autodiff::{Composite, Cotangent, Tape, Value, Var};
use crate::kernels::{Attention, Qkv};

/// Attention of queries, keys and values in the shapes of [`Attention`], on a CPU.
///
/// # Errors
/// A kernel that fails.
pub fn attention<V: Value>(tape: &mut Tape<V>, attention: Attention, operands: &Qkv<Var<V>>) -> Result<Var<V>> {
    let Qkv { query, key, value } = operands;
    let [q, k, v] = [query, key, value].map(|var| var.value().parts());
    let result = own(attention.forward(&Qkv { query: q, key: k, value: v })?)?;
    let [q, k, v] = [query, key, value].map(|var| tape.keep(var.value()));
    let operation = Operation { attention, operands: Qkv { query: q, key: k, value: v } };
    Ok(tape.composite(result, [Some(query), Some(key), Some(value)], Box::new(operation)))
}

struct Operation<V> {
    attention: Attention,
    operands: Qkv<V>,
}

impl<V: Value> Composite<V> for Operation<V> {
    fn adjoint(self: Box<Self>, cotangent: V, operands: &mut [Cotangent<V>]) -> Result<()> {
        let [of_query, of_key, of_value] = operands else { return Ok(()) };
        let Qkv { query, key, value } = &self.operands;
        let parts = Qkv { query: query.parts(), key: key.parts(), value: value.parts() };
        let given = self.attention.adjoint(&parts, &cotangent.parts())?;
        of_query.add(|| own(given.query))?;
        of_key.add(|| own(given.key))?;
        of_value.add(|| own(given.value))
    }
}
