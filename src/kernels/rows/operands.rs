//! What kernels on duals take and give.

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

/// A primal and its tangents as a kernel makes them.
#[derive(Debug, Clone, Default)]
pub struct OwnParts {
    /// The value itself.
    pub primal: Option<Tensor>,
    /// Its directional derivatives.
    pub tangents: Option<Tensor>,
}

/// Contiguous copies of tensors, alive while their slices are used.
pub struct Held<'a, T, const N: usize> {
    tensors: [Option<Tensor>; N],
    kind: std::marker::PhantomData<&'a T>,
}

impl<T: WithDType, const N: usize> Held<'_, T, N> {
    /// Rank and device of the first tensor.
    pub fn first(&self) -> Result<(usize, &Device)> {
        match &self.tensors[0] {
            Some(first) => Ok((first.rank(), first.device())),
            None => candle_core::bail!("a kernel without its first operand"),
        }
    }

    pub fn of(tensors: [Option<&Tensor>; N]) -> Result<Self> {
        let mut held = std::array::from_fn(|_| None);
        for (held, tensor) in held.iter_mut().zip(tensors) {
            *held = tensor.map(Tensor::contiguous).transpose()?;
        }
        Ok(Self { tensors: held, kind: std::marker::PhantomData })
    }

    /// What they hold, in their order.
    pub fn slices(&self) -> Result<Vec<Option<Slice<'_, T>>>> {
        self.tensors.iter().map(|tensor| tensor.as_ref().map(Slice::of).transpose()).collect()
    }
}

/// The operand of one direction, where it is stacked.
pub fn from<T>(data: Option<&[T]>, start: usize) -> Option<&[T]> {
    data.map(|data| &data[start..])
}
