//! Entries of an axis in another order, some of them several times, and calls that are written with that: repetition,
//! windows, pixel shuffles.

use serde::{Deserialize, Serialize};

use super::choice::{all_of, places, strides};
use super::resampling::Map;
use super::{Expand, Flatten, Pad, Permute, Slice, Transpose, Unflatten, Unsqueeze, View};
use crate::Result;
use crate::autodiff::Value;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis};
use crate::program::operation::{Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Size};

/// What an axis becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Picked {
    /// Back to front.
    Flip,
    /// Padded with this many entries before and behind, mirrored at the first and the last.
    Reflect([usize; 2]),
    /// Padded with this many copies of the first entry before and of the last behind.
    Replicate([usize; 2]),
    /// Padded with this many entries of the other end before and behind.
    Circular([usize; 2]),
    /// So many times in a row.
    Repeat(usize),
    /// Each entry repeated this many times in a row.
    Interleave(usize),
    /// Windows of `size` entries, one after the other.
    Windows {
        /// Entries of a window.
        size: usize,
        /// From the start of a window to that of the next.
        stride: usize,
        /// From an entry of a window to the next.
        dilation: usize,
    },
}

/// Entries of an axis in another order, or several times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rearrange {
    /// The axis.
    pub dim: i64,
    /// What it becomes.
    pub picked: Picked,
}

/// The adjoint of [`Rearrange`]: each entry is added to where it was taken from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// The axis.
    pub dim: i64,
    /// What it became.
    pub picked: Picked,
    /// How many entries it had.
    pub size: usize,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "flip" | "fliplr" | "flipud" => flip(call),
        "repeat" | "tile" => repeat(call),
        "repeat_interleave" => repeat_interleave(call),
        "unfold" => windows(call),
        "im2col" => im2col(call),
        "col2im" => col2im(call),
        "pixel_shuffle" => pixel_shuffle(call),
        "pixel_unshuffle" => pixel_unshuffle(call),
        "channel_shuffle" | "native_channel_shuffle" => channel_shuffle(call),
        "movedim" | "moveaxis" => movedim(call),
        _ => return None,
    })
}

fn flip(call: &mut Call<'_>) -> Results {
    let (x, dims) = (call.operand("self")?, call.ints("dims")?);
    let dims = dims.unwrap_or_else(|| vec![if call.name == "fliplr" { 1 } else { 0 }]);
    Ok(vec![dims.iter().fold(x, |x, &dim| call.push(Rearrange { dim, picked: Picked::Flip }, [x]))])
}

/// Axes of size 1 are expanded, also to the number of rows.
fn repeat(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let repeats = call.sizes(if call.has("dims") { "dims" } else { "repeats" })?.ok_or("its counts are missing")?;
    let shape = call.shape(&x)?;
    let rank = repeats.len().max(shape.len());
    let [missing, missing_counts] = [rank - shape.len(), rank - repeats.len()];
    let mut y = (0..missing).fold(x, |x, _| call.push(Unsqueeze { dim: 0 }, [x]));
    let (one, keep) = (Size::fixed(1), Size::fixed(-1));
    let mut expanded = vec![keep.clone(); rank];
    for (at, expanded) in expanded.iter_mut().enumerate().skip(missing_counts) {
        let (count, size) = (&repeats[at - missing_counts], at.checked_sub(missing).map_or(&one, |at| &shape[at]));
        if *count == one {
            continue;
        }
        if *size == one {
            *expanded = count.clone();
        } else if count.is_fixed() {
            let times = usize::try_from(count.at(0)).map_err(|_| "a count is negative")?;
            y = call.push(Rearrange { dim: at as i64, picked: Picked::Repeat(times) }, [y]);
        } else {
            // As often as there are rows: along an axis of its own, which is joined with this one.
            let mut size = vec![keep.clone(); rank + 1];
            size[at] = count.clone();
            let apart = call.push(Unsqueeze { dim: at as i64 }, [y]);
            let repeated = call.push(Expand { size }, [apart]);
            y = call.push(Flatten { start_dim: at as i64, end_dim: at as i64 + 1 }, [repeated]);
        }
    }
    if expanded.iter().all(|size| *size == keep) { Ok(vec![y]) } else { call.gives(Expand { size: expanded }, [y]) }
}

