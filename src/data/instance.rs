//! Label noise that depends on the image (Xia et al. 2020).

use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::{DataError, DataResult, ImageError, Inputs, Split};
use crate::random::uniform;
use crate::random::{Purpose, substream};

/// Standard deviation of the rows' probabilities before truncation.
const STD: f64 = 0.1;
/// Index of the first row of the training split within the seed's sub-streams, above any class.
const FIRST_ROW: u64 = 1 << 40;

/// The most normal numbers drawn for one class: the size of its matrix.
const MOST_DRAWS: usize = 1 << 26;

/// What the noise of a row depends on, besides its image and its label.
pub(super) struct InstanceNoise {
    /// Mean probability before truncation.
    pub(super) fraction: f64,
    pub(super) seed: u64,
    pub(super) split: Split,
    pub(super) num_classes: usize,
}

impl InstanceNoise {
    /// Bytes that [`InstanceNoise::apply`] takes for samples of `sample_len` values: a matrix and scores per thread,
    /// and the places of each class.
    pub(super) fn memory_bytes(&self, sample_len: usize) -> usize {
        let matrix = self.num_classes.saturating_mul(sample_len.saturating_mul(size_of::<f32>()) + size_of::<f64>());
        let places = self.num_classes.saturating_mul(size_of::<Vec<usize>>());
        matrix.saturating_mul(rayon::current_num_threads()).saturating_add(places)
    }

    /// Replaces labels by wrong ones in place. `rows` are the labels' rows in the split, `inputs` their values: a label
    /// depends on no other row. Floats are taken as they are, bytes divided by 255.
    ///
    /// # Errors
    /// [`ImageError::InstanceNoise`] for image files, whose projections would need all of them in memory.
    ///
    /// Cost: `num_classes² · sample length` normals, and a product of each sample with a `sample length × num_classes`
    /// matrix of them, a matrix per thread in memory; classes in parallel. Sums are taken in f64, one matrix at a time.
    pub(super) fn apply(&self, labels: &mut [u32], inputs: &Inputs, rows: &[usize]) -> DataResult<()> {
        if self.fraction == 0.0 || labels.is_empty() {
            return Ok(());
        }
        let (inputs, sample_len) = (&*inputs.in_memory()?, inputs.len() / labels.len());
        let (most, num_classes) = (MOST_DRAWS / sample_len.max(1), self.num_classes);
        if num_classes > most {
            return Err(DataError::NoiseClasses { num_classes, most });
        }
        let values = |place: usize| -> Vec<f32> {
            let range = place * sample_len..(place + 1) * sample_len;
            match inputs {
                Inputs::Bytes(values) => values[range].iter().map(|&byte| f32::from(byte) / 255.0).collect(),
                Inputs::Float32(values) => values[range].to_vec(),
                Inputs::Float64(values) => values[range].iter().map(|&value| value as f32).collect(),
                Inputs::Whole(_) | Inputs::Files(_) | Inputs::Stored(_) => Vec::new(),
            }
        };
        if matches!(inputs, Inputs::Files(_) | Inputs::Whole(_)) {
            return Err(ImageError::InstanceNoise.into());
        }
        let mut of_class = vec![Vec::new(); self.num_classes];
        labels.iter().enumerate().for_each(|(place, &label)| of_class[label as usize].push(place));
        let replaced: Vec<(usize, u32)> = of_class
            .par_iter()
            .enumerate()
            .filter(|(_, places)| !places.is_empty())
            .flat_map_iter(|(class, places)| {
                let (weights, values) = (self.weights(class, sample_len), &values);
                let replace = move |&place: &usize| {
                    let scores = self.scores(&weights, &values(place));
                    (place, self.draw(class, scores, rows[place]))
                };
                places.iter().map(replace)
            })
            .collect();
        replaced.into_iter().for_each(|(place, label)| labels[place] = label);
        Ok(())
    }

    /// `W_y`, `[sample_len, num_classes]` row-major.
    fn weights(&self, class: usize, sample_len: usize) -> Vec<f32> {
        let mut rng = substream(self.seed, Purpose::InstanceNoise, class as u64);
        (0..sample_len * self.num_classes).map(|_| StandardNormal.sample(&mut rng)).collect()
    }

    /// `xᵀ W_y`, one score per class.
    fn scores(&self, weights: &[f32], sample: &[f32]) -> Vec<f64> {
        let mut scores = vec![0.0; self.num_classes];
        for (&value, weights) in sample.iter().zip(weights.chunks_exact(self.num_classes)) {
            for (score, &weight) in scores.iter_mut().zip(weights) {
                *score += f64::from(value) * f64::from(weight);
            }
        }
        scores
    }

