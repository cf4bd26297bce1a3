//! SIMD vectors behind one trait, with the instruction set chosen at run time.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Simd`]; [`SimdTask::run`] is its entry. The task is
//! inlined into a function that has the target features switched on, so a binary built without flags runs it at full
//! speed.

/// A vector of `LANES` scalars and the operations the kernels need.
pub trait Simd: Copy + 'static {
    /// The type of one lane.
    type Scalar: Copy;
    /// The vector register.
    type Vector: Copy;
    /// Scalars in a vector.
    const LANES: usize;

    /// `value` in every lane.
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn splat(value: Self::Scalar) -> Self::Vector;

    /// Reads `LANES` scalars, aligned or not.
    ///
    /// # Safety
    /// The processor has this instruction set and `source` is valid for `LANES` reads.
    unsafe fn load(source: *const Self::Scalar) -> Self::Vector;

    /// Writes `LANES` scalars, aligned or not.
    ///
    /// # Safety
    /// The processor has this instruction set and `target` is valid for `LANES` writes.
    unsafe fn store(target: *mut Self::Scalar, vector: Self::Vector);

    /// `a b + c`, fused where the instruction set can.
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// The sum of the lanes of each vector, added pairwise; four vectors share their shuffles.
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn reduce4(vectors: [Self::Vector; 4]) -> [Self::Scalar; 4];
}

/// A piece of work that runs with any vector type; `run` must be `#[inline(always)]`.
pub trait SimdTask<T> {
    /// What the work returns.
    type Output;

    /// Does the work with the vectors of `S`.
    fn run<S: Simd<Scalar = T>>(self) -> Self::Output;
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The widest instruction set found at run time.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self(Kind::Avx2);
        }
        Self(Kind::Portable)
    }

    /// What every processor of the target architecture has.
    pub fn portable() -> Self {
        Self(Kind::Portable)
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_avx2(self) -> bool {
        self.0 == Kind::Avx2
    }
}

/// Vectors as plain arrays, which the compiler maps to the baseline registers (SSE2, NEON).
#[derive(Clone, Copy, Debug)]
pub struct Portable<T, const LANES: usize>(std::marker::PhantomData<T>);

macro_rules! portable {
    ($scalar:ty) => {
        impl<const N: usize> Simd for Portable<$scalar, N> {
            type Scalar = $scalar;
            type Vector = [$scalar; N];
            const LANES: usize = N;

            #[inline(always)]
            unsafe fn splat(value: $scalar) -> Self::Vector {
                [value; N]
            }

            #[inline(always)]
            unsafe fn load(source: *const $scalar) -> Self::Vector {
                // SAFETY: `source` is valid for `N` reads; the read asks for no alignment.
                unsafe { source.cast::<Self::Vector>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn store(target: *mut $scalar, vector: Self::Vector) {
                // SAFETY: `target` is valid for `N` writes; the write asks for no alignment.
                unsafe { target.cast::<Self::Vector>().write_unaligned(vector) }
            }

            #[inline(always)]
            unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // Without the instruction, `mul_add` is a slow library call.
                let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
                std::array::from_fn(|i| if fused { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
            }

            #[inline(always)]
            unsafe fn reduce4(vectors: [Self::Vector; 4]) -> [$scalar; 4] {
                vectors.map(|mut sums| {
                    let mut half = N / 2;
                    while half > 0 {
                        for i in 0..half {
                            sums[i] += sums[i + half];
                        }
                        half /= 2;
                    }
                    sums[0]
                })
            }
        }
    };
}

portable!(f32);
portable!(f64);

/// AVX2 with fused multiply-add: 256-bit vectors.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    use std::arch::x86_64::*;

    use super::{Simd, SimdTask};

    /// Runs `task` compiled for AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub fn run_f32<K: SimdTask<f32>>(task: K) -> K::Output {
        task.run::<F32x8>()
    }

    /// Runs `task` compiled for AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub fn run_f64<K: SimdTask<f64>>(task: K) -> K::Output {
        task.run::<F64x4>()
    }

    /// Eight `f32`.
    #[derive(Clone, Copy, Debug)]
    pub struct F32x8;

    /// Four `f64`.
    #[derive(Clone, Copy, Debug)]
    pub struct F64x4;

    // SAFETY, for every block below: the caller vouches for AVX2, FMA and the pointers (see `Simd`).
    impl Simd for F32x8 {
        type Scalar = f32;
        type Vector = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(source: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(source) }
        }

        #[inline(always)]
        unsafe fn store(target: *mut f32, vector: __m256) {
            unsafe { _mm256_storeu_ps(target, vector) }
        }

        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn reduce4([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
            let mut sums = [0.0; 4];
            unsafe {
                let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
                let (low, high) = (_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
                _mm_storeu_ps(sums.as_mut_ptr(), _mm_add_ps(low, high));
            }
            sums
        }
    }

    impl Simd for F64x4 {
        type Scalar = f64;
        type Vector = __m256d;
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn splat(value: f64) -> __m256d {
            unsafe { _mm256_set1_pd(value) }
        }

        #[inline(always)]
        unsafe fn load(source: *const f64) -> __m256d {
            unsafe { _mm256_loadu_pd(source) }
        }

        #[inline(always)]
        unsafe fn store(target: *mut f64, vector: __m256d) {
            unsafe { _mm256_storeu_pd(target, vector) }
        }

        #[inline(always)]
        unsafe fn mul_add(a: __m256d, b: __m256d, c: __m256d) -> __m256d {
            unsafe { _mm256_fmadd_pd(a, b, c) }
        }

        #[inline(always)]
        unsafe fn reduce4([a, b, c, d]: [__m256d; 4]) -> [f64; 4] {
            let mut sums = [0.0; 4];
            unsafe {
                let (ab, cd) = (_mm256_hadd_pd(a, b), _mm256_hadd_pd(c, d));
                let crossed = _mm256_permute2f128_pd::<0x21>(ab, cd);
                _mm256_storeu_pd(sums.as_mut_ptr(), _mm256_add_pd(_mm256_blend_pd::<0b1100>(ab, cd), crossed));
            }
            sums
        }
    }
}
