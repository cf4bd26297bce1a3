//! Labels drawn from the softmax of the outputs.

use candle_core::{DType, Device, Tensor};
use rand::Rng;

use crate::Result;
use crate::random::{Purpose, substream, uniform};

/// One label per place of `outputs` `[rows · places, C]`, from its softmax; the draws are keyed by `seed` and the row's
/// position in the data, so that they do not depend on the batch that the row is in.
pub(super) fn draw_labels(outputs: &Tensor, places: usize, rows: &[usize], seed: u64) -> Result<Vec<u32>> {
    let outputs = outputs.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let draw = |outputs: &[f64], rng: &mut dyn Rng| {
        let mut left = uniform(rng);
        let probabilities = softmax(outputs);
        let last = probabilities.len().saturating_sub(1);
        let found = probabilities.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        // Rounding may leave the sum just below 1.
        found.unwrap_or(last) as u32
    };
    let mut labels = Vec::with_capacity(outputs.len());
    for (outputs, &row) in outputs.chunks(places.max(1)).zip(rows) {
        let mut rng = substream(seed, Purpose::SampledLabels, row as u64);
        labels.extend(outputs.iter().map(|outputs| draw(outputs, &mut rng)));
    }
    Ok(labels)
}

/// `exp(y) / Σ exp(y)`, without overflow.
pub(in crate::program) fn softmax(outputs: &[f64]) -> Vec<f64> {
    let largest = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = outputs.iter().map(|y| (y - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|exponential| exponential / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_softmax_and_not_the_batch() {
        let outputs = Tensor::new(&[[800.0f64, 800.0 + 3f64.ln()]], &Device::Cpu).unwrap();
        let label = |row: usize| draw_labels(&outputs, 1, &[row], 3).unwrap()[0];
        let labels: Vec<u32> = (0..4000).map(label).collect();
        let ones = labels.iter().sum::<u32>();
        // Class 1 has probability 3/4: 3000 expected, standard deviation √(4000 · 3/16) = 27.4.
        assert!(f64::from(ones.abs_diff(3000)) < 4.0 * 27.4, "{ones}");
        let batch = Tensor::cat(&[&outputs, &outputs, &outputs], 0).unwrap();
        assert_eq!(draw_labels(&batch, 1, &[7, 0, 2011], 3).unwrap(), [labels[7], labels[0], labels[2011]]);
    }
}