fn repeat_interleave(call: &mut Call<'_>) -> Results {
    let (x, count) = (call.operand("self")?, call.count("repeats", None)?);
    call.optional("output_size")?;
    let (x, dim) = match call.ints("dim")?.as_deref() {
        Some(&[dim]) => (x, dim),
        _ => (call.push(View { size: vec![Size::fixed(-1)] }, [x]), 0),
    };
    call.gives(Rearrange { dim, picked: Picked::Interleave(count) }, [x])
}

impl Call<'_> {
    /// Windows of an axis: how many, then their entries, in the place of the axis.
    fn windows(&mut self, x: Operand, axis: usize, [size, stride, dilation]: [usize; 3]) -> Operand {
        let dim = axis as i64;
        let x = self.push(Rearrange { dim, picked: Picked::Windows { size, stride, dilation } }, [x]);
        self.push(Unflatten { dim, sizes: vec![-1, size as i64] }, [x])
    }
}

/// `unfold` of a tensor: the entries of the windows become the last axis.
fn windows(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dimension", None)?);
    let (size, step) = (call.count("size", None)?, call.count("step", None)?);
    let rank = call.rank(&x)?;
    let axis = axis(dim, rank)?;
    let cut = call.windows(x, axis, [size, step, 1]);
    let entries = axis as i64 + 1;
    let dims = (0..=rank as i64).filter(|&at| at != entries).chain([entries]).collect();
    call.gives(Permute { dims }, [cut])
}

/// An image with the zeros around it that `padding` says.
fn zeros_around(call: &mut Call<'_>, x: Operand) -> Result<Operand, String> {
    let pads: [usize; 2] = call.counts("padding", Some(0))?;
    let padded = (2..).zip(pads).filter(|(_, count)| *count > 0);
    Ok(padded.fold(x, |x, (dim, count)| call.push(Pad { dim, pad: [count; 2] }, [x])))
}

/// Patches of images, `[N, C·h·w, places]`.
fn im2col(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let [height, width] = call.counts("kernel_size", None)?;
    let ([dilation_h, dilation_w], [stride_h, stride_w]) =
        (call.counts("dilation", Some(1))?, call.counts("stride", Some(1))?);
    let x = zeros_around(call, x)?;
    let x = call.windows(x, 2, [height, stride_h, dilation_h]);
    let x = call.windows(x, 4, [width, stride_w, dilation_w]);
    let x = call.push(Permute { dims: vec![0, 1, 3, 5, 2, 4] }, [x]);
    let x = call.push(Flatten { start_dim: 4, end_dim: 5 }, [x]);
    call.gives(Flatten { start_dim: 1, end_dim: 3 }, [x])
}

/// The adjoint of [`im2col`]: patches added up where they overlap.
fn col2im(call: &mut Call<'_>) -> Results {
    let (x, size) = (call.operand("self")?, call.counts::<2>("output_size", None)?);
    let (kernel, dilation) = (call.counts::<2>("kernel_size", None)?, call.counts::<2>("dilation", Some(1))?);
    let (stride, padding) = (call.counts::<2>("stride", Some(1))?, call.counts::<2>("padding", Some(0))?);
    if call.rank(&x)? != 3 {
        return Err("expects [N, C·h·w, places]".into());
    }
    let windows = [0, 1].map(|axis| (kernel[axis], stride[axis], dilation[axis]));
    let windows = windows.map(|(size, stride, dilation)| Picked::Windows { size, stride, dilation });
    let padded = [0, 1].map(|axis| size[axis].saturating_add(2 * padding[axis]));
    let mut counts = [0; 2];
    for axis in 0..2 {
        counts[axis] = (windows[axis].entries(padded[axis])?.len() / kernel[axis].max(1)) as i64;
    }
    let x = call.push(Unflatten { dim: 2, sizes: counts.to_vec() }, [x]);
    let x = call.push(Unflatten { dim: 1, sizes: vec![-1, kernel[0] as i64, kernel[1] as i64] }, [x]);
    let x = call.push(Permute { dims: vec![0, 1, 4, 2, 5, 3] }, [x]);
    let x = call.push(Flatten { start_dim: 4, end_dim: 5 }, [x]);
    let mut x = call.push(Flatten { start_dim: 2, end_dim: 3 }, [x]);
    for axis in 0..2 {
        let dim = axis as i64 + 2;
        x = call.push(Fold { dim, picked: windows[axis], size: padded[axis] }, [x]);
        let (start, end) = (padding[axis] as i64, (padding[axis] + size[axis]) as i64);
        x = call.push(Slice { dim, start, end, step: 1 }, [x]);
    }
    Ok(vec![x])
}

