//! One pass of `gate ⊙ (x ⊙ s + b + r)` over rows.

use std::mem::MaybeUninit;

use super::layout::Channels;
use crate::kernels::element::Element;
use crate::kernels::simd::{Simd, SimdTask};

/// Operands of `out = gate ⊙ (main s + other t + b + r)`: each from its direction on.
pub(super) struct ForwardRows<'a, T> {
    pub main: Option<&'a [T]>,
    pub main_scale: Option<&'a [T]>,
    pub other: Option<&'a [T]>,
    pub other_scale: Option<&'a [T]>,
    pub shift: Option<&'a [T]>,
    pub addend: Option<&'a [T]>,
    pub gate: Option<&'a [T]>,
    pub relu: bool,
}

pub(super) struct ForwardTask<'a, T> {
    pub channels: &'a Channels,
    pub rows: &'a ForwardRows<'a, T>,
    /// Position of `out` within one direction.
    pub start: usize,
    pub out: &'a mut [MaybeUninit<T>],
}

impl<T: Element> SimdTask<T> for ForwardTask<'_, T> {
    type Output = ();

    /// Plain loops: compiled for the instruction set, they become its vectors.
    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { channels, rows, start, out } = self;
        let len = channels.len;
        let one = |values: Option<&[T]>, channel: usize| values.map(|values| values[channel]);
        let zero = T::zero();
        for (index, out) in out.chunks_exact_mut(len).enumerate() {
            let at = start + index * len;
            let channel = at / len % channels.channels;
            let shift = one(rows.shift, channel).unwrap_or(zero);
            match (rows.main, one(rows.main_scale, channel)) {
                (Some(data), Some(scale)) => {
                    let row = &data[at..][..len];
                    out.iter_mut().zip(row).for_each(|(out, &x)| _ = out.write(x * scale + shift));
                }
                (Some(data), None) => {
                    let row = &data[at..][..len];
                    out.iter_mut().zip(row).for_each(|(out, &x)| _ = out.write(x + shift));
                }
                _ => out.fill(MaybeUninit::new(shift)),
            }
            // SAFETY: the whole row has just been written.
            let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) };
            if let (Some(data), Some(scale)) = (rows.other, one(rows.other_scale, channel)) {
                let row = &data[at..][..len];
                out.iter_mut().zip(row).for_each(|(out, &x)| *out += x * scale);
            }
            if let Some(data) = rows.addend {
                let row = &data[at..][..len];
                out.iter_mut().zip(row).for_each(|(out, &r)| *out += r);
            }
            if let Some(gate) = rows.gate {
                let gate = &gate[at..][..len];
                out.iter_mut().zip(gate).for_each(|(out, &gate)| *out = if gate <= zero { zero } else { *out });
            } else if rows.relu {
                out.iter_mut().for_each(|out| *out = if *out <= zero { zero } else { *out });
            }
        }
    }
}
