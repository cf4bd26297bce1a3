//! A tensor with `K` directional derivatives stacked in front.

use candle_core::{Result, Tensor};

use super::{Kept, Value};
use crate::kernels::{self, Bilinear, Linear, Parts};

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

    fn parts(&self) -> Parts<'_> {
        Parts { primal: self.primal.as_ref(), tangents: self.tangents.as_ref() }
    }

    fn from_parts(primal: Option<Tensor>, tangents: Option<Tensor>) -> Result<Self> {
        Ok(Self { primal, tangents })
    }

    fn without_tangents(&self) -> Self {
        Self { primal: self.primal.clone(), tangents: None }
    }

    fn linear(&self, map: &Linear) -> Result<Self> {
        let apply = |part: &Option<Tensor>| part.as_ref().map(|part| map.apply(part)).transpose();
        Ok(Self { primal: apply(&self.primal)?, tangents: apply(&self.tangents)? })
    }

    fn bilinear(map: &Bilinear, a: &Self, b: &Self) -> Result<Self> {
        Self::bilinear_with(map, a, b, None)
    }

    fn bilinear_with(map: &Bilinear, a: &Self, b: &Self, kept: Option<&Kept>) -> Result<Self> {
        let compute = |(a, b)| match kept {
            Some(kept) if map.is_contraction() => kept.next(|| map.apply(&[(a, b)])),
            _ => map.apply(&[(a, b)]),
        };
        let primal = both((&a.primal, &b.primal)).map(compute).transpose()?;
        Ok(Self { primal, ..Self::bilinear_for_leaf(map, a, b)? })
    }

    fn bilinear_for_leaf(map: &Bilinear, a: &Self, b: &Self) -> Result<Self> {
        // Product rule: ȧ b + a ḃ, both terms in one pass over the output.
        let terms: Vec<(&Tensor, &Tensor)> =
            [(&a.tangents, &b.primal), (&a.primal, &b.tangents)].into_iter().filter_map(both).collect();
        let tangents = if terms.is_empty() { None } else { Some(map.apply(&terms)?) };
        Ok(Self { primal: None, tangents })
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