/// `[…, C·r², H, W]` to `[…, C, H·r, W·r]`
fn pixel_shuffle(call: &mut Call<'_>) -> Results {
    let (x, factor) = (call.operand("self")?, call.int("upscale_factor", None)?);
    let front = call.rank(&x)?.checked_sub(3).ok_or("it has too few axes")? as i64;
    let x = call.push(Unflatten { dim: front, sizes: vec![-1, factor, factor] }, [x]);
    let dims = (0..=front).chain([3, 1, 4, 2].map(|axis| front + axis)).collect();
    let x = call.push(Permute { dims }, [x]);
    let x = call.push(Flatten { start_dim: front + 3, end_dim: front + 4 }, [x]);
    call.gives(Flatten { start_dim: front + 1, end_dim: front + 2 }, [x])
}

/// `[…, C, H·r, W·r]` to `[…, C·r², H, W]`
fn pixel_unshuffle(call: &mut Call<'_>) -> Results {
    let (x, factor) = (call.operand("self")?, call.int("downscale_factor", None)?);
    let front = call.rank(&x)?.checked_sub(3).ok_or("it has too few axes")? as i64;
    let x = call.push(Unflatten { dim: front + 2, sizes: vec![-1, factor] }, [x]);
    let x = call.push(Unflatten { dim: front + 1, sizes: vec![-1, factor] }, [x]);
    let dims = (0..=front).chain([2, 4, 1, 3].map(|axis| front + axis)).collect();
    let x = call.push(Permute { dims }, [x]);
    call.gives(Flatten { start_dim: front, end_dim: front + 2 }, [x])
}

fn channel_shuffle(call: &mut Call<'_>) -> Results {
    let (x, groups) = (call.operand("self")?, call.int("groups", None)?);
    let x = call.push(Unflatten { dim: 1, sizes: vec![groups, -1] }, [x]);
    let x = call.push(Transpose { dim0: 1, dim1: 2 }, [x]);
    call.gives(Flatten { start_dim: 1, end_dim: 2 }, [x])
}

fn movedim(call: &mut Call<'_>) -> Results {
    let (x, source, destination) = (call.operand("self")?, call.ints("source")?, call.ints("destination")?);
    let (Some(source), Some(destination)) = (source, destination) else { return Err("its axes are missing".into()) };
    let rank = call.rank(&x)?;
    let axes = |dims: Vec<i64>| dims.iter().map(|&dim| axis(dim, rank)).collect::<Result<Vec<_>, _>>();
    let (source, destination) = (axes(source)?, axes(destination)?);
    let mut left = (0..rank).filter(|axis| !source.contains(axis));
    let from = |at: usize| match destination.iter().position(|&to| to == at) {
        Some(place) => source.get(place).copied(),
        None => left.next(),
    };
    let dims = (0..rank).map(from).map(|axis| axis.map(|axis| axis as i64));
    let dims = dims.collect::<Option<_>>().ok_or("its axes do not fit one another")?;
    call.gives(Permute { dims }, [x])
}

impl Picked {
    /// The entries that an axis of so many becomes.
    fn entries(self, size: usize) -> Result<Vec<usize>, String> {
        let around = |[before, behind]: [usize; 2], entry: &dyn Fn(i64) -> i64| {
            (-(before as i64)..(size + behind) as i64).map(|place| entry(place) as usize).collect()
        };
        let (count, last) = (size as i64, size as i64 - 1);
        let made = match self {
            Self::Flip | Self::Reflect(_) => size,
            Self::Replicate([before, behind]) | Self::Circular([before, behind]) => {
                size.saturating_add(before).saturating_add(behind)
            }
            Self::Repeat(times) | Self::Interleave(times) => size.saturating_mul(times),
            Self::Windows { size: own, .. } => size.saturating_mul(own),
        };
        match self {
            _ if size == 0 => Err("there is no entry".into()),
            _ if made > 1 << 28 => Err(format!("an axis of {made} entries is too long")),
            Self::Reflect(pad) if pad.iter().any(|&count| count >= size) => {
                Err(format!("{pad:?} entries cannot be mirrored out of {size}"))
            }
            Self::Windows { size: own, dilation, stride }
                if own == 0 || stride == 0 || dilation.saturating_mul(own - 1) >= size =>
            {
                Err(format!("windows of {own} do not fit {size} entries"))
            }
            Self::Flip => Ok((0..size).rev().collect()),
            Self::Reflect(pad) => Ok(around(pad, &|place| last - (last - place.abs()).abs())),
            Self::Replicate(pad) => Ok(around(pad, &|place| place.clamp(0, last))),
            Self::Circular(pad) => Ok(around(pad, &|place| place.rem_euclid(count))),
            Self::Repeat(times) => Ok((0..times).flat_map(|_| 0..size).collect()),
            Self::Interleave(times) => Ok((0..size).flat_map(|entry| vec![entry; times]).collect()),
            Self::Windows { size: own, stride, dilation } => {
                let starts = (0..size - dilation * (own - 1)).step_by(stride);
                Ok(starts.flat_map(|start| (0..own).map(move |entry| start + entry * dilation)).collect())
            }
        }
    }
}

