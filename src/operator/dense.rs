//! A symmetric matrix held in memory as an operator: the reference for tests, and a small example to play with.

use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, DVector, SymmetricEigen};

use crate::operator::{LinearOperator, Product, ShardForms};
use crate::{Observer, Result};

/// `A v` for a matrix `A` given entry by entry, or as the weighted mean of the matrices of data shards.
///
/// Products are taken in f64 on the host and rounded once to the dtype. Cost: `n²` per vector.
///
/// ```
/// use candle_core::{DType, Tensor, Device};
/// use flatness::operator::LinearOperator;
/// use flatness::operator::DenseOperator;
/// use nalgebra::DMatrix;
///
/// # fn main() -> flatness::Result<()> {
/// let operator = DenseOperator::new(DMatrix::from_row_slice(2, 2, &[2.0, 1.0, 1.0, 3.0]), DType::F64);
/// let block = Tensor::new(&[[1.0, 0.0]], &Device::Cpu)?;
/// assert_eq!(operator.apply(&block, &mut ())?.block.to_vec2::<f64>()?, [[2.0, 1.0]]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DenseOperator {
    matrix: DMatrix<f64>,
    shards: Vec<(usize, DMatrix<f64>)>,
    dtype: DType,
}

impl DenseOperator {
    /// The operator of `matrix`, which must be symmetric, on vectors of `dtype` (f32 or f64).
    pub fn new(matrix: DMatrix<f64>, dtype: DType) -> Self {
        Self { matrix, shards: Vec::new(), dtype }
    }

    /// `A = Σ_s (rows_s / Σ rows) A_s`, which also reports the form of each shard `(rows_s, A_s)`.
    ///
    /// # Panics
    /// If `shards` is empty or the matrices differ in shape.
    pub fn from_shards(shards: Vec<(usize, DMatrix<f64>)>, dtype: DType) -> Self {
        let total: usize = shards.iter().map(|(rows, _)| rows).sum();
        let dim = shards[0].1.nrows();
        let matrix = shards
            .iter()
            .fold(DMatrix::zeros(dim, dim), |sum, (rows, matrix)| sum + matrix * (*rows as f64 / total as f64));
        Self { matrix, shards, dtype }
    }

    /// The matrix.
    pub fn matrix(&self) -> &DMatrix<f64> {
        &self.matrix
    }
}

impl LinearOperator for DenseOperator {
    fn dim(&self) -> usize {
        self.matrix.nrows()
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn apply(&self, block: &Tensor, _observer: &mut dyn Observer) -> Result<Product> {
        let rows = block.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let vectors: Vec<DVector<f64>> = rows.into_iter().map(DVector::from_vec).collect();
        let entries = vectors.iter().flat_map(|v| (&self.matrix * v).data.as_vec().clone()).collect();
        let product = Tensor::from_vec(entries, (vectors.len(), self.dim()), &Device::Cpu)?.to_dtype(self.dtype)?;
        let forms = |matrix: &DMatrix<f64>| vectors.iter().map(|v| v.dot(&(matrix * v))).collect();
        let shards = (!self.shards.is_empty()).then(|| {
            let rows = self.shards.iter().map(|(rows, _)| *rows).collect();
            ShardForms::of_rows(rows, self.shards.iter().map(|(_, matrix)| forms(matrix)).collect())
        });
        Ok(Product { block: product, shards })
    }
}

/// Eigenvalues, ascending, and eigenvectors as columns in the same order, of a small symmetric matrix.
/// Cost: about `9 m³`. Errors: a few `m ε ‖T‖`.
pub(crate) fn symmetric_eigen(matrix: DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    if matrix.is_empty() {
        return (Vec::new(), matrix);
    }
    let eigen = SymmetricEigen::new(matrix);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[a].total_cmp(&eigen.eigenvalues[b]));
    (order.iter().map(|&i| eigen.eigenvalues[i]).collect(), eigen.eigenvectors.select_columns(&order))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_average_to_the_matrix() {
        let shards = vec![
            (1, DMatrix::from_row_slice(2, 2, &[4.0, 0.0, 0.0, 0.0])),
            (3, DMatrix::from_row_slice(2, 2, &[0.0, 1.0, 1.0, 8.0])),
        ];
        let operator = DenseOperator::from_shards(shards, DType::F32);
        assert_eq!(operator.matrix(), &DMatrix::from_row_slice(2, 2, &[1.0, 0.75, 0.75, 6.0]));
        let block = Tensor::new(&[[1.0_f32, 1.0]], &Device::Cpu).unwrap();
        let product = operator.apply(&block, &mut ()).unwrap();
        assert_eq!(product.block.to_vec2::<f32>().unwrap(), [[1.75, 6.75]]);
        assert_eq!(product.shards.unwrap(), ShardForms::of_rows(vec![1, 3], vec![vec![4.0], vec![10.0]]));
    }

    #[test]
    fn eigenvalues_come_in_ascending_order() {
        let (values, vectors) = symmetric_eigen(DMatrix::from_row_slice(2, 2, &[0.0, 2.0, 2.0, 0.0]));
        assert!((values[0] + 2.0).abs() < 1e-15 && (values[1] - 2.0).abs() < 1e-15);
        assert!((vectors.column(1)[0] - vectors.column(1)[1]).abs() < 1e-15);
    }
}
