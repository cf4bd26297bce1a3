//! Where the rows of a batch lie in a value, tracked from operation to operation.

use super::fact::{Fact, RowAxis, Tracked};

/// How the number of a row tells it from others.
pub(super) const COUNTS: &str = "it computes with the places of the rows";

/// The operands that depend on the inputs, with their rows.
fn moving<'a>(operands: &'a [Option<&'a Fact>]) -> impl Iterator<Item = (&'a Fact, RowAxis)> {
    operands.iter().flatten().filter_map(|fact| Some((*fact, fact.rows?)))
}

/// Entry by entry on operands that are broadcast together, aligned at the end, to `rank` axes.
pub(super) fn elementwise(operands: &[Option<&Fact>], rank: usize) -> Tracked {
    let mut all: Option<RowAxis> = None;
    for (fact, rows) in moving(operands) {
        let moved = rows.at(rows.axis + rank - fact.shape.len());
        if rows.places {
            return Err(COUNTS.into());
        }
        if all.is_some_and(|all| all != moved) {
            return Err("it combines values whose rows lie along different axes".into());
        }
        all = Some(moved);
    }
    Ok(all)
}

/// An operation on one operand that takes the entries of some of its axes together and leaves the others where they are.
pub(super) fn together(operand: Option<&Fact>, axes: &[usize]) -> Tracked {
    match operand.and_then(|fact| fact.rows) {
        Some(rows) if axes.contains(&rows.axis) => Err(format!("it takes entries of axis {} together", rows.axis)),
        rows => Ok(rows),
    }
}

/// As [`together`], for an operation that removes these axes.
pub(super) fn removed(operand: Option<&Fact>, axes: &[usize]) -> Tracked {
    let tracked = together(operand, axes)?;
    Ok(tracked.map(|rows| rows.at(rows.axis - axes.iter().filter(|&&axis| axis < rows.axis).count())))
}

/// The result's axis `i` is the operand's axis `axes[i]`.
pub(super) fn permuted(operand: Option<&Fact>, axes: &[usize]) -> Tracked {
    let rows = operand.and_then(|fact| fact.rows);
    Ok(rows.and_then(|rows| Some(rows.at(axes.iter().position(|&axis| axis == rows.axis)?))))
}

/// The same entries in the same order in another shape. Only batches of two or more rows tell where they are.
pub(super) fn reshaped(operand: Option<&Fact>, shape: &[usize]) -> Tracked {
    let Some((fact, rows)) = operand.and_then(|fact| Some((fact, fact.rows?))) else { return Ok(None) };
    let count = fact.shape[rows.axis] / (rows.outer * rows.inner).max(1);
    // Blocks in front of the rows, counted over all axes.
    let outer = fact.shape[..rows.axis].iter().product::<usize>() * rows.outer;
    let mut before = 1;
    for (axis, &size) in shape.iter().enumerate() {
        let within = outer.checked_div(before).unwrap_or(0);
        // Whole blocks in front, and whole rows in this axis.
        let unit = (within * count).max(1);
        if within * before == outer && size >= unit && size % unit == 0 {
            return Ok(Some(RowAxis { axis, outer: within, inner: size / unit, ..rows }));
        }
        before *= size;
    }
    Err("it cuts rows apart and joins parts of different rows".into())
}

/// Checks that no operand in `weights` depends on the inputs: a product with one that does would mix rows.
///
/// # Errors
/// Says that one does.
pub(super) fn still(weights: &[Option<&Fact>]) -> Result<(), String> {
    match moving(weights).next() {
        None => Ok(()),
        Some(_) => Err("its weights depend on the inputs".into()),
    }
}

/// An operation whose first operand holds the rows along axis 0, in whole, and whose other operands do not depend on
/// the inputs: convolutions, pooling, normalisation per row.
pub(super) fn per_row(operands: &[Option<&Fact>]) -> Tracked {
    let (first, others) = operands.split_first().unwrap_or((&None, &[]));
    still(others)?;
    match first.and_then(|fact| fact.rows) {
        Some(rows) if rows.axis != 0 => Err(format!("rows lie along axis {}", rows.axis)),
        rows => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(shape: &[usize], rows: RowAxis) -> Fact {
        Fact { rows: Some(rows), ..Fact::float(shape) }
    }

    #[test]
    fn reshapes_merge_and_split_other_axes() {
        let rows = |axis, outer, inner| RowAxis { axis, outer, inner, places: false };
        let after = |shape: &[usize], at, to: &[usize]| reshaped(Some(&fact(shape, at)), to);
        // Tokens of all rows one after the other, and back.
        assert_eq!(after(&[7, 4, 5], rows(0, 1, 1), &[28, 5]), Ok(Some(rows(0, 1, 4))));
        assert_eq!(after(&[28, 5], rows(0, 1, 4), &[7, 4, 5]), Ok(Some(rows(0, 1, 1))));
        assert_eq!(after(&[28, 5], rows(0, 1, 4), &[14, 10]), Ok(Some(rows(0, 1, 2))));
        // Heads in front of the rows.
        assert_eq!(after(&[3, 7, 5], rows(1, 1, 1), &[21, 5]), Ok(Some(rows(0, 3, 1))));
        assert_eq!(after(&[21, 5], rows(0, 3, 1), &[3, 7, 5]), Ok(Some(rows(1, 1, 1))));
        // Five numbers of seven rows as seven of five.
        assert!(after(&[7, 5], rows(0, 1, 1), &[5, 7]).is_err());
        assert!(after(&[3, 7, 5], rows(1, 1, 1), &[7, 3, 5]).is_err());
        assert_eq!(after(&[7, 5], rows(0, 1, 1), &[1, 7, 5]), Ok(Some(rows(1, 1, 1))));
        assert_eq!(reshaped(Some(&Fact::float(&[7, 5])), &[5, 7]), Ok(None));
    }

    #[test]
    fn axes_move_and_vanish() {
        let x = fact(&[3, 7, 5], RowAxis { axis: 1, ..RowAxis::FIRST });
        let axis = |tracked: Tracked| tracked.unwrap().unwrap().axis;
        assert_eq!(axis(permuted(Some(&x), &[1, 0, 2])), 0);
        assert_eq!(axis(removed(Some(&x), &[0, 2])), 0);
        assert!(together(Some(&x), &[1]).is_err());
        let other = fact(&[7, 5], RowAxis::FIRST);
        assert_eq!(axis(elementwise(&[Some(&x), Some(&other)], 3)), 1);
        let crossed = fact(&[7, 5], RowAxis { axis: 1, ..RowAxis::FIRST });
        assert!(elementwise(&[Some(&x), Some(&crossed)], 3).is_err());
    }
}
