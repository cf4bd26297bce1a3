//! Interpolation on other grids, by a constant matrix along each axis.

use serde::{Deserialize, Serialize};

use super::resampling::{Map, copied_maps};
use super::windows::MOST_TABLE;
use crate::Result;
use crate::autodiff::Value;
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Results, Start};

/// How values between the points of a grid are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolated {
    /// The point at or before it.
    Nearest,
    /// The point nearest to its centre.
    NearestExact,
    /// Lines through two points.
    Linear,
    /// Cubics through four points (Keys 1981).
    Cubic,
}

/// Interpolation along the last axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// How.
    pub mode: Interpolated,
    /// Along how many axes.
    pub axes: usize,
    /// Sizes of the last axes of the result, where they are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_size: Option<Vec<usize>>,
    /// Whether the corners of both grids lie on one another.
    pub align_corners: bool,
    /// Whether all points that a point of a coarser grid stands for count.
    pub antialias: bool,
    /// Factors of the sizes, where they are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_factors: Option<Vec<f64>>,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    let (mode, axes) = match call.name {
        "upsample_nearest1d" => (Interpolated::Nearest, 1),
        "upsample_nearest2d" => (Interpolated::Nearest, 2),
        "upsample_nearest3d" => (Interpolated::Nearest, 3),
        "_upsample_nearest_exact1d" => (Interpolated::NearestExact, 1),
        "_upsample_nearest_exact2d" => (Interpolated::NearestExact, 2),
        "_upsample_nearest_exact3d" => (Interpolated::NearestExact, 3),
        "upsample_linear1d" => (Interpolated::Linear, 1),
        "upsample_bilinear2d" | "_upsample_bilinear2d_aa" => (Interpolated::Linear, 2),
        "upsample_trilinear3d" => (Interpolated::Linear, 3),
        "upsample_bicubic2d" | "_upsample_bicubic2d_aa" => (Interpolated::Cubic, 2),
        _ => return None,
    };
    Some(upsample(call, mode, axes))
}

fn upsample(call: &mut Call<'_>, mode: Interpolated, axes: usize) -> Results {
    let x = call.operand(if call.has("input") { "input" } else { "self" })?;
    let sizes = call.ints("output_size")?;
    let sizes = sizes.map(|sizes| sizes.iter().map(|&size| usize::try_from(size)).collect::<Result<Vec<_>, _>>());
    let output_size = sizes.transpose().map_err(|_| "a size is negative")?;
    let mut scale_factors = call.numbers("scale_factors")?;
    let names = ["scales_d", "scales_h", "scales_w"];
    let names = if axes == 1 { &["scales"][..] } else { &names[3 - axes..] };
    let mut scales = Vec::new();
    for name in names {
        scales.extend(call.number(name)?);
    }
    if scales.len() == axes {
        scale_factors = Some(scales);
    }
    let (align_corners, antialias) = (call.flag("align_corners", false)?, call.name.ends_with("_aa"));
    let fits = |len: Option<usize>| len.is_none_or(|len| len == axes);
    if !fits(output_size.as_ref().map(Vec::len)) || !fits(scale_factors.as_ref().map(Vec::len)) {
        return Err(format!("its sizes are not {axes} numbers"));
    }
    call.gives(Upsample { mode, axes, output_size, align_corners, antialias, scale_factors }, [x])
}

/// The weight of a point at a distance; `a` is the cubic's slope at 1.
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

impl Upsample {
    fn map(&self, place: usize, from: usize) -> Result<Map, String> {
        let factor = self.scale_factors.as_ref().and_then(|factors| factors.get(place)).copied();
        let factor = factor.filter(|factor| *factor > 0.0 && *factor < 1e6);
        let (to, ratio) = match (self.output_size.as_ref().and_then(|sizes| sizes.get(place)), factor) {
            (Some(&to), factor) => (to, factor.map_or(from as f64 / to.max(1) as f64, |factor| 1.0 / factor)),
            (None, Some(factor)) => ((from as f64 * factor).floor() as usize, 1.0 / factor),
            (None, None) => return Err("neither its sizes nor its factors are given".into()),
        };
        if to == 0 || from == 0 || to.saturating_mul(from) > MOST_TABLE {
            return Err(format!("{from} points cannot be resampled to {to}"));
        }
        let ratio = match self.align_corners {
            true if to > 1 => (from - 1) as f64 / (to - 1) as f64,
            true => 0.0,
            false => ratio,
        };
        let mut map = Map { to, from, entries: vec![0.0; to * from] };
        for i in 0..to {
            let row = &mut map.entries[i * from..(i + 1) * from];
            if self.antialias { self.averaged(i, ratio, row) } else { self.between(i, ratio, row) }
        }
        Ok(map)
    }

