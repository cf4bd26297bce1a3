//! Sums of gradients over micro-batches, in f64.

use candle_core::{DType, Device, Result, Tensor, WithDType};

use super::access::{Slice, with_float};

/// A sum of blocks `[k, n]` in f64. A block comes as one part per parameter tensor, `[k, …shape]` or `[…shape]` for `k` = 1,
/// each with its first column; columns of no part are 0.
///
/// The first block is kept as it came, and widened when a second one comes: a sum of one block needs no memory of its own.
pub struct Accumulator {
    rows: usize,
    columns: usize,
    terms: Terms,
}

/// What was added so far.
enum Terms {
    /// At most one block.
    Block(Vec<(usize, Tensor)>),
    /// `[k, n]`.
    Sum(Vec<f64>),
}

impl Accumulator {
    /// No block: zeros.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, terms: Terms::Block(Vec::new()) }
    }

    /// Adds a block.
    ///
    /// # Errors
    /// Reading it from its device.
    pub fn add(&mut self, block: Vec<(usize, Tensor)>) -> Result<()> {
        let before = std::mem::replace(&mut self.terms, Terms::Block(Vec::new()));
        self.terms = self.joined(before, Terms::Block(block))?;
        Ok(())
    }

    /// The sum of both.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn merge(mut self, other: Self) -> Result<Self> {
        let before = std::mem::replace(&mut self.terms, Terms::Block(Vec::new()));
        self.terms = self.joined(before, other.terms)?;
        Ok(self)
    }

    fn joined(&self, left: Terms, right: Terms) -> Result<Terms> {
        Ok(match (left, right) {
            (Terms::Block(none), other) | (other, Terms::Block(none)) if none.is_empty() => other,
            (Terms::Block(left), Terms::Block(right)) => {
                let mut sum = self.widened(&left)?;
                drop(left);
                self.add_to(&mut sum, &right)?;
                Terms::Sum(sum)
            }
            // In f64 `a + b` has the bits of `b + a`.
            (Terms::Sum(mut sum), Terms::Block(block)) | (Terms::Block(block), Terms::Sum(mut sum)) => {
                self.add_to(&mut sum, &block)?;
                Terms::Sum(sum)
            }
            (Terms::Sum(mut left), Terms::Sum(right)) => {
                left.iter_mut().zip(right).for_each(|(left, right)| *left += right);
                Terms::Sum(left)
            }
        })
    }

    /// One block in f64, written once.
    fn widened(&self, block: &[(usize, Tensor)]) -> Result<Vec<f64>> {
        let mut parts = Vec::with_capacity(block.len());
        for (offset, part) in block {
            parts.push((*offset, part.to_device(&Device::Cpu)?.contiguous()?));
        }
        parts.sort_by_key(|(offset, _)| *offset);
        let mut sum = Vec::with_capacity(self.rows * self.columns);
        for row in 0..self.rows {
            for (offset, part) in &parts {
                sum.resize(row * self.columns + offset, 0.0);
                with_float!(part.dtype(), T => {
                    let part = Slice::<T>::of(part)?;
                    let width = part.len() / self.rows;
                    sum.extend(part[row * width..][..width].iter().map(|value| value.to_f64()));
                    Ok(())
                })?;
            }
            sum.resize((row + 1) * self.columns, 0.0);
        }
        Ok(sum)
    }

    fn add_to(&self, sum: &mut [f64], block: &[(usize, Tensor)]) -> Result<()> {
        for (offset, part) in block {
            let part = part.to_device(&Device::Cpu)?.contiguous()?;
            with_float!(part.dtype(), T => {
                let part = Slice::<T>::of(&part)?;
                let width = part.len() / self.rows;
                for (row, part) in part.chunks(width.max(1)).enumerate() {
                    let sum = &mut sum[row * self.columns + offset..][..width];
                    sum.iter_mut().zip(part).for_each(|(sum, &value)| *sum += value.to_f64());
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// `scale · sum`, `[k, n]`.
    ///
    /// # Errors
    /// Making the tensor.
    pub fn finish(self, scale: f64, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = (self.rows, self.columns);
        let sum = match self.terms {
            Terms::Block(ref block) => self.widened(block)?,
            Terms::Sum(sum) => sum,
        };
        match dtype {
            DType::F32 => {
                let values: Vec<f32> = sum.into_iter().map(|value| (scale * value) as f32).collect();
                Tensor::from_vec(values, shape, device)
            }
            _ => {
                let values: Vec<f64> = sum.into_iter().map(|value| scale * value).collect();
                Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two parts of two rows, of columns 0..2 and 3..4; nothing comes for column 2.
    fn block(value: f32) -> Vec<(usize, Tensor)> {
        let part = |values: &[f32]| Tensor::from_slice(values, (2, values.len() / 2), &Device::Cpu).unwrap();
        vec![(0, part(&[value, 1.0, 2.0, 3.0])), (3, part(&[4.0, 5.0]))]
    }

    fn sum_of(blocks: &[f32]) -> Accumulator {
        let mut sum = Accumulator::new(2, 4);
        blocks.iter().for_each(|&value| sum.add(block(value)).unwrap());
        sum
    }

    fn values(sum: Accumulator) -> Vec<Vec<f64>> {
        sum.finish(0.5, DType::F64, &Device::Cpu).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn sums_of_any_width_merge_to_the_same() {
        assert_eq!(values(Accumulator::new(2, 4)), [[0.0; 4]; 2]);
        assert_eq!(values(sum_of(&[8.0])), [[4.0, 0.5, 0.0, 2.0], [1.0, 1.5, 0.0, 2.5]]);
        let all = values(sum_of(&[1.0, 2.0, 4.0, 8.0]));
        assert_eq!(all, [[7.5, 2.0, 0.0, 8.0], [4.0, 6.0, 0.0, 10.0]]);
        for cut in 0..=4 {
            let (left, right) = [1.0, 2.0, 4.0, 8.0].split_at(cut);
            assert_eq!(values(sum_of(left).merge(sum_of(right)).unwrap()), all, "{cut}");
        }
    }
}
