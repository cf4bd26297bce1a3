//! One micro-batch through the network: losses and their gradient.

use candle_core::Tensor;

use super::Objective;
use crate::Result;
use crate::autodiff::{Pattern, Saved, Tape, Value, Var};
use crate::data::Batch;
use crate::kernels::Linear;
use crate::program::{
    Answers, BatchStatistics, ClassScores, Input, Loss, Mode, Outcome, Parameters, ProgramError, per_sample_loss,
    row_weights,
};
use crate::statistics::Ratio;

/// What a pass leaves.
#[derive(Default)]
pub(crate) struct Part {
    /// Losses and weights of the rows; of no rows, where the pass has no losses.
    pub(crate) loss: Ratio,
    /// `Σ w_n` of the rows.
    pub(crate) weight: f64,
    /// Right answers and labels that count, of a plain pass over class labels.
    pub(crate) correct: Option<Ratio>,
    /// Per parameter tensor: the gradient `[…shape]` or the products `[k, …shape]`.
    pub(crate) gradients: Vec<Option<Tensor>>,
    /// `vᵀA v` per direction; empty where they are not asked for.
    pub(crate) forms: Vec<f64>,
    pub(crate) statistics: Vec<BatchStatistics>,
    /// Of a plain pass over class labels.
    pub(crate) scores: Option<ClassScores>,
}

impl Part {
    /// Weights of some rows, and where there are any, their losses `[rows, 1]`.
    pub(crate) fn new(batch: &Batch, weights: &[f64], loss: Option<&Tensor>) -> Result<Self> {
        let mut part = Self { weight: weights.iter().sum(), ..Self::default() };
        if let Some(loss) = loss {
            let losses = loss.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
            if let Some(position) = losses.iter().position(|loss| !loss.is_finite()) {
                let row = batch.rows.get(position).copied().unwrap_or(position);
                return Err(ProgramError::NonFinite { row }.into());
            }
            let rows = losses.iter().zip(weights).map(|(&loss, &weight)| Ratio::of(loss, weight));
            part.loss = rows.fold(Ratio::default(), Ratio::merge);
        }
        Ok(part)
    }
}

impl Objective<'_> {
    /// The rows as a batch, in the objective's dtype and on its device.
    ///
    /// # Errors
    /// As [`crate::data::Dataset::batch`].
    pub fn batch(&self, rows: &[usize]) -> Result<Batch> {
        let (dtype, device) = (self.options.dtype, &self.options.device);
        let (x, targets) = self.data.batch(rows, dtype, device)?;
        let inputs = &self.network.program().inputs;
        // Where there is one of both, there is nothing to confuse.
        if let ([_], []) = (inputs.as_slice(), self.data.columns.as_slice()) {
            return Ok(Batch { rows: rows.to_vec(), x, more: Vec::new(), targets });
        }
        // Else inputs of a program go by their names; its targets may be among them.
        let find = |input: &Input| -> Result<Tensor> {
            if input.name == self.data.input_name {
                return Ok(x.clone());
            }
            match (self.data.columns.iter().find(|column| column.name == input.name), &targets) {
                (Some(column), _) => self.data.column(column, rows, dtype, device),
                (None, targets) if input.name == "y" => targets.as_input(device),
                _ => {
                    let columns = self.data.columns.iter().map(|column| column.name.clone());
                    let present = std::iter::once(self.data.input_name.clone()).chain(columns).collect();
                    Err(ProgramError::MissingInput { name: input.name.clone(), present }.into())
                }
            }
        };
        let mut found = inputs.iter().map(find).collect::<Result<Vec<_>>>()?.into_iter();
        let x = found.next().unwrap_or(x);
        Ok(Batch { rows: rows.to_vec(), x, more: found.collect(), targets })
    }

    /// The weight of each row in the mean.
    pub(crate) fn weights(&self, batch: &Batch) -> Vec<f64> {
        row_weights(&self.options.loss, batch.rows.len(), &batch.targets)
    }

    /// Losses of `batch` and, unless nothing is `saved`, their gradient: on the calling thread, and on the pool it belongs to
    /// where it may share its work.
    pub(crate) fn plain(
        &self,
        batch: &Batch,
        params: &[Tensor],
        saved: Saved,
        mode: Mode,
        pattern: &mut Pattern,
    ) -> Result<Part> {
        let mut tape = Tape::<Tensor>::new(saved);
        tape.pattern = std::mem::take(pattern);
        let outcome = self.forward(&mut tape, params, batch, mode)?;
        let loss = self.row_loss(&mut tape, &outcome, batch)?;
        let (output, statistics) = (outcome.output, outcome.statistics);
        *pattern = std::mem::take(&mut tape.pattern);
        let mut part = Part::new(batch, &self.weights(batch), loss.value().primal())?;
        if let Some(answers) = Answers::read(&self.options.loss, output.value(), &batch.targets)? {
            part.correct = Some(answers.correct());
            part.scores = ClassScores::of(&batch.rows, &answers);
        }
        part.statistics = statistics;
        if saved != Saved::Nothing {
            let ones = loss.value().ones_like()?;
            part.gradients = tape.backward(&loss, ones)?;
        }
        Ok(part)
    }

    /// The loss of each row, `[N, 1]`, behind a forward pass on the same tape.
    pub(crate) fn row_loss<V: Value>(&self, tape: &mut Tape<V>, outcome: &Outcome<V>, batch: &Batch) -> Result<Var<V>> {
        match (&self.options.loss, &outcome.loss) {
            (Loss::Program {}, Some(loss)) => {
                let from = loss.dims()?.to_vec();
                Ok(tape.linear(Linear::Reshape { to: vec![from[0], 1], from }, loss)?)
            }
            (Loss::Program {}, None) => Err(ProgramError::NoLoss.into()),
            (loss, _) => per_sample_loss(tape, loss, &outcome.output, &batch.targets),
        }
    }

    pub(crate) fn forward<V: Value>(
        &self,
        tape: &mut Tape<V>,
        params: &[V],
        batch: &Batch,
        mode: Mode,
    ) -> Result<Outcome<V>> {
        self.network.forward_with_fixed(tape, Parameters { values: params, fixed: &self.fixed }, batch.inputs(), mode)
    }
}
