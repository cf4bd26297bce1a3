//! Values side by side along an axis, copied once.

use candle_core::{Result, Tensor};

use crate::autodiff::{Composite, Cotangent, Tape, Value, Var};
use crate::kernels::{Linear, Parts};

/// The values joined along `axis`; all other sizes are equal.
///
/// # Errors
/// No value, or sizes that differ.
pub fn cat<V: Value>(tape: &mut Tape<V>, values: &[Var<V>], axis: usize) -> Result<Var<V>> {
    let parts: Vec<Parts<'_>> = values.iter().map(|var| var.value().parts()).collect();
    let primals: Option<Vec<&Tensor>> = parts.iter().map(|part| part.primal).collect();
    let Some(primals) = primals.filter(|primals| !primals.is_empty()) else { candle_core::bail!("nothing to join") };
    let directions = parts.iter().find_map(|part| part.tangents).map(|tangents| tangents.dims()[0]);
    let tangents = match directions {
        None => None,
        Some(directions) => {
            let still = |primal: &Tensor| {
                let shape: Vec<usize> = [directions].iter().chain(primal.dims()).copied().collect();
                Tensor::zeros(shape, primal.dtype(), primal.device())
            };
            let all = parts
                .iter()
                .zip(&primals)
                .map(|(part, primal)| part.tangents.cloned().map_or_else(|| still(primal), Ok));
            Some(Tensor::cat(&all.collect::<Result<Vec<_>>>()?, axis + 1)?)
        }
    };
    let value = V::from_parts(Some(Tensor::cat(&primals, axis)?), tangents)?;
    let operation =
        Cat { axis, sizes: primals.iter().map(|primal| primal.dims()[axis]).collect(), rank: primals[0].rank() };
    Ok(tape.composite(value, values.iter().map(Some), Box::new(operation)))
}

struct Cat {
    axis: usize,
    sizes: Vec<usize>,
    rank: usize,
}

impl<V: Value> Composite<V> for Cat {
    fn adjoint(self: Box<Self>, cotangent: V, operands: &mut [Cotangent<V>]) -> Result<()> {
        let Self { axis, sizes, rank } = *self;
        let (mut start, size) = (0, sizes.iter().sum());
        for (operand, len) in operands.iter_mut().zip(sizes) {
            operand.add(|| cotangent.linear(&Linear::Narrow { axis, start, len, size, rank }))?;
            start += len;
        }
        Ok(())
    }
}
