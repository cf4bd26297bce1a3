//! Directions through a minimum.

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::Result;
use crate::autodiff::ParamSpace;
use crate::kernels::{dot, norm_of};

/// What a random direction is scaled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// Each filter to the norm of the same filter of the weights; biases and normalisation stay fixed (Li et al. 2018)
    #[default]
    Filter,
    /// Each tensor of weights to its norm; biases and normalisation stay fixed
    Layer,
    /// Nothing: a standard normal vector over all parameters (Goodfellow et al. 2015)
    None,
}

impl Normalisation {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Layer => "layer",
            Self::None => "none",
        }
    }
}

/// [`random_direction`], each filter scaled to the norm of the same filter of `theta` (Li et al. 2018).
///
/// # Errors
/// Reading `theta`.
pub(crate) fn filter_normalised(space: &ParamSpace, theta: &Tensor, rng: &mut impl Rng) -> Result<Tensor> {
    random_direction(space, theta, Normalisation::Filter, rng)
}

/// A random normal direction scaled as `normalisation` has it, `[n]` f64.
///
/// A filter is one entry of the first axis of a tensor with two axes or more. Under `Filter` and `Layer` tensors with
/// one axis (biases, normalisation) stay fixed, as in the paper's code.
///
/// # Errors
/// Reading `theta`.
pub(crate) fn random_direction(
    space: &ParamSpace,
    theta: &Tensor,
    normalisation: Normalisation,
    rng: &mut impl Rng,
) -> Result<Tensor> {
    let theta = theta.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let mut direction: Vec<f64> = theta.iter().map(|_| StandardNormal.sample(rng)).collect();
    for tensor in space.tensors() {
        let range = tensor.offset..tensor.offset + tensor.len();
        let part = match normalisation {
            Normalisation::None => continue,
            _ if tensor.shape.len() < 2 => {
                direction[range].fill(0.0);
                continue;
            }
            Normalisation::Filter => (tensor.len() / tensor.shape[0].max(1)).max(1),
            Normalisation::Layer => tensor.len().max(1),
        };
        for (direction, weights) in direction[range.clone()].chunks_mut(part).zip(theta[range].chunks(part)) {
            let (norm, target) = (norm_of(direction), norm_of(weights));
            let scale = if norm > 0.0 { target / norm } else { 0.0 };
            direction.iter_mut().for_each(|value| *value *= scale);
        }
    }
    let n = direction.len();
    Ok(Tensor::from_vec(direction, n, &Device::Cpu)?)
}

/// `b` without its component along `a`, at the length it had.
///
/// # Errors
/// Reading the vectors.
pub(crate) fn orthogonalise(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (aa, ab, bb) = (dot(a, a)?, dot(a, b)?, dot(b, b)?);
    if aa == 0.0 {
        return Ok(b.clone());
    }
    let rest = (b - (a * (ab / aa))?)?;
    let length = dot(&rest, &rest)?;
    Ok(if length > 0.0 { (rest * (bb / length).sqrt())? } else { rest })
}

/// `gᵀd` in f64: the slope of the loss along `direction` where its gradient is `gradient`, both `[n]`.
///
/// # Errors
/// A tensor operation that fails.
pub fn slope(gradient: &Tensor, direction: &Tensor) -> Result<f64> {
    Ok(dot(gradient, &direction.to_device(gradient.device())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use crate::vocabulary::ParamKind;

    #[test]
    fn filters_get_the_norm_of_the_weights_and_biases_stay() {
        let space = ParamSpace::new([
            ("w".to_owned(), vec![2, 3], ParamKind::Weight),
            ("b".to_owned(), vec![2], ParamKind::Bias),
        ]);
        let theta = Tensor::new(&[3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 7.0, 8.0], &Device::Cpu).unwrap();
        let mut rng = stream(1, Purpose::Directions);
        let direction = filter_normalised(&space, &theta, &mut rng).unwrap().to_vec1::<f64>().unwrap();
        assert!((norm_of(&direction[..3]) - 5.0).abs() < 1e-14);
        assert_eq!(direction[3..], [0.0; 5]);
    }

    #[test]
    fn tensors_get_the_norm_of_the_weights_or_nothing_is_scaled() {
        let space = ParamSpace::new([
            ("w".to_owned(), vec![2, 2], ParamKind::Weight),
            ("b".to_owned(), vec![2], ParamKind::Bias),
        ]);
        let theta = Tensor::new(&[1.0, 2.0, 0.0, 2.0, 7.0, 8.0], &Device::Cpu).unwrap();
        let draw = |normalisation| {
            let mut rng = stream(1, Purpose::Directions);
            random_direction(&space, &theta, normalisation, &mut rng).unwrap().to_vec1::<f64>().unwrap()
        };
        let (layer, none) = (draw(Normalisation::Layer), draw(Normalisation::None));
        assert!((norm_of(&layer[..4]) - 3.0).abs() < 1e-14);
        assert_eq!(layer[4..], [0.0; 2]);
        // One factor for the whole tensor, and none for the raw draw.
        let ratio = layer[0] / none[0];
        assert!(layer[..4].iter().zip(&none).all(|(scaled, raw)| (scaled - ratio * raw).abs() < 1e-14));
        assert!(none.iter().all(|value| *value != 0.0));
    }

    #[test]
    fn orthogonal_directions_keep_their_length() {
        let a = Tensor::new(&[1.0, 2.0, 2.0], &Device::Cpu).unwrap();
        let b = Tensor::new(&[3.0, 0.0, 4.0], &Device::Cpu).unwrap();
        let rest = orthogonalise(&a, &b).unwrap().to_vec1::<f64>().unwrap();
        assert!((rest[0] + 2.0 * rest[1] + 2.0 * rest[2]).abs() < 1e-14);
        assert!((norm_of(&rest) - 5.0).abs() < 1e-14);
    }
}
