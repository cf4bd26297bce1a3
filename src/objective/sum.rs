//! Micro-batches, and sums over them.

use super::Objective;
use super::ObjectiveError;
use super::pass::Part;
use crate::Result;
use crate::kernels::Accumulator;
use crate::program::{BatchStatistics, ClassScores};

/// Shard and rows of each micro-batch: even pieces of at most `size` rows that never cross a shard.
pub(crate) fn cut(shards: &[Vec<usize>], size: usize) -> Vec<(usize, Vec<usize>)> {
    let mut plan = Vec::new();
    for (shard, rows) in shards.iter().enumerate() {
        let pieces = rows.len().div_ceil(size);
        for piece in 0..pieces {
            plan.push((shard, rows[piece * rows.len() / pieces..(piece + 1) * rows.len() / pieces].to_vec()));
        }
    }
    plan
}

/// As [`cut`], but pieces may hold rows of several shards, and two or more are an even number: two threads end together.
pub(crate) fn cut_evenly(shards: &[Vec<usize>], size: usize) -> Vec<(usize, Vec<usize>)> {
    let rows = shards.concat();
    let pieces = rows.len().div_ceil(size);
    let pieces = if pieces > 1 { pieces.next_multiple_of(2) } else { 1 };
    let size = rows.len().div_ceil(pieces);
    cut(&[rows], size)
}

/// Sums over micro-batches.
pub(crate) struct Sum {
    pub(crate) loss: f64,
    pub(crate) loss_squares: f64,
    pub(crate) correct: Option<usize>,
    /// Of the gradient (`[1, n]`) or of the products (`[k, n]`).
    pub(crate) primal: Accumulator,
    pub(crate) forms: Vec<Vec<f64>>,
    pub(crate) statistics: Vec<BatchStatistics>,
    /// `None` where some part has none.
    pub(crate) scores: Option<ClassScores>,
}

impl Sum {
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        let primal = Accumulator::new(rows, columns);
        let (forms, statistics, scores) = (Vec::new(), Vec::new(), Some(ClassScores::new()));
        Self { loss: 0.0, loss_squares: 0.0, correct: Some(0), primal, forms, statistics, scores }
    }

    pub(crate) fn add(&mut self, objective: &Objective<'_>, part: Part) -> Result<()> {
        self.loss += part.loss;
        self.loss_squares += part.loss_squares;
        self.correct = self.correct.zip(part.correct).map(|(sum, part)| sum + part);
        for (tensor, gradient) in objective.network.space().tensors().iter().zip(&part.gradients) {
            if let Some(gradient) = gradient {
                self.primal.add(tensor.offset, gradient)?;
            }
        }
        self.statistics = part.statistics;
        self.scores = self.scores.take().zip(part.scores).map(|(mut sum, part)| {
            sum.add(part);
            sum
        });
        Ok(())
    }

    /// Adds a micro-batch of `rows`, named in an error where its products are not finite.
    pub(crate) fn add_to_shard(
        &mut self,
        objective: &Objective<'_>,
        (shard, rows): (usize, &[usize]),
        part: Part,
    ) -> Result<()> {
        // An entry that is infinite or NaN makes its form so too, even where the vector is 0.
        if let (Some(&row), false) = (rows.first(), part.forms.iter().all(|form| form.is_finite())) {
            return Err(ObjectiveError::NonFiniteProduct { shard, row, num_rows: rows.len() }.into());
        }
        if let Some(forms) = self.forms.get_mut(shard) {
            forms.iter_mut().zip(&part.forms).for_each(|(sum, form)| *sum += form);
        }
        self.add(objective, part)
    }
}
