//! Operators made of operators: scaled, shifted, added, restricted, deflated.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::{LinearOperator, OperatorError, Product, ShardForms};
use crate::kernels::{matrix_product, row_dots};
use crate::{Observer, Result};

/// Passes on what a wrapper does not change.
macro_rules! same_space {
    ($operator:ident) => {
        fn dim(&self) -> usize {
            self.$operator.dim()
        }

        same_vectors!($operator);
    };
}

/// As [`same_space`], where the dimension is another one.
macro_rules! same_vectors {
    ($operator:ident) => {
        fn dtype(&self) -> DType {
            self.$operator.dtype()
        }

        fn device(&self) -> &Device {
            self.$operator.device()
        }

        fn block_size(&self) -> usize {
            self.$operator.block_size()
        }
    };
}

/// `c A`. Shard forms: those of `A` times `c`.
pub struct Scaled<'a> {
    factor: f64,
    operator: &'a dyn LinearOperator,
}

impl<'a> Scaled<'a> {
    /// `factor · operator`.
    pub fn new(factor: f64, operator: &'a dyn LinearOperator) -> Self {
        Self { factor, operator }
    }
}

impl LinearOperator for Scaled<'_> {
    same_space!(operator);

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let Product { block, mut shards } = self.operator.apply(block, observer)?;
        if let Some(shards) = &mut shards {
            shards.forms.iter_mut().flatten().for_each(|form| *form *= self.factor);
        }
        Ok(Product { block: (block * self.factor)?, shards })
    }

    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        Ok((self.operator.multiply(block, observer)? * self.factor)?)
    }
}

/// `A + c I`. Shard forms: those of `A`, each with `c ‖v‖²` added.
pub struct Shifted<'a> {
    operator: &'a dyn LinearOperator,
    shift: f64,
}

impl<'a> Shifted<'a> {
    /// `operator + shift · I`.
    pub fn new(operator: &'a dyn LinearOperator, shift: f64) -> Self {
        Self { operator, shift }
    }
}

impl LinearOperator for Shifted<'_> {
    same_space!(operator);

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let Product { block: product, mut shards } = self.operator.apply(block, observer)?;
        if let Some(shards) = &mut shards {
            let squares = row_dots(block, block)?;
            for forms in &mut shards.forms {
                forms.iter_mut().zip(&squares).for_each(|(form, square)| *form += self.shift * square);
            }
        }
        Ok(Product { block: (product + (block * self.shift)?)?, shards })
    }

    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        Ok((self.operator.multiply(block, observer)? + (block * self.shift)?)?)
    }
}

/// `Σ_i c_i A_i`. Shard forms: the same sum of the terms' forms, where all terms have shards of equal sizes in equal
/// order, as operators on one objective do; else none.
pub struct WeightedSum<'a> {
    first: (f64, &'a dyn LinearOperator),
    rest: Vec<(f64, &'a dyn LinearOperator)>,
}

impl<'a> WeightedSum<'a> {
    /// The sum of `terms` `(c_i, A_i)`.
    ///
    /// # Errors
    /// [`OperatorError::Terms`] for no terms, or for dimensions or dtypes that differ.
    pub fn new(terms: Vec<(f64, &'a dyn LinearOperator)>) -> Result<Self> {
        let dims: Vec<usize> = terms.iter().map(|(_, operator)| operator.dim()).collect();
        let dtypes: Vec<DType> = terms.iter().map(|(_, operator)| operator.dtype()).collect();
        let alike = |first: &'a dyn LinearOperator| {
            terms.iter().all(|(_, other)| other.dim() == first.dim() && other.dtype() == first.dtype())
        };
        match terms.split_first() {
            Some((&first, rest)) if alike(first.1) => Ok(Self { first, rest: rest.to_vec() }),
            _ => Err(OperatorError::Terms { dims, dtypes }.into()),
        }
    }
}

impl LinearOperator for WeightedSum<'_> {
    fn dim(&self) -> usize {
        self.first.1.dim()
    }

    fn dtype(&self) -> DType {
        self.first.1.dtype()
    }

    fn device(&self) -> &Device {
        self.first.1.device()
    }

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let mut sum = Scaled::new(self.first.0, self.first.1).apply(block, observer)?;
        for &(factor, operator) in &self.rest {
            let term = Scaled::new(factor, operator).apply(block, observer)?;
            sum = Product { block: (sum.block + term.block)?, shards: add_forms(sum.shards, term.shards) };
        }
        Ok(sum)
    }

    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let mut sum = (self.first.1.multiply(block, observer)? * self.first.0)?;
        for &(factor, operator) in &self.rest {
            sum = (sum + (operator.multiply(block, observer)? * factor)?)?;
        }
        Ok(sum)
    }

    fn block_size(&self) -> usize {
        self.rest.iter().fold(self.first.1.block_size(), |size, (_, operator)| size.min(operator.block_size()))
    }
}

