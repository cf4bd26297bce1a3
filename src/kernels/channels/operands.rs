//! What the map takes and gives.

use candle_core::Tensor;

use crate::kernels::rows::Parts;

/// The four operands of the map; `scale` and `addend` may be absent altogether.
#[derive(Debug, Clone, Copy, Default)]
pub struct AffineOperands<'a> {
    /// `x`
    pub x: Parts<'a>,
    /// `s`
    pub scale: Parts<'a>,
    /// `b`
    pub shift: Parts<'a>,
    /// `r`
    pub addend: Parts<'a>,
}

/// What the adjoint of the map reads of it.
#[derive(Debug, Clone, Copy)]
pub struct AffineAdjoint<'a> {
    /// `x`
    pub x: Parts<'a>,
    /// `s`
    pub scale: Parts<'a>,
    /// Cotangents pass where it is positive (or NaN); without it, everywhere.
    pub gate: Option<&'a Tensor>,
    /// Shape of `s` and `b`.
    pub small: &'a [usize],
    /// Whether the addend's cotangent is asked for.
    pub wants_addend: bool,
}

/// What a cotangent of the map gives to its operands.
#[derive(Debug)]
pub struct AffineCotangents<V> {
    /// Of `x`, `[K?, N, C, L]`.
    pub x: V,
    /// Of `s`, `[K?, C]`, in the shape of the small operands.
    pub scale: V,
    /// Of `b`, alike.
    pub shift: V,
    /// Of `r`: the gated cotangent, where it was asked for and there is a gate.
    pub addend: Option<V>,
}
