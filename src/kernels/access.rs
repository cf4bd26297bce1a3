//! Reading a CPU tensor as a slice.

use std::marker::PhantomData;
use std::ops::{Deref, Range};

use candle_core::{Result, Storage, StorageRef, Tensor, WithDType};

/// The elements of a contiguous CPU tensor, borrowed from it.
pub(crate) struct Slice<'a, T> {
    storage: StorageRef<'a>,
    range: Range<usize>,
    kind: PhantomData<T>,
}

impl<'a, T: WithDType> Slice<'a, T> {
    /// Fails where the tensor is not contiguous, lives on another device or has another dtype.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("a CPU kernel met a tensor of shape {:?} that is not contiguous", tensor.dims())
        };
        match &*storage {
            Storage::Cpu(cpu) => T::cpu_storage_as_slice(cpu).map(drop)?,
            _ => candle_core::bail!("a CPU kernel met a tensor of another device"),
        }
        Ok(Self { storage, range: start..end, kind: PhantomData })
    }
}

impl<T: WithDType> Deref for Slice<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(cpu) => T::cpu_storage_as_slice(cpu).map_or(&[], |all| &all[self.range.clone()]),
            _ => &[], // `of` admits CPU storage only
        }
    }
}

/// Runs `$body` with `$T` as the Rust type of `$dtype`; f32 and f64 only.
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => Err(candle_core::Error::UnsupportedDTypeForOp(other, "flatness").bt()),
        }
    };
}
pub(crate) use with_float;
