//! A tensor with `K` directional derivatives stacked in front.

use candle_core::{Result, Tensor};

use super::{ChannelAffine, Moments, Value};
use crate::kernels::{self, AffineCotangents, AffineOperands, Bilinear, Channels, Linear, Parts, Pointwise, affine};

/// A primal of some shape and its tangents `[K, …shape]`. Either may be absent, a symbolic zero: images have no
/// tangents, the cotangents of a Gauss-Newton product have no primal. Work with an absent part is skipped.
#[derive(Debug, Clone)]
pub struct Dual {
    primal: Option<Tensor>,
    tangents: Option<Tensor>,
}

impl Dual {
    /// A value with directional derivatives `tangents` `[K, …shape]`.
    pub fn new(primal: Option<Tensor>, tangents: Option<Tensor>) -> Self {
        Self { primal, tangents }
    }

    /// The directional derivatives, where there are any.
    pub fn tangents(&self) -> Option<&Tensor> {
        self.tangents.as_ref()
    }

    fn parts(&self) -> Parts<'_> {
        Parts { primal: self.primal.as_ref(), tangents: self.tangents.as_ref() }
    }
}

fn parts(value: Option<&Dual>) -> Parts<'_> {
    value.map(Dual::parts).unwrap_or_default()
}

/// `a + b` where both exist, else the one that does.
fn add(a: Option<&Tensor>, b: Option<&Tensor>) -> Result<Option<Tensor>> {
    match (a, b) {
        (Some(a), Some(b)) => Ok(Some(kernels::add(a, b)?)),
        (one, other) => Ok(one.or(other).cloned()),
    }
}

impl Value for Dual {
    fn constant(primal: Tensor) -> Self {
        Self { primal: Some(primal), tangents: None }
    }

    fn primal(&self) -> Option<&Tensor> {
        self.primal.as_ref()
    }

    fn without_tangents(&self) -> Self {
        Self { primal: self.primal.clone(), tangents: None }
    }

    fn linear(&self, map: &Linear) -> Result<Self> {
        let apply = |part: &Option<Tensor>| part.as_ref().map(|part| map.apply(part)).transpose();
        Ok(Self { primal: apply(&self.primal)?, tangents: apply(&self.tangents)? })
    }

    fn bilinear(map: &Bilinear, a: &Self, b: &Self) -> Result<Self> {
        let primal = match (&a.primal, &b.primal) {
            (Some(a), Some(b)) => Some(map.apply(&[(a, b)])?),
            _ => None,
        };
        Ok(Self { primal, ..Self::bilinear_for_leaf(map, a, b)? })
    }

    fn bilinear_for_leaf(map: &Bilinear, a: &Self, b: &Self) -> Result<Self> {
        // Product rule: ȧ b + a ḃ, both terms in one pass over the output.
        let terms: Vec<(&Tensor, &Tensor)> =
            [(&a.tangents, &b.primal), (&a.primal, &b.tangents)].into_iter().filter_map(both).collect();
        let tangents = if terms.is_empty() { None } else { Some(map.apply(&terms)?) };
        Ok(Self { primal: None, tangents })
    }

    fn pointwise(&self, f: Pointwise, order: usize) -> Result<Self> {
        let Some(x) = &self.primal else { candle_core::bail!("a pointwise function of a value without primal") };
        let tangents = match &self.tangents {
            None => None,
            Some(tangents) => {
                let slope = f.apply(order + 1, x)?;
                let product = Bilinear::Product { full: x.dims().to_vec(), small: x.dims().to_vec() };
                Some(product.apply(&[(tangents, &slope)])?)
            }
        };
        Ok(Self { primal: Some(f.apply(order, x)?), tangents })
    }

