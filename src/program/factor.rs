//! The loss as a model of the targets: a factor of its Hessian in one row's outputs.

use super::loss::{Classes, Given, counted, masses, softmax};
use super::{CrossEntropy, Loss};
use crate::Result;
use crate::data::TargetBatch;

/// `S` with `S Sᵀ = ∂²ℓ/∂y²` in the outputs `y` of one row: `S = diag(r) − p rᵀ`.
///
/// Cross-entropy at one place: `p` the softmax, `r = √(m p)`, `m` the sum of the target's soft labels (1 without class
/// weights). Mean squared error over `C` outputs: `r = √(2/C)`, `p = 0`. Absolute error: `r = 0`. Binary cross-entropy:
/// `r = √(σ(y) σ(−y) / C)`, `p = 0`.
pub(crate) struct Factor {
    roots: Vec<f64>,
    probabilities: Option<Vec<f64>>,
}

impl Factor {
    /// `None` where no factor is known: the products with `∂²ℓ/∂y²` serve as well.
    ///
    /// # Errors
    /// Targets that do not fit outputs of the given shape, `[1, …]`.
    pub(crate) fn new(loss: &Loss, outputs: &[f64], shape: &[usize], target: &TargetBatch) -> Result<Option<Self>> {
        let count = outputs.len() as f64;
        Ok(Some(match loss {
            Loss::CrossEntropy(cross_entropy) => {
                let [mass] = masses(cross_entropy, shape, target)?[..] else { return Ok(None) };
                let probabilities = softmax(outputs);
                let roots = probabilities.iter().map(|p| (mass * p).sqrt()).collect();
                Self { roots, probabilities: Some(probabilities) }
            }
            Loss::Mse {} => Self { roots: vec![(2.0 / count).sqrt(); outputs.len()], probabilities: None },
            Loss::L1 {} => Self { roots: vec![0.0; outputs.len()], probabilities: None },
            Loss::BceWithLogits { pos_weight: None } => {
                let root = |y: &f64| (1.0 / (1.0 + (-y).exp()) / (1.0 + y.exp()) / count).sqrt();
                Self { roots: outputs.iter().map(root).collect(), probabilities: None }
            }
            // Their curvature depends on the targets.
            Loss::Huber { .. } | Loss::SmoothL1 { .. } | Loss::BceWithLogits { .. } | Loss::Program {} => {
                return Ok(None);
            }
        }))
    }

    /// `S z`.
    pub(crate) fn times(&self, z: &[f64]) -> Vec<f64> {
        let scaled = || self.roots.iter().zip(z).map(|(root, z)| root * z);
        match &self.probabilities {
            None => scaled().collect(),
            Some(probabilities) => {
                let sum: f64 = scaled().sum();
                scaled().zip(probabilities).map(|(scaled, p)| scaled - p * sum).collect()
            }
        }
    }
}

/// The columns of `S = diag(r) − p rᵀ` at every place of one row that counts, one for each of its classes; zero at the other
/// outputs. So the columns' outer products add up to `∂²ℓ/∂y²` of cross-entropy.
pub(crate) struct PlaceColumns {
    places: Vec<PlaceColumn>,
    classes: usize,
    outputs: usize,
}

/// A place: where its classes stand among the outputs, `r`, `p`.
struct PlaceColumn {
    outputs: Vec<usize>,
    roots: Vec<f64>,
    probabilities: Vec<f64>,
}

impl PlaceColumns {
    /// Of the outputs of one row, of shape `[1, …]`.
    ///
    /// # Errors
    /// Targets that do not fit them.
    pub(crate) fn new(loss: &CrossEntropy, outputs: &[f64], shape: &[usize], target: &TargetBatch) -> Result<Self> {
        let (classes, counted) = (Classes::find(loss, shape, Given::of(target))?, counted(loss, target));
        let masses = masses(loss, shape, target)?;
        let counts = |place: &usize| counted.as_ref().is_none_or(|counted| counted[*place]);
        let column = |place: usize| {
            let own: Vec<usize> = classes.of_place(place).collect();
            let probabilities = softmax(&own.iter().map(|&output| outputs[output]).collect::<Vec<_>>());
            let roots = probabilities.iter().map(|p| (masses[place] * p).sqrt()).collect();
            PlaceColumn { outputs: own, roots, probabilities }
        };
        let places = (0..masses.len()).filter(counts).map(column).collect();
        Ok(Self { places, classes: classes.count, outputs: outputs.len() })
    }

