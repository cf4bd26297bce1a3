//! Images read at places that are computed, as spatial transformers do (Jaderberg et al. 2015).

use super::{
    Add, Arange, Cat, Clamp, Compare, Comparison, Connective, Expand, Flatten, Full, Gather, Logical, Matmul, Mul,
    Select, Step, Steps, Sub, To, Transpose, Unflatten, Unsqueeze,
};
use crate::program::{Call, Kind, Operand, Results, Size};

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "affine_grid_generator" => affine_grid(call),
        "grid_sampler" | "grid_sampler_2d" => sample(call),
        _ => return None,
    })
}

/// The centres of so many points between −1 and 1, or points from corner to corner.
fn points(call: &mut Call<'_>, count: i64, align_corners: bool) -> Operand {
    let places = call.push(Arange { end: Size::fixed(count) }, []);
    let places = call.push(To { kind: Kind::Float }, [places]);
    let (step, first) = match align_corners {
        true if count > 1 => (2.0 / (count - 1) as f64, -1.0),
        true => (0.0, 0.0),
        false => (2.0 / count as f64, 1.0 / count as f64 - 1.0),
    };
    let scaled = call.times(&places, step);
    call.plus(&scaled, first)
}

/// `θ (x, y, 1)ᵀ` for each point of a grid.
fn affine_grid(call: &mut Call<'_>) -> Results {
    let (theta, size) = (call.operand("theta")?, call.sizes("size")?.ok_or("its size is missing")?);
    let align_corners = call.flag("align_corners", false)?;
    let [_, _, height, width] = size.as_slice() else { return Err("volumes are not supported".into()) };
    let plane = vec![height.clone(), width.clone()];
    let x = points(call, width.at(0), align_corners);
    let y = points(call, height.at(0), align_corners);
    let y = call.push(Unsqueeze { dim: 1 }, [y]);
    let [x, y] = [x, y].map(|axis| call.push(Expand { size: plane.clone() }, [axis]));
    let ones = call.push(Full { size: plane.clone(), fill_value: 1.0, kind: Kind::Float }, []);
    let parts = [x, y, ones].map(|part| call.push(Unsqueeze { dim: -1 }, [part]));
    let grid = call.push(Cat { dim: -1 }, parts);
    let grid = call.push(Flatten { start_dim: 0, end_dim: 1 }, [grid]);
    let theta = call.push(Transpose { dim0: 1, dim1: 2 }, [theta]);
    let places = call.push(Matmul {}, [grid, theta]);
    call.gives(Unflatten { dim: 1, sizes: vec![height.at(0), width.at(0)] }, [places])
}

/// What coordinates mean at the ends of an axis.
#[derive(Clone, Copy)]
struct Ends {
    /// Whether -1 and 1 are the middles of the outer pixels, rather than their edges.
    align_corners: bool,
    /// Whether coordinates beyond the ends are moved to them.
    clip: bool,
}

/// A coordinate in units of pixels, the pixel before it, and how far it is past that.
fn pixel(call: &mut Call<'_>, coordinate: Operand, size: i64, ends: Ends) -> [Operand; 2] {
    let (scale, shift) = match ends.align_corners {
        true => (0.5 * (size - 1) as f64, 0.5 * (size - 1) as f64),
        false => (0.5 * size as f64, 0.5 * (size - 1) as f64),
    };
    let scaled = call.times(&coordinate, scale);
    let mut at = call.plus(&scaled, shift);
    if ends.clip {
        at = call.push(Clamp { min: Some(0.0), max: Some((size - 1) as f64), closed: false }, [at]);
    }
    let before = call.push(Step { function: Steps::Floor }, [at.clone()]);
    let past = call.push(Sub {}, [at, before.clone()]);
    [before, past]
}

/// Bilinear interpolation: the four pixels around each place by their shares; zeros outside, or the pixel at the border.
fn sample(call: &mut Call<'_>) -> Results {
    let (x, grid) = (call.operand("input")?, call.operand("grid")?);
    let (mode, padding) = (call.int("interpolation_mode", Some(0))?, call.int("padding_mode", Some(0))?);
    let ends = Ends { align_corners: call.flag("align_corners", false)?, clip: padding == 1 };
    call.only("interpolation_mode", mode, 0)?;
    call.only("padding_mode", padding < 2, true)?;
    let (image, places) = (call.shape(&x)?, call.shape(&grid)?);
    let ([_, channels, height, width], [_, rows, columns, _]) = (image.as_slice(), places.as_slice()) else {
        return Err("volumes are not supported".into());
    };
    let sizes = [width.at(0), height.at(0)];
    let flat = call.push(Flatten { start_dim: 2, end_dim: 3 }, [x]);
    let mut along = Vec::new();
    for (index, size) in (0..).zip(sizes) {
        let coordinate = call.push(Select { dim: -1, index }, [grid.clone()]);
        let coordinate = call.push(Flatten { start_dim: 1, end_dim: 2 }, [coordinate]);
        let coordinate = call.push(Unsqueeze { dim: 1 }, [coordinate]);
        along.push(corners(call, coordinate, size, ends));
    }
    let all = vec![Size::fixed(-1), channels.clone(), Size::fixed(-1)];
    let mut sum: Option<Operand> = None;
    for [column, across] in along[0].clone() {
        for [row, down] in along[1].clone() {
            let start = call.times(&row, sizes[0] as f64);
            let place = call.push(Add {}, [start, column.clone()]);
            let place = call.push(Expand { size: all.clone() }, [place]);
            let pixels = call.push(Gather { dim: 2 }, [flat.clone(), place]);
            let share = call.push(Mul {}, [across.clone(), down]);
            let part = call.push(Mul {}, [pixels, share]);
            sum = Some(match sum {
                None => part,
                Some(sum) => call.push(Add {}, [sum, part]),
            });
        }
    }
    let sum = sum.ok_or("it has no corners")?;
    call.gives(Unflatten { dim: 2, sizes: vec![rows.at(0), columns.at(0)] }, [sum])
}

/// The pixels before and behind a coordinate, within the image, and their shares; 0 where the pixel is outside of it.
fn corners(call: &mut Call<'_>, coordinate: Operand, size: i64, ends: Ends) -> [[Operand; 2]; 2] {
    let [before, past] = pixel(call, coordinate, size, ends);
    [0.0, 1.0].map(|step| {
        let at = call.plus(&before, step);
        let share = if step == 1.0 {
            past.clone()
        } else {
            let left = call.times(&past, -1.0);
            call.plus(&left, 1.0)
        };
        let last = (size - 1) as f64;
        let above = call.push(Compare { comparison: Comparison::Ge }, [at.clone(), Operand::Number(0.0)]);
        let below = call.push(Compare { comparison: Comparison::Le }, [at.clone(), Operand::Number(last)]);
        let inside = call.push(Logical { connective: Connective::And }, [above, below]);
        let share = call.push(super::Where {}, [inside, share, Operand::Number(0.0)]);
        let within = call.push(Clamp { min: Some(0.0), max: Some(last), closed: true }, [at]);
        [call.push(To { kind: Kind::Whole }, [within]), share]
    })
}
