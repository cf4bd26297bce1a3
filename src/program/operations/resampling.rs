//! Images on other grids: adaptive means and interpolation, a constant matrix along each axis.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{self, Bilinear};
use crate::program::infer::Cost;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows::{self, Tracked};
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Results, Start};

/// Means over windows that cover the last axes evenly, whatever their sizes; windows may differ by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool {
    /// Sizes of the last axes of the result.
    pub output_size: Vec<usize>,
}

/// Linear interpolation along height and width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpsampleBilinear2d {
    /// Height and width of the result, where they are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_size: Option<[usize; 2]>,
    /// Whether the corners of both grids lie on one another.
    pub align_corners: bool,
    /// Factors of height and width, where the sizes are not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_factors: Option<[f64; 2]>,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "adaptive_avg_pool1d" => adaptive::<1>(call),
        "adaptive_avg_pool2d" => adaptive::<2>(call),
        "adaptive_avg_pool3d" => adaptive::<3>(call),
        "upsample_bilinear2d" => upsample(call),
        _ => return None,
    })
}

fn adaptive<const N: usize>(call: &mut Call<'_>) -> Results {
    let (x, sizes) = (call.operand("self")?, call.counts::<N>("output_size", None)?);
    call.gives(AdaptiveAvgPool { output_size: sizes.to_vec() }, [x])
}

fn upsample(call: &mut Call<'_>) -> Results {
    let x = call.optional("input")?;
    let x = if x.name().is_some() { x } else { call.operand("self")? };
    let output_size = match call.sizes("output_size")? {
        None => None,
        Some(sizes) => match sizes.iter().map(|size| usize::try_from(size.at(0)).ok()).collect::<Option<Vec<_>>>() {
            Some(fixed) if sizes.iter().all(|size| size.is_fixed()) => {
                Some(fixed.try_into().map_err(|_| "its sizes are not a pair")?)
            }
            _ => return Err("its sizes depend on the number of rows".into()),
        },
    };
    let scale_factors = call.numbers("scale_factors")?;
    let scale_factors = scale_factors.map(|factors| factors.try_into().map_err(|_| "its factors are not a pair"));
    let align_corners = call.flag("align_corners", false)?;
    call.number("scales_h")?;
    call.number("scales_w")?;
    call.gives(UpsampleBilinear2d { output_size, align_corners, scale_factors: scale_factors.transpose()? }, [x])
}

/// A matrix `[to, from]`, row by row.
struct Map {
    to: usize,
    from: usize,
    entries: Vec<f64>,
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
        Cost::with_activations(operands[0].map_or(0, |x| x.len()), &[result.len()])
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

impl UpsampleBilinear2d {
    fn maps(&self, dims: &[usize]) -> Result<[Map; 2], String> {
        let &[_, _, height, width] = dims else {
            return Err(format!("expects images [N, C, H, W], but its input is {dims:?}"));
        };
        let map = |axis: usize, from: usize| {
            let (to, ratio) = match (self.output_size, self.scale_factors) {
                (Some(sizes), _) => (sizes[axis], from as f64 / sizes[axis].max(1) as f64),
                (None, Some(factors)) if factors[axis] > 0.0 && factors[axis] < 1e6 => {
                    ((from as f64 * factors[axis]).floor() as usize, 1.0 / factors[axis])
                }
                _ => return Err("neither its sizes nor its factors are given".into()),
            };
            if to == 0 || from == 0 || to.saturating_mul(from) > 1 << 28 {
                return Err(format!("a grid of {to} points out of {from} is not possible"));
            }
            let mut entries = vec![0.0; to * from];
            for i in 0..to {
                let place = match (self.align_corners, to) {
                    (true, 1) => 0.0,
                    (true, _) => i as f64 * (from - 1) as f64 / (to - 1) as f64,
                    (false, _) => ((i as f64 + 0.5) * ratio - 0.5).max(0.0),
                };
                let low = (place.floor() as usize).min(from - 1);
                let share = place - low as f64;
                entries[i * from + low] += 1.0 - share;
                entries[i * from + (low + 1).min(from - 1)] += share;
            }
            Ok(Map { to, from, entries })
        };
        Ok([map(0, height)?, map(1, width)?])
    }
}

impl Operation for UpsampleBilinear2d {
    columns! {
        name: "upsample_bilinear2d",
        operands: &["input"],
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let [height, width] = self.maps(&x.shape)?;
        Ok(Fact::float(&[x.shape[0], x.shape[1], height.to, width.to]))
    }

    fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
        Cost::with_activations(4 * result.len(), &[result.len()])
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::together(operands[0], &[2, 3])
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let [height, width] = self.maps(x.dims()?).map_err(|reason| run.misfit(reason))?;
        let x = run.along(&x, 2, &height)?;
        Ok(Slot::Float(run.along(&x, 3, &width)?))
    }
}

impl<V: Value> Run<'_, V> {
    /// The matrix applied along an axis.
    fn along(&mut self, x: &Var<V>, axis: usize, map: &Map) -> Result<Var<V>> {
        let mut dims = x.dims()?.to_vec();
        let (outer, inner) = (dims[..axis].iter().product::<usize>(), dims[axis + 1..].iter().product::<usize>());
        let matrix = Tensor::from_slice(&map.entries, (1, map.to, map.from), &self.device)?.to_dtype(self.dtype)?;
        dims[axis] = map.to;
        if inner == 1 {
            let matrix = self.tape.constant(matrix.squeeze(0)?);
            let y = self.rows_times_matrix(x, map.from, (&matrix, None))?;
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
