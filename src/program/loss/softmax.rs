//! Cross-entropy with the softmax of the outputs.

use candle_core::{DType, Device, Tensor};

use super::classes::Classes;
use super::definition::{CrossEntropy, Loss};
use super::draws::draw_labels;
use super::targets::{Given, labels, misfit, primal};
use crate::Result;
use crate::autodiff::{Tape, Value, Var};
use crate::data::{Batch, TargetBatch, Targets};
use crate::kernels::{Bilinear, Linear, Pointwise};
use crate::program::composites::affine;

/// `q` at each place, `[places, C]` row-major, and its sums over the classes, the *masses*.
struct SoftTargets {
    q: Vec<f64>,
    masses: Vec<f64>,
}

/// The loss of each row, `[N, 1]`, a sum over its places.
pub(super) fn cross_entropy<V: Value>(
    tape: &mut Tape<V>,
    loss: &CrossEntropy,
    output: &Var<V>,
    target: &TargetBatch,
) -> Result<Var<V>> {
    let classes = Classes::find(loss, output.dims()?, Given::of(target))?;
    let targets = soft_targets(loss, &classes, output.dims()?, target)?;
    let flat = classes.flatten(tape, output)?;
    let each = at_places(tape, &flat, targets)?;
    classes.sum(tape, &each)
}

/// `m log Σ exp(f) − Σ q f` at each place, `m` the mass.
fn at_places<V: Value>(tape: &mut Tape<V>, flat: &Var<V>, targets: SoftTargets) -> Result<Var<V>> {
    let SoftTargets { mut q, masses } = targets;
    let full = flat.dims()?.to_vec();
    let small = vec![full[0], 1];
    let primal = primal(flat)?;
    let constant = |values: Vec<f64>, shape: &[usize]| -> Result<Tensor> {
        Ok(Tensor::from_vec(values, shape, primal.device())?.to_dtype(primal.dtype())?)
    };
    // The maximum is a constant: it cancels in the loss, and keeps exp from overflowing.
    let shift = tape.constant(primal.max_keepdim(1)?.neg()?);
    let shifted = affine(tape, flat, None, &shift)?;
    let exponentials = tape.pointwise(Pointwise::Exp, &shifted)?;
    let sum = tape.linear(Linear::SumTo { from: full.clone(), to: small.clone() }, &exponentials)?;
    let mut log_sum = tape.pointwise(Pointwise::Log, &sum)?;
    if masses.iter().any(|&mass| mass != 1.0) {
        let masses = tape.constant(constant(masses, &small)?);
        log_sum = tape.bilinear(Bilinear::Product { full: small.clone(), small: small.clone() }, &log_sum, &masses)?;
    }
    q.iter_mut().for_each(|q| *q = -*q);
    let q = tape.constant(constant(q, &full)?);
    let linear = tape.bilinear(Bilinear::ProductSum { full, small }, &shifted, &q)?;
    Ok(tape.add(&log_sum, &linear)?)
}

fn soft_targets(loss: &CrossEntropy, classes: &Classes, output: &[usize], target: &TargetBatch) -> Result<SoftTargets> {
    let misfit = || misfit(&Loss::CrossEntropy(loss.clone()), output, Given::of(target));
    let (count, smoothing) = (classes.count, loss.label_smoothing);
    let places = output[0] * classes.places;
    let weight = |class: usize| loss.weight.as_ref().map_or(1.0, |weight| weight[class]);
    let even: Vec<f64> = (0..count).map(|class| smoothing / count as f64 * weight(class)).collect();
    let Some(labels) = labels(target) else {
        let TargetBatch::Values(values) = target else { return Err(misfit()) };
        let values = classes.rows_of(values)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let mut q = values.flatten_all()?.to_vec1::<f64>()?;
        if q.len() != places * count || q.iter().any(|&p| p < 0.0) {
            return Err(misfit());
        }
        for (place, q) in q.iter_mut().enumerate() {
            let class = place % count;
            *q = (1.0 - smoothing) * *q * weight(class) + even[class];
        }
        let masses = q.chunks(count).map(|q| q.iter().sum()).collect();
        return Ok(SoftTargets { q, masses });
    };
    if labels.len() != places {
        return Err(misfit());
    }
    let total: f64 = (0..count).map(weight).sum();
    let (mut q, mut masses) = (vec![0.0; places * count], vec![0.0; places]);
    for ((q, mass), &label) in q.chunks_mut(count).zip(&mut masses).zip(&*labels) {
        if label == loss.ignore_index {
            continue;
        }
        let class = usize::try_from(label).ok().filter(|&class| class < count).ok_or_else(misfit)?;
        q.copy_from_slice(&even);
        q[class] += (1.0 - smoothing) * weight(class);
        *mass = match loss.weight {
            None => 1.0,
            Some(_) => (1.0 - smoothing) * weight(class) + smoothing / count as f64 * total,
        };
    }
    Ok(SoftTargets { q, masses })
}

