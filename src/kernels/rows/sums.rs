//! Sums along rows.

use crate::kernels::element::Element;

/// Running sums of a row: independent, so that they fill a vector register.
const SUM_LANES: usize = 16;

/// The sum of the lanes, by halves: one addition would have to wait for the other.
#[inline(always)]
fn folded<T: Element>(lanes: [T; SUM_LANES]) -> f64 {
    let mut sums = lanes.map(|lane| lane.to_f64());
    for half in [8, 4, 2, 1] {
        (0..half).for_each(|lane| sums[lane] += sums[lane + half]);
    }
    sums[0]
}

/// `Σ v`
#[inline(always)]
pub fn row_sum<T: Element>(values: &[T]) -> f64 {
    let mut lanes = [T::ZERO; SUM_LANES];
    let (chunks, tail) = values.as_chunks::<SUM_LANES>();
    for chunk in chunks {
        (0..SUM_LANES).for_each(|lane| lanes[lane] += chunk[lane]);
    }
    folded(lanes) + tail.iter().map(|value| value.to_f64()).sum::<f64>()
}

/// `Σ a b`
#[inline(always)]
pub fn row_dot<T: Element>(a: &[T], b: &[T]) -> f64 {
    let mut lanes = [T::ZERO; SUM_LANES];
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<SUM_LANES>(), b.as_chunks::<SUM_LANES>());
    for (a, b) in a.iter().zip(b) {
        (0..SUM_LANES).for_each(|lane| lanes[lane] += a[lane] * b[lane]);
    }
    let tail: f64 = a_tail.iter().zip(b_tail).map(|(&a, &b)| (a * b).to_f64()).sum();
    folded(lanes) + tail
}

/// `Σ a b c`
#[inline(always)]
pub fn row_dot_of_three<T: Element>(a: &[T], b: &[T], c: &[T]) -> f64 {
    let mut lanes = [T::ZERO; SUM_LANES];
    let [(a, a_tail), (b, b_tail), (c, c_tail)] = [a, b, c].map(<[T]>::as_chunks::<SUM_LANES>);
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        (0..SUM_LANES).for_each(|lane| lanes[lane] += a[lane] * b[lane] * c[lane]);
    }
    let tail: f64 = a_tail.iter().zip(b_tail).zip(c_tail).map(|((&a, &b), &c)| (a * b * c).to_f64()).sum();
    folded(lanes) + tail
}
