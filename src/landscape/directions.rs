//! Directions through a minimum.

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::Result;
use crate::autodiff::ParamSpace;

/// A random normal direction, each filter scaled to the norm of the same filter of `theta` (Li et al. 2018), `[n]` f64.
///
/// A filter is one entry of the first axis of a tensor with two axes or more. Tensors with one axis (biases,
/// normalisation) stay fixed, as in the paper's code.
///
/// # Errors
/// Reading `theta`.
pub fn filter_normalised(space: &ParamSpace, theta: &Tensor, rng: &mut impl Rng) -> Result<Tensor> {
    let theta = theta.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let mut direction: Vec<f64> = theta.iter().map(|_| StandardNormal.sample(rng)).collect();
    for tensor in space.tensors() {
        let range = tensor.offset..tensor.offset + tensor.len();
        if tensor.shape.len() < 2 {
            direction[range].fill(0.0);
            continue;
        }
        let filter = (tensor.len() / tensor.shape[0].max(1)).max(1);
        for (direction, weights) in direction[range.clone()].chunks_mut(filter).zip(theta[range].chunks(filter)) {
            let (norm, target) = (norm(direction), norm(weights));
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
pub fn orthogonalise(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dot = |x: &Tensor, y: &Tensor| -> Result<f64> { Ok((x * y)?.sum_all()?.to_scalar::<f64>()?) };
    let (aa, ab, bb) = (dot(a, a)?, dot(a, b)?, dot(b, b)?);
    if aa == 0.0 {
        return Ok(b.clone());
    }
    let rest = (b - (a * (ab / aa))?)?;
    let length = dot(&rest, &rest)?;
    Ok(if length > 0.0 { (rest * (bb / length).sqrt())? } else { rest })
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::ParamKind;
    use crate::random::{Purpose, stream};

    #[test]
    fn filters_get_the_norm_of_the_weights_and_biases_stay() {
        let space = ParamSpace::new([
            ("w".to_owned(), vec![2, 3], ParamKind::Weight),
            ("b".to_owned(), vec![2], ParamKind::Bias),
        ]);
        let theta = Tensor::new(&[3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 7.0, 8.0], &Device::Cpu).unwrap();
        let mut rng = stream(1, Purpose::Directions);
        let direction = filter_normalised(&space, &theta, &mut rng).unwrap().to_vec1::<f64>().unwrap();
        assert!((norm(&direction[..3]) - 5.0).abs() < 1e-14);
        assert_eq!(direction[3..], [0.0; 5]);
    }

    #[test]
    fn orthogonal_directions_keep_their_length() {
        let a = Tensor::new(&[1.0, 2.0, 2.0], &Device::Cpu).unwrap();
        let b = Tensor::new(&[3.0, 0.0, 4.0], &Device::Cpu).unwrap();
        let rest = orthogonalise(&a, &b).unwrap().to_vec1::<f64>().unwrap();
        assert!((rest[0] + 2.0 * rest[1] + 2.0 * rest[2]).abs() < 1e-14);
        assert!((norm(&rest) - 5.0).abs() < 1e-14);
    }
}
