//! SIMD vectors behind one trait, with the instruction set chosen at run time.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Simd`]; [`SimdTask::run`] is its entry. The task is
//! inlined into a function that has the target features switched on, so a binary built without flags runs it at full
//! speed.

use std::sync::LazyLock;

/// A vector of `LANES` scalars and the operations the kernels need.
pub trait Simd: Copy + 'static {
    /// The type of one lane.
    type Scalar: Copy;
    /// The vector register.
    type Vector: Copy;
    /// Scalars in a vector.
    const LANES: usize;
    /// Vector registers; a register tile must not ask for more.
    const REGISTERS: usize;

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

    /// `a + b`
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a − b`
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a b`
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;

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

    /// Writes the transpose of a square of `LANES` by `LANES` scalars whose rows are `step` apart, in the source and in
    /// the target.
    ///
    /// # Safety
    /// The processor has this instruction set, and each row is valid for `LANES` reads or writes.
    #[inline(always)]
    unsafe fn transpose(
        source: *const Self::Scalar,
        source_step: usize,
        target: *mut Self::Scalar,
        target_step: usize,
    ) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: both indices are below `LANES`.
                unsafe { *target.add(column * target_step + row) = *source.add(row * source_step + column) };
            }
        }
    }
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
pub(super) enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The widest instruction set found at run time.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// All that this processor has, the widest first.
    pub fn available() -> &'static [Self] {
        static AVAILABLE: LazyLock<Vec<Isa>> = LazyLock::new(|| {
            let mut available = Vec::new();
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    available.push(Isa(Kind::Avx512));
                }
                available.push(Isa(Kind::Avx2));
            }
            available.push(Isa(Kind::Portable));
            available
        });
        &AVAILABLE
    }

    pub(super) fn kind(self) -> Kind {
        self.0
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
            const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 32 } else { 16 };

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
            unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
                std::array::from_fn(|i| a[i] + b[i])
            }

            #[inline(always)]
            unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector {
                std::array::from_fn(|i| a[i] - b[i])
            }

            #[inline(always)]
            unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
                std::array::from_fn(|i| a[i] * b[i])
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

