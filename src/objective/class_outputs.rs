//! What a network says of the classes of each row.

use candle_core::Tensor;

use super::Objective;
use crate::autodiff::{Saved, Tape};
use crate::data::Batch;
use crate::program::Answers;
use crate::{Observer, Result};

/// Outputs for each class, and labels, in the order of the data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClassOutputs {
    /// Two or more.
    pub(crate) classes: usize,
    /// `[rows · classes]`, row-major.
    pub(crate) outputs: Vec<f64>,
    /// `None` where a label does not count.
    pub(crate) labels: Vec<Option<usize>>,
}

impl Objective<'_> {
    /// Outputs whose softmax gives the probabilities of the classes of each row; one logit stands for two classes. `None`
    /// where rows do not have one whole-number label each. Cost: one forward pass over the rows.
    ///
    /// # Errors
    /// A tensor operation that fails; an interruption.
    pub(crate) fn class_outputs(&self, theta: &Tensor, observer: &mut dyn Observer) -> Result<Option<ClassOutputs>> {
        let params = self.network.space().split(&self.place(theta)?)?;
        let pass = |batch: &Batch| {
            let mut tape = Tape::<Tensor>::new(Saved::Nothing);
            let outcome = self.forward(&mut tape, &params, batch, self.mode())?;
            let answers = Answers::read(&self.options.loss, outcome.output.value(), &batch.targets)?;
            Ok(answers.and_then(Answers::of_rows))
        };
        let (rows, parts): (Vec<_>, Vec<_>) = self.by_micro_batch(pass, observer)?.into_iter().unzip();
        let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let classes = parts.first().map_or(0, |(classes, ..)| *classes);
        let mut outputs = vec![f64::NAN; self.data.len() * classes];
        let mut labels = vec![None; self.data.len()];
        for (rows, (_, values, own)) in rows.iter().zip(parts) {
            for ((row, values), label) in rows.iter().zip(values.chunks(classes.max(1))).zip(own) {
                outputs[row * classes..(row + 1) * classes].copy_from_slice(values);
                labels[*row] = label;
            }
        }
        Ok(Some(ClassOutputs { classes, outputs, labels }))
    }
}