    fn affine(&self, full: &[usize], scale: Option<&Self>, shift: &Self) -> Result<Self> {
        let primal = match (&self.primal, scale.map(|scale| &scale.primal)) {
            (Some(x), None) => Some(affine(full, &[(x, None)], shift.primal.as_ref())?),
            (Some(x), Some(Some(scale))) => Some(affine(full, &[(x, Some(scale))], shift.primal.as_ref())?),
            _ => None,
        };
        let mut terms: Vec<(&Tensor, Option<&Tensor>)> = Vec::new();
        match scale {
            None => terms.extend(self.tangents.as_ref().map(|x| (x, None))),
            Some(scale) => {
                let pairs = [(&self.tangents, &scale.primal), (&self.primal, &scale.tangents)];
                terms.extend(pairs.into_iter().filter_map(both).map(|(x, s)| (x, Some(s))));
            }
        }
        let shift = shift.tangents.as_ref();
        let tangents = if terms.is_empty() && shift.is_none() { None } else { Some(affine(full, &terms, shift)?) };
        Ok(Self { primal, tangents })
    }

    fn channel_affine(
        &self,
        channels: &Channels,
        scale: Option<&Self>,
        shift: &Self,
        addend: Option<&Self>,
        relu: bool,
    ) -> Result<Self> {
        let operands =
            AffineOperands { x: self.parts(), scale: parts(scale), shift: shift.parts(), addend: parts(addend) };
        let primal = channels.primal(&operands, relu)?;
        let tangents = channels.tangents(&operands, relu.then_some(&primal))?;
        Ok(Self { primal: Some(primal), tangents })
    }

    fn channel_affine_adjoint(&self, affine: &ChannelAffine<Self>) -> Result<AffineCotangents<Self>> {
        let ChannelAffine { channels, x, scale, gate, small, wants_addend } = affine;
        let (x, scale) = (parts(x.as_ref()), parts(scale.as_ref()));
        let adjoint = |main, other| channels.adjoint((main, other), (x, scale), gate.as_ref(), (small, *wants_addend));
        let mut tangents = self.tangents.clone();
        if let (None, Some(primal), Some(moving)) = (&tangents, &self.primal, x.tangents.or(scale.tangents)) {
            // A constant cotangent of moving operands still moves: ȳ ṡ.
            let shape: Vec<usize> = moving.dims()[..1].iter().chain(primal.dims()).copied().collect();
            tangents = Some(Tensor::zeros(shape, primal.dtype(), primal.device())?);
        }
        let primal = self.primal.as_ref().map(|primal| adjoint(primal, None)).transpose()?;
        let tangents = tangents.as_ref().map(|tangents| adjoint(tangents, self.primal.as_ref())).transpose()?;
        let pick = |pick: fn(&AffineCotangents<Tensor>) -> Option<&Tensor>| {
            Self::new(primal.as_ref().and_then(pick).cloned(), tangents.as_ref().and_then(pick).cloned())
        };
        Ok(AffineCotangents {
            x: pick(|part| Some(&part.x)),
            scale: pick(|part| Some(&part.scale)),
            shift: pick(|part| Some(&part.shift)),
            addend: (*wants_addend && gate.is_some()).then(|| pick(|part| part.addend.as_ref())),
        })
    }

    fn moments(&self, moments: &Moments) -> Result<Self> {
        let (primal, tangents) = moments.channels.moments(&self.parts(), &moments.centre)?;
        Ok(Self { primal: Some(primal), tangents })
    }

    fn moments_adjoint(&self, moments: &Moments, cotangent: &Self, addend: Option<&Self>) -> Result<Self> {
        let [scale, shift] = moments.adjoint_map(cotangent)?;
        let operands =
            AffineOperands { x: self.parts(), scale: scale.parts(), shift: shift.parts(), addend: parts(addend) };
        let primal = match cotangent.primal {
            Some(_) => Some(moments.channels.primal(&operands, false)?),
            None => operands.addend.primal.cloned(),
        };
        Ok(Self { primal, tangents: moments.channels.tangents(&operands, None)? })
    }

    fn add(&self, other: &Self) -> Result<Self> {
        Ok(Self {
            primal: add(self.primal.as_ref(), other.primal.as_ref())?,
            tangents: add(self.tangents.as_ref(), other.tangents.as_ref())?,
        })
    }
}

fn both<'a>((a, b): (&'a Option<Tensor>, &'a Option<Tensor>)) -> Option<(&'a Tensor, &'a Tensor)> {
    Some((a.as_ref()?, b.as_ref()?))
}
