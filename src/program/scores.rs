//! What outputs say about classes: the class chosen, likelihood and confidence.

use std::io::{self, Read, Write};

use candle_core::{DType, Device, Tensor};

use super::loss::{Classes, Given, labels};
use super::{CrossEntropy, Loss};
use crate::Result;
use crate::data::TargetBatch;
use crate::statistics::Ratio;
use crate::team::Wire;

/// Bins of confidence in the calibration error.
const BINS: usize = 15;

/// Outputs and labels of a batch, place by place.
pub(crate) struct Answers {
    /// `[rows · places, count]`, row-major.
    outputs: Vec<f64>,
    count: usize,
    places: usize,
    /// `None` where a place does not count.
    labels: Vec<Option<usize>>,
}

impl Answers {
    /// `None` where the targets are not classes. With one output a place, class 1 is an output above 0.
    ///
    /// # Errors
    /// Reading the outputs from their device.
    pub(crate) fn read(loss: &Loss, output: &Tensor, target: &TargetBatch) -> Result<Option<Self>> {
        let Some(labels) = labels(target) else { return Ok(None) };
        let plain = CrossEntropy::default();
        let (flat, ignored) = match loss {
            Loss::BceWithLogits { .. } => (output.reshape(((), 1))?, None),
            Loss::CrossEntropy(_) | Loss::Program {} => {
                let cross_entropy = if let Loss::CrossEntropy(own) = loss { own } else { &plain };
                // A program's own loss may belong to outputs of any shape.
                let Ok(classes) = Classes::find(cross_entropy, output.dims(), Given::of(target)) else {
                    return Ok(None);
                };
                (classes.rows_of(output)?, Some(cross_entropy.ignore_index))
            }
            _ => return Ok(None),
        };
        let (total, count) = flat.dims2()?;
        let class = |&label: &i64| usize::try_from(label).ok().filter(|_| Some(label) != ignored);
        let labels: Vec<Option<usize>> = labels.iter().map(class).collect();
        if labels.len() != total || (count > 1 && labels.iter().flatten().any(|&label| label >= count)) {
            return Ok(None);
        }
        let outputs = flat.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let places = total / output.dims().first().copied().unwrap_or(1).max(1);
        Ok(Some(Self { outputs, count, places, labels }))
    }

    /// Number of classes, outputs of each `[rows · classes]`, and labels, of rows with one label each; one logit `f` stands for
    /// two classes with the outputs 0 and `f`.
    pub(crate) fn of_rows(self) -> Option<(usize, Vec<f64>, Vec<Option<usize>>)> {
        if self.places != 1 || self.labels.iter().flatten().any(|label| *label >= self.count.max(2)) {
            return None;
        }
        match self.count {
            1 => Some((2, self.outputs.iter().flat_map(|logit| [0.0, *logit]).collect(), self.labels)),
            count => Some((count, self.outputs, self.labels)),
        }
    }

    /// Right answers of those that count, row by row.
    pub(crate) fn correct(&self) -> Ratio {
        self.by_row(|outputs, label| f64::from(u8::from(predicted(outputs) == label)))
    }

    /// Sums of `value` over the places that count, and their numbers, row by row.
    fn by_row(&self, mut value: impl FnMut(&[f64], usize) -> f64) -> Ratio {
        let places = self.places.max(1);
        let rows = self.outputs.chunks(places * self.count).zip(self.labels.chunks(places));
        let of_row = |(outputs, labels): (&[f64], &[Option<usize>])| {
            let counted =
                outputs.chunks(self.count).zip(labels).filter_map(|(outputs, label)| Some((outputs, (*label)?)));
            let (sum, count) =
                counted.fold((0.0, 0.0), |(sum, count), (outputs, label)| (sum + value(outputs, label), count + 1.0));
            Ratio::of(sum, count)
        };
        rows.map(of_row).fold(Ratio::default(), Ratio::merge)
    }
}

/// Place of the first largest entry; of a single one, whether it is above 0.
fn predicted(outputs: &[f64]) -> usize {
    if let [logit] = outputs {
        return usize::from(*logit > 0.0);
    }
    let mut best = 0;
    outputs.iter().enumerate().for_each(|(class, value)| {
        if *value > outputs[best] {
            best = class;
        }
    });
    best
}

/// Sums over rows of what their softmax says; parts of a data set add up to the whole.
#[derive(Debug, Clone)]
pub struct ClassScores {
    nll: Ratio,
    /// By confidence, in equal steps.
    bins: [Bin; BINS],
    /// Row and the class with the largest output, in the order in which rows were taken; of rows with one label each.
    pub predicted: Vec<(usize, u32)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bin {
    confidence: f64,
    correct: usize,
}

impl Wire for ClassScores {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        self.nll.put(to)?;
        self.bins.iter().try_for_each(|bin| (bin.confidence, bin.correct).put(to))?;
        self.predicted.put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        let mut scores = Self { nll: Wire::get(from)?, ..Self::new() };
        for bin in &mut scores.bins {
            (bin.confidence, bin.correct) = Wire::get(from)?;
        }
        scores.predicted = Wire::get(from)?;
        Ok(scores)
    }
}

