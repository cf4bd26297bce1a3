//! One micro-batch of a product: the network on duals, and what each matrix takes backwards.

use candle_core::Tensor;

use super::kept::KeptPasses;
use crate::autodiff::{Dual, Gradients, Saved, Tape, Value, Var};
use crate::data::Batch;
use crate::kernels::row_dots;
use crate::objective::{Objective, Part};
use crate::program::{Loss, Outcome, drawn_labels_loss};
use crate::vocabulary::Curvature;
use crate::{Error, Result};

/// Directions, cut into parameter tensors `[k, …shape]`.
pub(super) struct Direction<'a> {
    pub(super) count: usize,
    pub(super) tangents: Vec<Tensor>,
    /// Whether the forms `vᵀA_s v` of each shard are asked for; micro-batches then stay within a shard.
    pub(super) by_shard: bool,
    /// The mean gradient's product with each, `[k, 1, 1]`, of the covariance alone.
    pub(super) centre: Option<Tensor>,
    /// Seed of the labels that the model draws, of the Monte Carlo Fisher matrix alone.
    pub(super) label_seed: Option<u64>,
    /// What products before have left.
    pub(super) kept: &'a KeptPasses,
}

impl Objective<'_> {
    /// The products of one micro-batch, summed over its rows, and their forms `vᵀA v` where `direction` asks for them.
    ///
    /// The Hessian is the gradient program run on duals. Of the Gauss-Newton matrix, the backward pass takes what the loss
    /// alone, forward over reverse, makes of the outputs' tangents; of its residual, the outputs' cotangents held fixed; of
    /// the others, each row's slope along the directions.
    pub(super) fn product(
        &self,
        curvature: Curvature,
        params: &[Tensor],
        direction: &Direction<'_>,
        batch: &Batch,
    ) -> Result<Part> {
        let values: Vec<Dual> = params
            .iter()
            .zip(&direction.tangents)
            .map(|(primal, tangents)| Dual::new(Some(primal.clone()), Some(tangents.clone())))
            .collect();
        let saved = match curvature {
            Curvature::Hessian | Curvature::Residual | Curvature::PreconditionedHessian => Saved::Everything,
            Curvature::Ggn | Curvature::EmpiricalFisher | Curvature::McFisher | Curvature::GradientCovariance => {
                Saved::Primals
            }
        };
        let mut tape = Tape::<Dual>::new(saved);
        tape.kept = direction.kept.of(&batch.rows);
        let outcome = self.forward(&mut tape, &values, batch, self.mode())?;
        let output = &outcome.output;
        let (weights, mut slopes) = (self.weights(batch), None);
        let (loss, gradients) = match curvature {
            Curvature::Ggn => {
                let (loss, curved) = self.loss_curvature(output.value(), batch)?;
                (loss, tape.backward(output, curved)?)
            }
            Curvature::Residual => {
                let (loss, slope) = self.loss_slope(output.value(), batch)?;
                (loss, tape.backward(output, slope)?)
            }
            // What preconditions it lies outside.
            Curvature::Hessian | Curvature::PreconditionedHessian => {
                let loss = self.row_loss(&mut tape, &outcome, batch)?;
                let ones = loss.value().primal().map(Tensor::ones_like).transpose()?;
                let primal = loss.value().primal().cloned();
                (primal, tape.backward(&loss, Dual::new(ones, None))?)
            }
            Curvature::EmpiricalFisher | Curvature::McFisher | Curvature::GradientCovariance => {
                let loss = self.fisher_loss(&mut tape, &outcome, batch, direction.label_seed)?;
                let centred = match (loss.value().tangents(), &direction.centre) {
                    (Some(slopes), Some(centre)) => Some(slopes.broadcast_sub(&weighted(centre, &weights)?)?),
                    (slopes, _) => slopes.cloned(),
                };
                let scaled = |slopes: &Tensor| match curvature {
                    // Drawn labels carry the weights of their places already.
                    Curvature::McFisher => Ok(slopes.clone()),
                    _ => per_weight(slopes, &weights),
                };
                slopes = centred.map(|slopes| Ok::<_, Error>((scaled(&slopes)?, slopes))).transpose()?;
                let primal = loss.value().primal().cloned();
                let cotangent = slopes.as_ref().map(|(cotangent, _)| cotangent.clone());
                (primal, tape.backward(&loss, Dual::new(None, cotangent))?)
            }
        };
        let mut part = Part::new(batch, &weights, loss.as_ref())?;
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
    pub(super) fn loss_curvature(&self, output: &Dual, batch: &Batch) -> Result<(Option<Tensor>, Dual)> {
        let mut tape = Tape::<Dual>::new(Saved::Everything);
        let output = tape.leaf(output.clone());
        let loss = self.network.loss(&mut tape, &self.options.loss, &output, batch)?;
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
        let loss = self.network.loss(&mut tape, &self.options.loss, &output, batch)?;
        let (primal, ones) = (loss.value().clone(), loss.value().ones_like()?);
        let slope = tape.backward(&loss, ones)?.into_iter().flatten().next();
        Ok((Some(primal), Dual::new(slope, None)))
    }

    /// The per-sample loss whose gradients make a Fisher matrix: at the data's targets, or at labels that the
    /// model draws with `label_seed`.
    pub(super) fn fisher_loss<V: Value>(
        &self,
        tape: &mut Tape<V>,
        outcome: &Outcome<V>,
        batch: &Batch,
        label_seed: Option<u64>,
    ) -> Result<Var<V>> {
        match (label_seed, &self.options.loss) {
            (Some(seed), Loss::CrossEntropy(loss)) => drawn_labels_loss(tape, loss, &outcome.output, batch, seed),
            _ => self.row_loss(tape, outcome, batch),
        }
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
fn forms(direction: &Direction<'_>, products: &[Option<Tensor>]) -> Result<Vec<f64>> {
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