fn add_forms(sum: Option<ShardForms>, term: Option<ShardForms>) -> Option<ShardForms> {
    let (mut sum, term) = (sum?, term?);
    if !sum.same_shards(&term) {
        return None;
    }
    sum.forms.iter_mut().flatten().zip(term.forms.iter().flatten()).for_each(|(sum, form)| *sum += form);
    Some(sum)
}

/// The columns of a block in some ascending ranges.
pub(crate) fn restrict(block: &Tensor, ranges: &[Range<usize>]) -> Result<Tensor> {
    let parts: Vec<Tensor> =
        ranges.iter().map(|range| block.narrow(1, range.start, range.len())).collect::<Result<_, _>>()?;
    Ok(Tensor::cat(&parts, 1)?.contiguous()?)
}

/// The block of `dim` columns that has those of `block` in some ascending ranges, and zeros elsewhere.
pub(crate) fn extend(block: &Tensor, ranges: &[Range<usize>], dim: usize) -> Result<Tensor> {
    let zeros = |len: usize| Tensor::zeros((block.dims()[0], len), block.dtype(), block.device());
    let (mut parts, mut taken, mut filled) = (Vec::new(), 0, 0);
    for range in ranges {
        parts.push(zeros(range.start - filled)?);
        parts.push(block.narrow(1, taken, range.len())?);
        (taken, filled) = (taken + range.len(), range.end);
    }
    parts.push(zeros(dim - filled)?);
    parts.retain(|part| part.elem_count() > 0);
    Ok(Tensor::cat(&parts, 1)?.contiguous()?)
}

/// `P A Pᵀ`: the rows and columns of `A` in some index ranges; its vectors have as many entries as the ranges. Shard
/// forms: those of `A` at the vectors filled up with zeros.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use flatness::operator::{LinearOperator, Restricted};
/// use flatness::operator::DenseOperator;
/// use nalgebra::DMatrix;
///
/// # fn main() -> flatness::Result<()> {
/// let matrix = DMatrix::from_row_slice(3, 3, &[1.0, 9.0, 2.0, 9.0, 9.0, 9.0, 2.0, 9.0, 3.0]);
/// let operator = DenseOperator::new(matrix, DType::F64);
/// let without_the_second = Restricted::new(&operator, vec![0..1, 2..3])?;
/// let block = Tensor::new(&[[1.0, 1.0]], &Device::Cpu)?;
/// assert_eq!(without_the_second.apply(&block, &mut ())?.block.to_vec2::<f64>()?, [[3.0, 5.0]]);
/// # Ok(())
/// # }
/// ```
pub struct Restricted<'a> {
    operator: &'a dyn LinearOperator,
    ranges: Vec<Range<usize>>,
    dim: usize,
}

impl<'a> Restricted<'a> {
    /// `operator` on `ranges`, as [`crate::autodiff::Scope::resolve`] gives them.
    ///
    /// # Errors
    /// [`OperatorError::Ranges`] unless they are not empty, ascend and do not overlap.
    pub fn new(operator: &'a dyn LinearOperator, ranges: Vec<Range<usize>>) -> Result<Self> {
        let mut end = 0;
        let fits = ranges.iter().all(|range| {
            let fits = range.start >= end && range.start < range.end && range.end <= operator.dim();
            end = range.end;
            fits
        });
        if ranges.is_empty() || !fits {
            return Err(OperatorError::Ranges { ranges, dim: operator.dim() }.into());
        }
        let dim = ranges.iter().map(Range::len).sum();
        Ok(Self { operator, ranges, dim })
    }