/// 256-bit vectors of AVX2 with fused multiply-add, and 512-bit vectors of AVX-512.
#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::{Simd, SimdTask};

    macro_rules! entry {
        ($name:ident, $features:literal, $scalar:ty, $simd:ty) => {
            /// Runs `task` compiled for these features.
            #[target_feature(enable = $features)]
            pub fn $name<K: SimdTask<$scalar>>(task: K) -> K::Output {
                task.run::<$simd>()
            }
        };
    }

    entry!(avx2_f32, "avx2,fma", f32, F32x8);
    entry!(avx2_f64, "avx2,fma", f64, F64x4);
    entry!(avx512_f32, "avx512f,avx512dq,avx512vl,avx2,fma", f32, F32x16);
    entry!(avx512_f64, "avx512f,avx512dq,avx512vl,avx2,fma", f64, F64x8);

    macro_rules! vectors {
        ($name:ident: $scalar:ty, $vector:ty, $lanes:literal of $registers:literal,
         $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $mul_add:ident, $reduce4:expr
         $(, $transpose:ident)?) => {
            #[doc = concat!(stringify!($lanes), " `", stringify!($scalar), "`.")]
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            // SAFETY, for every block below: the caller vouches for the features and the pointers (see `Simd`).
            impl Simd for $name {
                type Scalar = $scalar;
                type Vector = $vector;
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

                #[inline(always)]
                unsafe fn splat(value: $scalar) -> $vector {
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                unsafe fn load(source: *const $scalar) -> $vector {
                    unsafe { $load(source) }
                }

                #[inline(always)]
                unsafe fn store(target: *mut $scalar, vector: $vector) {
                    unsafe { $store(target, vector) }
                }

                #[inline(always)]
                unsafe fn add(a: $vector, b: $vector) -> $vector {
                    unsafe { $add(a, b) }
                }

                #[inline(always)]
                unsafe fn sub(a: $vector, b: $vector) -> $vector {
                    unsafe { $sub(a, b) }
                }

                #[inline(always)]
                unsafe fn mul(a: $vector, b: $vector) -> $vector {
                    unsafe { $mul(a, b) }
                }

                #[inline(always)]
                unsafe fn mul_add(a: $vector, b: $vector, c: $vector) -> $vector {
                    unsafe { $mul_add(a, b, c) }
                }

                #[inline(always)]
                unsafe fn reduce4(vectors: [$vector; 4]) -> [$scalar; 4] {
                    unsafe { $reduce4(vectors) }
                }

                $(
                    #[inline(always)]
                    unsafe fn transpose(
                        source: *const $scalar,
                        source_step: usize,
                        target: *mut $scalar,
                        target_step: usize,
                    ) {
                        unsafe { $transpose(source, source_step, target, target_step) }
                    }
                )?
            }
        };
    }

    vectors!(F32x8: f32, __m256, 8 of 16, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps,
        _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps, reduce_f32, transpose_8);
    vectors!(F64x4: f64, __m256d, 4 of 16, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd,
        _mm256_add_pd, _mm256_sub_pd, _mm256_mul_pd, _mm256_fmadd_pd, reduce_f64);
    vectors!(F32x16: f32, __m512, 16 of 32, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps,
        _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, |vectors: [__m512; 4]| {
            reduce_f32(vectors.map(|v| _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v))))
        }, transpose_16);
    vectors!(F64x8: f64, __m512d, 8 of 32, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd,
    _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd, _mm512_fmadd_pd, |vectors: [__m512d; 4]| {
        reduce_f64(vectors.map(|v| _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v))))
    });

    /// # Safety
    /// The processor has AVX2; see [`Simd::transpose`].
    #[inline(always)]
    unsafe fn transpose_8(source: *const f32, source_step: usize, target: *mut f32, target_step: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // Squares of 2 in each half of pairs of rows, then of 4 in each half, then the halves. Plain loops: closures
            // would not be inlined into a function with other target features.
            let mut quads = [_mm256_setzero_ps(); 8];
            for group in [0, 4] {
                let row = |i: usize| source.add((group + i) * source_step);
                let (a, b) = (_mm256_loadu_ps(row(0)), _mm256_loadu_ps(row(1)));
                let (c, d) = (_mm256_loadu_ps(row(2)), _mm256_loadu_ps(row(3)));
                let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                quads[group] = _mm256_shuffle_ps::<0x44>(ab_low, cd_low);
                quads[group + 1] = _mm256_shuffle_ps::<0xEE>(ab_low, cd_low);
                quads[group + 2] = _mm256_shuffle_ps::<0x44>(ab_high, cd_high);
                quads[group + 3] = _mm256_shuffle_ps::<0xEE>(ab_high, cd_high);
            }
            for i in 0..4 {
                let (a, b) = (quads[i], quads[i + 4]);
                _mm256_storeu_ps(target.add(i * target_step), _mm256_permute2f128_ps::<0x20>(a, b));
                _mm256_storeu_ps(target.add((i + 4) * target_step), _mm256_permute2f128_ps::<0x31>(a, b));
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512; see [`Simd::transpose`].
    #[inline(always)]
    unsafe fn transpose_16(source: *const f32, source_step: usize, target: *mut f32, target_step: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // As in `transpose_8`, in quarters; then quarters change places twice.
            let mut quads = [_mm512_setzero_ps(); 16];
            for group in [0, 4, 8, 12] {
                let row = |i: usize| source.add((group + i) * source_step);
                let (a, b) = (_mm512_loadu_ps(row(0)), _mm512_loadu_ps(row(1)));
                let (c, d) = (_mm512_loadu_ps(row(2)), _mm512_loadu_ps(row(3)));
                let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                quads[group] = _mm512_shuffle_ps::<0x44>(ab_low, cd_low);
                quads[group + 1] = _mm512_shuffle_ps::<0xEE>(ab_low, cd_low);
                quads[group + 2] = _mm512_shuffle_ps::<0x44>(ab_high, cd_high);
                quads[group + 3] = _mm512_shuffle_ps::<0xEE>(ab_high, cd_high);
            }
            for i in 0..4 {
                // Column `i` of quarter `q` of the rows `4g..4g + 4` is quarter `q` of `quads[4g + i]`.
                let [a, b, c, d] = [quads[i], quads[i + 4], quads[i + 8], quads[i + 12]];
                let (ab_even, ab_odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
                let (cd_even, cd_odd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xDD>(c, d));
                _mm512_storeu_ps(target.add(i * target_step), _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even));
                _mm512_storeu_ps(target.add((i + 4) * target_step), _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd));
                _mm512_storeu_ps(target.add((i + 8) * target_step), _mm512_shuffle_f32x4::<0xDD>(ab_even, cd_even));
                _mm512_storeu_ps(target.add((i + 12) * target_step), _mm512_shuffle_f32x4::<0xDD>(ab_odd, cd_odd));
            }
        }
    }

    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn reduce_f32([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        // SAFETY: AVX2 is the caller's promise, and `sums` has the four places.
        unsafe {
            let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let (low, high) = (_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            _mm_storeu_ps(sums.as_mut_ptr(), _mm_add_ps(low, high));
        }
        sums
    }

    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn reduce_f64([a, b, c, d]: [__m256d; 4]) -> [f64; 4] {
        let mut sums = [0.0; 4];
        // SAFETY: AVX2 is the caller's promise, and `sums` has the four places.
        unsafe {
            let (ab, cd) = (_mm256_hadd_pd(a, b), _mm256_hadd_pd(c, d));
            let crossed = _mm256_permute2f128_pd::<0x21>(ab, cd);
            _mm256_storeu_pd(sums.as_mut_ptr(), _mm256_add_pd(_mm256_blend_pd::<0b1100>(ab, cd), crossed));
        }
        sums
    }
}
