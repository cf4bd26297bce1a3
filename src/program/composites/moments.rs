//! Per-channel moments: what normalisation with the batch's own statistics needs.

use candle_core::{Result, Tensor};

use crate::autodiff::{Composite, Cotangent, Tape, Value, Var};
use crate::kernels::{AffineOperands, Bilinear, Channels, Linear, Parts};

/// The first two moments of each channel.
pub struct Moments<V> {
    /// The means of `x − c` and `(x − c)²`, as one variable of shape `[2, C, 1, …]`.
    pub means: Var<V>,
    /// The constant `c`, which lies near the mean of `x`.
    pub centre: Tensor,
}

/// The moments of `x`; `None` where no kernel serves these shapes.
///
/// # Errors
/// For a value without primal, which no forward computation makes.
pub fn moments<V: Value>(tape: &mut Tape<V>, x: &Var<V>, small: &[usize]) -> Result<Option<Moments<V>>> {
    let Some(primal) = x.value().primal() else { candle_core::bail!("moments of a value without primal") };
    let Some(channels) = Channels::of(primal.dims(), small, primal.device()) else { return Ok(None) };
    let centre = channels.centre(primal, small)?;
    let (primal, tangents) = channels.moments(&x.value().parts(), &centre)?;
    let value = V::from_parts(Some(primal), tangents)?;
    let operation = Operation { channels, centre: centre.clone(), x: tape.keep(x.value()) };
    Ok(Some(Moments { means: tape.composite(value, [Some(x)], Box::new(operation)), centre }))
}

struct Operation<V> {
    channels: Channels,
    /// A constant near the means, in the shape of a per-channel operand.
    centre: Tensor,
    x: V,
}

impl<V: Value> Composite<V> for Operation<V> {
    /// `addend + (m̄₁ + 2 (x − c) m̄₂) / n`: what the cotangent `[2, C, 1, …]` gives to `x`, added to what `x` has.
    fn adjoint(self: Box<Self>, cotangent: V, operands: &mut [Cotangent<V>]) -> Result<()> {
        let [of_x] = operands else { return Ok(()) };
        let [scale, shift] = self.adjoint_map(&cotangent)?;
        of_x.replace(|sum| {
            let addend = sum.as_ref().map_or_else(Parts::default, V::parts);
            let operands = AffineOperands { x: self.x.parts(), scale: scale.parts(), shift: shift.parts(), addend };
            let primal = match cotangent.primal() {
                Some(_) => Some(self.channels.primal(&operands, false)?),
                None => operands.addend.primal.cloned(),
            };
            V::from_parts(primal, self.channels.tangents(&operands, None)?)
        })
    }
}

impl<V: Value> Operation<V> {
    /// Scale and shift of the per-channel affine map that is the adjoint.
    fn adjoint_map(&self, cotangent: &V) -> Result<[V; 2]> {
        let (small, rank) = (self.centre.dims().to_vec(), self.centre.rank());
        let part = |start| Linear::Narrow { axis: 0, start, len: 1, size: 2, rank };
        let scaled = |value: V, factor| value.linear(&Linear::Scale { factor });
        let mean = 1.0 / self.channels.count() as f64;
        let first = scaled(cotangent.linear(&part(0))?, mean)?;
        let scale = scaled(cotangent.linear(&part(1))?, 2.0 * mean)?;
        let product = Bilinear::Product { full: small.clone(), small };
        let offset = V::bilinear(&product, &scale, &V::constant(self.centre.clone()))?;
        let shift = first.add(&scaled(offset, -1.0)?)?;
        Ok([scale, shift])
    }
}
