//! Shapes: the same numbers in another arrangement.

use serde::Serialize;

use crate::Result;
use crate::autodiff::Value;
use crate::kernels;
use crate::program::fact::axis;
use crate::program::infer::Cost;
use crate::program::operation::{Affinity, Operation, fact};
use crate::program::rows::{self, RowAxis, Tracked};
use crate::program::run::{Run, Slot};
use crate::program::{Fact, Size, Start};

/// Axes `start_dim` to `end_dim` as one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flatten {
    /// The first axis.
    pub start_dim: i64,
    /// The last axis.
    pub end_dim: i64,
}

/// Another shape; one size may be −1, which is inferred.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// The sizes.
    pub size: Vec<Size>,
}

/// One axis as several; one size may be −1, which is inferred.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unflatten {
    /// The axis.
    pub dim: i64,
    /// What it becomes.
    pub sizes: Vec<i64>,
}

/// Axis `i` of the result is axis `dims[i]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Permute {
    /// A permutation.
    pub dims: Vec<i64>,
}

/// Repeats along axes of size 1; −1 keeps a size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expand {
    /// The sizes, as many as the result has axes.
    pub size: Vec<Size>,
}

/// What the operations of this family answer alike.
macro_rules! arrangement {
    ($name:literal, $cost:expr) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn operands(&self) -> &'static [&'static str] {
            &["input"]
        }

        fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
            $cost(result)
        }

        arrangement!();
    };
    () => {
        /// A learned token, as timm draws it.
        fn start(&self, _place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
            Start::Normal { std: 1e-6 }
        }

        fn affinity(&self, _in_training: bool) -> Affinity {
            Affinity::AFFINE
        }
    };
}

pub(super) use arrangement;

fn view(_: &Fact) -> Cost {
    Cost::VIEW
}

/// The kind of an operand in another shape.
pub(super) fn kept(fact: &Fact, shape: Vec<usize>) -> Fact {
    Fact { kind: fact.kind, shape, rows: None }
}

/// The sizes of a view of `len` elements.
fn resolved(sizes: &[i64], len: usize) -> Result<Vec<usize>, String> {
    let known = sizes
        .iter()
        .filter(|&&size| size >= 0)
        .try_fold(1usize, |product, &size| usize::try_from(size).ok().and_then(|size| product.checked_mul(size)));
    let (known, left) = (known.unwrap_or(usize::MAX), sizes.iter().filter(|&&size| size < 0).count());
    let inferred = len.checked_div(known).unwrap_or(0);
    let fits = match left {
        0 => known == len,
        1 => known > 0 && known * inferred == len,
        _ => false,
    };
    if !fits {
        return Err(format!("{len} numbers do not make a shape {sizes:?}"));
    }
    Ok(sizes.iter().map(|&size| usize::try_from(size).unwrap_or(inferred)).collect())
}

impl<V: Value> Run<'_, V> {
    /// A view of floats or whole numbers.
    fn view(
        &mut self,
        operands: &[Slot<V>],
        shape: impl Fn(&[usize]) -> Result<Vec<usize>, String>,
    ) -> Result<Slot<V>> {
        if let Ok(whole) = self.whole(operands, 0) {
            let to = shape(whole.dims()).map_err(|reason| self.misfit(reason))?;
            return Ok(Slot::Whole(whole.reshape(to)?));
        }
        let x = self.var(operands, 0)?;
        let to = shape(x.dims()?).map_err(|reason| self.misfit(reason))?;
        Ok(Slot::Float(self.reshape(&x, &to)?))
    }
}

impl Flatten {
    fn shape(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        // One number per row is a vector of one.
        if let (&[rows], 1) = (dims, self.start_dim) {
            return Ok(vec![rows, 1]);
        }
        let (start, end) = (axis(self.start_dim, dims.len())?, axis(self.end_dim, dims.len())?);
        if start > end {
            return Err(format!("dimension {} comes after {}", self.start_dim, self.end_dim));
        }
        Ok([&dims[..start], &[dims[start..=end].iter().product()], &dims[end + 1..]].concat())
    }
}

