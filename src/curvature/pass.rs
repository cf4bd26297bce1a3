//! One micro-batch through the network: loss, gradient, or curvature products.

use candle_core::Tensor;

use super::objective::{Objective, SampleCost};
use crate::Result;
use crate::autodiff::{Dual, Gradients, Pattern, Saved, Tape, Value, Var};
use crate::data::TargetBatch;
use crate::kernels::row_dots;
use crate::nn::{BatchStatistics, Forward, Mode, NnError, count_correct, per_sample_loss};

/// What a pass computes, summed over its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// `Σ ℓ`
    Loss,
    /// `Σ ∇ℓ`
    Gradient,
    /// `Σ ∇²ℓ v`: the gradient program on duals.
    Hessian,
    /// `Σ Jᵀ (∂²ℓ/∂y²) J v`
    Ggn,
    /// `Σ g gᵀ v`, `g` the gradient of one sample.
    Fisher,
}

/// Directions, cut into parameter tensors `[k, …shape]`.
pub(super) struct Direction {
    pub(super) count: usize,
    pub(super) tangents: Vec<Tensor>,
}

impl Direction {
    pub(super) fn none() -> Self {
        Self { count: 0, tangents: Vec::new() }
    }
}

/// What a pass leaves.
#[derive(Default)]
pub(super) struct Part {
    pub(super) loss: f64,
    pub(super) loss_squares: f64,
    pub(super) correct: Option<usize>,
    /// Per parameter tensor: the gradient `[…shape]` or the products `[k, …shape]`.
    pub(super) gradients: Vec<Option<Tensor>>,
    /// `vᵀA v` per direction.
    pub(super) forms: Vec<f64>,
    pub(super) statistics: Vec<BatchStatistics>,
}

