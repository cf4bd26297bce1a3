//! Sums over rows of exact traces and diagonals.

use std::io::{self, Read, Write};

use candle_core::Tensor;

use crate::Result;
use crate::kernels::Accumulator;
use crate::statistics::Ratio;
use crate::team::Wire;
use crate::workers::PieceSum;

/// The mean of one number per row, and the variance of their sum from estimating it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowMean {
    pub(super) ratio: Ratio,
    pub(super) variance: f64,
}

impl RowMean {
    fn merge(self, later: Self) -> Self {
        Self { ratio: self.ratio.merge(later.ratio), variance: self.variance + later.variance }
    }

    pub(super) fn std_err_numeric(&self) -> f64 {
        self.variance.sqrt() / self.ratio.weight
    }
}

/// Several such means of the same rows.
pub(super) struct RowMeans(pub(super) Vec<RowMean>);

impl PieceSum<Vec<RowMean>> for RowMeans {
    type Whole = Self;

    fn add(&mut self, row: Vec<RowMean>) -> Result<()> {
        self.0.iter_mut().zip(row).for_each(|(mean, row)| *mean = mean.merge(row));
        Ok(())
    }

    fn merge(mut self, later: Self) -> Result<Self> {
        self.add(later.0)?;
        Ok(self)
    }

    fn conclude(self) -> Result<Self> {
        Ok(self)
    }
}

/// Sums of squares by parameter, and the weight of their rows.
pub(super) struct Diagonal {
    pub(super) weight: f64,
    pub(super) sum: Accumulator,
}

impl PieceSum<(f64, Vec<(usize, Tensor)>)> for Diagonal {
    type Whole = Self;

    fn add(&mut self, (weight, block): (f64, Vec<(usize, Tensor)>)) -> Result<()> {
        self.weight += weight;
        Ok(self.sum.add(block)?)
    }

    fn merge(self, later: Self) -> Result<Self> {
        Ok(Self { weight: self.weight + later.weight, sum: self.sum.merge(later.sum)? })
    }

    fn conclude(self) -> Result<Self> {
        Ok(self)
    }
}

impl Wire for RowMean {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        (self.ratio, self.variance).put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        Ok(Self { ratio: Wire::get(from)?, variance: Wire::get(from)? })
    }
}

impl Wire for RowMeans {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        self.0.put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        Ok(Self(Wire::get(from)?))
    }
}

impl Wire for Diagonal {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        self.weight.put(to)?;
        self.sum.put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        Ok(Self { weight: Wire::get(from)?, sum: Wire::get(from)? })
    }
}