    /// The label of `row`, which was `class`.
    fn draw(&self, class: usize, mut scores: Vec<f64>, row: usize) -> u32 {
        let mut rng = substream(self.seed, Purpose::InstanceNoise, (FIRST_ROW << self.split as u64) + row as u64);
        let rate = loop {
            let normal: f64 = StandardNormal.sample(&mut rng);
            let rate = self.fraction + STD * normal;
            if (0.0..=1.0).contains(&rate) {
                break rate;
            }
        };
        let (replaced, choice) = (uniform(&mut rng) < rate, uniform(&mut rng));
        if !replaced {
            return class as u32;
        }
        scores[class] = f64::NEG_INFINITY;
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter_mut().for_each(|score| *score = libm::exp(*score - top));
        let mut left = choice * scores.iter().sum::<f64>();
        for (other, &weight) in scores.iter().enumerate().filter(|&(other, _)| other != class) {
            left -= weight;
            if left < 0.0 {
                return other as u32;
            }
        }
        // Rounding may leave a remainder after the last class: it goes to the likeliest.
        scores.iter().position(|&weight| weight == 1.0).unwrap_or(class) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: usize = 4;

    fn noise(fraction: f64) -> InstanceNoise {
        InstanceNoise { fraction, seed: 5, split: Split::Train, num_classes: CLASSES }
    }

    /// Values so small that all wrong classes are about equally likely, or all the same image.
    fn inputs(count: usize, scale: f64) -> Inputs {
        Inputs::Float64((0..count * 3).map(|i| scale * (1.0 + (i % 3) as f64)).collect())
    }

    fn apply(noise: &InstanceNoise, inputs: &Inputs, rows: &[usize]) -> Vec<u32> {
        let mut labels: Vec<u32> = rows.iter().map(|row| (row % CLASSES) as u32).collect();
        noise.apply(&mut labels, inputs, rows).unwrap();
        labels
    }

    #[test]
    fn the_share_of_wrong_labels_is_the_mean_of_the_truncated_normal() {
        let rows: Vec<usize> = (0..40_000).collect();
        let wrong = |fraction| {
            let labels = apply(&noise(fraction), &inputs(rows.len(), 1.0), &rows);
            labels.iter().zip(&rows).filter(|(label, row)| **label as usize != **row % CLASSES).count() as f64
        };
        // At 0.5 the truncation is symmetric: mean 0.5. At 0 half a normal is left: mean 0.1 sqrt(2/π), by symmetry 1
        // minus that at 1.
        let half_normal = 0.1 * (2.0 / std::f64::consts::PI).sqrt();
        for (fraction, mean) in [(0.5, 0.5), (1e-12, half_normal), (1.0, 1.0 - half_normal)] {
            let std_dev = (40_000.0 * mean * (1.0 - mean)).sqrt();
            let wrong = wrong(fraction);
            assert!((wrong - 40_000.0 * mean).abs() < 4.0 * std_dev, "{fraction}: {wrong}");
        }
        assert_eq!(wrong(0.0), 0.0);
    }

    #[test]
    fn wrong_classes_follow_the_softmax_of_the_projection() {
        let rows: Vec<usize> = (0..40_000).map(|row| 4 * row).collect();
        let noise = noise(0.5);
        let labels = apply(&noise, &inputs(rows.len(), 0.3), &rows);
        // All rows have label 0 and the image (0.3, 0.6, 0.9): the softmax, in the order of the sum over columns.
        let weights = noise.weights(0, 3);
        let score = |class: usize| {
            (0..3).map(|i| 0.3 * (1 + i) as f64 * f64::from(weights[i * CLASSES + class])).sum::<f64>().exp()
        };
        let total: f64 = (1..CLASSES).map(score).sum();
        for class in 1..CLASSES {
            let p = 0.5 * score(class) / total;
            let count = labels.iter().filter(|&&label| label as usize == class).count() as f64;
            let std_dev = (40_000.0 * p * (1.0 - p)).sqrt();
            assert!((count - 40_000.0 * p).abs() < 4.0 * std_dev, "class {class}: {count} of {}", 40_000.0 * p);
        }
    }

    #[test]
    fn a_label_depends_on_no_other_row() {
        let rows: Vec<usize> = (0..300).collect();
        let all = apply(&noise(0.5), &inputs(300, 1.0), &rows);
        let part = apply(&noise(0.5), &inputs(100, 1.0), &rows[100..200]);
        assert_eq!(part, all[100..200]);
        let test = InstanceNoise { split: Split::Test, ..noise(0.5) };
        assert_ne!(apply(&test, &inputs(300, 1.0), &rows), all);
    }
}
