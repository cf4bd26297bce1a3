//! Micro-batches, and sums over them by fixed pieces.

use std::io::{self, Read, Write};

use candle_core::{DType, Tensor};

use super::pass::Part;
use super::{Objective, ObjectiveError};
use crate::kernels::Accumulator;
use crate::program::{BatchStatistics, ClassScores};
use crate::statistics::Ratio;
use crate::team::Wire;
use crate::workers::{Cut, PieceSum};
use crate::{Observer, Result};

/// Rows that go through the network together; all of one data shard, where the cut keeps to shards.
#[derive(Debug, Clone)]
pub(crate) struct MicroBatch {
    pub(crate) shard: usize,
    pub(crate) rows: Vec<usize>,
}

/// Even micro-batches of at most `size` rows that never cross a shard.
pub(crate) fn cut(shards: &[Vec<usize>], size: usize) -> Vec<MicroBatch> {
    let mut plan = Vec::new();
    for (shard, rows) in shards.iter().enumerate() {
        let count = rows.len().div_ceil(size);
        for index in 0..count {
            let rows = rows[index * rows.len() / count..(index + 1) * rows.len() / count].to_vec();
            plan.push(MicroBatch { shard, rows });
        }
    }
    plan
}

/// Even micro-batches of at most `size` of the rows, whatever their shards; two or more are an even number: two threads end
/// together.
pub(crate) fn cut_evenly(rows: Vec<usize>, size: usize) -> Vec<MicroBatch> {
    let count = rows.len().div_ceil(size);
    let count = if count > 1 { count.next_multiple_of(2) } else { 1 };
    let size = rows.len().div_ceil(count).max(1);
    cut(&[rows], size)
}

/// What a sum over micro-batches holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SumShape {
    /// Vectors per micro-batch: directions of a product, or 0 of a gradient or loss.
    pub(crate) directions: usize,
    /// Numbers of a gradient or product: all parameters, or 0 of a loss.
    pub(crate) columns: usize,
}

impl SumShape {
    /// Bytes of the gradient or products, in f64.
    pub(crate) fn bytes(self) -> usize {
        8 * self.directions.max(1) * self.columns
    }
}

/// Sums over micro-batches; of all of them, with means in place of the sums in `primal`.
pub(crate) struct Sum<P = Accumulator> {
    /// Losses and weights of the rows.
    pub(crate) loss: Ratio,
    pub(crate) weight: f64,
    /// Right answers and labels that count; `None` where some part has none.
    pub(crate) correct: Option<Ratio>,
    /// Of the gradient (`[1, n]`) or of the products (`[k, n]`), on the host.
    pub(crate) primal: P,
    /// By data shard: the rows' weights and the forms `vᵀA v`.
    pub(crate) shards: Vec<(f64, Vec<f64>)>,
    pub(crate) statistics: Vec<BatchStatistics>,
    /// `None` where some part has none.
    pub(crate) scores: Option<ClassScores>,
}

impl Sum {
    fn new(shape: SumShape, num_shards: usize, dtype: DType) -> Self {
        Self {
            loss: Ratio::default(),
            weight: 0.0,
            correct: Some(Ratio::default()),
            primal: Accumulator::new(shape.directions.max(1), shape.columns, dtype),
            shards: vec![(0.0, vec![0.0; shape.directions]); num_shards],
            statistics: Vec::new(),
            scores: Some(ClassScores::new()),
        }
    }
}

/// A part with its shard, and its gradients with their first columns.
pub(crate) struct Placed {
    shard: usize,
    block: Vec<(usize, Tensor)>,
    part: Part,
}

impl PieceSum<Placed> for Sum {
    type Whole = Sum<Tensor>;

    fn add(&mut self, Placed { shard, block, part }: Placed) -> Result<()> {
        self.loss = self.loss.merge(part.loss);
        self.weight += part.weight;
        self.correct = self.correct.zip(part.correct).map(|(sum, part)| sum.merge(part));
        self.primal.add(block)?;
        if let Some((weight, forms)) = self.shards.get_mut(shard) {
            *weight += part.weight;
            forms.iter_mut().zip(&part.forms).for_each(|(sum, form)| *sum += form);
        }
        if !part.statistics.is_empty() {
            self.statistics = part.statistics;
        }
        self.scores = joined(self.scores.take(), part.scores);
        Ok(())
    }

