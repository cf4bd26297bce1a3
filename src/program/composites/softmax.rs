//! Softmax along the last axis in one kernel.

use candle_core::Result;

use super::own;
use crate::autodiff::{Composite, Cotangent, Tape, Value, Var};
use crate::kernels::Softmax;

/// The softmax along the last axis, on a CPU.
///
/// # Errors
/// A kernel that fails.
pub fn softmax<V: Value>(tape: &mut Tape<V>, softmax: Softmax, x: &Var<V>) -> Result<Var<V>> {
    let value: V = own(softmax.forward(&x.value().parts())?)?;
    let operation = Operation { softmax, y: tape.keep(&value) };
    Ok(tape.composite(value, [Some(x)], Box::new(operation)))
}

struct Operation<V> {
    softmax: Softmax,
    /// The result.
    y: V,
}

impl<V: Value> Composite<V> for Operation<V> {
    fn adjoint(self: Box<Self>, cotangent: V, operands: &mut [Cotangent<V>]) -> Result<()> {
        let [of_x] = operands else { return Ok(()) };
        of_x.add(|| own(self.softmax.adjoint(&self.y.parts(), &cotangent.parts())?))
    }
}
