//! What outputs say about classes: likelihood, confidence and the class chosen.

use candle_core::{DType, Device, Tensor};

use super::loss::largest;
use crate::Result;
use crate::data::TargetBatch;

/// Bins of confidence in the calibration error.
const BINS: usize = 15;

/// Sums over rows of what their softmax says; parts of a data set add up to the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassScores {
    log_likelihood: f64,
    /// By confidence, in equal steps.
    bins: [Bin; BINS],
    /// Row and the class with the largest output, in the order in which rows were taken.
    pub predicted: Vec<(usize, u32)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bin {
    confidence: f64,
    correct: usize,
}

impl ClassScores {
    /// No rows.
    pub fn new() -> Self {
        Self { log_likelihood: 0.0, bins: [Bin::default(); BINS], predicted: Vec::new() }
    }

    /// Of the outputs `[N, C]`, `C ≥ 2`, of `rows`; `None` where the targets are no classes or one output serves two.
    ///
    /// # Errors
    /// Reading the outputs from their device.
    pub fn of(rows: &[usize], output: &Tensor, target: &TargetBatch) -> Result<Option<Self>> {
        let TargetBatch::Classes(labels) = target else { return Ok(None) };
        let outputs = output.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let mut scores = Self::new();
        for ((output, &label), &row) in outputs.iter().zip(labels).zip(rows) {
            let Some(&logit) = output.get(label as usize).filter(|_| output.len() > 1) else { return Ok(None) };
            let class = largest(output);
            let sum: f64 = output.iter().map(|value| (value - output[class]).exp()).sum();
            scores.log_likelihood += logit - output[class] - sum.ln();
            let confidence = 1.0 / sum;
            // Bins are open below and closed above, as those of Guo et al.
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            scores.bins[bin].confidence += confidence;
            scores.bins[bin].correct += usize::from(class == label as usize);
            scores.predicted.push((row, class as u32));
        }
        Ok(Some(scores))
    }

    /// With the rows of `other` after those of this one.
    pub fn add(&mut self, other: Self) {
        self.log_likelihood += other.log_likelihood;
        for (sum, bin) in self.bins.iter_mut().zip(other.bins) {
            sum.confidence += bin.confidence;
            sum.correct += bin.correct;
        }
        self.predicted.extend(other.predicted);
    }

    /// Mean negative log-likelihood of the labels, in nats: the cross-entropy without any smoothing.
    pub fn nll(&self) -> f64 {
        -self.log_likelihood / self.predicted.len() as f64
    }

    /// Expected calibration error `Σ_b |correct_b − confidence_b| / N` over 15 equal bins of confidence, the largest
    /// probability (Guo et al. 2017). Biased upwards on few rows.
    pub fn calibration_error(&self) -> f64 {
        let gap = |bin: &Bin| (bin.correct as f64 - bin.confidence).abs();
        self.bins.iter().map(gap).sum::<f64>() / self.predicted.len() as f64
    }
}

impl Default for ClassScores {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(outputs: &[[f64; 3]], labels: &[u32]) -> ClassScores {
        let output = Tensor::from_vec(outputs.concat(), (outputs.len(), 3), &Device::Cpu).unwrap();
        let rows: Vec<usize> = (0..labels.len()).collect();
        ClassScores::of(&rows, &output, &TargetBatch::Classes(labels.to_vec())).unwrap().unwrap()
    }

    /// Logits are logarithms of probabilities, so that softmax gives these back.
    #[test]
    fn by_hand() {
        let row = |p: [f64; 3]| p.map(f64::ln);
        let both = scores(&[row([0.7, 0.2, 0.1]), row([0.3, 0.6, 0.1]), row([0.05, 0.05, 0.9])], &[0, 0, 2]);
        let nll = -(0.7f64.ln() + 0.3f64.ln() + 0.9f64.ln()) / 3.0;
        assert!((both.nll() - nll).abs() < 1e-15, "{}", both.nll());
        // Three confidences in three bins: gaps 0.3, 0.6 and 0.1.
        assert!((both.calibration_error() - 1.0 / 3.0).abs() < 1e-15, "{}", both.calibration_error());
        assert_eq!(both.predicted, [(0, 0), (1, 1), (2, 2)]);
        // In one bin they compensate: 0.70 right and 0.72 wrong leave |1 − 1.42| of 2.
        let same = scores(&[row([0.68, 0.22, 0.1]), row([0.72, 0.18, 0.1])], &[0, 1]);
        assert!((same.calibration_error() - (1.0 - 1.40f64).abs() / 2.0).abs() < 1e-12, "{}", same.calibration_error());
        // Large outputs do not overflow.
        assert_eq!(scores(&[[1e5, 0.0, 0.0]], &[0]).nll(), 0.0);
    }

    #[test]
    fn parts_add_up_and_other_targets_have_none() {
        let outputs = [[0.1, 2.0, -1.0], [1.0, 0.5, 0.2], [0.0, 0.0, 3.0], [0.3, 0.1, 0.2]];
        let labels = [1, 1, 2, 0];
        let whole = scores(&outputs, &labels);
        let mut parts = scores(&outputs[..1], &labels[..1]);
        let output = Tensor::from_vec(outputs[1..].concat(), (3, 3), &Device::Cpu).unwrap();
        let rest = ClassScores::of(&[1, 2, 3], &output, &TargetBatch::Classes(labels[1..].to_vec())).unwrap();
        parts.add(rest.unwrap());
        assert_eq!(parts.predicted, whole.predicted);
        assert!((parts.nll() - whole.nll()).abs() < 1e-15);
        let one = Tensor::new(&[[1.0f64], [0.5]], &Device::Cpu).unwrap();
        assert!(ClassScores::of(&[0, 1], &one, &TargetBatch::Classes(vec![0, 1])).unwrap().is_none());
        assert!(ClassScores::of(&[0, 1], &one, &TargetBatch::Values(one.clone())).unwrap().is_none());
    }
}