    /// The weights of the points around point `i` of the result.
    fn between(&self, i: usize, ratio: f64, row: &mut [f64]) {
        let last = row.len() as i64 - 1;
        let mut add = |at: i64, weight: f64| row[at.clamp(0, last) as usize] += weight;
        let centre = if self.align_corners { i as f64 * ratio } else { (i as f64 + 0.5) * ratio - 0.5 };
        match self.mode {
            Interpolated::Nearest => add((i as f64 * ratio).floor() as i64, 1.0),
            Interpolated::NearestExact => add(((i as f64 + 0.5) * ratio).floor() as i64, 1.0),
            Interpolated::Linear => {
                let centre = centre.max(0.0);
                let low = (centre.floor() as i64).min(last);
                add(low, 1.0 - (centre - low as f64));
                add(low + 1, centre - low as f64);
            }
            Interpolated::Cubic => {
                let low = centre.floor();
                (-1..=2).for_each(|step| add(low as i64 + step, cubic(centre - low - step as f64, -0.75)));
            }
        }
    }

    /// The weights of all points that point `i` of a coarser result stands for; they add up to 1.
    fn averaged(&self, i: usize, ratio: f64, row: &mut [f64]) {
        let (width, stretch) = (if self.mode == Interpolated::Cubic { 2.0 } else { 1.0 }, ratio.max(1.0));
        let (centre, reach) = (ratio * (i as f64 + 0.5), width * stretch);
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(row.len());
        let weight = |at: usize| {
            let distance = (at as f64 - centre + 0.5) / stretch;
            if self.mode == Interpolated::Cubic { cubic(distance, -0.5) } else { (1.0 - distance.abs()).max(0.0) }
        };
        let sum: f64 = (first..end).map(weight).sum();
        (first..end).for_each(|at| row[at] = weight(at) / sum);
    }

    /// The matrix for each of the last axes, and the first of them.
    fn maps(&self, dims: &[usize]) -> Result<(usize, Vec<Map>), String> {
        let Some(first) = dims.len().checked_sub(self.axes).filter(|&first| first > 0) else {
            return Err(format!("expects more than {} axes, but its input is {dims:?}", self.axes));
        };
        let maps = dims[first..].iter().enumerate().map(|(place, &from)| self.map(place, from));
        Ok((first, maps.collect::<Result<_, _>>()?))
    }
}

impl Operation for Upsample {
    columns! {
        operands: &["input"],
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn name(&self) -> &'static str {
        let of_axes = |names: [&'static str; 3]| names[self.axes.clamp(1, 3) - 1];
        match (self.mode, self.antialias) {
            (Interpolated::Nearest, _) => of_axes(["upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"]),
            (Interpolated::NearestExact, _) => {
                of_axes(["_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"])
            }
            (Interpolated::Linear, true) => "_upsample_bilinear2d_aa",
            (Interpolated::Linear, false) => {
                of_axes(["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"])
            }
            (Interpolated::Cubic, true) => "_upsample_bicubic2d_aa",
            (Interpolated::Cubic, false) => "upsample_bicubic2d",
        }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let (first, maps) = self.maps(&x.shape)?;
        let sizes = x.shape[..first].iter().copied().chain(maps.iter().map(|map| map.to));
        Ok(Fact::float(&sizes.collect::<Vec<_>>()))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let cost = Cost::with_activations(2 * self.axes * result.len(), &[result.len()]);
        cost.with_scratch(operands[0].map_or(0, |x| copied_maps(&x.shape, &result.shape, self.axes)))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let rank = result.shape.len();
        rows::together(operands[0], &(rank - self.axes..rank).collect::<Vec<_>>())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let mut x = run.var(operands, 0)?;
        let (first, maps) = self.maps(x.dims()?).map_err(|reason| run.misfit(reason))?;
        for (place, map) in maps.iter().enumerate() {
            x = run.along(&x, first + place, map)?;
        }
        Ok(Slot::Float(x))
    }
}
