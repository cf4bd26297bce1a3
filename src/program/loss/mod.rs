//! Losses, written once over the tape: gradient and Hessian in the outputs follow. Names, fields and means are PyTorch's.

mod classes;
mod definition;
mod draws;
mod elementwise;
mod softmax;
mod targets;

pub(super) use classes::Classes;
pub use definition::{BatchNormMode, CrossEntropy, Loss};
pub(super) use draws::softmax;
pub(crate) use softmax::drawn_labels_loss;
pub(super) use softmax::{counted, masses};
pub(super) use targets::{Given, labels};

use super::ProgramError;
use crate::Result;
use crate::autodiff::{Tape, Value, Var};
use crate::data::{Dataset, TargetBatch, Targets};

impl Loss {
    /// That the targets of all rows fit outputs of this shape, `[N, …]`, and that one of them counts.
    ///
    /// # Errors
    /// [`ProgramError::Targets`] and its like; [`crate::data::DataError::LabelPastOutputs`].
    pub(crate) fn check_targets(&self, output: &[usize], data: &Dataset) -> Result<()> {
        let given = Given::of_all(&data.targets);
        match self {
            Self::CrossEntropy(loss) => {
                let classes = Classes::find(loss, output, given)?.count;
                data.check_labels(classes, Some(loss.ignore_index))?;
                if let Targets::Values { values, sample_shape } = &data.targets
                    && let Some(place) = values.iter().position(|&value| value < 0.0)
                {
                    let row = place / sample_shape.iter().product::<usize>().max(1);
                    return Err(ProgramError::NegativeProbability { row, value: values[place] }.into());
                }
                match softmax::some_count(loss, &data.targets) {
                    true => Ok(()),
                    false => Err(ProgramError::NothingCounts { loss: self.describe() }.into()),
                }
            }
            Self::Program {} => Ok(()),
            _ => {
                elementwise::check(self, output, given)?;
                // A logit tells two classes apart.
                data.check_labels(2, None)
            }
        }
    }
}

/// The loss of each row, `[N, 1]`: a sum over the places of cross-entropy, a mean over the outputs of the others.
///
/// Cross-entropy takes outputs `[N, C, …]` with labels `[N, …]`, or `[N, …, C]` where only that fits, or probabilities in
/// the shape of the outputs. The others take targets in the shape of the outputs, where axes of size 1 do not count.
///
/// # Errors
/// Targets that the loss cannot take.
pub fn per_sample_loss<V: Value>(
    tape: &mut Tape<V>,
    loss: &Loss,
    output: &Var<V>,
    target: &TargetBatch,
) -> Result<Var<V>> {
    match loss {
        Loss::CrossEntropy(cross_entropy) => softmax::cross_entropy(tape, cross_entropy, output, target),
        Loss::Program {} => Err(ProgramError::NoLoss.into()),
        _ => elementwise::loss(tape, loss, output, target),
    }
}

/// The weight `w_n` of each of `count` rows: the objective is `Σ s_n / Σ w_n`, `s_n` what [`per_sample_loss`] gives. A row
/// counts once; under cross-entropy, the sum of what its places count.
pub fn row_weights(loss: &Loss, count: usize, target: &TargetBatch) -> Vec<f64> {
    match loss {
        Loss::CrossEntropy(cross_entropy) => softmax::row_weights(cross_entropy, count, target),
        _ => vec![1.0; count],
    }
}

/// How many of the `outputs` of each of `count` rows its loss counts: under cross-entropy those at places that count.
pub(crate) fn counted_outputs(loss: &Loss, outputs: usize, count: usize, target: &TargetBatch) -> Vec<usize> {
    let Loss::CrossEntropy(cross_entropy) = loss else { return vec![outputs; count] };
    let Some(counted) = softmax::counted(cross_entropy, target) else { return vec![outputs; count] };
    let places = (counted.len() / count.max(1)).max(1);
    let of_row = |row: &[bool]| row.iter().filter(|counts| **counts).count() * (outputs / places);
    counted.chunks(places).map(of_row).collect()
}