impl Operation for Flatten {
    arrangement!("flatten", view);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        Ok(kept(x, self.shape(&x.shape)?))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::reshaped(operands[0], &result.shape)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        run.view(operands, |dims| self.shape(dims))
    }
}

impl View {
    fn shape(&self, dims: &[usize], rows: usize) -> Result<Vec<usize>, String> {
        let sizes: Vec<i64> = self.size.iter().map(|size| size.at(rows)).collect();
        resolved(&sizes, dims.iter().product())
    }
}

impl Operation for View {
    arrangement!("view", view);

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        Ok(kept(x, self.shape(&x.shape, rows)?))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::reshaped(operands[0], &result.shape)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let rows = run.rows;
        run.view(operands, |dims| self.shape(dims, rows))
    }
}

impl Unflatten {
    fn shape(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        let axis = axis(self.dim, dims.len())?;
        Ok([&dims[..axis], &resolved(&self.sizes, dims[axis])?, &dims[axis + 1..]].concat())
    }
}

impl Operation for Unflatten {
    arrangement!("unflatten", view);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        Ok(kept(x, self.shape(&x.shape)?))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::reshaped(operands[0], &result.shape)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        run.view(operands, |dims| self.shape(dims))
    }
}

impl Permute {
    fn axes(&self, rank: usize) -> Result<Vec<usize>, String> {
        let axes: Vec<usize> = self.dims.iter().map(|&dim| axis(dim, rank)).collect::<Result<_, _>>()?;
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        match sorted == (0..rank).collect::<Vec<_>>() {
            true => Ok(axes),
            false => Err(format!("{:?} is no permutation of {rank} dimensions", self.dims)),
        }
    }
}

impl Operation for Permute {
    arrangement!("permute", Cost::of_result);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        Ok(kept(x, self.axes(x.shape.len())?.into_iter().map(|axis| x.shape[axis]).collect()))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::permuted(operands[0], &self.axes(result.shape.len())?)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let axes = self.axes(x.dims()?.len()).map_err(|reason| run.misfit(reason))?;
        Ok(Slot::Float(run.tape.linear(kernels::Linear::Permute { axes }, &x)?))
    }
}

impl Expand {
    fn shape(&self, dims: &[usize], rows: usize) -> Result<Vec<usize>, String> {
        let misfit = || format!("{dims:?} cannot be repeated to {}", serde_json::json!(self.size));
        let front = self.size.len().checked_sub(dims.len()).ok_or_else(misfit)?;
        let size = |(place, size): (usize, &Size)| {
            let from = place.checked_sub(front).map_or(1, |axis| dims[axis]);
            match (size.at(rows), from) {
                (-1, from) => Ok(from),
                (to, 1) => usize::try_from(to).map_err(|_| misfit()),
                (to, from) if usize::try_from(to) == Ok(from) => Ok(from),
                _ => Err(misfit()),
            }
        };
        self.size.iter().enumerate().map(size).collect()
    }
}

impl Operation for Expand {
    arrangement!("expand", Cost::of_result);

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        Ok(kept(x, self.shape(&x.shape, rows)?))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        // Along an axis that depends on N, every row gets the same; a value that has rows keeps them.
        if let Some(x) = operands[0].filter(|x| x.rows.is_none()) {
            let front = self.size.len() - x.shape.len();
            let repeated = |place: &usize| place.checked_sub(front).map_or(1, |axis| x.shape[axis]) == 1;
            let along = (0..self.size.len()).filter(repeated).find(|&place| self.size[place] == Size::rows());
            return Ok(along.map(|axis| RowAxis { axis, outer: 1, inner: 1 }));
        }
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let to = self.shape(x.dims()?, run.rows).map_err(|reason| run.misfit(reason))?;
        let with_rank = [&vec![1; to.len() - x.dims()?.len()], x.dims()?].concat();
        let x = run.reshape(&x, &with_rank)?;
        Ok(Slot::Float(run.broadcast(&x, &to)?))
    }
}