impl Objective<'_> {
    /// Runs one pass over `rows` on the calling thread (and the rayon pool it belongs to, if any).
    pub(super) fn pass(
        &self,
        rows: &[usize],
        params: &[Tensor],
        direction: &Direction,
        pass: Pass,
        mode: Mode,
        pattern: &mut Pattern,
    ) -> Result<Part> {
        match pass {
            Pass::Loss => self.plain(rows, params, Saved::Nothing, mode, pattern),
            Pass::Gradient => self.plain(rows, params, Saved::Everything, mode, pattern),
            Pass::Hessian | Pass::Ggn | Pass::Fisher => self.dual(rows, params, direction, pass, mode),
        }
    }

    fn plain(
        &self,
        rows: &[usize],
        params: &[Tensor],
        saved: Saved,
        mode: Mode,
        pattern: &mut Pattern,
    ) -> Result<Part> {
        let mut tape = Tape::<Tensor>::new(saved);
        tape.pattern = std::mem::take(pattern);
        let (output, target, statistics) = self.forward(&mut tape, params, rows, mode)?;
        let loss = per_sample_loss(&mut tape, &self.options.loss, &output, &target)?;
        *pattern = std::mem::take(&mut tape.pattern);
        let mut part = Self::part(rows, &output, &loss, &target)?;
        part.statistics = statistics;
        if saved != Saved::Nothing {
            let ones = loss.value().ones_like()?;
            part.gradients = tape.backward(&loss, ones)?;
        }
        Ok(part)
    }

    fn dual(
        &self,
        rows: &[usize],
        params: &[Tensor],
        direction: &Direction,
        pass: Pass,
        mode: Mode,
    ) -> Result<Part> {
        let values: Vec<Dual> = params
            .iter()
            .zip(&direction.tangents)
            .map(|(primal, tangents)| Dual::new(Some(primal.clone()), Some(tangents.clone())))
            .collect();
        let saved = if pass == Pass::Hessian { Saved::Everything } else { Saved::Primals };
        let mut tape = Tape::<Dual>::new(saved);
        let (output, target, _) = self.forward(&mut tape, &values, rows, mode)?;
        let (loss, gradients) = match pass {
            Pass::Ggn => {
                let (loss, curved) = self.loss_curvature(output.value(), &target)?;
                (loss, tape.backward(&output, curved)?)
            }
            _ => {
                let loss = per_sample_loss(&mut tape, &self.options.loss, &output, &target)?;
                let cotangent = match (pass, loss.value().tangents()) {
                    (Pass::Fisher, tangents) => Dual::new(None, tangents.cloned()),
                    _ => Dual::constant(loss.value().primal().unwrap_or(&params[0]).ones_like()?),
                };
                let gradients = tape.backward(&loss, cotangent)?;
                (loss, gradients)
            }
        };
        let mut part = Self::part(rows, &output, &loss, &target)?;
        part.forms = vec![0.0; direction.count];
        part.gradients = products(gradients);
        for (tangents, product) in direction.tangents.iter().zip(&part.gradients) {
            if let Some(product) = product {
                let dots = row_dots(tangents, product)?;
                part.forms.iter_mut().zip(dots).for_each(|(form, dot)| *form += dot);
            }
        }
        Ok(part)
    }

    /// The per-sample loss at `output`, and the cotangent `∂²ℓ/∂y² ẏ`: the loss alone, forward over reverse.
    fn loss_curvature(&self, output: &Dual, target: &TargetBatch) -> Result<(Var<Dual>, Dual)> {
        let mut tape = Tape::<Dual>::new(Saved::Everything);
        let output = tape.leaf(output.clone());
        let loss = per_sample_loss(&mut tape, &self.options.loss, &output, target)?;
        let ones = loss.value().primal().map(Tensor::ones_like).transpose()?;
        let gradient = tape.backward(&loss, Dual::new(ones, None))?;
        let tangents = gradient.into_iter().flatten().next().and_then(|dual| dual.tangents().cloned());
        Ok((loss, Dual::new(None, tangents)))
    }

    fn forward<V: Value>(
        &self,
        tape: &mut Tape<V>,
        params: &[V],
        rows: &[usize],
        mode: Mode,
    ) -> Result<(Var<V>, TargetBatch, Vec<BatchStatistics>)> {
        let (x, target) = self.data.batch(rows, self.options.dtype, &self.options.device)?;
        let mut forward = Forward::new(tape, &self.network.space, params, &self.network.buffers, mode);
        let output = forward.run(&self.network.architecture.layers, x)?;
        Ok((output, target, forward.statistics))
    }

    fn part<V: Value>(rows: &[usize], output: &Var<V>, loss: &Var<V>, target: &TargetBatch) -> Result<Part> {
        let mut part = Part::default();
        if let (Some(output), Some(loss)) = (output.value().primal(), loss.value().primal()) {
            let losses = loss.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
            if let Some(position) = losses.iter().position(|loss| !loss.is_finite()) {
                return Err(NnError::NonFinite { row: rows[position] }.into());
            }
            part.loss = losses.iter().sum();
            part.loss_squares = losses.iter().map(|loss| loss * loss).sum();
            part.correct = count_correct(output, target)?;
        }
        Ok(part)
    }

    /// Runs one row forwards and counts; every misfit between network, data and loss shows here.
    pub(super) fn dry_run(&self) -> Result<SampleCost> {
        if self.data.is_empty() {
            return Err(crate::data::DataError::NoRows { source_name: self.data.source.clone() }.into());
        }
        let space = &self.network.space;
        let zeros = Tensor::zeros(space.dim(), self.options.dtype, &self.options.device)?;
        let params = space.split(&zeros)?;
        let mut tape = Tape::<Tensor>::new(Saved::Nothing);
        let (x, target) = self.data.batch(&[0], self.options.dtype, &self.options.device)?;
        let mut forward = Forward::new(&mut tape, space, &params, &self.network.buffers, Mode::Eval);
        let output = forward.run(&self.network.architecture.layers, x)?;
        let cost = SampleCost {
            multiply_adds: forward.multiply_adds,
            activations: forward.activations,
            largest_activation: forward.largest_activation,
        };
        if let &[_, outputs] = output.dims()? {
            self.data.check_classes(outputs)?;
        }
        per_sample_loss(&mut tape, &self.options.loss, &output, &target)?;
        Ok(cost)
    }
}

/// The tangents of the parameters' cotangents.
fn products(gradients: Gradients<Dual>) -> Vec<Option<Tensor>> {
    gradients.into_iter().map(|gradient| gradient.and_then(|dual| dual.tangents().cloned())).collect()
}
