//! Sums of gradients over micro-batches, in f64.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Result, Tensor, WithDType};

use super::access::{Slice, with_float};
use super::element::filled;
use super::parallel;
use crate::team::{Wire, get_numbers, put_numbers};

/// Numbers that a thread takes at a time, and of these those that are added up in a core's first cache.
const CHUNK: usize = 1 << 16;
const TOGETHER: usize = 1 << 11;

/// A sum of blocks `[k, n]` in f64. A block comes as one part per parameter tensor, `[k, …shape]` or `[…shape]` for `k` = 1,
/// each with its first column; columns of no part are 0.
///
/// The first two blocks are kept as they came, in f32 no larger than their sum, and added up when a third one comes or the sum is
/// asked for.
pub struct Accumulator {
    rows: usize,
    columns: usize,
    /// Of what is made of the sum.
    dtype: DType,
    terms: Terms,
}

/// What was added so far.
enum Terms {
    Blocks(Vec<Block>),
    /// `[k, n]`.
    Sum(Vec<f64>),
}

/// Parts in the order of their first columns.
type Block = Vec<(usize, Tensor)>;

fn is_single(block: &Block) -> bool {
    block.iter().all(|(_, part)| part.dtype() == DType::F32)
}

impl Wire for Accumulator {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        (self.rows, self.columns, self.dtype).put(to)?;
        match &self.terms {
            Terms::Sum(sum) => put_numbers(sum, to),
            blocks => put_numbers(&self.written(blocks, |value| value).map_err(io::Error::other)?, to),
        }
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        let (rows, columns, dtype) = Wire::get(from)?;
        Ok(Self { rows, columns, dtype, terms: Terms::Sum(get_numbers(rows * columns, from)?) })
    }
}

impl Accumulator {
    /// No block: zeros, of which tensors of `dtype` are made.
    pub fn new(rows: usize, columns: usize, dtype: DType) -> Self {
        Self { rows, columns, dtype, terms: Terms::Blocks(Vec::new()) }
    }

    /// Adds a block.
    ///
    /// # Errors
    /// Reading it from its device.
    pub fn add(&mut self, block: Vec<(usize, Tensor)>) -> Result<()> {
        let on_host = |(offset, part): (usize, Tensor)| Ok((offset, part.to_device(&Device::Cpu)?.contiguous()?));
        let mut block = block.into_iter().map(on_host).collect::<Result<Block>>()?;
        block.sort_by_key(|(offset, _)| *offset);
        let before = std::mem::replace(&mut self.terms, Terms::Blocks(Vec::new()));
        self.terms = self.joined(before, Terms::Blocks(vec![block]))?;
        Ok(())
    }

