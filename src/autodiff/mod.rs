//! Reverse mode over values that may carry tangents: gradients written once, curvature for free.
//!
//! A [`Tape`] is generic over [`Value`]. Over plain tensors it gives gradients; over [`Dual`]s the tangents of the
//! gradient are Hessian-vector products (Pearlmutter 1994), exact and without a second graph. The tape knows only the
//! three families of [`crate::kernels`], so a new layer is a forward function and nothing else.

mod dual;
mod node;
mod params;
mod pattern;
mod scope;
mod tape;

pub use dual::Dual;
pub use params::{ParamKind, ParamSpace, ParamTensor};
pub use pattern::Pattern;
pub(crate) use scope::ranges;
pub use scope::{Scope, ScopeError};
pub use tape::{Finish, Gradients, Saved, Tape, Var};

use candle_core::{Result, Tensor};

use crate::kernels::{self, AffineCotangents, AffineOperands, Bilinear, Channels, Linear, Parts, Pointwise, affine};

/// What a tape computes with: a tensor, or a tensor with directional derivatives.
pub trait Value: Clone + Send {
    /// A value that depends on nothing.
    fn constant(primal: Tensor) -> Self;
    /// The plain tensor inside; `None` for a cotangent that has tangents only.
    fn primal(&self) -> Option<&Tensor>;
    /// The same primal as a constant.
    fn without_tangents(&self) -> Self;
    /// `L x`.
    fn linear(&self, map: &Linear) -> Result<Self>;
    /// `B(a, b)`.
    fn bilinear(map: &Bilinear, a: &Self, b: &Self) -> Result<Self>;
    /// What of `B(a, b)` the cotangent of a leaf needs: of a dual its tangents, since nobody asks for the primal there.
    fn bilinear_for_leaf(map: &Bilinear, a: &Self, b: &Self) -> Result<Self> {
        Self::bilinear(map, a, b)
    }
    /// `f⁽ⁿ⁾(x)`, `n` = `order` ≤ 1.
    fn pointwise(&self, f: Pointwise, order: usize) -> Result<Self>;
    /// `x ⊙ scale + shift`, both broadcast to the shape `full` of `x`.
    fn affine(&self, full: &[usize], scale: Option<&Self>, shift: &Self) -> Result<Self>;
    /// `x ⊙ scale + shift + addend`, then `max(·, 0)` where asked, in one pass: see [`Channels`].
    fn channel_affine(
        &self,
        channels: &Channels,
        scale: Option<&Self>,
        shift: &Self,
        addend: Option<&Self>,
        relu: bool,
    ) -> Result<Self>;
    /// Its adjoint: what the cotangent `self` gives to each operand, at fixed `gate`.
    fn channel_affine_adjoint(&self, affine: &ChannelAffine<Self>) -> Result<AffineCotangents<Self>>;
    /// The per-channel means of `x − c` and `(x − c)²`, `[2, C, 1, …]`: see [`Channels::moments`].
    fn moments(&self, moments: &Moments) -> Result<Self>;
    /// `addend + (m̄₁ + 2 (x − c) m̄₂) / n`: what the cotangent `[2, C, 1, …]` gives to `x`, added to what `x` has.
    fn moments_adjoint(&self, moments: &Moments, cotangent: &Self, addend: Option<&Self>) -> Result<Self>;
    /// `a + b`, equal shapes.
    fn add(&self, other: &Self) -> Result<Self>;
}

/// How per-channel moments are taken.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Sizes.
    pub channels: Channels,
    /// A constant near the means, in the shape of a per-channel operand.
    pub centre: Tensor,
}

impl Moments {
    /// Scale and shift of the per-channel affine map that is the adjoint.
    fn adjoint_map<V: Value>(&self, cotangent: &V) -> Result<[V; 2]> {
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

/// What the adjoint of a per-channel affine map needs of the forward pass.
#[derive(Debug, Clone)]
pub struct ChannelAffine<V> {
    /// Sizes.
    pub channels: Channels,
    /// The input, where there is a scale to differentiate by.
    pub x: Option<V>,
    /// The scale.
    pub scale: Option<V>,
    /// Numbers pass where this is positive.
    pub gate: Option<Tensor>,
    /// Shape of scale and shift.
    pub small: Vec<usize>,
    /// Whether a gated copy of the cotangent is wanted.
    pub wants_addend: bool,
}

impl Value for Tensor {
    fn constant(primal: Tensor) -> Self {
        primal
    }

    fn primal(&self) -> Option<&Tensor> {
        Some(self)
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

    fn pointwise(&self, f: Pointwise, order: usize) -> Result<Self> {
        f.apply(order, self)
    }

    fn affine(&self, full: &[usize], scale: Option<&Self>, shift: &Self) -> Result<Self> {
        affine(full, &[(self, scale)], Some(shift))
    }

    fn channel_affine(
        &self,
        channels: &Channels,
        scale: Option<&Self>,
        shift: &Self,
        addend: Option<&Self>,
        relu: bool,
    ) -> Result<Self> {
        let part = |primal| Parts { primal, tangents: None };
        let (x, shift) = (part(Some(self)), part(Some(shift)));
        channels.primal(&AffineOperands { x, scale: part(scale), shift, addend: part(addend) }, relu)
    }

    fn channel_affine_adjoint(&self, affine: &ChannelAffine<Self>) -> Result<AffineCotangents<Self>> {
        let part = |primal| Parts { primal, tangents: None };
        let ChannelAffine { channels, x, scale, gate, small, wants_addend } = affine;
        let operands = (part(x.as_ref()), part(scale.as_ref()));
        channels.adjoint((self, None), operands, gate.as_ref(), (small, *wants_addend))
    }

    fn moments(&self, moments: &Moments) -> Result<Self> {
        let parts = Parts { primal: Some(self), tangents: None };
        Ok(moments.channels.moments(&parts, &moments.centre)?.0)
    }

    fn moments_adjoint(&self, moments: &Moments, cotangent: &Self, addend: Option<&Self>) -> Result<Self> {
        let [scale, shift] = moments.adjoint_map(cotangent)?;
        self.channel_affine(&moments.channels, Some(&scale), &shift, addend, false)
    }

    fn add(&self, other: &Self) -> Result<Self> {
        kernels::add(self, other)
    }
}
