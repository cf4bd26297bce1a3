//! Padding: zeros, numbers, or the value's own entries.

use super::rearranged::{Picked, Rearrange};
use super::{Compare, Comparison, Fill, Pad, Slice, Where};
use crate::program::{Call, Operand, Results};

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "pad" | "constant_pad_nd" => pad(call),
        "reflection_pad1d" | "reflection_pad2d" | "reflection_pad3d" => by_entries(call, "reflect"),
        "replication_pad1d" | "replication_pad2d" | "replication_pad3d" => by_entries(call, "replicate"),
        "_pad_circular" => by_entries(call, "circular"),
        _ => return None,
    })
}

fn pad(call: &mut Call<'_>) -> Results {
    let mode = call.text("mode")?.unwrap_or_else(|| "constant".into());
    if mode != "constant" {
        call.number("value")?;
        return by_entries(call, &mode);
    }
    let (x, value) = (call.operand("self")?, call.number("value")?.unwrap_or(0.0));
    let sizes = sizes(call)?;
    let y = zeros_around(call, x.clone(), &sizes)?;
    if value == 0.0 || y == x {
        return Ok(vec![y]);
    }
    let ones = call.push(Fill {}, [x, Operand::Number(1.0)]);
    let inside = zeros_around(call, ones, &sizes)?;
    let is_inside = call.push(Compare { comparison: Comparison::Ne }, [inside, Operand::Number(0.0)]);
    call.gives(Where {}, [is_inside, y, Operand::Number(value)])
}

/// Pairs of counts from the last axis on.
fn sizes(call: &mut Call<'_>) -> Result<Vec<[i64; 2]>, String> {
    let sizes = call.ints(if call.has("padding") { "padding" } else { "pad" })?.ok_or("its sizes are missing")?;
    let pairs = sizes.chunks(2).map(|pair| pair.try_into().map_err(|_| "its sizes are not pairs".to_owned()));
    pairs.collect()
}

/// Zeros where a count is positive; entries cut off where it is negative.
fn zeros_around(call: &mut Call<'_>, mut x: Operand, sizes: &[[i64; 2]]) -> Result<Operand, String> {
    for (place, &[before, behind]) in sizes.iter().enumerate() {
        let dim = -1 - place as i64;
        if before < 0 || behind < 0 {
            let end = if behind < 0 { behind } else { i64::MAX };
            x = call.push(Slice { dim, start: (-before).max(0), end, step: 1 }, [x]);
        }
        let pad = [before, behind].map(|count| usize::try_from(count).unwrap_or(0));
        if pad != [0, 0] {
            x = call.push(Pad { dim, pad }, [x]);
        }
    }
    Ok(x)
}

fn by_entries(call: &mut Call<'_>, mode: &str) -> Results {
    let (mut x, sizes) = (call.operand("self")?, sizes(call)?);
    for (place, size) in sizes.into_iter().enumerate().filter(|(_, size)| *size != [0, 0]) {
        let counts = size.map(|count| usize::try_from(count).ok());
        let [Some(before), Some(behind)] = counts else { return Err("it cuts entries off".into()) };
        let picked = match mode {
            "reflect" => Picked::Reflect([before, behind]),
            "replicate" => Picked::Replicate([before, behind]),
            "circular" => Picked::Circular([before, behind]),
            mode => return Err(format!("its mode `{mode}` is unknown")),
        };
        x = call.push(Rearrange { dim: -1 - place as i64, picked }, [x]);
    }
    Ok(vec![x])
}
