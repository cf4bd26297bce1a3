//! Windows along the last axes, in any number, and the maximum of each.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{MaxPool2d, Squeeze, Unsqueeze};
use crate::Result;
use crate::autodiff::Value;
use crate::kernels::Linear;
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Results, Start};

/// Windows along the last axes; each list has a number for each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// Entries of a window.
    pub kernel_size: Vec<usize>,
    /// Steps between windows.
    pub stride: Vec<usize>,
    /// Entries around.
    pub padding: Vec<usize>,
    /// Steps between the entries of a window.
    pub dilation: Vec<usize>,
    /// Whether a window may reach past the end.
    pub ceil_mode: bool,
}

/// Entries of an axis or a window, at most.
const MOST: usize = 1 << 28;
/// Entries of all windows along one axis, and of a matrix between two axes, at most.
pub(super) const MOST_TABLE: usize = 1 << 25;

/// One window along one axis.
pub(super) struct Span {
    /// What it covers of the input.
    pub(super) entries: Vec<usize>,
    /// What it covers with the padding.
    pub(super) with_padding: usize,
}

/// The maximum of each window, the first one where several are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// The windows.
    pub windows: Windows,
    /// Whether these are the places of the maxima, counted within each channel.
    pub places: bool,
}

/// The maximum of each of the windows that cover the last axes evenly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveMaxPool {
    /// Sizes of the last axes of the result.
    pub output_size: Vec<usize>,
    /// Whether these are the places of the maxima, counted within each channel.
    pub places: bool,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "max_pool1d" | "max_pool1d_with_indices" => maximum::<1>(call),
        "max_pool2d" | "max_pool2d_with_indices" => maximum::<2>(call),
        "max_pool3d" | "max_pool3d_with_indices" => maximum::<3>(call),
        "adaptive_max_pool1d" => adaptive::<1>(call),
        "adaptive_max_pool2d" => adaptive::<2>(call),
        "adaptive_max_pool3d" => adaptive::<3>(call),
        _ => return None,
    })
}

fn maximum<const N: usize>(call: &mut Call<'_>) -> Results {
    let (x, windows) = (call.operand("self")?, Windows::of_call::<N>(call)?);
    let rank = call.rank(&x).unwrap_or(4);
    match windows.two() {
        Some([kernel_size, stride, padding]) if call.count == 1 && rank == 4 => {
            call.gives(MaxPool2d { kernel_size, stride, padding }, [x])
        }
        _ if N == 1 && call.count == 1 && windows.is_plain() => {
            let pair = |list: &[usize], other: usize| [other, list.first().copied().unwrap_or(other)];
            let (kernel_size, stride) = (pair(&windows.kernel_size, 1), pair(&windows.stride, 1));
            let x = call.push(Unsqueeze { dim: -2 }, [x]);
            let y = call.push(MaxPool2d { kernel_size, stride, padding: pair(&windows.padding, 0) }, [x]);
            call.gives(Squeeze { dim: vec![-2] }, [y])
        }
        _ => {
            let of = |places| MaxPool { windows: windows.clone(), places };
            Ok([false, true].map(|places| call.push(of(places), [x.clone()]))[..call.count.min(2)].to_vec())
        }
    }
}

fn adaptive<const N: usize>(call: &mut Call<'_>) -> Results {
    let (x, sizes) = (call.operand("self")?, call.counts::<N>("output_size", None)?);
    let of = |places| AdaptiveMaxPool { output_size: sizes.to_vec(), places };
    Ok([false, true].map(|places| call.push(of(places), [x.clone()]))[..call.count.min(2)].to_vec())
}

impl Windows {
    /// Of a call of a pooling along `N` axes; an empty stride is that of the kernel.
    pub(super) fn of_call<const N: usize>(call: &mut Call<'_>) -> Result<Self, String> {
        let kernel_size = call.counts::<N>("kernel_size", None)?;
        let stride = match call.ints("stride")?.as_deref() {
            None | Some([]) => kernel_size,
            Some(&[one]) => [usize::try_from(one).unwrap_or(0); N],
            Some(steps) => {
                let steps: Vec<usize> = steps.iter().map(|&step| usize::try_from(step).unwrap_or(0)).collect();
                steps.try_into().map_err(|_| "its stride does not fit its kernel")?
            }
        };
        let (padding, dilation) = (call.counts::<N>("padding", Some(0))?, call.counts::<N>("dilation", Some(1))?);
        let [kernel_size, stride, padding, dilation] = [kernel_size, stride, padding, dilation].map(Vec::from);
        Ok(Self { kernel_size, stride, padding, dilation, ceil_mode: call.flag("ceil_mode", false)? })
    }

