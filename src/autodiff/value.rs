//! What a tape computes with.

use candle_core::{Result, Tensor};

use super::Kept;
use crate::kernels::{self, Bilinear, Linear, Parts, Pointwise};

/// What a tape computes with: a tensor, or a tensor with directional derivatives.
pub trait Value: Clone + Send + 'static {
    /// A value that depends on nothing.
    fn constant(primal: Tensor) -> Self;
    /// The plain tensor inside; `None` for a cotangent that has tangents only.
    fn primal(&self) -> Option<&Tensor>;
    /// Primal and tangents, for kernels that take both.
    fn parts(&self) -> Parts<'_>;
    /// The value that a kernel made. A plain tensor has no use for tangents and no way to be without a primal.
    ///
    /// # Errors
    /// A plain value without primal.
    fn from_parts(primal: Option<Tensor>, tangents: Option<Tensor>) -> Result<Self>;
    /// The same primal as a constant.
    fn without_tangents(&self) -> Self;
    /// `L x`.
    fn linear(&self, map: &Linear) -> Result<Self>;
    /// `B(a, b)`.
    fn bilinear(map: &Bilinear, a: &Self, b: &Self) -> Result<Self>;
    /// `B(a, b)`, with its primal from `kept` where that is worth keeping.
    fn bilinear_with(map: &Bilinear, a: &Self, b: &Self, _kept: Option<&Kept>) -> Result<Self> {
        Self::bilinear(map, a, b)
    }
    /// What of `B(a, b)` the cotangent of a leaf needs: of a dual its tangents, since nobody asks for the primal there.
    fn bilinear_for_leaf(map: &Bilinear, a: &Self, b: &Self) -> Result<Self> {
        Self::bilinear(map, a, b)
    }
    /// `f(x)`.
    ///
    /// # Errors
    /// A value without primal.
    fn pointwise(&self, f: Pointwise) -> Result<Self> {
        let parts = f.forward(&self.parts())?;
        Self::from_parts(parts.primal, parts.tangents)
    }
    /// `f′(x) ⊙ cotangent`.
    ///
    /// # Errors
    /// A value without primal.
    fn pointwise_adjoint(&self, f: Pointwise, cotangent: &Self) -> Result<Self> {
        let parts = f.adjoint(&self.parts(), &cotangent.parts())?;
        Self::from_parts(parts.primal, parts.tangents)
    }
    /// `a + b`, equal shapes.
    fn add(&self, other: &Self) -> Result<Self>;
}

impl Value for Tensor {
    fn constant(primal: Tensor) -> Self {
        primal
    }

    fn primal(&self) -> Option<&Tensor> {
        Some(self)
    }

    fn parts(&self) -> Parts<'_> {
        Parts { primal: Some(self), tangents: None }
    }

    fn from_parts(primal: Option<Tensor>, _tangents: Option<Tensor>) -> Result<Self> {
        match primal {
            Some(primal) => Ok(primal),
            None => candle_core::bail!("a plain value without primal"),
        }
    }

    fn without_tangents(&self) -> Self {
        self.clone()
    }

    fn linear(&self, map: &Linear) -> Result<Self> {
        map.apply(self)
    }

    fn bilinear(map: &Bilinear, a: &Self, b: &Self) -> Result<Self> {
        map.apply(&[(a, b)])
    }

    fn add(&self, other: &Self) -> Result<Self> {
        kernels::add(self, other)
    }
}
