//! Losses per sample, written once: gradient and Hessian in the outputs follow from the tape.

use candle_core::{DType, Device, Tensor};

use serde::{Deserialize, Serialize};

use super::ProgramError;
use super::composites::affine;
use crate::Result;
use crate::autodiff::{Tape, Value, Var};
use crate::data::{IGNORED, TargetBatch};
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
            Self::Program => "loss of the program".into(),
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
    if let TargetBatch::Tokens { labels, per_row } = target {
        return tokens_loss(tape, loss, output, (labels, *per_row));
    }
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

/// The loss of each row, `[N, 1]`, over its tokens: outputs `[N, C, …]` as in PyTorch, or `[N, …, C]` where only that fits.
fn tokens_loss<V: Value>(
    tape: &mut Tape<V>,
    loss: &Loss,
    output: &Var<V>,
    (labels, per_row): (&[i64], usize),
) -> Result<Var<V>> {
    let dims = output.dims()?.to_vec();
    let target = TargetBatch::Tokens { labels: labels.to_vec(), per_row };
    let misfit = |outputs| ProgramError::Targets { loss: loss.describe(), targets: describe(&target), outputs };
    let Loss::CrossEntropy { label_smoothing } = loss else {
        return Err(misfit(dims.last().copied().unwrap_or(0)).into());
    };
    let [n, rest @ ..] = dims.as_slice() else { return Err(ProgramError::OutputShape { got: dims }.into()) };
    let len = |sizes: &[usize]| sizes.iter().product::<usize>();
    let (c, first) = match rest {
        [c, places @ ..] if len(places) == per_row => (*c, true),
        [places @ .., c] if len(places) == per_row => (*c, false),
        _ => return Err(misfit(0).into()),
    };
    let valid = |&label: &i64| label == IGNORED || usize::try_from(label).is_ok_and(|label| label < c);
    if labels.len() != n * per_row || !labels.iter().all(valid) {
        return Err(misfit(c).into());
    }
    let from = dims.clone();
    let flat = match first {
        true => {
            let cut = vec![*n, c, per_row];
            let cut_up = tape.linear(Linear::Reshape { from, to: cut }, output)?;
            let last = tape.linear(Linear::Permute { axes: vec![0, 2, 1] }, &cut_up)?;
            tape.linear(Linear::Reshape { from: vec![*n, per_row, c], to: vec![n * per_row, c] }, &last)?
        }
        false => tape.linear(Linear::Reshape { from, to: vec![n * per_row, c] }, output)?,
    };
    // Tokens that do not count are taken for class 0, and left out of the sum.
    let classes: Vec<u32> = labels.iter().map(|&label| u32::try_from(label).unwrap_or(0)).collect();
    let each = per_sample_loss(
        tape,
        &Loss::CrossEntropy { label_smoothing: *label_smoothing },
        &flat,
        &TargetBatch::Classes(classes),
    )?;
    let each = tape.linear(Linear::Reshape { from: vec![n * per_row, 1], to: vec![*n, per_row] }, &each)?;
    let Some(primal) = each.value().primal() else { return Err(misfit(c).into()) };
    let counts: Vec<f64> = labels.iter().map(|&label| f64::from(u8::from(label != IGNORED))).collect();
    let gate = Tensor::from_vec(counts, (*n, per_row), primal.device())?.to_dtype(primal.dtype())?;
    let counted = tape.linear(Linear::Gate { gate }, &each)?;
    Ok(tape.linear(Linear::SumTo { from: vec![*n, per_row], to: vec![*n, 1] }, &counted)?)
}

/// The weight `w_n` of each of `count` rows: the objective is `Σ s_n / Σ w_n`, `s_n` what [`per_sample_loss`] gives. A row
/// counts once, or as often as it has tokens that are not ignored.
pub fn row_weights(_loss: &Loss, count: usize, target: &TargetBatch) -> Vec<f64> {
    match target {
        TargetBatch::Tokens { labels, per_row } => {
            let counted = |row: &[i64]| row.iter().filter(|&&label| label != IGNORED).count() as f64;
            labels.chunks((*per_row).max(1)).map(counted).collect()
        }
        TargetBatch::Classes(_) | TargetBatch::Values(_) => vec![1.0; count],
    }
}

fn describe(target: &TargetBatch) -> String {
    match target {
        TargetBatch::Classes(labels) => format!("class labels (largest {})", labels.iter().max().unwrap_or(&0)),
        TargetBatch::Tokens { labels, per_row } => {
            format!("{per_row} class labels a row (largest {})", labels.iter().max().unwrap_or(&0))
        }
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