impl Rearrange {
    fn entries(&self, dims: &[usize]) -> Result<(usize, Vec<usize>), String> {
        let axis = axis(self.dim, dims.len())?;
        Ok((axis, self.picked.entries(dims[axis])?))
    }
}

impl Operation for Rearrange {
    columns! {
        moves: Cost::of_result,
    }

    fn name(&self) -> &'static str {
        match self.picked {
            Picked::Flip => "flip",
            Picked::Reflect(_) | Picked::Replicate(_) | Picked::Circular(_) => "pad",
            Picked::Repeat(_) => "repeat",
            Picked::Interleave(_) => "repeat_interleave",
            Picked::Windows { .. } => "unfold",
        }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let (axis, entries) = self.entries(&x.shape)?;
        let mut shape = x.shape.clone();
        shape[axis] = entries.len();
        Ok(Fact { kind: x.kind, ..Fact::float(&shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[axis(self.dim, result.shape.len())?])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let mut shape = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        let (axis, entries) = self.entries(&shape).map_err(|reason| run.misfit(reason))?;
        let strides = strides(&shape);
        let mut axes: Vec<Vec<usize>> = (0..shape.len()).map(|at| all_of(shape[at], strides[at])).collect();
        axes[axis] = entries.iter().map(|entry| entry * strides[axis]).collect();
        shape[axis] = entries.len();
        run.chosen(operands, &places(&axes), &shape)
    }
}

impl Operation for Fold {
    columns! {
        name: "fold",
        moves: Cost::of_result,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let (axis, entries) = (axis(self.dim, x.shape.len())?, self.picked.entries(self.size)?);
        if x.shape[axis] != entries.len() {
            return Err(format!("{} entries do not come from {}", x.shape[axis], self.size));
        }
        let mut shape = x.shape.clone();
        shape[axis] = self.size;
        Ok(Fact::float(&shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[axis(self.dim, result.shape.len())?])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let axis = axis(self.dim, x.dims()?.len()).map_err(|reason| run.misfit(reason))?;
        let entries = self.picked.entries(self.size).map_err(|reason| run.misfit(reason))?;
        let map = Map::of(self.size, entries.len(), |to, from| f64::from(u8::from(entries[from] == to)));
        Ok(Slot::Float(run.along(&x, axis, &map)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_those_of_pytorch() {
        for (picked, expected) in [
            (Picked::Flip, vec![3, 2, 1, 0]),
            (Picked::Reflect([2, 3]), vec![2, 1, 0, 1, 2, 3, 2, 1, 0]),
            (Picked::Replicate([2, 1]), vec![0, 0, 0, 1, 2, 3, 3]),
            (Picked::Circular([1, 2]), vec![3, 0, 1, 2, 3, 0, 1]),
            (Picked::Interleave(2), vec![0, 0, 1, 1, 2, 2, 3, 3]),
            (Picked::Windows { size: 2, stride: 1, dilation: 2 }, vec![0, 2, 1, 3]),
            (Picked::Windows { size: 2, stride: 2, dilation: 1 }, vec![0, 1, 2, 3]),
        ] {
            assert_eq!(picked.entries(4).unwrap(), expected, "{picked:?}");
        }
        assert!(Picked::Reflect([4, 0]).entries(4).is_err());
        assert!(Picked::Windows { size: 3, stride: 1, dilation: 2 }.entries(4).is_err());
    }
}
