//! Label noise: a seeded part of the class labels replaced by wrong ones.

use std::fmt;
use std::str::FromStr;

use rand::Rng;

use super::draw::below;
use super::{DataError, DataResult};
use crate::random::uniform;

/// How class labels are made wrong; written `symmetric:0.2`, `asymmetric:0.4`, `instance:0.3`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LabelNoise {
    /// Each label is replaced, independently with probability `fraction`, by one of the other classes, all
    /// equally likely. The share of wrong labels therefore varies around `fraction`, with standard deviation
    /// `sqrt(fraction (1 − fraction) / N)`.
    Symmetric {
        /// Probability, in `[0, 1]`.
        fraction: f64,
    },
    /// Each label is replaced, independently with probability `fraction`, by the class that it is mistaken for
    /// (Patrini et al. 2017). CIFAR-10: truck → automobile, bird → airplane, deer → horse, cat ↔ dog, so that half of the
    /// classes keep their labels and about `fraction / 2` of all labels are wrong; CIFAR-100: the next fine class of
    /// the same coarse class; elsewhere the next class.
    Asymmetric {
        /// Probability, in `[0, 1]`.
        fraction: f64,
    },
    /// A label is replaced with a probability of its own, `q` from a normal distribution of mean `fraction` and
    /// standard deviation 0.1 truncated to `[0, 1]`, by a class that the image suggests: with probabilities
    /// `softmax(xᵀ W_y)` over the classes other than its label `y`, for pixels `x` in `[0, 1]` and matrices `W_y` of
    /// standard normals (Xia et al. 2020, algorithm 2). 0 leaves the labels.
    Instance {
        /// Mean of `q` before truncation, in `[0, 1]`.
        fraction: f64,
    },
}

impl LabelNoise {
    /// Makes labels wrong in place; there must be at least 2 classes. `mistaken` gives the class that another is mistaken
    /// for. [`LabelNoise::Instance`] needs the images and is not applied here.
    ///
    /// Two draws per row, in row order: a label depends on the rows before it only by their number, and
    /// under one `rng` the rows replaced at a small fraction are among those replaced at a larger one.
    pub(super) fn apply(
        self,
        labels: &mut [u32],
        num_classes: usize,
        mistaken: impl Fn(u32) -> u32,
        rng: &mut impl Rng,
    ) {
        let (Self::Symmetric { fraction } | Self::Asymmetric { fraction }) = self else { return };
        for label in labels {
            let replaced = uniform(rng) < fraction;
            let offset = 1 + below(rng, num_classes - 1);
            if replaced {
                *label = match self {
                    Self::Asymmetric { .. } => mistaken(*label),
                    _ => ((*label as usize + offset) % num_classes) as u32,
                }
            }
        }
    }
}

impl FromStr for LabelNoise {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        let parts = text.split_once(':').and_then(|(kind, number)| Some((kind, number.parse::<f64>().ok()?)));
        match parts.filter(|(_, fraction)| (0.0..=1.0).contains(fraction)) {
            Some(("symmetric", fraction)) => Ok(Self::Symmetric { fraction }),
            Some(("asymmetric", fraction)) => Ok(Self::Asymmetric { fraction }),
            Some(("instance", fraction)) => Ok(Self::Instance { fraction }),
            _ => Err(DataError::syntax(
                "label noise",
                text,
                "`symmetric:FRACTION`, `asymmetric:FRACTION` or `instance:FRACTION` with a fraction from 0 to 1, \
                           such as `symmetric:0.2`",
            )),
        }
    }
}

impl fmt::Display for LabelNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symmetric { fraction } => write!(f, "symmetric:{fraction}"),
            Self::Asymmetric { fraction } => write!(f, "asymmetric:{fraction}"),
            Self::Instance { fraction } => write!(f, "instance:{fraction}"),
        }
    }
}

impl TryFrom<String> for LabelNoise {
    type Error = DataError;

    fn try_from(text: String) -> DataResult<Self> {
        text.parse()
    }
}

