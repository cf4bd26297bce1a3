//! Sums along rows.

use crate::kernels::element::Element;

/// Running sums of a row: independent, so that they fill a vector register.
const SUM_LANES: usize = 16;

/// `Σ v`
#[inline(always)]
pub(super) fn row_sum<T: Element>(values: &[T]) -> f64 {
    let mut lanes = [T::ZERO; SUM_LANES];
    let (chunks, tail) = values.as_chunks::<SUM_LANES>();
    for chunk in chunks {
        (0..SUM_LANES).for_each(|lane| lanes[lane] += chunk[lane]);
    }
    lanes.iter().chain(tail).map(|value| value.to_f64()).sum()
}

/// `Σ a b`
#[inline(always)]
pub(super) fn row_dot<T: Element>(a: &[T], b: &[T]) -> f64 {
    let mut lanes = [T::ZERO; SUM_LANES];
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<SUM_LANES>(), b.as_chunks::<SUM_LANES>());
    for (a, b) in a.iter().zip(b) {
        (0..SUM_LANES).for_each(|lane| lanes[lane] += a[lane] * b[lane]);
    }
    let tail: f64 = a_tail.iter().zip(b_tail).map(|(&a, &b)| (a * b).to_f64()).sum();
    lanes.iter().map(|lane| lane.to_f64()).sum::<f64>() + tail
}
