//! How much two eigenspaces have in common.

use candle_core::{DType, Tensor};
use nalgebra::DMatrix;

use crate::{Error, Result};

/// How two subspaces are related.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// Cosines of the principal angles, largest first (Björck & Golub 1973): 1 for a common direction, 0 for none.
    pub cosines: Vec<f64>,
    /// `‖Q_A Q_Bᵀ‖_F² / min(k_A, k_B)`: 1 if one space contains the other, about `max(k)/n` for random spaces.
    pub overlap: f64,
}

/// The overlap of the spans of two sets of orthonormal rows, `[k_A, n]` and `[k_B, n]`.
///
/// # Errors
/// [`Error::VectorShape`] if they are not vectors of the same space.
pub fn overlap(a: &Tensor, b: &Tensor) -> Result<Overlap> {
    let (&[rows, dim], &[columns, other]) = (a.dims(), b.dims()) else {
        return Err(Error::VectorShape { got: a.dims().to_vec(), dim: 0 });
    };
    if dim != other {
        return Err(Error::VectorShape { got: b.dims().to_vec(), dim });
    }
    let products = a.to_dtype(DType::F64)?.matmul(&b.to_dtype(DType::F64)?.t()?)?.flatten_all()?.to_vec1::<f64>()?;
    let products = DMatrix::from_row_slice(rows, columns, &products);
    let mut cosines: Vec<f64> = products.singular_values().iter().map(|cosine| cosine.min(1.0)).collect();
    cosines.sort_by(|a, b| b.total_cmp(a));
    let overlap = products.norm_squared() / rows.min(columns).max(1) as f64;
    Ok(Overlap { cosines, overlap })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_shared_direction_counts_once() {
        // The planes (e₁, e₂) and (e₂, (e₁ + e₃)/√2): one common direction, one at 45°.
        let half = 0.5f64.sqrt();
        let a = Tensor::new(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[0.0, 1.0, 0.0], [half, 0.0, half]], &Device::Cpu).unwrap();
        let report = overlap(&a, &b).unwrap();
        assert!((report.cosines[0] - 1.0).abs() < 1e-15 && (report.cosines[1] - half).abs() < 1e-15);
        assert!((report.overlap - 0.75).abs() < 1e-15);
        assert!(overlap(&a, &b.narrow(1, 0, 2).unwrap()).is_err());
    }
}
