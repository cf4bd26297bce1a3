//! Regular patterns of numbers, and what is chosen by them.

use super::{
    Arange, Compare, Comparison, Connective, Expand, Flatten, Full, Index, Logical, Permute, Sub, Sum, To, Unsqueeze,
    Where,
};
use crate::program::fact::axis;
use crate::program::{Call, Kind, Operand, Results, Size};

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "arange" => arange(call),
        "linspace" => linspace(call),
        "eye" => eye(call),
        "tril" => triangle(call, Comparison::Le),
        "triu" => triangle(call, Comparison::Ge),
        "diagonal" => diagonal(call),
        "diag_embed" => diag_embed(call),
        "bucketize" | "searchsorted" => bucketize(call),
        "one_hot" => one_hot(call),
        "meshgrid" => meshgrid(call),
        "scalar_tensor" => scalar(call),
        _ => return None,
    })
}

fn arange(call: &mut Call<'_>) -> Results {
    let dtype = call.kind("dtype")?;
    let in_floats = ["start", "end", "step"].into_iter().any(|name| call.is_float(name));
    let (count, start, step) = if in_floats {
        let (start, step) = (call.number("start")?.unwrap_or(0.0), call.number("step")?.unwrap_or(1.0));
        let end = call.number("end")?.ok_or("its end is missing")?;
        (Size::fixed(((end - start) / step).ceil() as i64), start, step)
    } else {
        let (start, step, end) = (call.int("start", Some(0))?, call.int("step", Some(1))?, call.size("end")?);
        let count = match step {
            1 => end - Size::fixed(start),
            0 => return Err("its step is 0".into()),
            step if !end.is_fixed() => {
                let count = (end - Size::fixed(start)).divided_by(&Size::fixed(step));
                count.ok_or("its steps do not divide the number of rows evenly")?
            }
            step => Size::fixed((end.at(0) - start + step - step.signum()) / step),
        };
        (count, start as f64, step as f64)
    };
    let kind = dtype.unwrap_or(if in_floats { Kind::Float } else { Kind::Whole });
    spaced(call, count, start, step, kind)
}

/// `start + step · 0, 1, …`
fn spaced(call: &mut Call<'_>, count: Size, start: f64, step: f64, kind: Kind) -> Results {
    let places = call.push(Arange { end: count }, []);
    let places = if kind == Kind::Float { call.push(To { kind }, [places]) } else { places };
    let scaled = call.times(&places, step);
    Ok(vec![call.plus(&scaled, start)])
}

fn linspace(call: &mut Call<'_>) -> Results {
    let (Some(start), Some(end)) = (call.number("start")?, call.number("end")?) else {
        return Err("its ends are missing".into());
    };
    let steps = call.int("steps", None)?;
    call.kind("dtype")?;
    let step = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
    spaced(call, Size::fixed(steps), start, step, Kind::Float)
}

/// Whether column less row is as `comparison` says.
fn band(call: &mut Call<'_>, [rows, columns]: [Size; 2], comparison: Comparison, diagonal: f64) -> Operand {
    let [rows, columns] = [rows, columns].map(|end| call.push(Arange { end }, []));
    let rows = call.push(Unsqueeze { dim: 1 }, [rows]);
    let offsets = call.push(Sub {}, [columns, rows]);
    call.push(Compare { comparison }, [offsets, Operand::Number(diagonal)])
}

fn eye(call: &mut Call<'_>) -> Results {
    let rows = call.size("n")?;
    let columns = if call.has("m") { call.size("m")? } else { rows.clone() };
    let kind = call.kind("dtype")?.unwrap_or_default();
    let ones = band(call, [rows, columns], Comparison::Eq, 0.0);
    call.gives(To { kind }, [ones])
}

fn triangle(call: &mut Call<'_>, comparison: Comparison) -> Results {
    let (x, diagonal) = (call.operand("self")?, call.int("diagonal", Some(0))?);
    let shape = call.shape(&x)?;
    let Some(plane) = shape.last_chunk::<2>() else { return Err("it has too few axes".into()) };
    let inside = band(call, plane.clone(), comparison, diagonal as f64);
    if call.is_truth(&x) {
        return call.gives(Logical { connective: Connective::And }, [inside, x]);
    }
    call.gives(Where {}, [inside, x, Operand::Number(0.0)])
}

