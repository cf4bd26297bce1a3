//! Normalisation along the last axis in one kernel.

use candle_core::Result;

use super::{own, parts};
use crate::autodiff::{Composite, Cotangent, Tape, Value, Var};
use crate::kernels::{Norm, Parts};

/// The normalisation along the last axis with scale and shift `[len]`, on a CPU.
///
/// # Errors
/// A kernel that fails.
pub fn norm<V: Value>(
    tape: &mut Tape<V>,
    norm: Norm,
    x: &Var<V>,
    weight: Option<&Var<V>>,
    bias: Option<&Var<V>>,
) -> Result<Var<V>> {
    let value = own(norm.forward(&parts(Some(x)), &parts(weight), &parts(bias))?)?;
    let operation = Operation { norm, x: tape.keep(x.value()), weight: weight.map(|weight| tape.keep(weight.value())) };
    Ok(tape.composite(value, [Some(x), weight, bias], Box::new(operation)))
}

struct Operation<V> {
    norm: Norm,
    x: V,
    weight: Option<V>,
}

impl<V: Value> Composite<V> for Operation<V> {
    fn adjoint(self: Box<Self>, cotangent: V, operands: &mut [Cotangent<V>]) -> Result<()> {
        let [of_x, of_weight, of_bias] = operands else { return Ok(()) };
        let weight = self.weight.as_ref().map_or_else(Parts::default, V::parts);
        let given = self.norm.adjoint(&self.x.parts(), &weight, &cotangent.parts())?;
        of_x.add(|| own(given.x))?;
        of_weight.add(|| own(given.weight))?;
        of_bias.add(|| own(given.bias))
    }
}
