//! Vectors of a Krylov space, and what is done with all of them at once.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use nalgebra::DMatrix;

use super::vectors::{DEVICE_COLUMNS, TASK_COLUMNS, combination, gram, partial_grams, sum_of};
use crate::Result;
use crate::team::{Team, team};

/// Vectors of one space, `[rows, n]` in all, kept as the blocks in which they came so that growing copies nothing; clones share
/// them.
///
/// Of long vectors each rank of a team keeps its own columns only, whole tasks of the sums over them: the sums of all ranks'
/// tasks, in order, have the bits of one process.
#[derive(Debug, Clone)]
pub(crate) struct Basis {
    blocks: Vec<Tensor>,
    columns: Columns,
}

/// The columns of blocks `[k, dim]`, as a team shares them: each rank has its *part*, all columns where there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    dim: usize,
    team: &'static dyn Team,
}

impl Default for Basis {
    fn default() -> Self {
        Self { blocks: Vec::new(), columns: Columns { dim: 0, team: team() } }
    }
}

impl Columns {
    /// Those that this rank has, where it does not have all: each rank needs a task.
    fn own(&self) -> Option<Range<usize>> {
        let tasks = self.dim.div_ceil(TASK_COLUMNS);
        let own = self.team.own(tasks);
        (1 < self.team.size() && self.team.size() <= tasks)
            .then(|| own.start * TASK_COLUMNS..self.dim.min(own.end * TASK_COLUMNS))
    }

    /// This rank's part of a block.
    pub(crate) fn part(&self, block: &Tensor) -> Result<Tensor> {
        let Some(own) = self.own() else { return Ok(block.clone()) };
        Ok(block.narrow(1, own.start, own.len())?.force_contiguous()?)
    }

    /// The block of which every rank has its part.
    pub(crate) fn whole(&self, part: Tensor) -> Result<Tensor> {
        if self.own().is_none() {
            return Ok(part);
        }
        let (device, layout) = (part.device().clone(), (part.dtype(), [part.dims()[0], self.dim]));
        Ok(self.team.joined(Ok(part), 1, (layout.0, &layout.1))?.to_device(&device)?)
    }

    /// The block of which every rank has its part, on rank 0; elsewhere the part.
    fn at_leader(&self, part: Tensor) -> Result<Tensor> {
        if self.own().is_none() {
            return Ok(part);
        }
        let layout = (part.dtype(), [part.dims()[0], self.dim]);
        self.team.joined_at_leader(Ok(part), 1, (layout.0, &layout.1))
    }

    /// Dot products of all rows of `left` with all rows of `right`, parts of both, `[l, r]`.
    pub(crate) fn products(&self, left: &Tensor, right: &[Tensor]) -> Result<DMatrix<f64>> {
        let left = std::slice::from_ref(left);
        if self.own().is_none() {
            return gram(left, right);
        }
        let rows = right.iter().map(|block| block.dims()[0]).sum();
        Ok(sum_of(self.team.gather(partial_grams(left, right))?.concat(), left[0].dims()[0], rows))
    }
}

