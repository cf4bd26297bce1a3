//! Label noise: a seeded part of the class labels replaced by wrong ones.

use std::fmt;
use std::str::FromStr;

use rand::Rng;

use super::draw::{below, unit};
use super::{DataError, DataResult};

/// How class labels are made wrong; written `symmetric:0.2`.
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
}

impl LabelNoise {
    /// Makes labels wrong in place; there must be at least 2 classes.
    ///
    /// Two draws per row, in row order: a label depends on the rows before it only by their number, and
    /// under one `rng` the rows replaced at a small fraction are among those replaced at a larger one.
    pub(super) fn apply(self, labels: &mut [u32], num_classes: usize, rng: &mut impl Rng) {
        let Self::Symmetric { fraction } = self;
        for label in labels {
            let replaced = unit(rng) < fraction;
            let offset = 1 + below(rng, num_classes - 1);
            if replaced {
                *label = ((*label as usize + offset) % num_classes) as u32;
            }
        }
    }
}

impl FromStr for LabelNoise {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        text.strip_prefix("symmetric:")
            .and_then(|number| number.parse::<f64>().ok())
            .filter(|fraction| (0.0..=1.0).contains(fraction))
            .map(|fraction| Self::Symmetric { fraction })
            .ok_or(DataError::Syntax {
                what: "label noise",
                text: text.to_string(),
                expected: "`symmetric:FRACTION` with a fraction from 0 to 1, such as `symmetric:0.2`",
            })
    }
}

impl fmt::Display for LabelNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Symmetric { fraction } = self;
        write!(f, "symmetric:{fraction}")
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
    use crate::random::{Purpose, stream};

    fn noisy(fraction: f64, rows: usize) -> Vec<u32> {
        let mut labels: Vec<u32> = (0..rows as u32).map(|row| row % 5).collect();
        LabelNoise::Symmetric { fraction }.apply(&mut labels, 5, &mut stream(3, Purpose::LabelNoise));
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

    #[test]
    fn text_form_round_trips_and_is_checked() {
        let noise: LabelNoise = "symmetric:0.2".parse().unwrap();
        assert_eq!((noise, noise.to_string()), (LabelNoise::Symmetric { fraction: 0.2 }, "symmetric:0.2".to_string()));
        for text in ["symmetric", "symmetric:", "symmetric:1.5", "symmetric:-0.1", "symmetric:NaN", "pair:0.2", ""] {
            assert!(text.parse::<LabelNoise>().unwrap_err().hint().unwrap().contains("symmetric:0.2"));
        }
    }
}
