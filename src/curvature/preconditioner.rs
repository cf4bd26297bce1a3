//! A diagonal that an optimiser divides its steps by.

use candle_core::{DType, Device, Tensor};

use super::CurvatureError;
use crate::Result;

/// `P`, a diagonal matrix with positive entries: a step of the optimiser is `θ ← θ − η P⁻¹ m` (Cohen et al. 2022).
#[derive(Debug, Clone)]
pub struct Preconditioner {
    /// f64 `[n]`, on the host.
    diagonal: Tensor,
}

impl Preconditioner {
    /// The matrix with this diagonal `[n]`.
    ///
    /// # Errors
    /// [`CurvatureError::Preconditioner`] for an entry that is not above 0 and finite.
    pub fn new(diagonal: &Tensor) -> Result<Self> {
        let diagonal = diagonal.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let entries = diagonal.to_vec1::<f64>()?;
        match entries.iter().position(|entry| !(*entry > 0.0 && entry.is_finite())) {
            Some(index) => {
                Err(CurvatureError::Preconditioner { index, dim: entries.len(), value: entries[index] }.into())
            }
            None => Ok(Self { diagonal }),
        }
    }

    /// `n`.
    pub fn dim(&self) -> usize {
        self.diagonal.elem_count()
    }

    /// The diagonal of `P^{-1/2}`, f64 `[n]` on the host.
    ///
    /// # Errors
    /// A tensor operation.
    pub fn scale(&self) -> Result<Tensor> {
        Ok(self.diagonal.sqrt()?.recip()?)
    }

    /// `P⁻¹ g` for a gradient.
    ///
    /// # Errors
    /// A gradient of another length.
    pub fn direction(&self, gradient: &[f64]) -> Result<Vec<f64>> {
        let gradient = Tensor::from_slice(gradient, gradient.len(), &Device::Cpu)?;
        Ok((gradient / &self.diagonal)?.to_vec1()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_divides_and_its_entries_are_above_0() {
        let of = |entries: &[f64]| Preconditioner::new(&Tensor::new(entries, &Device::Cpu).unwrap());
        let p = of(&[4.0, 0.25]).unwrap();
        assert_eq!((p.dim(), p.scale().unwrap().to_vec1::<f64>().unwrap()), (2, vec![0.5, 2.0]));
        assert_eq!(p.direction(&[1.0, 3.0]).unwrap(), [0.25, 12.0]);
        assert!(p.direction(&[1.0]).is_err());
        for (bad, text) in [(0.0, "is 0,"), (-1.0, "is -1,"), (f64::NAN, "is NaN,"), (f64::INFINITY, "is inf,")] {
            let error = of(&[1.0, bad]).unwrap_err().to_string();
            assert!(error.contains("parameter 1 of 2") && error.contains(text), "{error}");
        }
    }
}
