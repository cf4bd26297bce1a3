//! One micro-batch through the network: loss, gradient, or curvature products.

use candle_core::Tensor;

use super::Objective;
use super::Ratio;
use crate::autodiff::{Dual, Gradients, Pattern, Saved, Tape, Value, Var};
use crate::data::{Batch, TargetBatch};
use crate::kernels::{Linear, row_dots};
use crate::program::{
    BatchStatistics, ClassScores, Input, Loss, Mode, Outcome, ProgramError, count_correct, draw_labels,
    per_sample_loss, row_weights,
};
use crate::{Error, Result};

/// What a pass computes, summed over its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// `Σ ℓ`
    Loss,
    /// `Σ ∇ℓ`
    Gradient,
    /// `Σ ∇²ℓ v`: the gradient program on duals.
    Hessian,
    /// `Σ Jᵀ (∂²ℓ/∂y²) J v`
    Ggn,
    /// `Σ (Σ_c ∂ℓ/∂y_c ∇²y_c) v`: what the Hessian has beyond `Ggn`.
    Residual,
    /// `Σ g gᵀ v / w`, `g` the gradient of one row's `s` and `w` its weight.
    Fisher,
    /// The same of `g̃`, the gradient at a label that the model draws.
    SampledFisher { seed: u64 },
    /// `Σ g (gᵀv − w ḡᵀv) / w`, with `ḡᵀv` from [`Direction::centre`].
    Covariance,
}

/// Directions, cut into parameter tensors `[k, …shape]`.
pub(crate) struct Direction {
    pub(crate) count: usize,
    pub(crate) tangents: Vec<Tensor>,
    /// Whether the forms `vᵀA_s v` of each shard are asked for; micro-batches then stay within a shard.
    pub(crate) by_shard: bool,
    /// The mean gradient's product with each, `[k, 1, 1]`.
    pub(crate) centre: Option<Tensor>,
}

impl Direction {
    pub(crate) fn none() -> Self {
        Self { count: 0, tangents: Vec::new(), by_shard: true, centre: None }
    }
}

/// What a pass leaves.
#[derive(Default)]
pub(crate) struct Part {
    /// Losses and weights of the rows; of no rows, where the pass has no losses.
    pub(crate) loss: Ratio,
    /// `Σ w_n` of the rows.
    pub(crate) weight: f64,
    pub(crate) correct: Option<usize>,
    /// Per parameter tensor: the gradient `[…shape]` or the products `[k, …shape]`.
    pub(crate) gradients: Vec<Option<Tensor>>,
    /// `vᵀA v` per direction; empty where they are not asked for.
    pub(crate) forms: Vec<f64>,
    pub(crate) statistics: Vec<BatchStatistics>,
    /// Of a plain pass over class labels.
    pub(crate) scores: Option<ClassScores>,
}