    /// The sum of both.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn merge(mut self, other: Self) -> Result<Self> {
        let before = std::mem::replace(&mut self.terms, Terms::Blocks(Vec::new()));
        self.terms = self.joined(before, other.terms)?;
        Ok(self)
    }

    /// `left + right`, with the bits that these two have when each is added up first.
    fn joined(&self, left: Terms, right: Terms) -> Result<Terms> {
        Ok(match (left, right) {
            (Terms::Blocks(none), other) | (other, Terms::Blocks(none)) if none.is_empty() => other,
            (Terms::Blocks(mut left), Terms::Blocks(right)) if left.len() + right.len() == 2 && is_single(&left[0]) => {
                left.extend(right);
                Terms::Blocks(left)
            }
            // In f64 `a + b` has the bits of `b + a`.
            (sum, Terms::Blocks(blocks)) | (Terms::Blocks(blocks), sum) if blocks.len() == 1 => {
                let mut sum = self.sum(sum)?;
                self.each_chunk(&mut sum, |first, sum| self.add_parts(&blocks[0], first, sum))?;
                Terms::Sum(sum)
            }
            (left, right) => {
                let (mut left, right) = (self.sum(left)?, self.sum(right)?);
                self.each_chunk(&mut left, |first, left| {
                    left.iter_mut().zip(&right[first..]).for_each(|(left, right)| *left += right);
                    Ok(())
                })?;
                Terms::Sum(left)
            }
        })
    }

    fn sum(&self, terms: Terms) -> Result<Vec<f64>> {
        match terms {
            Terms::Sum(sum) => Ok(sum),
            blocks => self.written(&blocks, |value| value),
        }
    }

    /// `scale · sum`, `[k, n]`, on the host.
    ///
    /// # Errors
    /// Making the tensor.
    pub fn finish(self, scale: f64) -> Result<Tensor> {
        let shape = (self.rows, self.columns);
        if self.dtype == DType::F32 {
            return Tensor::from_vec(self.written(&self.terms, |value| (scale * value) as f32)?, shape, &Device::Cpu);
        }
        Tensor::from_vec(self.written(&self.terms, |value| scale * value)?, shape, &Device::Cpu)?.to_dtype(self.dtype)
    }

    /// `f` of each number of a sum, written once.
    fn written<U: Copy + Send>(&self, terms: &Terms, f: impl Fn(f64) -> U + Sync) -> Result<Vec<U>> {
        let mut failure = Ok(());
        let write = |out: &mut [MaybeUninit<U>]| {
            failure = self.each_chunk(out, |first, out| {
                let (mut sums, mut outcome) = ([0.0; TOGETHER], Ok(()));
                for (index, out) in out.chunks_mut(TOGETHER).enumerate() {
                    let (first, sums) = (first + index * TOGETHER, &mut sums[..out.len()]);
                    match terms {
                        Terms::Sum(sum) => sums.copy_from_slice(&sum[first..][..sums.len()]),
                        Terms::Blocks(blocks) => {
                            sums.fill(0.0);
                            let added = blocks.iter().try_for_each(|block| self.add_parts(block, first, sums));
                            outcome = outcome.and(added);
                        }
                    }
                    out.iter_mut().zip(sums).for_each(|(out, sum)| _ = out.write(f(*sum)));
                }
                outcome
            });
        };
        // SAFETY: all of each chunk is written, where a part cannot be read too.
        let out = unsafe { filled(self.rows * self.columns, write) };
        failure.map(|()| out)
    }

    /// Calls `f(first, chunk)` for each chunk of a sum.
    fn each_chunk<U: Send>(&self, out: &mut [U], f: impl Fn(usize, &mut [U]) -> Result<()> + Sync) -> Result<()> {
        let failure = Mutex::new(Ok(()));
        parallel::for_chunks(out, CHUNK, |chunk, out| {
            if let Err(error) = f(chunk * CHUNK, out) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Err(error);
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a block has from the place `first` on, as far as `sums` reaches.
    fn add_parts(&self, block: &Block, first: usize, sums: &mut [f64]) -> Result<()> {
        let (mut place, end) = (first, first + sums.len());
        while place < end {
            let (row, column) = (place / self.columns, place % self.columns);
            let row_end = end.min((row + 1) * self.columns);
            let width = |part: &Tensor| part.elem_count() / self.rows;
            let from = block.partition_point(|(offset, part)| offset + width(part) <= column);
            for (offset, part) in &block[from..] {
                let (start, stop) = (offset.max(&column), row_end - row * self.columns);
                let Some(len) = stop.min(offset + width(part)).checked_sub(*start) else { break };
                with_float!(part.dtype(), T => {
                    let part = &Slice::<T>::of(part)?[row * width(part) + start - offset..][..len];
                    let sums = &mut sums[row * self.columns + start - first..][..len];
                    sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value.to_f64());
                    Ok(())
                })?;
            }
            place = row_end;
        }
        Ok(())
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
        let mut sum = Accumulator::new(2, 4, DType::F64);
        blocks.iter().for_each(|&value| sum.add(block(value)).unwrap());
        sum
    }

    fn values(sum: Accumulator) -> Vec<Vec<f64>> {
        sum.finish(0.5).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn sums_of_any_width_merge_to_the_same() {
        assert_eq!(values(Accumulator::new(2, 4, DType::F64)), [[0.0; 4]; 2]);
        assert_eq!(values(sum_of(&[8.0])), [[4.0, 0.5, 0.0, 2.0], [1.0, 1.5, 0.0, 2.5]]);
        let all = values(sum_of(&[1.0, 2.0, 4.0, 8.0]));
        assert_eq!(all, [[7.5, 2.0, 0.0, 8.0], [4.0, 6.0, 0.0, 10.0]]);
        for cut in 0..=4 {
            let (left, right) = [1.0, 2.0, 4.0, 8.0].split_at(cut);
            assert_eq!(values(sum_of(left).merge(sum_of(right)).unwrap()), all, "{cut}");
        }
    }
}
