//! Axes in another order, copied in runs or in squares of vectors.

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor};

use super::access::{Slice, with_float};
use super::element::{Element, filled};
use super::parallel;
use super::simd::{Isa, Simd, SimdTask};

/// Output axis `i` is input axis `axes[i]`; further axes in front stay.
pub(super) fn permute(axes: &[usize], x: &Tensor) -> Result<Tensor> {
    let lead = x.rank() - axes.len();
    let axes: Vec<usize> = (0..lead).chain(axes.iter().map(|axis| axis + lead)).collect();
    let shape: Vec<usize> = axes.iter().map(|&axis| x.dims()[axis]).collect();
    let x = x.contiguous()?;
    let layout = Layout::new(x.dims(), &axes);
    with_float!(x.dtype(), T => {
        let data = Slice::<T>::of(&x)?;
        let fill = |out: &mut [MaybeUninit<T>]| {
            let (first, inner) = layout.split(data.len());
            parallel::for_chunks(out, first.target, |index, out| {
                let x = &data[(index * first.source).min(data.len())..];
                T::dispatch(Isa::best(), Task { layout: &inner, x, out });
            });
        };
        // SAFETY: every place of the output belongs to one place of the input.
        Tensor::from_vec(unsafe { filled(data.len(), fill) }, shape, x.device())
    })
}

/// One axis: its size, and the steps in source and target.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    size: usize,
    source: usize,
    target: usize,
}

/// Axes in the order of the target, those that run on in both joined.
struct Layout {
    outer: Vec<Axis>,
    /// The last of the source, where it is not the last of the target.
    across: Option<Axis>,
    /// The last of the target.
    along: Axis,
}

impl Layout {
    fn new(dims: &[usize], axes: &[usize]) -> Self {
        let steps: Vec<usize> = (0..dims.len()).map(|axis| dims[axis + 1..].iter().product()).collect();
        let mut all: Vec<Axis> = Vec::new();
        let mut target = dims.iter().product::<usize>();
        for &axis in axes.iter().filter(|&&axis| dims[axis] != 1) {
            let size = dims[axis];
            target /= size.max(1);
            match all.last_mut() {
                Some(before) if before.source == steps[axis] * size => {
                    *before = Axis { size: before.size * size, source: steps[axis], target };
                }
                _ => all.push(Axis { size, source: steps[axis], target }),
            }
        }
        let along = all.pop().unwrap_or(Axis { size: 1, source: 1, target: 1 });
        let across = all.iter().position(|axis| axis.source == 1).map(|place| all.remove(place));
        Self { outer: all, across, along }
    }
}

impl Layout {
    /// The first axis of the target, where it is one of the outer ones, and the others: parts of the target that are contiguous.
    fn split(&self, len: usize) -> (Axis, Layout) {
        let Self { outer, across, along } = self;
        match outer.first() {
            Some(&first) if first.target * first.size == len => {
                (first, Layout { outer: outer[1..].to_vec(), across: *across, along: *along })
            }
            _ => (
                Axis { size: 1, source: len, target: len },
                Layout { outer: outer.clone(), across: *across, along: *along },
            ),
        }
    }
}

struct Task<'a, T> {
    layout: &'a Layout,
    x: &'a [T],
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Element> SimdTask<T> for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) {
        let Self { layout: Layout { outer, across, along }, x, out } = self;
        let count: usize = outer.iter().map(|axis| axis.size).product();
        for mut index in 0..if x.is_empty() { 0 } else { count } {
            let (mut source, mut target) = (0, 0);
            for axis in outer.iter().rev() {
                source += index % axis.size * axis.source;
                target += index % axis.size * axis.target;
                index /= axis.size;
            }
            let Some(across) = across else {
                // Then the last axis stays the last.
                let out = &mut out[target..][..along.size];
                out.iter_mut().zip(&x[source..]).for_each(|(out, &x)| _ = out.write(x));
                continue;
            };
            // Rows of the source lie along the target's last axis; those of the target along the source's.
            let furthest = source + (along.size - 1) * along.source + across.size;
            assert!(furthest <= x.len(), "axes beyond the source");
            assert!(target + (across.size - 1) * across.target + along.size <= out.len(), "axes beyond the target");
            for row in (0..along.size).step_by(S::LANES) {
                for column in (0..across.size).step_by(S::LANES) {
                    let (from, to) = (source + row * along.source + column, target + column * across.target + row);
                    if row + S::LANES <= along.size && column + S::LANES <= across.size {
                        // SAFETY: the asserts bound the last row and column of source and target.
                        unsafe {
                            let (x, out) = (x.as_ptr().add(from), out.as_mut_ptr().cast::<T>().add(to));
                            S::transpose(x, along.source, out, across.target);
                        }
                        continue;
                    }
                    for r in 0..S::LANES.min(along.size - row) {
                        for c in 0..S::LANES.min(across.size - column) {
                            out[to + c * across.target + r].write(x[from + r * along.source + c]);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn every_order_of_axes_matches_candle() {
        for (dims, orders) in [
            (vec![3, 20, 33], vec![vec![0, 2, 1], vec![2, 1, 0], vec![1, 0, 2], vec![2, 0, 1], vec![0, 1, 2]]),
            (vec![2, 17, 1, 5], vec![vec![0, 2, 3, 1], vec![3, 0, 1, 2], vec![1, 3, 2, 0]]),
            (vec![2, 4, 3, 16, 16], vec![vec![2, 0, 3, 1, 4], vec![0, 1, 2, 4, 3], vec![4, 3, 2, 1, 0]]),
            (vec![0, 3], vec![vec![1, 0]]),
            (vec![1], vec![vec![0]]),
        ] {
            let len = dims.iter().product::<usize>();
            for lead in [None, Some(3)] {
                let shape: Vec<usize> = lead.into_iter().chain(dims.iter().copied()).collect();
                let values: Vec<f32> = (0..lead.unwrap_or(1) * len).map(|i| i as f32).collect();
                let x = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
                for axes in &orders {
                    let from = x.rank() - axes.len();
                    let all: Vec<usize> = (0..from).chain(axes.iter().map(|axis| axis + from)).collect();
                    let expected = x.permute(all).unwrap().contiguous().unwrap();
                    let got = permute(axes, &x).unwrap();
                    assert_eq!(got.dims(), expected.dims(), "{axes:?}");
                    let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    assert_eq!(values(&got), values(&expected), "{dims:?} {axes:?}");
                }
            }
        }
    }
}