impl Part {
    /// Loss and correct answers of some rows, `[rows, C]` outputs and `[rows, 1]` losses.
    fn new(batch: &Batch, weights: &[f64], output: Option<&Tensor>, loss: Option<&Tensor>) -> Result<Self> {
        let mut part = Self { weight: weights.iter().sum(), ..Self::default() };
        if let (Some(output), Some(loss)) = (output, loss) {
            let losses = loss.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
            if let Some(position) = losses.iter().position(|loss| !loss.is_finite()) {
                let row = batch.rows.get(position).copied().unwrap_or(position);
                return Err(ProgramError::NonFinite { row }.into());
            }
            let rows = losses.iter().zip(weights).map(|(&loss, &weight)| Ratio::of(loss, weight));
            part.loss = rows.fold(Ratio::default(), Ratio::merge);
            part.correct = count_correct(output, &batch.targets)?;
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

    /// Runs one pass over `batch` on the calling thread, and on the pool it belongs to where it may share its work.
    pub(crate) fn pass(
        &self,
        batch: &Batch,
        params: &[Tensor],
        direction: &Direction,
        pass: Pass,
        mode: Mode,
        pattern: &mut Pattern,
    ) -> Result<Part> {
        match pass {
            Pass::Loss => self.plain(batch, params, Saved::Nothing, mode, pattern),
            Pass::Gradient => self.plain(batch, params, Saved::Everything, mode, pattern),
            _ => self.dual(batch, params, direction, pass, mode),
        }
    }

    fn plain(&self, batch: &Batch, params: &[Tensor], saved: Saved, mode: Mode, pattern: &mut Pattern) -> Result<Part> {
        let mut tape = Tape::<Tensor>::new(saved);
        tape.pattern = std::mem::take(pattern);
        let outcome = self.forward(&mut tape, params, batch, mode)?;
        let loss = self.row_loss(&mut tape, &outcome, batch)?;
        let (output, statistics) = (outcome.output, outcome.statistics);
        *pattern = std::mem::take(&mut tape.pattern);
        let mut part = Part::new(batch, &self.weights(batch), output.value().primal(), loss.value().primal())?;
        part.scores = output.value().primal().map_or(Ok(None), |y| ClassScores::of(&batch.rows, y, &batch.targets))?;
        part.statistics = statistics;
        if saved != Saved::Nothing {
            let ones = loss.value().ones_like()?;
            part.gradients = tape.backward(&loss, ones)?;
        }
        Ok(part)
    }

    fn dual(&self, batch: &Batch, params: &[Tensor], direction: &Direction, pass: Pass, mode: Mode) -> Result<Part> {
        let values: Vec<Dual> = params
            .iter()
            .zip(&direction.tangents)
            .map(|(primal, tangents)| Dual::new(Some(primal.clone()), Some(tangents.clone())))
            .collect();
        let saved = match pass {
            Pass::Hessian | Pass::Residual => Saved::Everything,
            _ => Saved::Primals,
        };
        let mut tape = Tape::<Dual>::new(saved);
        let outcome = self.forward(&mut tape, &values, batch, mode)?;
        let output = &outcome.output;
        let (weights, mut slopes) = (self.weights(batch), None);
        let (loss, gradients) = match pass {
            Pass::Ggn => {
                let (loss, curved) = self.loss_curvature(output.value(), batch)?;
                (loss, tape.backward(output, curved)?)
            }
            Pass::Residual => {
                let (loss, slope) = self.loss_slope(output.value(), batch)?;
                (loss, tape.backward(output, slope)?)
            }
            Pass::Hessian => {
                let loss = self.row_loss(&mut tape, &outcome, batch)?;
                let ones = loss.value().primal().map(Tensor::ones_like).transpose()?;
                let primal = loss.value().primal().cloned();
                (primal, tape.backward(&loss, Dual::new(ones, None))?)
            }
            _ => {
                let loss = self.fisher_loss(&mut tape, &outcome, batch, pass)?;
                let centred = match (loss.value().tangents(), &direction.centre) {
                    (Some(slopes), Some(centre)) => Some(slopes.broadcast_sub(&weighted(centre, &weights)?)?),
                    (slopes, _) => slopes.cloned(),
                };
                slopes = centred.map(|slopes| Ok::<_, Error>((per_weight(&slopes, &weights)?, slopes))).transpose()?;
                let primal = loss.value().primal().cloned();
                let cotangent = slopes.as_ref().map(|(cotangent, _)| cotangent.clone());
                (primal, tape.backward(&loss, Dual::new(None, cotangent))?)
            }
        };
        let mut part = Part::new(batch, &weights, output.value().primal(), loss.as_ref())?;
        part.gradients = products(gradients);
        part.forms = match slopes {
            _ if !direction.by_shard => Vec::new(),
            // `Σ (gᵀv)² / w`: a sum of squares stays one.
            Some((cotangent, slopes)) => row_dots(&cotangent, &slopes)?,
            None => forms(direction, &part.gradients)?,
        };
        Ok(part)
    }

    /// The per-sample loss at `output`, and the cotangent `∂²ℓ/∂y² ẏ`: the loss alone, forward over reverse.
    pub(crate) fn loss_curvature(&self, output: &Dual, batch: &Batch) -> Result<(Option<Tensor>, Dual)> {
        let mut tape = Tape::<Dual>::new(Saved::Everything);
        let output = tape.leaf(output.clone());
        let loss = self.network.loss(&mut tape, &self.options.loss, &output, (&batch.inputs(), &batch.targets))?;
        let primal = loss.value().primal().cloned();
        let ones = primal.as_ref().map(Tensor::ones_like).transpose()?;
        let gradient = tape.backward(&loss, Dual::new(ones, None))?;
        let tangents = gradient.into_iter().flatten().next().and_then(|dual| dual.tangents().cloned());
        Ok((primal, Dual::new(None, tangents)))
    }

    /// The per-sample loss at `output`, and the cotangent `∂ℓ/∂y` held fixed along the directions.
    fn loss_slope(&self, output: &Dual, batch: &Batch) -> Result<(Option<Tensor>, Dual)> {
        let Some(primal) = output.primal() else { return Ok((None, Dual::new(None, None))) };
        let mut tape = Tape::<Tensor>::new(Saved::Everything);
        let output = tape.leaf(primal.clone());
        let loss = self.network.loss(&mut tape, &self.options.loss, &output, (&batch.inputs(), &batch.targets))?;
        let (primal, ones) = (loss.value().clone(), loss.value().ones_like()?);
        let slope = tape.backward(&loss, ones)?.into_iter().flatten().next();
        Ok((Some(primal), Dual::new(slope, None)))
    }

    /// The per-sample loss whose gradients make a Fisher matrix: at the data's targets, or at labels that the model draws.
    fn fisher_loss(
        &self,
        tape: &mut Tape<Dual>,
        outcome: &Outcome<Dual>,
        batch: &Batch,
        pass: Pass,
    ) -> Result<Var<Dual>> {
        match (pass, outcome.output.value().primal()) {
            (Pass::SampledFisher { .. }, Some(primal)) if primal.rank() != 2 => {
                Err(ProgramError::OutputShape { got: primal.dims().to_vec() }.into())
            }
            (Pass::SampledFisher { seed }, Some(primal)) => {
                let labels = TargetBatch::Classes(draw_labels(primal, &batch.rows, seed)?);
                // Smoothing belongs to the data's labels; the model's own distribution has none.
                per_sample_loss(tape, &Loss::CrossEntropy { label_smoothing: 0.0 }, &outcome.output, &labels)
            }
            _ => self.row_loss(tape, outcome, batch),
        }
    }

    /// The loss of each row, `[N, 1]`, behind a forward pass on the same tape.
    pub(crate) fn row_loss<V: Value>(&self, tape: &mut Tape<V>, outcome: &Outcome<V>, batch: &Batch) -> Result<Var<V>> {
        match (&self.options.loss, &outcome.loss) {
            (Loss::Program, Some(loss)) => {
                let from = loss.dims()?.to_vec();
                Ok(tape.linear(Linear::Reshape { to: vec![from[0], 1], from }, loss)?)
            }
            (Loss::Program, None) => Err(ProgramError::NoLoss.into()),
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
        self.network.forward_with_fixed(tape, (params, &self.fixed), batch.inputs(), mode)
    }
}

/// `centre` `[k, 1, 1]` for rows of the given weights: itself where all are 1, else `[k, rows, 1]`.
fn weighted(centre: &Tensor, weights: &[f64]) -> Result<Tensor> {
    if weights.iter().all(|&weight| weight == 1.0) {
        return Ok(centre.clone());
    }
    Ok(centre.broadcast_mul(&column(weights.to_vec(), centre)?)?)
}

/// The slopes `[k, rows, 1]` of rows over their weights; 0 for a row that does not count.
fn per_weight(slopes: &Tensor, weights: &[f64]) -> Result<Tensor> {
    if weights.iter().all(|&weight| weight == 1.0) {
        return Ok(slopes.clone());
    }
    let inverse = weights.iter().map(|&weight| if weight == 0.0 { 0.0 } else { 1.0 / weight }).collect();
    Ok(slopes.broadcast_mul(&column(inverse, slopes)?)?)
}

fn column(values: Vec<f64>, like: &Tensor) -> Result<Tensor> {
    let shape = (1, values.len(), 1);
    Ok(Tensor::from_vec(values, shape, like.device())?.to_dtype(like.dtype())?)
}

/// The tangents of the parameters' cotangents.
fn products(gradients: Gradients<Dual>) -> Vec<Option<Tensor>> {
    gradients.into_iter().map(|gradient| gradient.and_then(|dual| dual.tangents().cloned())).collect()
}

/// `vᵀA v` per direction, summed over the parameter tensors.
fn forms(direction: &Direction, products: &[Option<Tensor>]) -> Result<Vec<f64>> {
    let mut forms = vec![0.0; direction.count];
    for (tangents, product) in direction.tangents.iter().zip(products) {
        if let Some(product) = product {
            let dots = row_dots(tangents, product)?;
            forms.iter_mut().zip(dots).for_each(|(form, dot)| *form += dot);
        }
    }
    Ok(forms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn slopes_of_weighted_rows_by_hand() {
        let slopes = Tensor::new(&[[[2.0], [3.0], [5.0]], [[4.0], [6.0], [7.0]]], &Device::Cpu).unwrap();
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        // A row that does not count has no gradient of its own mean.
        let weights = [1.0, 2.0, 0.0];
        assert_eq!(values(&per_weight(&slopes, &weights).unwrap()), [2.0, 1.5, 0.0, 4.0, 3.0, 0.0]);
        let centre = Tensor::new(&[[[0.5]], [[3.0]]], &Device::Cpu).unwrap();
        assert_eq!(values(&weighted(&centre, &weights).unwrap()), [0.5, 1.0, 0.0, 3.0, 6.0, 0.0]);
        // `Σ w (uᵀv − ḡᵀv)²` with `u = g/w`: 1·(2 − 0.5)² + 2·(1.5 − 0.5)².
        let centred = slopes.broadcast_sub(&weighted(&centre, &weights).unwrap()).unwrap();
        let forms = row_dots(&per_weight(&centred, &weights).unwrap(), &centred).unwrap();
        assert_eq!(forms, [4.25, 1.0]);
        // Weights of 1 change nothing.
        assert_eq!(values(&per_weight(&slopes, &[1.0; 3]).unwrap()), values(&slopes));
    }
}