/// Entries whose row and column differ by `offset`, as the last axis.
fn diagonal(call: &mut Call<'_>) -> Results {
    let (x, offset) = (call.operand("self")?, call.int("offset", Some(0))?);
    let (dim1, dim2) = (call.int("dim1", Some(0))?, call.int("dim2", Some(1))?);
    let shape = call.shape(&x)?;
    let (dim1, dim2) = (axis(dim1, shape.len())?, axis(dim2, shape.len())?);
    let [rows, columns] = [dim1, dim2].map(|dim| &shape[dim]);
    if !rows.is_fixed() || !columns.is_fixed() || dim1 == dim2 {
        return Err("it takes the rows together".into());
    }
    let [rows, columns] = [rows.at(0), columns.at(0)];
    let (row, column) = ((-offset).max(0), offset.max(0));
    let count = (rows - row).min(columns - column).max(0);
    let rest = (0..shape.len()).filter(|axis| *axis != dim1 && *axis != dim2);
    let dims = rest.chain([dim1, dim2]).map(|axis| axis as i64).collect();
    let x = call.push(Permute { dims }, [x]);
    let x = call.push(Flatten { start_dim: -2, end_dim: -1 }, [x]);
    let places = spaced(call, Size::fixed(count), (row * columns + column) as f64, (columns + 1) as f64, Kind::Whole)?;
    call.gives(Index {}, [vec![x], vec![Operand::None; shape.len() - 2], places].concat())
}

/// Vectors along the last axis on the diagonal of matrices.
fn diag_embed(call: &mut Call<'_>) -> Results {
    let (x, offset) = (call.operand("self")?, call.int("offset", Some(0))?);
    let (dim1, dim2) = (call.int("dim1", Some(-2))?, call.int("dim2", Some(-1))?);
    call.only("offset", offset, 0)?;
    call.only("dim1", [dim1, dim2], [-2, -1])?;
    let size = call.shape(&x)?.last().cloned().ok_or("it has no axes")?;
    let inside = band(call, [size.clone(), size], Comparison::Eq, 0.0);
    let x = call.push(Unsqueeze { dim: -1 }, [x]);
    call.gives(Where {}, [inside, x, Operand::Number(0.0)])
}

/// How many boundaries lie before each number.
fn bucketize(call: &mut Call<'_>) -> Results {
    let name = if call.name == "bucketize" { "boundaries" } else { "sorted_sequence" };
    let (x, boundaries) = (call.operand("self")?, call.operand(name)?);
    call.flag("out_int32", false)?;
    let comparison = if call.flag("right", false)? { Comparison::Ge } else { Comparison::Gt };
    if call.rank(&boundaries)? != 1 {
        return Err("boundaries of several axes are not supported".into());
    }
    let x = call.push(Unsqueeze { dim: -1 }, [x]);
    let before = call.push(Compare { comparison }, [x, boundaries]);
    call.gives(Sum { dim: vec![-1], keepdim: false }, [before])
}

fn one_hot(call: &mut Call<'_>) -> Results {
    let (x, classes) = (call.operand("self")?, call.int("num_classes", Some(-1))?);
    if classes < 0 {
        return Err("without the number of classes it is not supported".into());
    }
    let x = call.push(Unsqueeze { dim: -1 }, [x]);
    let all = call.push(Arange { end: Size::fixed(classes) }, []);
    let equal = call.push(Compare { comparison: Comparison::Eq }, [x, all]);
    call.gives(To { kind: Kind::Whole }, [equal])
}

/// Each vector along an axis of its own, repeated along those of the others.
fn meshgrid(call: &mut Call<'_>) -> Results {
    let (vectors, indexing) = (call.operands("tensors")?, call.text("indexing")?);
    let mut sizes = Vec::new();
    for vector in &vectors {
        sizes.extend(call.shape(vector)?);
    }
    let mut order: Vec<usize> = (0..vectors.len()).collect();
    if indexing.as_deref() == Some("xy") && order.len() > 1 {
        order.swap(0, 1);
    }
    if sizes.len() != vectors.len() {
        return Err("its operands are not vectors".into());
    }
    let size: Vec<Size> = order.iter().map(|&place| sizes[place].clone()).collect();
    let along = |(place, vector): (usize, Operand)| {
        let behind = size.len() - 1 - order.iter().position(|&other| other == place).unwrap_or(0);
        let vector = (0..behind).fold(vector, |vector, _| call.push(Unsqueeze { dim: -1 }, [vector]));
        call.push(Expand { size: size.clone() }, [vector])
    };
    Ok(vectors.into_iter().enumerate().map(along).collect())
}

fn scalar(call: &mut Call<'_>) -> Results {
    let (value, kind) = (call.number("s")?.ok_or("its value is missing")?, call.kind("dtype")?);
    call.gives(Full { size: Vec::new(), fill_value: value, kind: kind.unwrap_or_default() }, [])
}
