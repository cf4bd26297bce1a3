//! One pass of the adjoint over rows.

use std::mem::MaybeUninit;

use super::layout::Channels;
use crate::kernels::element::Element;
use crate::kernels::rows::{row_dot, row_sum};
use crate::kernels::simd::{Simd, SimdTask};

/// Operands of one direction of the adjoint, each from that direction on.
pub(super) struct AdjointRows<'a, T> {
    pub main: &'a [T],
    pub other: Option<&'a [T]>,
    pub x: Option<&'a [T]>,
    pub x_tangents: Option<&'a [T]>,
    pub scale: Option<&'a [T]>,
    pub scale_tangents: Option<&'a [T]>,
    pub gate: Option<&'a [T]>,
}

pub(super) struct AdjointTask<'a, T> {
    pub channels: &'a Channels,
    pub rows: &'a AdjointRows<'a, T>,
    /// Position of `out` within the direction.
    pub start: usize,
    pub out: &'a mut [MaybeUninit<T>],
    pub addend: Option<&'a mut [MaybeUninit<T>]>,
}

impl<T: Element> SimdTask<T> for AdjointTask<'_, T> {
    type Output = Vec<f64>;

    /// Plain loops: compiled for the instruction set, they become its vectors.
    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) -> Vec<f64> {
        let Self { channels, rows, start, out, addend } = self;
        let len = channels.len;
        let mut sums = vec![0.0; 2 * channels.channels];
        let (mut main, mut other) = (vec![T::ZERO; len], vec![T::ZERO; len]);
        let mut addends = addend.map(|addend| addend.chunks_exact_mut(len));
        for (index, out) in out.chunks_exact_mut(len).enumerate() {
            let at = start + index * len;
            let channel = at / len % channels.channels;
            let gate = rows.gate.map(|gate| &gate[at..][..len]);
            gated(&rows.main[at..][..len], gate, &mut main);
            if let Some(addend) = addends.as_mut().and_then(Iterator::next) {
                addend.iter_mut().zip(&main).for_each(|(out, &main)| _ = out.write(main));
            }
            match rows.scale {
                Some(scale) => {
                    let scale = scale[channel];
                    out.iter_mut().zip(&main).for_each(|(out, &main)| _ = out.write(main * scale));
                }
                None => out.iter_mut().zip(&main).for_each(|(out, &main)| _ = out.write(main)),
            }
            sums[channels.channels + channel] += row_sum(&main);
            if let Some(x) = rows.x {
                sums[channel] += row_dot(&main, &x[at..][..len]);
            }
            let Some(data) = rows.other else { continue };
            gated(&data[at..][..len], gate, &mut other);
            if let Some(scale) = rows.scale_tangents {
                // SAFETY: the whole row was written above.
                let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) };
                let scale = scale[channel];
                out.iter_mut().zip(&other).for_each(|(out, &other)| *out += other * scale);
            }
            if let Some(x) = rows.x_tangents {
                sums[channel] += row_dot(&other, &x[at..][..len]);
            }
        }
        sums
    }
}

/// `values` where `gate` is positive or NaN, else 0.
#[inline(always)]
fn gated<T: Element>(values: &[T], gate: Option<&[T]>, out: &mut [T]) {
    let zero = T::zero();
    match gate {
        None => out.copy_from_slice(values),
        Some(gate) => {
            let pairs = out.iter_mut().zip(values).zip(gate);
            pairs.for_each(|((out, &value), &gate)| *out = if gate <= zero { zero } else { value });
        }
    }
}
