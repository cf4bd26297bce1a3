//! Means on other grids, by a constant matrix along each axis.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::AvgPool2d;
use super::windows::{MOST_TABLE, Windows};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{self, Bilinear};
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Results, Start};

/// Means over windows that cover the last axes evenly, whatever their sizes; windows may differ by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool {
    /// Sizes of the last axes of the result.
    pub output_size: Vec<usize>,
}

/// Means over windows of the last axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// The windows.
    pub windows: Windows,
    /// Whether the zeros around count.
    pub count_include_pad: bool,
    /// What sums are divided by instead of the number of entries.
    pub divisor_override: Option<usize>,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "adaptive_avg_pool1d" => adaptive::<1>(call),
        "adaptive_avg_pool2d" | "_adaptive_avg_pool2d" => adaptive::<2>(call),
        "adaptive_avg_pool3d" | "_adaptive_avg_pool3d" => adaptive::<3>(call),
        "avg_pool1d" => average::<1>(call),
        "avg_pool2d" => average::<2>(call),
        "avg_pool3d" => average::<3>(call),
        _ => return None,
    })
}

fn average<const N: usize>(call: &mut Call<'_>) -> Results {
    let (x, windows) = (call.operand("self")?, Windows::of_call::<N>(call)?);
    let count_include_pad = call.flag("count_include_pad", true)?;
    let divisor_override =
        if call.has("divisor_override") { Some(call.count("divisor_override", None)?) } else { None };
    match (windows.two(), divisor_override) {
        (Some([kernel_size, stride, padding]), None) => {
            call.gives(AvgPool2d { kernel_size, stride, padding, count_include_pad }, [x])
        }
        _ => call.gives(AvgPool { windows, count_include_pad, divisor_override }, [x]),
    }
}

fn adaptive<const N: usize>(call: &mut Call<'_>) -> Results {
    let (x, sizes) = (call.operand("self")?, call.counts::<N>("output_size", None)?);
    call.gives(AdaptiveAvgPool { output_size: sizes.to_vec() }, [x])
}

/// A matrix `[to, from]`, row by row.
pub(super) struct Map {
    pub(super) to: usize,
    pub(super) from: usize,
    pub(super) entries: Vec<f64>,
}

impl Map {
    /// The matrix with these entries.
    pub(super) fn of(to: usize, from: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        Self { to, from, entries: (0..to * from).map(|place| entry(place / from, place % from)).collect() }
    }
}

/// Elements of the matrices that map the last `axes` of `from` to those of `to`, one after the other, as [`Run::along`] copies
/// them: for each combination of the entries in front, but along the last axis.
pub(super) fn copied_maps(from: &[usize], to: &[usize], axes: usize) -> usize {
    let last = from.len().saturating_sub(1);
    let copies = |axis: usize| to[..=axis].iter().fold(from[axis], |product, &size| product.saturating_mul(size));
    (from.len().saturating_sub(axes)..last).map(copies).max().unwrap_or(0)
}

/// Entry `i` is the mean of entries `⌊i·from/to⌋` to `⌈(i+1)·from/to⌉ − 1`.
fn windows(to: usize, from: usize) -> Map {
    let mut entries = vec![0.0; to * from];
    for i in 0..to {
        let (start, end) = (i * from / to, ((i + 1) * from).div_ceil(to));
        entries[i * from + start..i * from + end].fill(1.0 / (end - start) as f64);
    }
    Map { to, from, entries }
}

impl AdaptiveAvgPool {
    /// The axis of the first size, and the shape of the result.
    fn shape(&self, dims: &[usize]) -> Result<(usize, Vec<usize>), String> {
        let Some(first) = dims.len().checked_sub(self.output_size.len()).filter(|&first| first > 0) else {
            return Err(format!("expects more than {} axes, but its input is {dims:?}", self.output_size.len()));
        };
        if dims[first..].contains(&0) || self.output_size.contains(&0) {
            return Err("it averages over nothing".into());
        }
        if dims[first..].iter().zip(&self.output_size).any(|(from, to)| from.saturating_mul(*to) > MOST_TABLE) {
            return Err(format!("means of {:?} entries into {:?} are too many", &dims[first..], self.output_size));
        }
        Ok((first, [&dims[..first], &self.output_size].concat()))
    }
}