    /// Column number `index`, one number for each output.
    pub(crate) fn column(&self, index: usize) -> Vec<f64> {
        let (place, class) = (&self.places[index / self.classes], index % self.classes);
        let mut column = vec![0.0; self.outputs];
        for (own, (&output, p)) in place.outputs.iter().zip(&place.probabilities).enumerate() {
            column[output] = place.roots[class] * (f64::from(u8::from(own == class)) - p);
        }
        column
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::program::counted_outputs;

    /// `Σ_c (S e_c)(S e_c)ᵀ`, row-major.
    fn square(loss: &Loss, outputs: &[f64], target: &TargetBatch) -> Vec<f64> {
        let n = outputs.len();
        let factor = Factor::new(loss, outputs, &[1, n], target).unwrap().unwrap();
        let mut square = vec![0.0; n * n];
        for c in 0..n {
            let column = factor.times(&(0..n).map(|i| f64::from(u8::from(i == c))).collect::<Vec<_>>());
            (0..n * n).for_each(|entry| square[entry] += column[entry / n] * column[entry % n]);
        }
        square
    }

    #[test]
    fn the_factor_squares_to_the_loss_hessian() {
        let outputs: [f64; 3] = [0.3, -1.2, 2.0];
        let sum: f64 = outputs.iter().map(|y| y.exp()).sum();
        let p: Vec<f64> = outputs.iter().map(|y| y.exp() / sum).collect();
        let sigma = |y: f64| 1.0 / (1.0 + (-y).exp());
        for (loss, entry) in [
            (
                Loss::smoothed(0.1),
                Box::new(|i: usize, j: usize| if i == j { p[i] - p[i] * p[i] } else { -p[i] * p[j] })
                    as Box<dyn Fn(usize, usize) -> f64>,
            ),
            (
                Loss::CrossEntropy(CrossEntropy { weight: Some(vec![0.5, 4.0, 1.0]), ..CrossEntropy::default() }),
                Box::new(|i, j| 4.0 * if i == j { p[i] - p[i] * p[i] } else { -p[i] * p[j] }),
            ),
            (Loss::L1 {}, Box::new(|_, _| 0.0)),
            (Loss::Mse {}, Box::new(|i, j| if i == j { 2.0 / 3.0 } else { 0.0 })),
            (
                Loss::bce_with_logits(),
                Box::new(|i, j| if i == j { sigma(outputs[i]) * (1.0 - sigma(outputs[i])) / 3.0 } else { 0.0 }),
            ),
        ] {
            let values = TargetBatch::Values(Tensor::zeros((1, 3), DType::F64, &Device::Cpu).unwrap());
            let is_class = matches!(loss, Loss::CrossEntropy(_));
            let target = if is_class { TargetBatch::Classes(vec![1]) } else { values };
            for (index, got) in square(&loss, &outputs, &target).into_iter().enumerate() {
                // Numbers below 4, three terms each.
                assert!((got - entry(index / 3, index % 3)).abs() <= 16.0 * f64::EPSILON, "{loss:?} {index}: {got}");
            }
        }
    }

    #[test]
    fn the_columns_of_places_that_count_square_to_the_loss_hessian() {
        // Three classes at two places, classes first or last; one label is ignored.
        let outputs: [f64; 6] = [0.3, -1.2, 2.0, 0.1, 0.7, -0.4];
        for (shape, place) in [([1, 3, 2], [0, 2, 4]), ([1, 2, 3], [0, 1, 2])] {
            let loss = CrossEntropy { weight: Some(vec![0.5, 4.0, 1.0]), ignore_index: 7, ..CrossEntropy::default() };
            let target = TargetBatch::Tokens { labels: vec![1, 7], sample_shape: vec![2] };
            assert_eq!(counted_outputs(&Loss::CrossEntropy(loss.clone()), 6, 1, &target), [3]);
            let columns = PlaceColumns::new(&loss, &outputs, &shape, &target).unwrap();
            let p = softmax(&place.map(|output| outputs[output]));
            for (i, j) in (0..36).map(|entry| (entry / 6, entry % 6)) {
                let got: f64 = (0..3).map(|c| columns.column(c)).map(|column| column[i] * column[j]).sum();
                let at = |output| place.iter().position(|own| *own == output);
                let expected = match (at(i), at(j)) {
                    (Some(a), Some(b)) => 4.0 * (if a == b { p[a] } else { 0.0 } - p[a] * p[b]),
                    _ => 0.0,
                };
                // Numbers below 4, three terms each.
                assert!((got - expected).abs() <= 16.0 * f64::EPSILON, "{shape:?} ({i}, {j}): {got} {expected}");
            }
        }
    }
}
