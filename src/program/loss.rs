//! Losses per sample, written once: gradient and Hessian in the outputs follow from the tape.

use candle_core::{DType, Device, Tensor};

use serde::{Deserialize, Serialize};

use super::ProgramError;
use super::composites::affine;
use crate::Result;
use crate::autodiff::{Tape, Value, Var};
use crate::data::TargetBatch;
use crate::kernels::{Bilinear, Linear, Pointwise};

/// The loss of one sample; the objective is its mean over samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Loss {
    /// `−Σ_c q_c log softmax(f)_c`, `q = (1 − s)·onehot + s/C`.
    CrossEntropy {
        /// `s` in 0..1.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// `(1/C) Σ_c (f_c − y_c)²`
    Mse,
    /// `(1/C) Σ_c softplus(f_c) − y_c f_c`, targets in 0..=1.
    BceWithLogits,
    /// The loss per row that the program itself brings.
    Program,
}

impl Loss {
    /// In words, for tables and captions.
    pub fn describe(&self) -> String {
        match self {
            Self::CrossEntropy { label_smoothing: 0.0 } => "cross-entropy".into(),
            Self::CrossEntropy { label_smoothing } => format!("cross-entropy, label smoothing {label_smoothing}"),
            Self::Mse => "mean squared error".into(),
            Self::BceWithLogits => "binary cross-entropy with logits".into(),
            Self::Program => "the program's own loss".into(),
        }
    }
}

/// Which statistics batch normalisation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// The stored running statistics.
    #[default]
    Eval,
    /// Those of the whole batch, differentiated through.
    Train,
}

/// The loss of each sample, `[N, 1]`, for outputs `[N, C]`.
///
/// # Errors
/// Targets that the loss cannot take.
pub fn per_sample_loss<V: Value>(
    tape: &mut Tape<V>,
    loss: &Loss,
    output: &Var<V>,
    target: &TargetBatch,
) -> Result<Var<V>> {
    let &[n, c] = output.dims()? else { return Err(ProgramError::OutputShape { got: output.dims()?.to_vec() }.into()) };
    let misfit = || ProgramError::Targets { loss: loss.describe(), targets: describe(target), outputs: c };
    let Some(primal) = output.value().primal() else { return Err(misfit().into()) };
    let (full, small) = (vec![n, c], vec![n, 1]);
    match (loss, target) {
        (Loss::CrossEntropy { label_smoothing }, TargetBatch::Classes(labels)) => {
            if labels.len() != n || labels.iter().any(|&label| label as usize >= c) {
                return Err(misfit().into());
            }
            // The maximum is a constant: it cancels in the loss, and keeps exp from overflowing.
            let shift = tape.constant(primal.max_keepdim(1)?.neg()?);
            let shifted = affine(tape, output, None, &shift)?;
            let exponentials = tape.pointwise(Pointwise::Exp, &shifted)?;
            let sum = tape.linear(Linear::SumTo { from: full.clone(), to: small.clone() }, &exponentials)?;
            let log_sum = tape.pointwise(Pointwise::Log, &sum)?;
            let weights = tape.constant(negative_targets(labels, c, *label_smoothing, primal)?);
            let product = Bilinear::ProductSum { full, small };
            let linear = tape.bilinear(product, &shifted, &weights)?;
            Ok(tape.add(&log_sum, &linear)?)
        }
        (Loss::Mse, TargetBatch::Values(values)) => {
            if values.dims() != [n, c] {
                return Err(misfit().into());
            }
            let shift = tape.constant(values.neg()?);
            let difference = affine(tape, output, None, &shift)?;
            let sum = tape.bilinear(Bilinear::ProductSum { full, small }, &difference, &difference)?;
            Ok(tape.linear(Linear::Scale { factor: 1.0 / c as f64 }, &sum)?)
        }
        (Loss::BceWithLogits, target) => {
            let values = match target {
                TargetBatch::Values(values) if values.dims() == [n, c] => values.clone(),
                TargetBatch::Classes(labels)
                    if c == 1 && labels.len() == n && labels.iter().all(|&label| label < 2) =>
                {
                    let labels: Vec<f64> = labels.iter().map(|&label| f64::from(label)).collect();
                    Tensor::from_vec(labels, (n, 1), primal.device())?.to_dtype(primal.dtype())?
                }
                _ => return Err(misfit().into()),
            };
            let softplus = tape.pointwise(Pointwise::Softplus, output)?;
            let positive = tape.linear(Linear::SumTo { from: full.clone(), to: small.clone() }, &softplus)?;
            let weights = tape.constant(values.neg()?);
            let linear = tape.bilinear(Bilinear::ProductSum { full, small }, output, &weights)?;
            let sum = tape.add(&positive, &linear)?;
            Ok(tape.linear(Linear::Scale { factor: 1.0 / c as f64 }, &sum)?)
        }
        (Loss::CrossEntropy { .. } | Loss::Mse, _) => Err(misfit().into()),
        (Loss::Program, _) => Err(ProgramError::NoLoss.into()),
    }
}

/// The weight `w_n` of each of `count` rows: the objective is `Σ s_n / Σ w_n`, `s_n` what [`per_sample_loss`] gives. Every row
/// counts once, whatever its loss and targets.
pub fn row_weights(_loss: &Loss, count: usize, _target: &TargetBatch) -> Vec<f64> {
    vec![1.0; count]
}

fn describe(target: &TargetBatch) -> String {
    match target {
        TargetBatch::Classes(labels) => format!("class labels (largest {})", labels.iter().max().unwrap_or(&0)),
        TargetBatch::Values(values) => format!("real targets of shape {:?}", values.dims()),
    }
}

/// `−q`, `q = (1 − s)·onehot + s/C`.
fn negative_targets(labels: &[u32], classes: usize, smoothing: f64, like: &Tensor) -> Result<Tensor> {
    let mut weights = vec![-smoothing / classes as f64; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        weights[row * classes + label as usize] -= 1.0 - smoothing;
    }
    Ok(Tensor::from_vec(weights, (labels.len(), classes), like.device())?.to_dtype(like.dtype())?)
}

/// Rows whose largest output is the labelled class; `None` where targets are no classes.
/// With one output, class 1 is an output above 0.
///
/// # Errors
/// Reading the outputs from their device.
pub fn count_correct(output: &Tensor, target: &TargetBatch) -> Result<Option<usize>> {
    let TargetBatch::Classes(labels) = target else { return Ok(None) };
    let rows = output.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let predicted = |row: &[f64]| if row.len() == 1 { usize::from(row[0] > 0.0) } else { largest(row) };
    Ok(Some(rows.iter().zip(labels).filter(|(row, label)| predicted(row) == **label as usize).count()))
}

/// Place of the first largest entry.
pub(super) fn largest(row: &[f64]) -> usize {
    let mut best = 0;
    row.iter().enumerate().for_each(|(class, value)| {
        if *value > row[best] {
            best = class;
        }
    });
    best
}
