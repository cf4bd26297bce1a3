//! Micro-batches, and sums over them.

use super::CurvatureError;
use super::objective::Objective;
use super::pass::Part;
use crate::Result;
use crate::kernels::Accumulator;
use crate::nn::{BatchStatistics, ClassScores};

/// Shard and rows of each micro-batch: even pieces of at most `size` rows that never cross a shard.
pub(super) fn cut(shards: &[Vec<usize>], size: usize) -> Vec<(usize, Vec<usize>)> {
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
pub(super) fn cut_evenly(shards: &[Vec<usize>], size: usize) -> Vec<(usize, Vec<usize>)> {
    let rows = shards.concat();
    let pieces = rows.len().div_ceil(size);
    let pieces = if pieces > 1 { pieces.next_multiple_of(2) } else { 1 };
    let size = rows.len().div_ceil(pieces);
    cut(&[rows], size)
}

/// Sums over micro-batches.
pub(super) struct Sum {
    pub(super) loss: f64,
    pub(super) loss_squares: f64,
    pub(super) correct: Option<usize>,
    /// Of the gradient (`[1, n]`) or of the products (`[k, n]`).
    pub(super) primal: Accumulator,
    pub(super) forms: Vec<Vec<f64>>,
    pub(super) statistics: Vec<BatchStatistics>,
    /// `None` where some part has none.
    pub(super) scores: Option<ClassScores>,
}

impl Sum {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let primal = Accumulator::new(rows, columns);
        let (forms, statistics, scores) = (Vec::new(), Vec::new(), Some(ClassScores::new()));
        Self { loss: 0.0, loss_squares: 0.0, correct: Some(0), primal, forms, statistics, scores }
    }

    pub(super) fn add(&mut self, objective: &Objective<'_>, part: Part) -> Result<()> {
        self.loss += part.loss;
        self.loss_squares += part.loss_squares;
        self.correct = self.correct.zip(part.correct).map(|(sum, part)| sum + part);
        for (tensor, gradient) in objective.network.space.tensors().iter().zip(&part.gradients) {
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
    pub(super) fn add_to_shard(
        &mut self,
        objective: &Objective<'_>,
        (shard, rows): (usize, &[usize]),
        part: Part,
    ) -> Result<()> {
        // An entry that is infinite or NaN makes its form so too, even where the vector is 0.
        if let (Some(&row), false) = (rows.first(), part.forms.iter().all(|form| form.is_finite())) {
            return Err(CurvatureError::NonFiniteProduct { shard, row, num_rows: rows.len() }.into());
        }
        if let Some(forms) = self.forms.get_mut(shard) {
            forms.iter_mut().zip(&part.forms).for_each(|(sum, form)| *sum += form);
        }
        self.add(objective, part)
    }
}
