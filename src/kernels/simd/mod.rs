//! SIMD vectors behind one trait, with the instruction set chosen at run time.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Simd`]; [`SimdTask::run`] is its entry. The task is
//! inlined into a function that has the target features switched on, so a binary built without flags runs it at full
//! speed.

#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

use std::sync::LazyLock;

/// Room for the lanes of any vector type.
pub const MAX_LANES: usize = 16;

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
                // SAFETY: the caller's promise, since both indices are below `LANES`.
                unsafe { *target.add(column * target_step + row) = *source.add(row * source_step + column) };
            }
        }
    }
}

/// Asks for the cache line at an address that may be read soon; it need not be valid.
#[inline(always)]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has the instruction, and it faults at no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
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
    pub(crate) fn available() -> &'static [Self] {
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

/// Whether code compiled for AVX2 may run.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    Isa::best().kind() != Kind::Portable
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
