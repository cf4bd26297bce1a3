//! The per-channel affine map with the sum and the ReLU behind it, each direction of the pass in one kernel.

use candle_core::{Result, Tensor};

use super::{affine, parts};
use crate::autodiff::{Composite, Cotangent, Pattern, Tape, Value, Var};
use crate::kernels::{AffineAdjoint, AffineCotangents, AffineOperands, Channels, Parts};

/// What follows an affine map: a sum, then a ReLU.
#[derive(Debug)]
pub struct Finish<'a, V> {
    /// Added to the map's result.
    pub addend: Option<&'a Var<V>>,
    /// Whether `max(·, 0)` comes last.
    pub relu: bool,
}

impl<V> Default for Finish<'_, V> {
    fn default() -> Self {
        Self { addend: None, relu: false }
    }
}

/// `x ⊙ scale + shift` and `finish`, with `scale` and `shift` of one shape, broadcast to that of `x`. One pass where a
/// kernel serves these shapes, else one operation after the other.
///
/// # Errors
/// A kernel that fails.
pub fn channel_affine<V: Value>(
    tape: &mut Tape<V>,
    x: &Var<V>,
    scale: Option<&Var<V>>,
    shift: &Var<V>,
    finish: Finish<'_, V>,
) -> Result<Var<V>> {
    let Finish { addend, relu } = finish;
    let operands =
        AffineOperands { x: parts(Some(x)), scale: parts(scale), shift: parts(Some(shift)), addend: parts(addend) };
    let small = shift.dims()?.to_vec();
    // A replayed choice must be known before the pass, so it takes the long way.
    let replayed = matches!(tape.pattern, Pattern::Replay { .. });
    let channels = operands.x.primal.and_then(|x| Channels::of(x.dims(), &small, x.device()));
    let Some(channels) = channels.filter(|_| !replayed) else {
        let mut y = affine(tape, x, scale, shift)?;
        if let Some(addend) = addend {
            y = tape.add(&y, addend)?;
        }
        return if relu { tape.relu(&y) } else { Ok(y) };
    };
    let primal = channels.primal(&operands, relu)?;
    let tangents = channels.tangents(&operands, relu.then_some(&primal))?;
    // A ReLU's output is positive where its input is.
    let gate = if relu { Some(tape.pattern.choose(primal.clone())?) } else { None };
    let recorded = |var: Option<&Var<V>>| var.is_some_and(Var::is_recorded);
    let operation = ChannelAffine {
        channels,
        x: recorded(scale).then(|| tape.keep(x.value())),
        scale: scale.map(|scale| tape.keep(scale.value())),
        gate,
        small,
        wants_addend: recorded(addend),
    };
    let value = V::from_parts(Some(primal), tangents)?;
    Ok(tape.composite(value, [Some(x), scale, Some(shift), addend], Box::new(operation)))
}

struct ChannelAffine<V> {
    channels: Channels,
    /// The input, where there is a scale to differentiate by.
    x: Option<V>,
    scale: Option<V>,
    /// Numbers pass where this is positive.
    gate: Option<Tensor>,
    /// Shape of scale and shift.
    small: Vec<usize>,
    /// Whether a gated copy of the cotangent is wanted.
    wants_addend: bool,
}

impl<V: Value> Composite<V> for ChannelAffine<V> {
    fn adjoint(self: Box<Self>, cotangent: V, operands: &mut [Cotangent<V>]) -> Result<()> {
        let [of_x, of_scale, of_shift, of_addend] = operands else { return Ok(()) };
        let given = self.cotangents(&cotangent)?;
        of_x.add(|| given.x)?;
        of_scale.add(|| given.scale)?;
        of_shift.add(|| given.shift)?;
        of_addend.add(|| given.addend.unwrap_or(Ok(cotangent)))
    }
}

impl<V: Value> ChannelAffine<V> {
    /// What the cotangent gives to each operand, at fixed `gate`.
    fn cotangents(&self, cotangent: &V) -> Result<AffineCotangents<Result<V>>> {
        let Self { channels, gate, small, wants_addend, .. } = self;
        let [x, scale] = [&self.x, &self.scale].map(|value| value.as_ref().map(V::parts).unwrap_or_default());
        let map = AffineAdjoint { x, scale, gate: gate.as_ref(), small, wants_addend: *wants_addend };
        let Parts { primal, tangents } = cotangent.parts();
        let mut tangents = tangents.cloned();
        if let (None, Some(primal), Some(moving)) = (&tangents, primal, x.tangents.or(scale.tangents)) {
            // A constant cotangent of moving operands still moves: ȳ ṡ.
            let shape: Vec<usize> = moving.dims()[..1].iter().chain(primal.dims()).copied().collect();
            tangents = Some(Tensor::zeros(shape, primal.dtype(), primal.device())?);
        }
        let of_tangents = tangents.as_ref().map(|tangents| channels.adjoint(&map, tangents, primal)).transpose()?;
        let of_primal = primal.map(|primal| channels.adjoint(&map, primal, None)).transpose()?;
        let pick = |pick: fn(&AffineCotangents<Tensor>) -> Option<&Tensor>| {
            V::from_parts(of_primal.as_ref().and_then(pick).cloned(), of_tangents.as_ref().and_then(pick).cloned())
        };
        Ok(AffineCotangents {
            x: pick(|part| Some(&part.x)),
            scale: pick(|part| Some(&part.scale)),
            shift: pick(|part| Some(&part.shift)),
            addend: (*wants_addend && gate.is_some()).then(|| pick(|part| part.addend.as_ref())),
        })
    }
}