    /// Whether no window has gaps or reaches past the end.
    fn is_plain(&self) -> bool {
        !self.ceil_mode && self.dilation.iter().all(|&step| step == 1)
    }

    /// Kernel, stride and padding of plain windows along two axes.
    pub(super) fn two(&self) -> Option<[[usize; 2]; 3]> {
        let pair = |list: &Vec<usize>| <[usize; 2]>::try_from(list.as_slice()).ok();
        let pairs = [pair(&self.kernel_size)?, pair(&self.stride)?, pair(&self.padding)?];
        self.is_plain().then_some(pairs)
    }

    /// The windows along one of the axes, of `size` entries.
    pub(super) fn spans(&self, place: usize, size: usize) -> Result<Vec<Span>, String> {
        let at = |list: &[usize]| list.get(place).copied().unwrap_or(0);
        let (kernel, stride, dilation) = (at(&self.kernel_size), at(&self.stride), at(&self.dilation));
        let padding = at(&self.padding);
        if kernel == 0 || stride == 0 || dilation == 0 {
            return Err("kernel, stride and dilation must be at least 1".into());
        }
        if padding > kernel / 2 {
            return Err("padding may be at most half of the kernel".into());
        }
        let reach = dilation.saturating_mul(kernel - 1).saturating_add(1);
        let (end, padded) = (size.saturating_add(padding), size.saturating_add(padding.saturating_mul(2)));
        if padded > MOST || reach > MOST || stride > MOST {
            return Err(format!("windows of {reach} entries in {padded} are not possible"));
        }
        let (left, step) = (padded as i64 - reach as i64, stride as i64);
        let steps = if self.ceil_mode { (left + step - 1).div_euclid(step) } else { left.div_euclid(step) };
        let Some(mut count) = usize::try_from(steps + 1).ok().filter(|&count| count > 0) else {
            return Err(format!("a window of {reach} does not fit {size} entries"));
        };
        // The last window begins within the input or the padding before it.
        if self.ceil_mode && (count - 1) * stride >= end {
            count -= 1;
        }
        if count.saturating_mul(kernel) > MOST_TABLE {
            return Err(format!("{count} windows of {kernel} entries are too many"));
        }
        let span = |start: usize| {
            let taps = (0..kernel).map(|tap| start + tap * dilation).take_while(|&at| at < end);
            let entries = taps.filter_map(|at| at.checked_sub(padding)).collect();
            Span { entries, with_padding: (start + reach).min(padded) - start }
        };
        Ok((0..count).map(|window| span(window * stride)).collect())
    }

    /// The shape of what is made of an input.
    pub(super) fn shape(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        let pooled = self.kernel_size.len();
        let Some(first) = dims.len().checked_sub(pooled).filter(|&first| first > 0) else {
            return Err(format!("expects more than {pooled} axes, but its input is {dims:?}"));
        };
        let mut shape = dims.to_vec();
        for place in 0..pooled {
            shape[first + place] = self.spans(place, dims[first + place])?.len();
        }
        Ok(shape)
    }
}

/// What windows cover, for each of the last axes.
type Covered = Vec<Vec<Vec<usize>>>;

/// For each combination of windows the place of its first maximum in the flattened input `x`, and within the last axes.
fn maxima(x: &Tensor, covered: &Covered) -> Result<(Vec<usize>, Vec<i64>)> {
    let dims = x.dims();
    let plane = &dims[dims.len() - covered.len()..];
    let len: usize = plane.iter().product();
    let values = x.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    // What each combination covers, in the order of the axes.
    let mut boxes = vec![vec![0]];
    for (windows, &size) in covered.iter().zip(plane) {
        let inside = |places: &Vec<usize>, window: &Vec<usize>| {
            places.iter().flat_map(|place| window.iter().map(move |entry| place * size + entry)).collect()
        };
        boxes = boxes.iter().flat_map(|places| windows.iter().map(|window| inside(places, window))).collect();
    }
    let (mut places, mut within) = (Vec::new(), Vec::new());
    for channel in 0..values.len() / len.max(1) {
        let values = &values[channel * len..];
        for covered in &boxes {
            // NaN wins: a maximum that dropped it would hide broken weights from the loss.
            let better = |&a: &usize, &b: &usize| values[b] > values[a] || values[b].is_nan();
            let best = covered.iter().copied().reduce(|a, b| if better(&a, &b) { b } else { a }).unwrap_or(0);
            places.push(channel * len + best);
            within.push(best as i64);
        }
    }
    Ok((places, within))
}