impl Basis {
    /// Number of vectors.
    pub(crate) fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.dims()[0]).sum()
    }

    /// The length of the vectors; 0 without any.
    pub(super) fn dim(&self) -> usize {
        self.columns.dim
    }

    /// How ranks share vectors of this length.
    pub(super) fn columns(&self, dim: usize) -> Columns {
        Columns { dim, ..self.columns }
    }

    /// Types and shapes of the blocks in which the vectors came.
    pub(super) fn layout(&self) -> impl Iterator<Item = (DType, [usize; 2])> + '_ {
        self.blocks.iter().map(|block| (block.dtype(), [block.dims()[0], self.dim()]))
    }

    /// The blocks, one after the other, put together on rank 0; other ranks have to ask for them too, and get their columns.
    pub(super) fn gathered(&self) -> impl Iterator<Item = Result<Tensor>> + '_ {
        self.blocks.iter().map(|block| self.columns.at_leader(block.clone()))
    }

    /// The same vectors on a device.
    pub(super) fn to_device(&self, device: &Device) -> Result<Self> {
        let blocks = self.blocks.iter().map(|block| block.to_device(device)).collect::<candle_core::Result<_>>()?;
        Ok(Self { blocks, ..*self })
    }

    /// The same vectors in memory of their own.
    #[cfg(test)]
    pub(crate) fn detached(&self) -> Self {
        Self { blocks: self.blocks.iter().map(|block| block.copy().unwrap()).collect(), ..*self }
    }

    /// Appends the rows of `block`, `[k, n]`.
    pub(crate) fn push(&mut self, block: Tensor) -> Result<()> {
        self.columns.dim = block.dims()[1];
        self.blocks.push(self.columns.part(&block)?);
        Ok(())
    }

    /// Forgets the oldest block.
    pub(crate) fn drop_oldest(&mut self) {
        self.blocks.remove(0);
    }

    /// `B Vᵀ`: the coefficients of each row of a block on each vector of the basis, `[k, rows]`; `part` is this rank's of the block.
    pub(crate) fn coefficients(&self, part: &Tensor) -> Result<DMatrix<f64>> {
        self.columns.products(part, &self.blocks)
    }

    /// This rank's part of `B − C V`, `[k, n]`, rounded once per entry, from that of `B`.
    pub(crate) fn subtract(&self, part: &Tensor, coefficients: &DMatrix<f64>) -> Result<Tensor> {
        combination(Some(part), &(-coefficients), &self.blocks)
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
        self.columns.whole(combination(None, coefficients, &self.blocks)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::vectors::normal_block;
    use super::*;
    use crate::random::{Purpose, stream};
    use crate::team::testing::Crew;

    #[test]
    fn a_basis_shrinks_to_the_bits_of_its_combinations() {
        let columns = DEVICE_COLUMNS + 7;
        for dtype in [DType::F32, DType::F64] {
            let mut basis = Basis::default();
            let mut rng = stream(5, Purpose::Probes);
            for rows in [2, 1, 3] {
                basis.push(normal_block((rows, columns), dtype, &Device::Cpu, &mut rng).unwrap()).unwrap();
            }
            for kept in [5, 4, 2, 1] {
                let coefficients = DMatrix::from_fn(kept, basis.rows(), |i, j| (i as f64 - 1.5) / (j as f64 + 0.3));
                let expected = rows(&basis.combine(&coefficients).unwrap());
                basis.shrink(&coefficients).unwrap();
                assert_eq!(basis.blocks.iter().flat_map(rows).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn ranks_keep_their_columns_and_find_the_bits_of_one_process() {
        // Four tasks and a ragged end.
        let columns = 4 * TASK_COLUMNS + 11;
        let results = |team: &'static dyn Team| {
            let (mut rng, blocks) = (stream(7, Purpose::Probes), Vec::new());
            let mut basis = Basis { blocks, columns: Columns { dim: 0, team } };
            let mut draw = |rows| normal_block((rows, columns), DType::F32, &Device::Cpu, &mut rng).unwrap();
            [2, 3].into_iter().for_each(|rows| basis.push(draw(rows)).unwrap());
            let shared = basis.columns(columns);
            let part = shared.part(&draw(2)).unwrap();
            let coefficients = basis.coefficients(&part).unwrap();
            let rest = basis.subtract(&part, &coefficients).unwrap();
            let within = shared.products(&rest, std::slice::from_ref(&rest)).unwrap();
            let rest = rows(&shared.whole(rest).unwrap());
            basis.shrink(&coefficients).unwrap();
            let kept = basis.blocks.iter().map(|block| block.dims()[1]).max().unwrap();
            let whole: Vec<_> = basis.gathered().flat_map(|block| rows(&block.unwrap())).collect();
            (kept, whole, (coefficients, within, rest))
        };
        let (all, whole, alone) = results(team());
        assert_eq!(all, columns);
        for size in [2, 3, 5, 6] {
            let together = Crew::each(size, results);
            assert!(together.iter().all(|(.., found)| *found == alone), "{size} ranks");
            assert_eq!(together[0].1, whole);
            let kept: usize = together.iter().map(|(kept, ..)| kept).sum();
            assert_eq!(kept, if size == 6 { 6 * columns } else { columns });
        }
    }

    fn rows(block: &Tensor) -> Vec<Vec<f64>> {
        block.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
    }
}
