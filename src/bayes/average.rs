//! The probabilities of one model, or the mean of those of several.

/// Adds up the softmax of models on the same rows.
#[derive(Debug, Clone)]
pub struct Average {
    classes: usize,
    /// Logarithm of the sum of the models' probabilities, `[rows · classes]`.
    log_sums: Vec<f64>,
    /// Sum of the entropies of each row.
    entropies: Vec<f64>,
    count: usize,
}

/// What is predicted for each row. Probabilities are kept as logarithms, which do not underflow.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// How many classes.
    pub classes: usize,
    /// `log p`, `[rows · classes]`.
    pub log_probabilities: Vec<f64>,
    /// `H[p]` of the mean `p` in nats, of each row.
    pub entropies: Vec<f64>,
    /// `H[p]` less the mean of the models' entropies, of each row: what the models disagree about (Houlsby et al. 2011).
    /// Empty for one model.
    pub mutual_information: Vec<f64>,
}

impl Average {
    /// Of no model, for outputs of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, log_sums: Vec::new(), entropies: Vec::new(), count: 0 }
    }

    /// How many classes.
    pub(super) fn classes(&self) -> usize {
        self.classes
    }

    /// Adds a model with the outputs `[rows · classes]`, whose softmax it predicts. All models have the same rows.
    pub fn add(&mut self, outputs: &[f64]) {
        let own = log_softmax(outputs, self.classes);
        let entropies = entropies(&own, self.classes);
        if self.count == 0 {
            (self.log_sums, self.entropies) = (own, entropies);
        } else {
            self.log_sums.iter_mut().zip(own).for_each(|(sum, own)| *sum = log_add(*sum, own));
            self.entropies.iter_mut().zip(entropies).for_each(|(sum, own)| *sum += own);
        }
        self.count += 1;
    }

    /// The mean over the models that were added.
    pub fn finish(self) -> Predictions {
        let count = self.count.max(1) as f64;
        let log_count = count.ln();
        let log_probabilities: Vec<f64> = self.log_sums.into_iter().map(|sum| sum - log_count).collect();
        let entropies = entropies(&log_probabilities, self.classes);
        let several = self.count > 1;
        // Rounding may leave less than nothing.
        let shared = entropies.iter().zip(&self.entropies).map(|(whole, sum)| (whole - sum / count).max(0.0));
        let mutual_information = if several { shared.collect() } else { Vec::new() };
        Predictions { classes: self.classes, log_probabilities, entropies, mutual_information }
    }
}

impl Predictions {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.entropies.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.entropies.is_empty()
    }

    /// `log p` of each row's classes.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.log_probabilities.chunks(self.classes.max(1))
    }

    /// The likeliest class of each row, the first of equals, and its probability.
    pub fn choices(&self) -> Vec<(usize, f64)> {
        let choice = |row: &[f64]| {
            let first = (0, row.first().copied().unwrap_or(f64::NAN));
            let best = row.iter().copied().enumerate().fold(first, |best, own| if own.1 > best.1 { own } else { best });
            (best.0, best.1.exp())
        };
        self.rows().map(choice).collect()
    }

    /// The given rows alone, which exist.
    pub fn select(&self, rows: &[usize]) -> Self {
        let of = |values: &[f64]| rows.iter().filter_map(|row| values.get(*row).copied()).collect();
        let chosen = rows.iter().flat_map(|row| &self.log_probabilities[row * self.classes..(row + 1) * self.classes]);
        Self {
            classes: self.classes,
            log_probabilities: chosen.copied().collect(),
            entropies: of(&self.entropies),
            mutual_information: of(&self.mutual_information),
        }
    }

    /// The softmax of `log p / T`: of one model, that of its outputs over `T` (Guo et al. 2017); of several, that of the mean
    /// (Rahaman and Thiery 2021). The mutual information, which is not one of the mean alone, goes.
    pub fn at_temperature(&self, temperature: f64) -> Self {
        let scaled: Vec<f64> = self.log_probabilities.iter().map(|log| log / temperature).collect();
        let log_probabilities = log_softmax(&scaled, self.classes);
        let entropies = entropies(&log_probabilities, self.classes);
        Self { classes: self.classes, log_probabilities, entropies, mutual_information: Vec::new() }
    }
}