/// The answers that both give alike.
macro_rules! answers {
    ($names:expr) => {
        columns! {
            operands: &["input"],
            start: Start::Constant(0.0),
            affinity: Affinity::AFFINE,
        }

        fn name(&self) -> &'static str {
            $names[self.covered_axes().clamp(1, 3) - 1]
        }

        fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
            let (_, shape) = self.covered(&fact(operands, 0)?.shape)?;
            Ok(Fact { kind: if self.places { Kind::Whole } else { Kind::Float }, ..Fact::float(&shape) })
        }

        fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
            let covered = operands[0].and_then(|x| self.covered(&x.shape).ok());
            let entries = |windows: &Vec<Vec<usize>>| windows.iter().map(Vec::len).sum::<usize>();
            let all = covered.iter().flat_map(|(covered, _)| covered).map(entries);
            // Places of 64 bits take as much as two floats.
            Cost::of_result(result).with_scratch(all.fold(2, usize::saturating_mul))
        }

        fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
            let rank = result.shape.len();
            rows::together(operands[0], &(rank - self.covered_axes()..rank).collect::<Vec<_>>())
        }

        fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
            let (x, plain) = (run.var(operands, 0)?, run.plain(operands, 0)?);
            let (covered, shape) = self.covered(plain.dims()).map_err(|reason| run.misfit(reason))?;
            let (places, within) = maxima(&plain, &covered)?;
            if self.places {
                return Ok(Slot::Whole(Tensor::from_vec(within, shape, &run.device)?));
            }
            let indices: Option<Vec<u32>> = places.iter().map(|&place| u32::try_from(place).ok()).collect();
            let indices = indices.ok_or_else(|| run.misfit("more than 2^32 entries to choose from"))?;
            let indices = run.tape.pattern.choose(Tensor::from_vec(indices, shape, &run.device)?)?;
            let from = plain.dims().to_vec();
            Ok(Slot::Float(run.tape.linear(Linear::Gather { indices, from }, &x)?))
        }
    };
}

impl MaxPool {
    fn covered_axes(&self) -> usize {
        self.windows.kernel_size.len()
    }

    fn covered(&self, dims: &[usize]) -> Result<(Covered, Vec<usize>), String> {
        let shape = self.windows.shape(dims)?;
        let first = dims.len() - self.covered_axes();
        let entries = |place: usize| {
            let spans = self.windows.spans(place, dims[first + place])?;
            Ok::<_, String>(spans.into_iter().map(|span| span.entries).collect())
        };
        Ok(((0..self.covered_axes()).map(entries).collect::<Result<_, _>>()?, shape))
    }
}

impl Operation for MaxPool {
    answers!(["max_pool1d", "max_pool2d", "max_pool3d"]);
}

impl AdaptiveMaxPool {
    fn covered_axes(&self) -> usize {
        self.output_size.len()
    }

    fn covered(&self, dims: &[usize]) -> Result<(Covered, Vec<usize>), String> {
        let Some(first) = dims.len().checked_sub(self.covered_axes()).filter(|&first| first > 0) else {
            return Err(format!("expects more than {} axes, but its input is {dims:?}", self.covered_axes()));
        };
        let sizes = || dims[first..].iter().zip(&self.output_size);
        if sizes().any(|(&from, &to)| from == 0 || to == 0) {
            return Err("it takes the maximum of nothing".into());
        }
        if let Some((from, to)) = sizes().find(|(from, to)| from.saturating_add(**to) > MOST_TABLE) {
            return Err(format!("{to} windows on {from} entries are too many"));
        }
        let windows = |(&from, &to): (&usize, &usize)| {
            (0..to).map(|i| (i * from / to..((i + 1) * from).div_ceil(to)).collect()).collect()
        };
        Ok((sizes().map(windows).collect(), [&dims[..first], &self.output_size].concat()))
    }
}

impl Operation for AdaptiveMaxPool {
    answers!(["adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"]);
}