impl ClassScores {
    /// No rows.
    pub fn new() -> Self {
        Self { nll: Ratio::default(), bins: [Bin::default(); BINS], predicted: Vec::new() }
    }

    /// Of the answers to `rows`; `None` where one output serves two classes.
    pub(crate) fn of(rows: &[usize], answers: &Answers) -> Option<Self> {
        if answers.count < 2 {
            return None;
        }
        let mut scores = Self::new();
        scores.nll = answers.by_row(|outputs, label| {
            let class = predicted(outputs);
            let sum: f64 = outputs.iter().map(|value| (value - outputs[class]).exp()).sum();
            let confidence = 1.0 / sum;
            // Bins are open below and closed above, as those of Guo et al.
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            scores.bins[bin].confidence += confidence;
            scores.bins[bin].correct += usize::from(class == label);
            outputs[class] + sum.ln() - outputs[label]
        });
        if answers.places == 1 {
            let classes = answers.outputs.chunks(answers.count).map(|outputs| predicted(outputs) as u32);
            scores.predicted = rows.iter().copied().zip(classes).collect();
        }
        Some(scores)
    }

    /// With the rows of `other` after those of this one.
    pub fn add(&mut self, other: Self) {
        self.nll = self.nll.merge(other.nll);
        for (sum, bin) in self.bins.iter_mut().zip(other.bins) {
            sum.confidence += bin.confidence;
            sum.correct += bin.correct;
        }
        self.predicted.extend(other.predicted);
    }

    /// Mean negative log-likelihood of the labels that count, in nats: the cross-entropy without smoothing and weights.
    pub fn nll(&self) -> f64 {
        self.nll.value()
    }

    /// Its standard error over rows.
    pub(crate) fn nll_std_err(&self) -> f64 {
        self.nll.std_err()
    }

    /// Expected calibration error `Σ_b |correct_b − confidence_b| / N` over 15 equal bins of confidence, the largest
    /// probability (Guo et al. 2017), `N` the labels that count. Biased upwards on few of them.
    pub fn calibration_error(&self) -> f64 {
        let gap = |bin: &Bin| (bin.correct as f64 - bin.confidence).abs();
        self.bins.iter().map(gap).sum::<f64>() / self.nll.weight
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

    fn of(rows: &[usize], output: &Tensor, target: TargetBatch) -> Option<ClassScores> {
        ClassScores::of(rows, &Answers::read(&Loss::cross_entropy(), output, &target).unwrap()?)
    }

    fn scores(outputs: &[[f64; 3]], labels: &[u32]) -> ClassScores {
        let output = Tensor::from_vec(outputs.concat(), (outputs.len(), 3), &Device::Cpu).unwrap();
        let rows: Vec<usize> = (0..labels.len()).collect();
        of(&rows, &output, TargetBatch::Classes(labels.to_vec())).unwrap()
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
        parts.add(of(&[1, 2, 3], &output, TargetBatch::Classes(labels[1..].to_vec())).unwrap());
        assert_eq!(parts.predicted, whole.predicted);
        assert!((parts.nll() - whole.nll()).abs() < 1e-15);
        let one = Tensor::new(&[[1.0f64], [0.5]], &Device::Cpu).unwrap();
        assert!(of(&[0, 1], &one, TargetBatch::Classes(vec![0, 0])).is_none());
        assert!(of(&[0, 1], &one, TargetBatch::Values(one.clone())).is_none());
        // One logit tells two classes apart: the second row is taken for class 1.
        let answers =
            Answers::read(&Loss::bce_with_logits(), &one, &TargetBatch::Classes(vec![1, 0])).unwrap().unwrap();
        assert!(answers.correct().value() == 0.5 && ClassScores::of(&[0, 1], &answers).is_none());
    }

    /// Two rows of two tokens over three classes, on the last axis and on axis 1; three tokens count.
    #[test]
    fn tokens_that_count_are_weighed_alike_and_rows_are_clusters() {
        let row = |p: [f64; 3]| p.map(f64::ln);
        let tokens = [row([0.7, 0.2, 0.1]), row([0.3, 0.6, 0.1]), row([0.2, 0.2, 0.6]), row([0.1, 0.1, 0.8])];
        let output = Tensor::from_vec(tokens.concat(), (2, 2, 3), &Device::Cpu).unwrap();
        for output in [output.clone(), output.transpose(1, 2).unwrap()] {
            let target = TargetBatch::Tokens { labels: vec![0, 0, 2, -100], sample_shape: vec![2] };
            let answers = Answers::read(&Loss::cross_entropy(), &output, &target).unwrap().unwrap();
            let correct = answers.correct();
            assert_eq!((correct.value(), correct.rows), (2.0 / 3.0, 2.0));
            // Residuals 1 − 2a and 1 − a with a = 2/3: √(2 · (1/9 + 1/9))/3.
            assert!((correct.std_err() - 2.0 / 9.0).abs() < 1e-15, "{}", correct.std_err());
            let scores = ClassScores::of(&[0, 1], &answers).unwrap();
            let nll = -(0.7f64.ln() + 0.3f64.ln() + 0.6f64.ln()) / 3.0;
            assert!((scores.nll() - nll).abs() < 1e-15 && scores.predicted.is_empty());
        }
    }
}
