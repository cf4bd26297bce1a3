//! `x ⊙ scale + shift` in one pass over the result.

use candle_core::{Result, Tensor};

use crate::autodiff::{Composite, Cotangent, Tape, Value, Var};
use crate::kernels::{self, Bilinear, Linear, Parts};

/// `x ⊙ scale + shift`, with `scale` and `shift` of one shape, broadcast to that of `x` along axes of size 1.
///
/// # Errors
/// A kernel that fails.
pub fn affine<V: Value>(tape: &mut Tape<V>, x: &Var<V>, scale: Option<&Var<V>>, shift: &Var<V>) -> Result<Var<V>> {
    let (full, small) = (x.dims()?.to_vec(), shift.dims()?.to_vec());
    let value = value::<V>(&full, x.value().parts(), scale.map(|scale| scale.value().parts()), shift.value().parts())?;
    let operation = Affine {
        // Of a sum, nothing is needed on the way back.
        x: scale.map(|_| tape.keep(x.value())),
        scale: scale.map(|scale| tape.keep(scale.value())),
        full,
        small,
    };
    Ok(tape.composite(value, [Some(x), scale, Some(shift)], Box::new(operation)))
}

/// The terms of primal and tangents, each in one pass: `ẋ s + x ṡ + ḃ`.
fn value<V: Value>(full: &[usize], x: Parts<'_>, scale: Option<Parts<'_>>, shift: Parts<'_>) -> Result<V> {
    let primal = match (x.primal, scale) {
        (Some(x), None) => Some(kernels::affine(full, &[(x, None)], shift.primal)?),
        (Some(x), Some(Parts { primal: Some(scale), .. })) => {
            Some(kernels::affine(full, &[(x, Some(scale))], shift.primal)?)
        }
        _ => None,
    };
    let mut terms: Vec<(&Tensor, Option<&Tensor>)> = Vec::new();
    match scale {
        None => terms.extend(x.tangents.map(|x| (x, None))),
        Some(scale) => {
            let pairs = [x.tangents.zip(scale.primal), x.primal.zip(scale.tangents)];
            terms.extend(pairs.into_iter().flatten().map(|(x, scale)| (x, Some(scale))));
        }
    }
    let still = terms.is_empty() && shift.tangents.is_none();
    let tangents = if still { None } else { Some(kernels::affine(full, &terms, shift.tangents)?) };
    V::from_parts(primal, tangents)
}

struct Affine<V> {
    full: Vec<usize>,
    small: Vec<usize>,
    x: Option<V>,
    scale: Option<V>,
}

impl<V: Value> Composite<V> for Affine<V> {
    fn adjoint(self: Box<Self>, cotangent: V, operands: &mut [Cotangent<V>]) -> Result<()> {
        let Self { full, small, x, scale } = *self;
        let [of_x, of_scale, of_shift] = operands else { return Ok(()) };
        match (x, scale) {
            (Some(x), Some(scale)) => {
                let product = Bilinear::Product { full: full.clone(), small: small.clone() };
                of_x.add(|| product.adjoint_a().apply(V::bilinear, &cotangent, &scale))?;
                of_scale.add(|| product.adjoint_b().apply(V::bilinear, &cotangent, &x))?;
            }
            _ => of_x.add(|| Ok(cotangent.clone()))?,
        }
        of_shift.add(|| cotangent.linear(&Linear::SumTo { from: full, to: small }))
    }
}