    /// `P B`: the chosen columns of a block `[k, n]`, `[k, dim]`.
    ///
    /// # Errors
    /// A block of another width.
    pub fn restrict(&self, block: &Tensor) -> Result<Tensor> {
        check(block, self.operator.dim())?;
        restrict(block, &self.ranges)
    }

    /// `Pᵀ B`: a block `[k, dim]` with zeros in the other columns, `[k, n]`.
    ///
    /// # Errors
    /// A block of another width.
    pub fn extend(&self, block: &Tensor) -> Result<Tensor> {
        check(block, self.dim)?;
        extend(block, &self.ranges, self.operator.dim())
    }
}

impl LinearOperator for Restricted<'_> {
    fn dim(&self) -> usize {
        self.dim
    }

    same_vectors!(operator);

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let product = self.operator.apply(&self.extend(block)?, observer)?;
        Ok(Product { block: self.restrict(&product.block)?, shards: product.shards })
    }

    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        self.restrict(&self.operator.multiply(&self.extend(block)?, observer)?)
    }
}

/// `(I − QQᵀ) A (I − QQᵀ)` for orthonormal rows `Q`. Shard forms: those of `A` at the projected vectors. Memory: `Q` and
/// one block in f64.
pub struct Deflated<'a> {
    operator: &'a dyn LinearOperator,
    /// f64, `[r, n]`.
    basis: Tensor,
}

impl<'a> Deflated<'a> {
    /// `operator` without the span of `basis` `[r, n]`.
    ///
    /// # Errors
    /// [`OperatorError::BlockShape`]; [`OperatorError::NotOrthonormal`] where `QQᵀ` is off the identity by more than the
    /// root of the dtype's epsilon: what two passes of projection bring down to rounding.
    pub fn new(operator: &'a dyn LinearOperator, basis: &Tensor) -> Result<Self> {
        let count = check(basis, operator.dim())?;
        let basis = basis.to_dtype(DType::F64)?.contiguous()?;
        let epsilon = if operator.dtype() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        let tolerance = epsilon.sqrt();
        let gram = matrix_product(&basis, &basis, true)?;
        let off = (gram - Tensor::eye(count, DType::F64, basis.device())?)?;
        let deviation = off.abs()?.max_all()?.to_scalar::<f64>()?;
        // Not `>`: a NaN is no orthonormal vector either.
        if deviation <= tolerance { Ok(Self { operator, basis }) } else { Err(not_orthonormal(deviation, tolerance)) }
    }

    /// `B (I − QQᵀ)` in f64, rounded once. Two passes: what rounding of the first leaves along `Q`, the second removes.
    ///
    /// # Errors
    /// A block of another width.
    pub fn project(&self, block: &Tensor) -> Result<Tensor> {
        check(block, self.operator.dim())?;
        let mut projected = block.to_dtype(DType::F64)?.contiguous()?;
        for _ in 0..2 {
            let coefficients = matrix_product(&projected, &self.basis, true)?;
            projected = (projected - matrix_product(&coefficients, &self.basis, false)?)?;
        }
        Ok(projected.to_dtype(block.dtype())?)
    }
}

impl LinearOperator for Deflated<'_> {
    same_space!(operator);

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let product = self.operator.apply(&self.project(block)?, observer)?;
        Ok(Product { block: self.project(&product.block)?, shards: product.shards })
    }

    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        self.project(&self.operator.multiply(&self.project(block)?, observer)?)
    }
}

fn not_orthonormal(deviation: f64, tolerance: f64) -> crate::Error {
    OperatorError::NotOrthonormal { deviation, tolerance }.into()
}

/// The number of rows of a block `[k, dim]`.
fn check(block: &Tensor, dim: usize) -> Result<usize> {
    match *block.dims() {
        [count, n] if n == dim && count > 0 => Ok(count),
        _ => Err(OperatorError::BlockShape { got: block.dims().to_vec(), dim }.into()),
    }
}

#[cfg(test)]
mod tests;
