//! Detection: how well a score tells positives from negatives.

/// What is looked at to find errors and rows of another origin; more of it is more suspicious.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// One less the probability of the likeliest class (Hendrycks and Gimpel 2017).
    Confidence,
    /// Entropy of the prediction.
    Entropy,
    /// Mutual information of prediction and model.
    MutualInformation,
}

impl Signal {
    /// In tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confidence => "confidence",
            Self::Entropy => "entropy",
            Self::MutualInformation => "mutual_information",
        }
    }
}

/// Areas under curves; NaN where a class is missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Areas {
    /// Under the ROC curve: the probability that a positive scores above a negative, ties by half.
    pub auroc: f64,
    /// Average precision with the positives as the class to be found, by high scores.
    pub aupr_positive: f64,
    /// Average precision with the negatives as that class, by low scores.
    pub aupr_negative: f64,
}

/// Rows by their score; equal scores stand together.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Place of each row's score, from 0, the highest.
    places: Vec<usize>,
    positive: Vec<bool>,
    num_places: usize,
}

/// Positives and negatives of one score.
type Tally = [f64; 2];

impl Ranking {
    /// Of finite scores, and whether each row is positive.
    pub fn new(scores: &[f64], positive: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let (mut places, mut place) = (vec![0; scores.len()], 0);
        for pair in order.windows(2) {
            // Unlike total_cmp, this takes 0 and −0 for equals.
            place += usize::from(scores[pair[0]] != scores[pair[1]]);
            places[pair[1]] = place;
        }
        Self { places, positive: positive.to_vec(), num_places: if scores.is_empty() { 0 } else { place + 1 } }
    }

    /// By score from the highest, with rows counted so often; all once where `counts` is empty.
    fn tallies(&self, counts: &[u32]) -> Vec<Tally> {
        let mut tallies = vec![[0.0; 2]; self.num_places];
        for (row, (place, positive)) in self.places.iter().zip(&self.positive).enumerate() {
            tallies[*place][usize::from(!positive)] += counts.get(row).map_or(1.0, |count| f64::from(*count));
        }
        tallies
    }

    /// The areas.
    pub fn areas(&self) -> Areas {
        self.resampled(&[])
    }

    /// The areas with each row counted so often.
    pub(super) fn resampled(&self, counts: &[u32]) -> Areas {
        let tallies = self.tallies(counts);
        let swapped = tallies.iter().rev().map(|[positive, negative]| [*negative, *positive]);
        Areas {
            auroc: auroc(&tallies),
            aupr_positive: average_precision(tallies.iter().copied()),
            aupr_negative: average_precision(swapped),
        }
    }

    /// The ROC curve: shares of negatives and of positives at or above each score, from the highest, after `(0, 0)`.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let tallies = self.tallies(&[]);
        let [positives, negatives] = totals(&tallies);
        let (mut found, mut curve) = ([0.0; 2], vec![(0.0, 0.0)]);
        for tally in tallies {
            found = [found[0] + tally[0], found[1] + tally[1]];
            curve.push((found[1] / negatives, found[0] / positives));
        }
        curve
    }
}

fn totals(tallies: &[Tally]) -> Tally {
    tallies.iter().fold([0.0; 2], |sum, tally| [sum[0] + tally[0], sum[1] + tally[1]])
}

/// Pairs of a positive above a negative, ties by half, over all pairs (Mann and Whitney 1947).
fn auroc(tallies: &[Tally]) -> f64 {
    let [positives, negatives] = totals(tallies);
    let (mut above, mut pairs) = (0.0, 0.0);
    for [positive, negative] in tallies {
        pairs += negative * (above + 0.5 * positive);
        above += positive;
    }
    pairs / (positives * negatives)
}

/// `Σ_k (R_k − R_{k−1}) P_k` over the scores, from the first, with precision `P` and recall `R` at or above each.
fn average_precision(tallies: impl Iterator<Item = Tally>) -> f64 {
    let (mut found, mut others, mut sum) = (0.0, 0.0, 0.0);
    for [positive, negative] in tallies {
        found += positive;
        others += negative;
        if positive > 0.0 {
            sum += positive * found / (found + others);
        }
    }
    if others > 0.0 { sum / found } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Scores 3+, 2−, 2+, 1−: of four pairs three are right and one is a tie.
        let ranking = Ranking::new(&[3.0, 2.0, 2.0, 1.0], &[true, false, true, false]);
        let areas = ranking.areas();
        assert_eq!(areas.auroc, 3.5 / 4.0);
        // Recall ½ at precision 1, then 1 at ⅔; of the negatives ½ at 1, then 1 at ⅔.
        assert_eq!((areas.aupr_positive, areas.aupr_negative), (0.5 + 0.5 * 2.0 / 3.0, 0.5 + 0.5 * 2.0 / 3.0));
        assert_eq!(ranking.curve(), [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]);
        // Counting a row twice is having it twice.
        let twice = Ranking::new(&[3.0, 2.0, 2.0, 2.0, 1.0], &[true, false, true, true, false]).areas();
        assert_eq!(ranking.resampled(&[1, 1, 2, 1]), twice);
    }

    #[test]
    fn without_one_of_the_two_there_is_nothing_to_tell() {
        for positive in [true, false] {
            let areas = Ranking::new(&[1.0, 2.0], &[positive; 2]).areas();
            assert!(areas.auroc.is_nan() && areas.aupr_positive.is_nan() && areas.aupr_negative.is_nan(), "{areas:?}");
        }
        assert!(Ranking::new(&[], &[]).areas().auroc.is_nan());
        // Useless scores: a coin, and the share of the positives.
        let areas = Ranking::new(&[0.0, -0.0, 0.0, 0.0], &[true, false, false, false]).areas();
        assert_eq!(areas, Areas { auroc: 0.5, aupr_positive: 0.25, aupr_negative: 0.75 });
    }
}
