//! Hessian products from differences of a gradient that the user supplies.

use candle_core::{DType, Device, Tensor};

use super::GradientError;
use crate::kernels::dot;
use crate::operator::{LinearOperator, Product};
use crate::{Error, Observer, Result, Step};

/// `H v ≈ (g(θ + h v) − g(θ − h v)) / 2h` for a gradient `g` that is known only as a function of the flat parameters.
///
/// With `s = h ‖v‖` the error of a unit `v` is `s²/6` times the third derivative of `g` along `v`, plus the rounding
/// `ε ‖g‖ / s` of the gradients. `s` is within a factor `√2` of `ε^(1/3) (1 + ‖θ‖)`, which balances the two where the
/// curvature changes over lengths like `‖θ‖`: about `ε^(2/3)`, that is 4·10⁻¹¹ in f64 and 2·10⁻⁵ where `g` answers in
/// f32, in units of `‖g‖/(1 + ‖θ‖)` and of the curvature itself. The matrix is symmetric up to that error, and a
/// tolerance of [`crate::spectral::eigenpairs`] below it cannot be met. `h` is a power of two, so that scaling by it
/// rounds nothing.
///
/// Kinks: where the gradient of a ReLU, a hinge or a maximum jumps between `θ − h v` and `θ + h v`, the jump over `2h`
/// is part of the quotient, and no smaller `h` removes it on average: fewer kinks are crossed, each weighs more. Such a
/// product is that of the loss smoothed over `s`, not of the Hessian almost everywhere that
/// [`super::CurvatureOperator`] gives.
///
/// Cost: two gradients per vector, one after the other. There are no data shards, hence no data errors.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use flatness::curvature::FiniteDifferenceHessian;
/// use flatness::operator::LinearOperator;
///
/// # fn main() -> flatness::Result<()> {
/// // The loss (θ₁² + 5 θ₂²)/2 has the gradient (θ₁, 5 θ₂).
/// let scales = Tensor::new(&[1.0, 5.0], &Device::Cpu)?;
/// let theta = Tensor::new(&[3.0, -2.0], &Device::Cpu)?;
/// let hessian = FiniteDifferenceHessian::new(&theta, |theta| Ok((theta * &scales)?))?;
/// let product = hessian.apply(&Tensor::new(&[[1.0, 1.0]], &Device::Cpu)?, &mut ())?.block;
/// assert_eq!(product.to_vec2::<f64>()?, [[1.0, 5.0]]);
/// # Ok(())
/// # }
/// ```
pub struct FiniteDifferenceHessian<G> {
    theta: Tensor,
    gradient: G,
    /// `ε^(1/3) (1 + ‖θ‖)`: how far to go.
    reach: f64,
}

impl<G: Fn(&Tensor) -> Result<Tensor>> FiniteDifferenceHessian<G> {
    /// The Hessian at `theta` `[n]`; `gradient` takes f64 parameters `[n]` on `theta`'s device and gives `[n]` in f32 or
    /// f64, whatever it computes in. It is called once here, to learn its precision.
    ///
    /// # Errors
    /// Those of `gradient`; [`GradientError::Shape`] where it or `theta` is not a vector of the right length,
    /// [`GradientError::NotFinite`] at `theta`.
    pub fn new(theta: &Tensor, gradient: G) -> Result<Self> {
        let &[dim] = theta.dims() else {
            return Err(GradientError::Shape {
                what: "theta",
                got: theta.dims().to_vec(),
                expected: vec![theta.elem_count()],
            }
            .into());
        };
        // A copy, so that a variable that changes does not take the point along.
        let theta = theta.to_dtype(DType::F64)?.copy()?.detach();
        let here = gradient(&theta)?;
        let epsilon = if here.dtype() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        checked(here, dim, "at theta")?;
        let reach = epsilon.cbrt() * (1.0 + dot(&theta, &theta)?.sqrt());
        Ok(Self { theta, gradient, reach })
    }

    /// The product with one vector `[n]`.
    fn product(&self, vector: &Tensor) -> Result<Tensor> {
        let length = dot(vector, vector)?.sqrt();
        if length == 0.0 {
            return Ok(vector.zeros_like()?);
        }
        let step = (self.reach / length).log2().round().exp2();
        let at = |step: f64| -> Result<Tensor> {
            let theta = (&self.theta + (vector * step)?)?;
            checked((self.gradient)(&theta)?, self.dim(), "near theta")
        };
        Ok(((at(step)? - at(-step)?)? * (0.5 / step))?)
    }
}

impl<G: Fn(&Tensor) -> Result<Tensor>> LinearOperator for FiniteDifferenceHessian<G> {
    fn dim(&self) -> usize {
        self.theta.elem_count()
    }

    fn dtype(&self) -> DType {
        DType::F64
    }

    fn device(&self) -> &Device {
        self.theta.device()
    }

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let total = match *block.dims() {
            [count, n] if n == self.dim() && count > 0 => count,
            _ => return Err(Error::VectorShape { got: block.dims().to_vec(), dim: self.dim() }),
        };
        let mut products = Vec::with_capacity(total);
        for index in 0..total {
            products.push(self.product(&block.get(index)?)?);
            let step = Step { task: "gradients", done: index + 1, total, message: String::new() };
            if observer.on_step(&step).is_break() {
                return Err(Error::Interrupted);
            }
        }
        Ok(Product { block: Tensor::stack(&products, 0)?, shards: None })
    }

    /// One, since vectors share no work.
    fn block_size(&self) -> usize {
        1
    }
}

