//! The number types that CPU kernels work on.

use candle_core::WithDType;

use super::simd::{Isa, Portable, SimdTask};

/// A floating-point type with SIMD kernels: `f32` or `f64`.
pub trait Element: WithDType + Copy + Send + Sync + 'static {
    /// The additive identity.
    const ZERO: Self;

    /// Runs `task` with the vectors of `isa`.
    fn dispatch<K: SimdTask<Self>>(isa: Isa, task: K) -> K::Output;
}

impl Element for f32 {
    const ZERO: Self = 0.0;

    fn dispatch<K: SimdTask<Self>>(isa: Isa, task: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if isa.is_avx2() {
            // SAFETY: such an `Isa` exists only where the processor has AVX2 and FMA.
            return unsafe { super::simd::avx2::run_f32(task) };
        }
        let _ = isa;
        task.run::<Portable<f32, 4>>()
    }
}

impl Element for f64 {
    const ZERO: Self = 0.0;

    fn dispatch<K: SimdTask<Self>>(isa: Isa, task: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if isa.is_avx2() {
            // SAFETY: such an `Isa` exists only where the processor has AVX2 and FMA.
            return unsafe { super::simd::avx2::run_f64(task) };
        }
        let _ = isa;
        task.run::<Portable<f64, 2>>()
    }
}