    fn merge(mut self, later: Self) -> Result<Self> {
        self.loss = self.loss.merge(later.loss);
        self.weight += later.weight;
        self.correct = self.correct.zip(later.correct).map(|(sum, later)| sum.merge(later));
        self.primal = self.primal.merge(later.primal)?;
        for ((weight, forms), (more, later)) in self.shards.iter_mut().zip(&later.shards) {
            *weight += more;
            forms.iter_mut().zip(later).for_each(|(sum, form)| *sum += form);
        }
        if !later.statistics.is_empty() {
            self.statistics = later.statistics;
        }
        self.scores = joined(self.scores.take(), later.scores);
        Ok(self)
    }

    fn conclude(self) -> Result<Sum<Tensor>> {
        let Self { loss, weight, correct, primal, shards, statistics, scores } = self;
        let primal = primal.finish(1.0 / weight)?;
        Ok(Sum { loss, weight, correct, primal, shards, statistics, scores })
    }
}

impl<P: Wire> Wire for Sum<P> {
    /// Rows with batch statistics are coupled, and not shared.
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        let Self { loss, weight, correct, primal, shards, statistics, scores } = self;
        if !statistics.is_empty() {
            return Err(io::Error::other("batch statistics belong to one rank"));
        }
        (*loss, *weight).put(to)?;
        correct.put(to)?;
        primal.put(to)?;
        shards.put(to)?;
        scores.put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        let ((loss, weight), correct) = (Wire::get(from)?, Wire::get(from)?);
        let (primal, shards, scores) = (Wire::get(from)?, Wire::get(from)?, Wire::get(from)?);
        Ok(Self { loss, weight, correct, primal, shards, statistics: Vec::new(), scores })
    }
}

fn joined(scores: Option<ClassScores>, later: Option<ClassScores>) -> Option<ClassScores> {
    let (mut scores, later) = (scores?, later?);
    scores.add(later);
    Some(scores)
}

impl Objective<'_> {
    /// Sums what `pass` makes of each micro-batch of `plan`, by number. Pieces depend on plan, shape and memory only.
    pub(crate) fn sum(
        &self,
        plan: &[MicroBatch],
        shape: SumShape,
        pass: impl Fn(usize) -> Result<Part> + Sync,
        observer: &mut dyn Observer,
    ) -> Result<Sum<Tensor>> {
        let num_shards = plan.iter().map(|batch| batch.shard + 1).max().unwrap_or(0);
        let rows = plan.iter().map(|batch| batch.rows.len()).max().unwrap_or(0);
        let work = |index: usize| self.placed(&plan[index], pass(index)?);
        let start = || Sum::new(shape, num_shards, self.options.dtype);
        // Pieces of a loss are those of a gradient, so that it has the same bits in both.
        let bytes = SumShape { columns: self.dim(), ..shape }.bytes();
        let cut = Cut::new(plan.len(), self.pieces(plan.len(), bytes));
        let sum = self.workers.reduce(cut, self.sum_worker_limit(shape.directions, rows), work, start, observer)?;
        sum.map_or_else(|| start().conclude(), Ok)
    }

    /// Refuses a part whose products are not finite, and names its micro-batch.
    fn placed(&self, batch: &MicroBatch, mut part: Part) -> Result<Placed> {
        // An entry that is infinite or NaN makes its form so too, even where the vector is 0.
        if let (Some(&row), false) = (batch.rows.first(), part.forms.iter().all(|form| form.is_finite())) {
            let (shard, num_rows) = (batch.shard, batch.rows.len());
            return Err(ObjectiveError::NonFiniteProduct { shard, row, num_rows }.into());
        }
        let gradients = std::mem::take(&mut part.gradients);
        let tensors = self.network.space().tensors().iter();
        let block = tensors.zip(gradients).filter_map(|(tensor, gradient)| Some((tensor.offset, gradient?)));
        Ok(Placed { shard: batch.shard, block: block.collect(), part })
    }
}
