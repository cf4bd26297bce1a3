//! What the map takes and gives.

use candle_core::{Device, Result, Tensor, WithDType};

use crate::kernels::access::Slice;

/// A primal and its tangents `[K, …]`, either of which may be absent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'a> {
    /// The value itself.
    pub primal: Option<&'a Tensor>,
    /// Its directional derivatives.
    pub tangents: Option<&'a Tensor>,
}

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

/// Contiguous copies of tensors, alive while their slices are used.
pub(super) struct Held<'a, T> {
    tensors: [Option<Tensor>; 7],
    kind: std::marker::PhantomData<&'a T>,
}

impl<T: WithDType> Held<'_, T> {
    /// Rank and device of the first tensor.
    pub(super) fn first(&self) -> Result<(usize, &Device)> {
        match &self.tensors[0] {
            Some(first) => Ok((first.rank(), first.device())),
            None => candle_core::bail!("a kernel without its first operand"),
        }
    }

    pub(super) fn of(tensors: [Option<&Tensor>; 7]) -> Result<Self> {
        let mut held = std::array::from_fn(|_| None);
        for (held, tensor) in held.iter_mut().zip(tensors) {
            *held = tensor.map(Tensor::contiguous).transpose()?;
        }
        Ok(Self { tensors: held, kind: std::marker::PhantomData })
    }

    pub(super) fn slices(&self) -> Result<Vec<Option<Slice<'_, T>>>> {
        self.tensors.iter().map(|tensor| tensor.as_ref().map(Slice::of).transpose()).collect()
    }
}
