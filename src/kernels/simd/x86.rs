//! 256-bit vectors of AVX2 with fused multiply-add, and 512-bit vectors of AVX-512.

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

        impl Simd for $name {
            type Scalar = $scalar;
            type Vector = $vector;
            const LANES: usize = $lanes;
            const REGISTERS: usize = $registers;

            #[inline(always)]
            unsafe fn splat(value: $scalar) -> $vector {
                // SAFETY: the caller's promise (see `Simd`).
                unsafe { $splat(value) }
            }

            #[inline(always)]
            unsafe fn load(source: *const $scalar) -> $vector {
                // SAFETY: the caller's promise (see `Simd`).
                unsafe { $load(source) }
            }

            #[inline(always)]
            unsafe fn store(target: *mut $scalar, vector: $vector) {
                // SAFETY: the caller's promise (see `Simd`).
                unsafe { $store(target, vector) }
            }

            #[inline(always)]
            unsafe fn add(a: $vector, b: $vector) -> $vector {
                // SAFETY: the caller's promise (see `Simd`).
                unsafe { $add(a, b) }
            }

            #[inline(always)]
            unsafe fn sub(a: $vector, b: $vector) -> $vector {
                // SAFETY: the caller's promise (see `Simd`).
                unsafe { $sub(a, b) }
            }

            #[inline(always)]
            unsafe fn mul(a: $vector, b: $vector) -> $vector {
                // SAFETY: the caller's promise (see `Simd`).
                unsafe { $mul(a, b) }
            }

            #[inline(always)]
            unsafe fn mul_add(a: $vector, b: $vector, c: $vector) -> $vector {
                // SAFETY: the caller's promise (see `Simd`).
                unsafe { $mul_add(a, b, c) }
            }

            #[inline(always)]
            unsafe fn reduce4(vectors: [$vector; 4]) -> [$scalar; 4] {
                // SAFETY: the caller's promise (see `Simd`).
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
                    // SAFETY: the caller's promise (see `Simd`).
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
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, reduce_wide_f32, transpose_16);
vectors!(F64x8: f64, __m512d, 8 of 32, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd,
    _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd, _mm512_fmadd_pd, reduce_wide_f64);

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

/// Written out, as the next one: closures would not be inlined into a function with other target features.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn reduce_wide_f32([a, b, c, d]: [__m512; 4]) -> [f32; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        reduce_f32([
            _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)),
            _mm256_add_ps(_mm512_castps512_ps256(b), _mm512_extractf32x8_ps::<1>(b)),
            _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps::<1>(c)),
            _mm256_add_ps(_mm512_castps512_ps256(d), _mm512_extractf32x8_ps::<1>(d)),
        ])
    }
}

/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn reduce_wide_f64([a, b, c, d]: [__m512d; 4]) -> [f64; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        reduce_f64([
            _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd::<1>(a)),
            _mm256_add_pd(_mm512_castpd512_pd256(b), _mm512_extractf64x4_pd::<1>(b)),
            _mm256_add_pd(_mm512_castpd512_pd256(c), _mm512_extractf64x4_pd::<1>(c)),
            _mm256_add_pd(_mm512_castpd512_pd256(d), _mm512_extractf64x4_pd::<1>(d)),
        ])
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
