//! Operators made from operators: restricted, deflated, scaled.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::{LinearOperator, OperatorError, Product};
use crate::kernels::matrix_product;
use crate::{Observer, Result};

/// Passes on what a wrapper does not change.
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
    /// `operator` on `ranges`, as [`crate::vocabulary::Scope::resolve`] gives them.
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
    pub(crate) fn restrict(&self, block: &Tensor) -> Result<Tensor> {
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
        // Not `>`: a NaN is not an orthonormal vector either.
        if deviation <= tolerance { Ok(Self { operator, basis }) } else { Err(not_orthonormal(deviation, tolerance)) }
    }

    /// `B (I − QQᵀ)` in f64, rounded once. Two passes: what rounding of the first leaves along `Q`, the second removes.
    ///
    /// # Errors
    /// A block of another width.
    pub(crate) fn project(&self, block: &Tensor) -> Result<Tensor> {
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
    fn dim(&self) -> usize {
        self.operator.dim()
    }

    same_vectors!(operator);

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let product = self.operator.apply(&self.project(block)?, observer)?;
        Ok(Product { block: self.project(&product.block)?, shards: product.shards })
    }

    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        self.project(&self.operator.multiply(&self.project(block)?, observer)?)
    }
}

/// `D A D` for a diagonal `D`, which keeps symmetry: with `D = P^{-1/2}` its eigenvalues are those of `P⁻¹A`. Shard forms: those
/// of `A` at the scaled vectors.
pub struct Scaled<O> {
    operator: O,
    /// The diagonal of `D`, `[1, n]` in the operator's dtype.
    scale: Tensor,
}

impl<O: LinearOperator> Scaled<O> {
    /// `operator` between two factors of the diagonal matrix of `scale` `[n]`.
    ///
    /// # Errors
    /// [`OperatorError::BlockShape`] for a scale of another length; [`OperatorError::Scale`] for entries that are not finite
    /// in the operator's dtype.
    pub fn new(operator: O, scale: &Tensor) -> Result<Self> {
        let scale = scale.to_dtype(operator.dtype())?.to_device(operator.device())?.unsqueeze(0)?;
        check(&scale, operator.dim())?;
        let entries = scale.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        if !entries.iter().all(|entry| entry.is_finite()) {
            return Err(OperatorError::Scale { dtype: operator.dtype().as_str() }.into());
        }
        Ok(Self { operator, scale })
    }

    fn scale(&self, block: &Tensor) -> Result<Tensor> {
        Ok(block.broadcast_mul(&self.scale)?)
    }
}

impl<O: LinearOperator> LinearOperator for Scaled<O> {
    fn dim(&self) -> usize {
        self.operator.dim()
    }

    same_vectors!(operator);

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        check(block, self.dim())?;
        let product = self.operator.apply(&self.scale(block)?, observer)?;
        Ok(Product { block: self.scale(&product.block)?, shards: product.shards })
    }

    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        check(block, self.dim())?;
        self.scale(&self.operator.multiply(&self.scale(block)?, observer)?)
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
