//! Vectors of pixels written to where they belong.

use std::mem::MaybeUninit;

use crate::kernels::element::Element;
use crate::kernels::simd::{MAX_LANES, Simd};

/// Writes the first `count` lanes of `vector` to every `step`-th place of `targets`.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn write<S: Simd<Scalar: Element>>(
    vector: S::Vector,
    count: usize,
    step: usize,
    targets: &mut [MaybeUninit<S::Scalar>],
) {
    if count == S::LANES && step == 1 {
        let targets = &mut targets[..S::LANES];
        // SAFETY: `targets` has `LANES` places.
        unsafe { S::store(targets.as_mut_ptr().cast(), vector) };
        return;
    }
    // SAFETY: the caller's promise.
    let lanes = unsafe { lanes::<S>(vector) };
    if count == S::LANES && step == 2 {
        // The constant length lets the compiler unroll this.
        let targets = &mut targets[..2 * S::LANES - 1];
        (0..S::LANES).for_each(|lane| _ = targets[2 * lane].write(lanes[lane]));
    } else {
        let targets = targets.iter_mut().step_by(step);
        targets.zip(&lanes[..count]).for_each(|(target, &value)| _ = target.write(value));
    }
}

/// Writes `count` numbers of each interleaved sample to every `step`-th place of that sample's targets.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn write_interleaved<'a, S: Simd<Scalar: Element>>(
    vector: S::Vector,
    count: usize,
    interleaved: usize,
    step: usize,
    samples: impl Iterator<Item = &'a mut [MaybeUninit<S::Scalar>]>,
) {
    // SAFETY: the caller's promise.
    let lanes = unsafe { lanes::<S>(vector) };
    for (s, targets) in samples.enumerate() {
        if interleaved == 2 && step == 1 && 2 * count == S::LANES {
            let targets = &mut targets[..S::LANES / 2];
            (0..S::LANES / 2).for_each(|lane| _ = targets[lane].write(lanes[2 * lane + s]));
        } else {
            let targets = targets.iter_mut().step_by(step).take(count);
            targets.zip(lanes[s..].iter().step_by(interleaved)).for_each(|(target, &value)| _ = target.write(value));
        }
    }
}

/// The lanes of `vector`, zeros behind them.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn lanes<S: Simd<Scalar: Element>>(vector: S::Vector) -> [S::Scalar; MAX_LANES] {
    const { assert!(S::LANES <= MAX_LANES) };
    let mut lanes = [S::Scalar::ZERO; MAX_LANES];
    // SAFETY: `lanes` has at least `LANES` places.
    unsafe { S::store(lanes.as_mut_ptr(), vector) };
    lanes
}