impl From<LabelNoise> for String {
    fn from(noise: LabelNoise) -> Self {
        noise.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Source;
    use crate::random::{Purpose, stream};

    fn noisy(fraction: f64, rows: usize) -> Vec<u32> {
        let mut labels: Vec<u32> = (0..rows as u32).map(|row| row % 5).collect();
        let noise = LabelNoise::Symmetric { fraction };
        noise.apply(&mut labels, 5, |class| class, &mut stream(3, Purpose::LabelNoise));
        labels
    }

    #[test]
    fn wrong_labels_are_uniform_over_the_other_classes() {
        let mut counts = [0u32; 5];
        noisy(0.3, 50_000).iter().enumerate().for_each(|(row, &label)| counts[(label as usize + 5 - row % 5) % 5] += 1);
        for (offset, &count) in counts.iter().enumerate() {
            let p: f64 = if offset == 0 { 0.7 } else { 0.3 / 4.0 };
            let std_dev = (50_000.0 * p * (1.0 - p)).sqrt();
            assert!((f64::from(count) - 50_000.0 * p).abs() < 4.0 * std_dev, "{counts:?}");
        }
        assert_eq!(noisy(0.0, 100), (0..100).map(|row| row % 5).collect::<Vec<u32>>());
        assert!(noisy(1.0, 100).iter().enumerate().all(|(row, &label)| label != row as u32 % 5));
    }

    #[test]
    fn noise_is_nested_in_the_fraction_and_independent_of_later_rows() {
        let (few, many) = (noisy(0.1, 1000), noisy(0.4, 1000));
        assert!((0..1000).all(|row| few[row] == row as u32 % 5 || few[row] == many[row]));
        assert_eq!(noisy(0.4, 200), many[..200]);
    }

    /// All labels of one fraction 1, so that the table of pairs itself comes out.
    #[test]
    fn asymmetric_noise_moves_classes_to_those_they_are_mistaken_for() {
        let replaced = |source: &str, num_classes: usize| {
            let source: Source = source.parse().unwrap();
            let mut labels: Vec<u32> = (0..num_classes as u32).collect();
            let mistaken = |class| source.mistaken(class, num_classes);
            let rng = &mut stream(1, Purpose::LabelNoise);
            LabelNoise::Asymmetric { fraction: 1.0 }.apply(&mut labels, num_classes, mistaken, rng);
            labels
        };
        assert_eq!(replaced("cifar10:d", 10), [0, 1, 0, 5, 7, 3, 6, 7, 8, 1]);
        assert_eq!(replaced("glyphs", 4), [1, 2, 3, 0]);
        let fine = replaced("cifar100:d", 100);
        // Aquatic mammals: beaver 4, dolphin 30, otter 55, seal 72, whale 95; trees from the last class to the first.
        assert_eq!([fine[4], fine[30], fine[55], fine[72], fine[95]], [30, 55, 72, 95, 4]);
        // Maple 47, oak 52, palm 56, pine 59, willow 96.
        assert_eq!([fine[47], fine[52], fine[56], fine[59], fine[96]], [52, 56, 59, 96, 47]);
        let mut distinct = fine.clone();
        distinct.sort_unstable();
        assert_eq!(distinct, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn text_form_round_trips_and_is_checked() {
        for text in ["symmetric:0.2", "asymmetric:0.4", "instance:0.3", "symmetric:1"] {
            assert_eq!(text.parse::<LabelNoise>().unwrap().to_string(), text);
        }
        assert_eq!("symmetric:0.2".parse::<LabelNoise>().unwrap(), LabelNoise::Symmetric { fraction: 0.2 });
        for text in ["symmetric", "symmetric:", "symmetric:1.5", "instance:-0.1", "symmetric:NaN", "pair:0.2", ""] {
            assert!(text.parse::<LabelNoise>().unwrap_err().hint().unwrap().contains("symmetric:0.2"));
        }
    }
}