/// What each place of outputs `[N, …]` weighs in the Hessian of the loss, `m (diag p − p pᵀ)` with the softmax `p`.
pub(in crate::program) fn masses(loss: &CrossEntropy, output: &[usize], target: &TargetBatch) -> Result<Vec<f64>> {
    let classes = Classes::find(loss, output, Given::of(target))?;
    Ok(soft_targets(loss, &classes, output, target)?.masses)
}

/// `−Σ √m log softmax(f)_ỹ` over the places of each row, `[N, 1]`, at labels `ỹ` drawn from the softmax: the expected outer
/// product of its gradients is the Gauss-Newton matrix of the row's loss, since draws at different places are independent.
pub(crate) fn drawn_labels_loss<V: Value>(
    tape: &mut Tape<V>,
    loss: &CrossEntropy,
    output: &Var<V>,
    Batch { targets: target, rows, .. }: &Batch,
    seed: u64,
) -> Result<Var<V>> {
    let classes = Classes::find(loss, output.dims()?, Given::of(target))?;
    let mut roots = masses(loss, output.dims()?, target)?;
    roots.iter_mut().for_each(|mass| *mass = mass.sqrt());
    let flat = classes.flatten(tape, output)?;
    let primal = primal(&flat)?;
    let drawn = draw_labels(primal, classes.places, rows, seed)?;
    let mut q = vec![0.0; drawn.len() * classes.count];
    for ((q, &label), root) in q.chunks_mut(classes.count).zip(&drawn).zip(&roots) {
        q[label as usize] = *root;
    }
    let each = at_places(tape, &flat, SoftTargets { q, masses: roots })?;
    classes.sum(tape, &each)
}

/// The places of a batch that count, as [`row_weights`] and the Hessian see them; of probabilities all, `None`.
pub(in crate::program) fn counted(loss: &CrossEntropy, target: &TargetBatch) -> Option<Vec<bool>> {
    let labels = labels(target)?;
    let counts =
        |&label: &i64| label != loss.ignore_index && (loss.label_smoothing > 0.0 || label_weight(loss, label) > 0.0);
    Some(labels.iter().map(counts).collect())
}

/// The weights of rows in the mean: of labels, what those that count weigh; of probabilities, the places.
pub(super) fn row_weights(loss: &CrossEntropy, count: usize, target: &TargetBatch) -> Vec<f64> {
    let Some(labels) = labels(target) else {
        let Given::Values(shape) = Given::of(target) else { return vec![1.0; count] };
        let classes = if loss.class_axis == Some(-1) { shape.last() } else { shape.first() };
        let places = shape.iter().product::<usize>() / classes.copied().unwrap_or(1).max(1);
        return vec![places as f64; count];
    };
    let per_row = labels.len() / count.max(1);
    labels.chunks(per_row.max(1)).map(|row| row.iter().map(|&label| label_weight(loss, label)).sum()).collect()
}

/// What a label weighs in the mean.
fn label_weight(loss: &CrossEntropy, label: i64) -> f64 {
    match &loss.weight {
        _ if label == loss.ignore_index => 0.0,
        None => 1.0,
        Some(weight) => usize::try_from(label).ok().and_then(|class| weight.get(class)).copied().unwrap_or(0.0),
    }
}

/// Whether the mean is over something.
pub(super) fn some_count(loss: &CrossEntropy, targets: &Targets) -> bool {
    match targets {
        Targets::Classes { labels, .. } => labels.iter().any(|&label| label_weight(loss, label.into()) > 0.0),
        Targets::Tokens { labels, .. } => labels.iter().any(|&label| label_weight(loss, label) > 0.0),
        Targets::Values { .. } => true,
    }
}