/// `y − log Σ exp(y)` of each row.
fn log_softmax(outputs: &[f64], classes: usize) -> Vec<f64> {
    let of_row = |row: &[f64]| {
        let sum = log_sum(row);
        row.iter().map(|y| y - sum).collect::<Vec<_>>()
    };
    outputs.chunks(classes.max(1)).flat_map(of_row).collect()
}

/// `log Σ exp(y)` without overflow.
pub(super) fn log_sum(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + row.iter().map(|y| (y - largest).exp()).sum::<f64>().ln()
}

fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    high + (low - high).exp().ln_1p()
}

/// `−Σ p log p` of each row.
fn entropies(log_probabilities: &[f64], classes: usize) -> Vec<f64> {
    // Less than nothing, by rounding, where one class has it all.
    let of_row = |row: &[f64]| (-row.iter().map(|log| log.exp() * log).sum::<f64>()).max(0.0);
    log_probabilities.chunks(classes.max(1)).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(rows: &[[f64; 3]]) -> Vec<f64> {
        rows.concat().into_iter().map(f64::ln).collect()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 8.0 * f64::EPSILON * b.abs().max(1.0)
    }

    #[test]
    fn the_mean_is_one_of_probabilities_and_disagreement_is_information() {
        let mut average = Average::new(3);
        average.add(&logs(&[[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]]));
        average.add(&logs(&[[0.2, 0.7, 0.1], [0.2, 0.5, 0.3]]));
        let mean = average.finish();
        let expected = [0.5, 0.4, 0.1, 0.2, 0.5, 0.3];
        assert!(mean.log_probabilities.iter().zip(expected).all(|(log, p)| close(log.exp(), p)), "{mean:?}");
        let entropy = |p: &[f64]| -p.iter().map(|p| p * p.ln()).sum::<f64>();
        assert!(close(mean.entropies[0], entropy(&[0.5, 0.4, 0.1])));
        let within = 0.5 * (entropy(&[0.8, 0.1, 0.1]) + entropy(&[0.2, 0.7, 0.1]));
        assert!(close(mean.mutual_information[0], entropy(&[0.5, 0.4, 0.1]) - within));
        // Models that agree know nothing of each other.
        assert!(mean.mutual_information[1] < 1e-15);
        assert_eq!(mean.choices().iter().map(|(class, _)| *class).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(mean.select(&[1]).entropies, [mean.entropies[1]]);
    }

    #[test]
    fn large_outputs_and_certain_rows_stay_finite() {
        let mut average = Average::new(2);
        average.add(&[5000.0, 0.0]);
        average.add(&[0.0, 5000.0]);
        let mean = average.finish();
        assert!(mean.log_probabilities.iter().all(|log| close(*log, 0.5f64.ln())), "{mean:?}");
        assert!(close(mean.mutual_information[0], 2f64.ln()));
        let mut one = Average::new(2);
        one.add(&[5000.0, 0.0]);
        let one = one.finish();
        assert_eq!((one.log_probabilities[1], one.entropies[0], one.choices()[0]), (-5000.0, 0.0, (0, 1.0)));
        assert!(one.mutual_information.is_empty());
    }

    #[test]
    fn a_temperature_divides_the_outputs() {
        let outputs = [2.0, -1.0, 0.5, 0.1, 0.2, 0.3];
        let of = |outputs: &[f64]| {
            let mut one = Average::new(3);
            one.add(outputs);
            one.finish()
        };
        let scaled = of(&outputs).at_temperature(2.5);
        let divided = of(&outputs.map(|y| y / 2.5));
        assert!(scaled.log_probabilities.iter().zip(&divided.log_probabilities).all(|(a, b)| close(*a, *b)));
    }
}