/// A gradient in f64, if it has `dim` finite entries.
fn checked(gradient: Tensor, dim: usize, place: &'static str) -> Result<Tensor> {
    if gradient.dims() != [dim] {
        return Err(
            GradientError::Shape { what: "gradient", got: gradient.dims().to_vec(), expected: vec![dim] }.into()
        );
    }
    let gradient = gradient.to_dtype(DType::F64)?;
    if !dot(&gradient, &gradient)?.sqrt().is_finite() {
        return Err(GradientError::NotFinite { place }.into());
    }
    Ok(gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    /// `∇ of θᵀAθ/2 + Σ θᵢ³/6`.
    fn cubic(theta: &Tensor) -> Result<Tensor> {
        let matrix = Tensor::new(&[[4.0, 1.0, 0.0], [1.0, -3.0, 2.0], [0.0, 2.0, 1.0]], &Device::Cpu)?;
        Ok((matrix.matmul(&theta.unsqueeze(1)?)?.squeeze(1)? + (theta.sqr()? * 0.5)?)?)
    }

    #[test]
    fn a_cubic_has_no_truncation_error_and_a_quadratic_part_of_small_numbers_no_rounding() {
        // Central differences of a quadratic gradient are exact; at 0 its quadratic part cancels without rounding.
        let hessian = FiniteDifferenceHessian::new(&vector(&[0.0; 3]), cubic).unwrap();
        let block = Tensor::new(&[[1.0, 0.0, 0.0], [1.0, -2.0, 1.0], [0.0, 0.0, 0.0]], &Device::Cpu).unwrap();
        let product = hessian.apply(&block, &mut ()).unwrap();
        let expected = [[4.0, 1.0, 0.0], [2.0, 9.0, -3.0], [0.0; 3]];
        assert_eq!(product.block.to_vec2::<f64>().unwrap(), expected);
        assert!(product.shards.is_none());
        // At θ = (1, 2, 3) the diagonal grows by θ. A gradient's entry takes seven roundings of ε/2 of numbers below 18:
        // 63 ε; the difference of two is divided by 2h ≥ √2·(1 + ‖θ‖) ε^(1/3) = 6.7 ε^(1/3): 19 ε^(2/3).
        let hessian = FiniteDifferenceHessian::new(&vector(&[1.0, 2.0, 3.0]), cubic).unwrap();
        let identity = Tensor::eye(3, DType::F64, &Device::Cpu).unwrap();
        let product = hessian.apply(&identity, &mut ()).unwrap().block.to_vec2::<f64>().unwrap();
        let expected = [[5.0, 1.0, 0.0], [1.0, -1.0, 2.0], [0.0, 2.0, 4.0]];
        for (got, wanted) in product.iter().flatten().zip(expected.iter().flatten()) {
            assert!((got - wanted).abs() <= 19.0 * f64::EPSILON.powf(2.0 / 3.0), "{got} {wanted}");
        }
    }

    #[test]
    fn a_gradient_in_f32_takes_a_longer_step() {
        let single = |theta: &Tensor| Ok(cubic(theta)?.to_dtype(DType::F32)?);
        let hessian = FiniteDifferenceHessian::new(&vector(&[1.0, 2.0, 3.0]), single).unwrap();
        let product = hessian.apply(&vector(&[0.0, 1.0, 0.0]).unsqueeze(0).unwrap(), &mut ()).unwrap().block;
        for (got, wanted) in product.to_vec2::<f64>().unwrap()[0].iter().zip([1.0, -1.0, 2.0]) {
            // Entries below 12 are rounded once, by 6 ε: 12 ε/(6.7 ε^(1/3)) = 4·10⁻⁵. The step of f64 would leave 0.03.
            assert!((got - wanted).abs() <= 2.0 * f64::from(f32::EPSILON).powf(2.0 / 3.0), "{got} {wanted}");
        }
    }

    #[test]
    fn wrong_gradients_and_vectors_are_named() {
        let theta = vector(&[1.0, 2.0, 3.0]);
        let text = |error: Error| format!("{error}; {}", error.hint().unwrap_or_default());
        let error = FiniteDifferenceHessian::new(&theta, |_| Ok(vector(&[1.0]))).err().map(text).unwrap();
        assert!(error.contains("gradient has shape [1], expected [3]"), "{error}");
        let error = FiniteDifferenceHessian::new(&theta.unsqueeze(0).unwrap(), cubic).err().map(text).unwrap();
        assert!(error.contains("theta has shape [1, 3], expected [3]"), "{error}");
        let error = FiniteDifferenceHessian::new(&theta, |t| Ok((t / 0.0)?)).err().map(text).unwrap();
        assert!(error.contains("not finite at theta"), "{error}");
        // √(θ₁ − 1) is at home at θ, and not a step further down.
        let hessian = FiniteDifferenceHessian::new(&theta, |t| Ok((t - 1.0)?.sqrt()?)).unwrap();
        let error = hessian.apply(&theta.unsqueeze(0).unwrap(), &mut ()).err().map(text).unwrap();
        assert!(error.contains("not finite near theta"), "{error}");
        let hessian = FiniteDifferenceHessian::new(&theta, cubic).unwrap();
        for shape in [vec![3], vec![1, 2], vec![0, 3]] {
            let block = Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
            assert!(matches!(hessian.apply(&block, &mut ()), Err(Error::VectorShape { .. })));
        }
    }
}
