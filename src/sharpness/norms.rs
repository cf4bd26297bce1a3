//! Measures from products with curvature: Fisher-Rao norm and relative flatness.

use candle_core::{DType, Device, Tensor};
use rand::Rng;

use super::average::Rise;
use crate::autodiff::ParamTensor;
use crate::curvature::{Curvature, CurvatureOperator};
use crate::objective::Objective;
use crate::operator::{LinearOperator, Product};
use crate::random::{Purpose, stream};
use crate::statistics::Sample;
use crate::vocabulary::ParamKind;
use crate::{Observer, Result};

/// `sqrt(θᵀ G θ)` (Liang et al. 2019), `G` the Gauss-Newton matrix, which is Fisher's for cross-entropy. Unchanged where ReLU
/// layers are rescaled. Cost: one product.
pub(super) fn fisher_rao(objective: &Objective<'_>, theta: &[f64], observer: &mut dyn Observer) -> Result<Rise> {
    let flat = Tensor::from_vec(theta.to_vec(), theta.len(), &Device::Cpu)?;
    let operator = CurvatureOperator::new(objective, &flat, Curvature::Ggn)?;
    let block = objective.place(&flat)?.unsqueeze(0)?;
    let product = operator.apply(&block, observer)?;
    let [form] = forms(&block, &product)?[..] else { return Ok(unknown()) };
    // The root halves the relative error.
    let value = form.max(0.0).sqrt();
    Ok(Rise { value, std_err_numeric: 0.0, std_err_data: shard_error(&product) / (2.0 * value) })
}

/// `Σ_{s,s'} ⟨w_s, w_s'⟩ tr H_{s,s'}` over the neurons `s` of the last layer with weights `W` (rows `w_s`, of a convolution its
/// filters; Petzka et al. 2021), `H_{s,s'}` the block of the Hessian in `w_s` and `w_s'`. Unchanged where ReLU layers are
/// rescaled.
///
/// `None` where no layer has such weights.
///
/// It is `E vec(W Z)ᵀ H vec(W Z)` over square matrices `Z` of random signs: `probes` products, with the standard error over
/// them.
pub(super) fn relative_flatness(
    objective: &Objective<'_>,
    theta: &[f64],
    probes: usize,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Option<Rise>> {
    let is_layer = |tensor: &&ParamTensor| tensor.kind == ParamKind::Weight && tensor.shape.len() >= 2;
    let Some(tensor) = objective.network().space().tensors().iter().rfind(is_layer) else { return Ok(None) };
    let dim = theta.len();
    let flat = Tensor::from_vec(theta.to_vec(), dim, &Device::Cpu)?;
    let operator = CurvatureOperator::new(objective, &flat, Curvature::Hessian)?;
    let columns = tensor.len() / tensor.shape[0].max(1);
    let weights = theta.get(tensor.offset..tensor.offset + tensor.len()).unwrap_or_default();
    let mut rng = stream(seed, Purpose::SharpnessSigns);
    let mut samples = Vec::with_capacity(probes);
    let mut errors = Vec::new();
    for first in (0..probes).step_by(operator.block_size().max(1)) {
        let count = operator.block_size().max(1).min(probes - first);
        let mut block = vec![0.0; count * dim];
        for vector in block.chunks_exact_mut(dim) {
            let own = &mut vector[tensor.offset..tensor.offset + tensor.len()];
            mixed(weights, columns, &mut rng, own);
        }
        let block = objective.place(&Tensor::from_vec(block, (count, dim), &Device::Cpu)?)?;
        let product = operator.apply(&block, observer)?;
        samples.extend(forms(&block, &product)?);
        errors.push(shard_error(&product));
    }
    let sample = Sample::of(&samples);
    let std_err_data = Sample::of(&errors).mean;
    Ok(Some(Rise { value: sample.mean, std_err_numeric: sample.std_err(), std_err_data }))
}

/// `W Z` into `own`, `Z` of random signs.
fn mixed(weights: &[f64], columns: usize, rng: &mut impl Rng, own: &mut [f64]) {
    let signs: Vec<f64> = (0..columns * columns).map(|_| if rng.next_u32() & 1 == 1 { 1.0 } else { -1.0 }).collect();
    for (weights, own) in weights.chunks_exact(columns.max(1)).zip(own.chunks_exact_mut(columns.max(1))) {
        for (weight, signs) in weights.iter().zip(signs.chunks_exact(columns)) {
            own.iter_mut().zip(signs).for_each(|(own, sign)| *own += weight * sign);
        }
    }
}

/// `vᵀ A v` of each row, in f64.
fn forms(block: &Tensor, product: &Product) -> Result<Vec<f64>> {
    let wide = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>();
    let dot = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a * b).sum();
    Ok(wide(block)?.iter().zip(&wide(&product.block)?).map(dot).collect())
}

/// Standard error over the data shards of the mean form of the block; NaN where there are none.
fn shard_error(product: &Product) -> f64 {
    let Some(shards) = &product.shards else { return f64::NAN };
    let means: Vec<f64> =
        shards.forms.iter().map(|forms| forms.iter().sum::<f64>() / forms.len().max(1) as f64).collect();
    Sample::of(&means).std_err()
}

fn unknown() -> Rise {
    Rise { value: f64::NAN, std_err_numeric: f64::NAN, std_err_data: f64::NAN }
}
