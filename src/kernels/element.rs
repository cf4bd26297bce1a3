//! The number types that CPU kernels work on.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use candle_core::WithDType;

use super::pointwise::{self, Pointwise};
use super::simd::{Isa, Kind, Portable, SimdTask};

/// A floating-point type with SIMD kernels: `f32` or `f64`.
pub trait Element: WithDType + Copy + Send + Sync + 'static {
    /// The additive identity.
    const ZERO: Self;

    /// Runs `task` with the vectors of `isa`.
    fn dispatch<K: SimdTask<Self>>(isa: Isa, task: K) -> K::Output;

    /// Calls `f` with the calling thread's spare buffers.
    fn with_spares<R>(f: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R;

    /// `f⁽ⁿ⁾` of each number, `n` = `order` ≤ 2, within a few units of the last place.
    fn pointwise(f: Pointwise, order: usize, x: &[Self], out: &mut [Self]);

    /// `eˣ`, in a form that loops of vector code take.
    fn exp(self) -> Self;
}

/// Spare buffers of each element type; a thread has its own.
macro_rules! spares {
    ($T:ty) => {
        fn with_spares<R>(f: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R {
            thread_local!(static SPARES: RefCell<Vec<Vec<$T>>> = const { RefCell::new(Vec::new()) });
            SPARES.with_borrow_mut(f)
        }
    };
}

impl Element for f32 {
    const ZERO: Self = 0.0;

    spares!(f32);

    fn pointwise(f: Pointwise, order: usize, x: &[Self], out: &mut [Self]) {
        pointwise::in_single(f, order, x, out);
    }

    #[inline(always)]
    fn exp(self) -> Self {
        pointwise::single::exp(self)
    }

    fn dispatch<K: SimdTask<Self>>(isa: Isa, task: K) -> K::Output {
        match isa.kind() {
            // SAFETY: such an `Isa` exists only where the processor has these features.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { super::simd::x86::avx512_f32(task) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { super::simd::x86::avx2_f32(task) },
            Kind::Portable => task.run::<Portable<f32, 4>>(),
        }
    }
}

impl Element for f64 {
    const ZERO: Self = 0.0;

    spares!(f64);

    fn pointwise(f: Pointwise, order: usize, x: &[Self], out: &mut [Self]) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = f.value(order, x));
    }

    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }

    fn dispatch<K: SimdTask<Self>>(isa: Isa, task: K) -> K::Output {
        match isa.kind() {
            // SAFETY: such an `Isa` exists only where the processor has these features.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { super::simd::x86::avx512_f64(task) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { super::simd::x86::avx2_f64(task) },
            Kind::Portable => task.run::<Portable<f64, 2>>(),
        }
    }
}

/// A vector of `len` numbers that `fill` writes, without zeros first: those would cost as much as a pass over it.
///
/// # Safety
/// `fill` writes every element.
pub(super) unsafe fn filled<T: Copy>(len: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut vector = Vec::with_capacity(len);
    fill(&mut vector.spare_capacity_mut()[..len]);
    // SAFETY: `fill` has written all of it, as its caller promises.
    unsafe { vector.set_len(len) };
    vector
}