impl Operation for AdaptiveAvgPool {
    columns! {
        operands: &["input"],
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn name(&self) -> &'static str {
        match self.output_size.len() {
            1 => "adaptive_avg_pool1d",
            2 => "adaptive_avg_pool2d",
            _ => "adaptive_avg_pool3d",
        }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&self.shape(&fact(operands, 0)?.shape)?.1))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let cost = Cost::with_activations(operands[0].map_or(0, |x| x.len()), &[result.len()]);
        if self.output_size.iter().all(|&size| size == 1) {
            return cost;
        }
        cost.with_scratch(operands[0].map_or(0, |x| copied_maps(&x.shape, &result.shape, self.output_size.len())))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let rank = result.shape.len();
        rows::together(operands[0], &(rank - self.output_size.len()..rank).collect::<Vec<_>>())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let mut x = run.var(operands, 0)?;
        let dims = x.dims()?.to_vec();
        let (first, to) = self.shape(&dims).map_err(|reason| run.misfit(reason))?;
        if self.output_size.iter().all(|&size| size == 1) {
            return Ok(Slot::Float(run.mean(&x, &dims, &to)?));
        }
        for axis in first..dims.len() {
            x = run.along(&x, axis, &windows(to[axis], dims[axis]))?;
        }
        Ok(Slot::Float(x))
    }
}

impl AvgPool {
    /// The mean over the window of each place along one of the pooled axes.
    fn map(&self, place: usize, from: usize) -> Result<Map, String> {
        let spans = self.windows.spans(place, from)?;
        if spans.len().saturating_mul(from) > MOST_TABLE {
            return Err(format!("{} windows on {from} entries are too many", spans.len()));
        }
        let mut entries = vec![0.0; spans.len() * from];
        for (to, span) in spans.iter().enumerate() {
            let count = match (self.divisor_override, self.count_include_pad) {
                (Some(_), _) => 1,
                (None, true) => span.with_padding,
                (None, false) => span.entries.len(),
            };
            span.entries.iter().for_each(|entry| entries[to * from + entry] = 1.0 / count as f64);
        }
        Ok(Map { to: spans.len(), from, entries })
    }
}

impl Operation for AvgPool {
    columns! {
        operands: &["input"],
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn name(&self) -> &'static str {
        ["avg_pool1d", "avg_pool2d", "avg_pool3d"][self.windows.kernel_size.len().clamp(1, 3) - 1]
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&self.windows.shape(&fact(operands, 0)?.shape)?))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let axes = self.windows.kernel_size.len();
        let maps = operands[0].map_or(0, |x| copied_maps(&x.shape, &result.shape, axes));
        Cost::of_result(result).with_scratch(maps)
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let rank = result.shape.len();
        rows::together(operands[0], &(rank - self.windows.kernel_size.len()..rank).collect::<Vec<_>>())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let mut x = run.var(operands, 0)?;
        let (dims, pooled) = (x.dims()?.to_vec(), self.windows.kernel_size.len());
        self.windows.shape(&dims).map_err(|reason| run.misfit(reason))?;
        for place in 0..pooled {
            let axis = dims.len() - pooled + place;
            let map = self.map(place, dims[axis]).map_err(|reason| run.misfit(reason))?;
            x = run.along(&x, axis, &map)?;
        }
        if let Some(divisor) = self.divisor_override {
            x = run.tape.linear(kernels::Linear::Scale { factor: 1.0 / divisor.max(1) as f64 }, &x)?;
        }
        Ok(Slot::Float(x))
    }
}

impl<V: Value> Run<'_, V> {
    /// The matrix applied along an axis.
    pub(super) fn along(&mut self, x: &Var<V>, axis: usize, map: &Map) -> Result<Var<V>> {
        let mut dims = x.dims()?.to_vec();
        let (outer, inner) = (dims[..axis].iter().product::<usize>(), dims[axis + 1..].iter().product::<usize>());
        let matrix = Tensor::from_slice(&map.entries, (1, map.to, map.from), &self.device)?.to_dtype(self.dtype)?;
        dims[axis] = map.to;
        if inner == 1 {
            let matrix = self.tape.constant(matrix.squeeze(0)?);
            let y = self.rows_times_matrix(x, map.from, &matrix, None)?;
            return self.reshape(&y, &dims);
        }
        let matrix = self.tape.constant(matrix.broadcast_as((outer, map.to, map.from))?.contiguous()?);
        let x = self.reshape(x, &[outer, map.from, inner])?;
        let product =
            kernels::MatMul { batch: outer, m: map.to, k: map.from, n: inner, transpose_a: false, transpose_b: false };
        let y = self.tape.bilinear(Bilinear::MatMul(product), &matrix, &x)?;
        self.reshape(&y, &dims)
    }
}
