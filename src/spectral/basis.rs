//! Vectors of a Krylov space, and what is done with all of them at once.

use std::ops::Range;

use candle_core::Tensor;
use nalgebra::DMatrix;

use super::vectors::{DEVICE_COLUMNS, combination, gram};
use crate::Result;

/// Vectors of one space, `[rows, n]` in all, kept as the blocks in which they came so that growing copies nothing.
#[derive(Clone, Default)]
pub(crate) struct Basis {
    blocks: Vec<Tensor>,
}

impl Basis {
    /// Number of vectors.
    pub(crate) fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.dims()[0]).sum()
    }

    /// The blocks in which the vectors came.
    pub(crate) fn blocks(&self) -> &[Tensor] {
        &self.blocks
    }

    /// Appends the rows of `block`, `[k, n]`.
    pub(crate) fn push(&mut self, block: Tensor) {
        self.blocks.push(block);
    }

    /// Forgets the oldest block.
    pub(crate) fn drop_oldest(&mut self) {
        self.blocks.remove(0);
    }

    /// `B Vᵀ`: the coefficients of each row of `block` on each vector of the basis, `[k, rows]`.
    pub(crate) fn coefficients(&self, block: &Tensor) -> Result<DMatrix<f64>> {
        gram(std::slice::from_ref(block), &self.blocks)
    }

    /// `B − C V`, `[k, n]`, rounded once per entry.
    pub(crate) fn subtract(&self, block: &Tensor, coefficients: &DMatrix<f64>) -> Result<Tensor> {
        combination(Some(block), &(-coefficients), &self.blocks)
    }

    /// Becomes `C V`, of no more vectors than there are, in the memory that it has: whoever shares its blocks sees them change.
    pub(crate) fn shrink(&mut self, coefficients: &DMatrix<f64>) -> Result<()> {
        let columns = self.blocks.first().map_or(0, |block| block.dims()[1]);
        for start in (0..columns).step_by(DEVICE_COLUMNS) {
            let length = DEVICE_COLUMNS.min(columns - start);
            let piece = |block: &Tensor| block.narrow(1, start, length)?.contiguous();
            let pieces = self.blocks.iter().map(piece).collect::<candle_core::Result<Vec<_>>>()?;
            let sums = combination(None, coefficients, &pieces)?;
            for (block, rows) in self.leading(sums.dims()[0]) {
                let sums = sums.narrow(0, rows.start, rows.len())?;
                block.narrow(0, 0, rows.len())?.slice_set(&sums, 1, start)?;
            }
        }
        let leading = self.leading(coefficients.nrows()).map(|(block, rows)| match rows.len() {
            whole if whole == block.dims()[0] => Ok(block.clone()),
            part => block.narrow(0, 0, part)?.force_contiguous(),
        });
        self.blocks = leading.collect::<candle_core::Result<_>>()?;
        Ok(())
    }

    /// The blocks that hold the first `rows` vectors, and which of them each holds.
    fn leading(&self, rows: usize) -> impl Iterator<Item = (&Tensor, Range<usize>)> {
        let mut first = 0;
        let places = self.blocks.iter().map(move |block| {
            let own = first..(first + block.dims()[0]).min(rows);
            first = own.end;
            (block, own)
        });
        places.take_while(|(_, rows)| !rows.is_empty())
    }

    /// `C V`, `[r, n]`.
    pub(crate) fn combine(&self, coefficients: &DMatrix<f64>) -> Result<Tensor> {
        combination(None, coefficients, &self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::vectors::normal_block;
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn a_basis_shrinks_to_the_bits_of_its_combinations() {
        let columns = DEVICE_COLUMNS + 7;
        for dtype in [DType::F32, DType::F64] {
            let mut basis = Basis::default();
            let mut rng = stream(5, Purpose::Probes);
            for rows in [2, 1, 3] {
                basis.push(normal_block((rows, columns), dtype, &Device::Cpu, &mut rng).unwrap());
            }
            for kept in [5, 4, 2, 1] {
                let coefficients = DMatrix::from_fn(kept, basis.rows(), |i, j| (i as f64 - 1.5) / (j as f64 + 0.3));
                let expected = rows(&basis.combine(&coefficients).unwrap());
                basis.shrink(&coefficients).unwrap();
                assert_eq!(basis.blocks.iter().flat_map(rows).collect::<Vec<_>>(), expected);
            }
        }
    }

    fn rows(block: &Tensor) -> Vec<Vec<f64>> {
        block.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
    }
}
