//! Gradients of a model built from candle variables, as a function of flat parameters.

use candle_core::{DType, Tensor, Var};

use crate::Result;

/// What can be wrong with a gradient that the user supplies.
#[derive(Debug, thiserror::Error)]
pub enum GradientError {
    /// Not the shape it should have.
    #[error("{what} has shape {got:?}, expected {expected:?}")]
    Shape {
        /// `theta`, `gradient` or `loss`.
        what: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// NaN or infinity.
    #[error("the gradient is not finite {place}")]
    NotFinite {
        /// Where.
        place: &'static str,
    },
    /// candle gives no gradient for a variable.
    #[error("variable `{name}` receives no gradient from the loss")]
    Missing {
        /// Its name.
        name: String,
    },
    /// Nothing to differentiate by.
    #[error("there are no variables")]
    NoVariables,
}

impl GradientError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Shape { what: "loss", .. } => Some("return the mean over the rows, a scalar".into()),
            Self::Missing { .. } => Some(
                "leave out variables that are not trained (statistics of batch norm); otherwise an operation without \
                 backward stands between the variable and the loss"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// The gradient of a loss in candle variables, by candle's own `backward`, as a function of the flat parameters: what
/// [`super::FiniteDifferenceHessian`] differentiates once more.
///
/// The variables of a `candle_nn::VarMap` are `map.data().lock()?.clone()`; that is why this needs no `candle_nn`.
/// They are put in the order of their names, since the map has no order. Leave out what is not trained: the map also
/// holds the running statistics of batch norm. A loss that calls `BatchNorm::forward_train` changes those with every
/// call, and nothing restores them: use evaluation mode.
///
/// candle's gradients are not all right (0.11; the engine of this crate shares none of this):
///
/// | operation | its gradient |
/// |---|---|
/// | `max_pool2d` | too small by the window's size where the maximum is unique |
/// | pooling where the image is not a multiple of the kernel | misplaced |
/// | `LayerNorm` and `RmsNorm` (fused forms), `softmax_last_dim`, `rope`, `sdpa` | none: the graph ends there |
/// | `upsample` | overwritten where it should be added |
/// | `relu` at 0 | 1 (PyTorch: 0) |
/// | `gelu` | constants of 6 digits |
/// | `binary_cross_entropy_with_logit` | infinite for large logits |
///
/// A variable that reaches the loss only through an operation without gradient is an error here; with a residual
/// connection around it, a part of the gradient is missing without a word. Compare one gradient with differences of the
/// loss before trusting a curvature.
pub struct VarGradient<L> {
    vars: Vec<(String, Var)>,
    loss: L,
}

impl<L: Fn() -> candle_core::Result<Tensor>> VarGradient<L> {
    /// The gradient of `loss`, a scalar that is computed from the current values of `vars`.
    ///
    /// # Errors
    /// [`GradientError::NoVariables`].
    pub fn new(vars: impl IntoIterator<Item = (String, Var)>, loss: L) -> Result<Self> {
        let mut vars: Vec<(String, Var)> = vars.into_iter().collect();
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        if vars.is_empty() {
            return Err(GradientError::NoVariables.into());
        }
        Ok(Self { vars, loss })
    }

    /// Name and shape of each variable, in the order of the flat parameters.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var.dims()))
    }

    /// The variables' values as flat parameters `[n]` in f64.
    ///
    /// # Errors
    /// Reading the variables.
    pub fn theta(&self) -> Result<Tensor> {
        // A single variable would lend its own storage, and change with it.
        Ok(flat(self.vars.iter().map(|(_, var)| var.as_tensor()), DType::F64)?.copy()?)
    }

    /// The gradient `[n]` at `theta` `[n]`, in f64 where all variables are f64, else in f32. Afterwards the variables
    /// have the values that they had before, whether the loss succeeds, fails or panics.
    ///
    /// # Errors
    /// Those of the loss; [`GradientError::Shape`] for a `theta` of another length or a loss that is not a scalar;
    /// [`GradientError::Missing`] for a variable that `backward` leaves out.
    pub fn gradient(&self, theta: &Tensor) -> Result<Tensor> {
        let dim: usize = self.vars.iter().map(|(_, var)| var.elem_count()).sum();
        if theta.dims() != [dim] {
            return Err(GradientError::Shape { what: "theta", got: theta.dims().to_vec(), expected: vec![dim] }.into());
        }
        let _restore = Restore::new(&self.vars)?;
        let mut offset = 0;
        for (_, var) in &self.vars {
            let values = theta.narrow(0, offset, var.elem_count())?.reshape(var.shape())?;
            // A copy, because candle refuses to set a variable from its own storage.
            var.set(&values.to_dtype(var.dtype())?.to_device(var.device())?.copy()?)?;
            offset += var.elem_count();
        }
        let loss = (self.loss)()?;
        if loss.rank() != 0 {
            return Err(GradientError::Shape { what: "loss", got: loss.dims().to_vec(), expected: Vec::new() }.into());
        }
        let gradients = loss.backward()?;
        let mut found = Vec::with_capacity(self.vars.len());
        for (name, var) in &self.vars {
            found.push(gradients.get(var).ok_or_else(|| GradientError::Missing { name: name.clone() })?);
        }
        let double = self.vars.iter().all(|(_, var)| var.dtype() == DType::F64);
        Ok(flat(found.into_iter(), if double { DType::F64 } else { DType::F32 })?.to_device(theta.device())?)
    }
}

fn flat<'a>(tensors: impl Iterator<Item = &'a Tensor>, dtype: DType) -> Result<Tensor> {
    let parts: candle_core::Result<Vec<Tensor>> = tensors.map(|tensor| tensor.flatten_all()?.to_dtype(dtype)).collect();
    // Detached: a graph that starts at the variables would be kept alive with the parameters.
    Ok(Tensor::cat(&parts?, 0)?.detach())
}

/// Puts the variables back when it goes, after an error or a panic of the loss too.
struct Restore<'a> {
    vars: &'a [(String, Var)],
    kept: Vec<Tensor>,
}

impl<'a> Restore<'a> {
    fn new(vars: &'a [(String, Var)]) -> Result<Self> {
        // `copy`, because a clone shares the storage that `set` overwrites.
        let kept = vars.iter().map(|(_, var)| var.copy()).collect::<candle_core::Result<_>>()?;
        Ok(Self { vars, kept })
    }
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        for ((_, var), kept) in self.vars.iter().zip(&self.kept) {
            // Its own shape, dtype and device: nothing is left that could fail.
            let _ = var.set(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn var(values: &[f64]) -> Var {
        Var::new(values, &Device::Cpu).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn variables_are_set_in_the_order_of_their_names_and_put_back() {
        let (a, b) = (var(&[1.0, 2.0]), var(&[3.0]));
        // b · Σ aᵢ²
        let loss = || b.mul(&a.sqr()?.sum_keepdim(0)?)?.sum_all();
        let model = VarGradient::new([("b".to_owned(), b.clone()), ("a".to_owned(), a.clone())], loss).unwrap();
        assert_eq!(model.shapes().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(values(&model.theta().unwrap()), [1.0, 2.0, 3.0]);
        let gradient = model.gradient(&Tensor::new(&[4.0, 0.5, 10.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!((gradient.dtype(), values(&gradient)), (DType::F64, vec![80.0, 10.0, 16.25]));
        assert_eq!(values(&model.theta().unwrap()), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn parameters_do_not_change_with_a_single_variable() {
        let a = var(&[1.0, 2.0]);
        let model = VarGradient::new([("a".to_owned(), a.clone())], || a.sqr()?.sum_all()).unwrap();
        let theta = model.theta().unwrap();
        assert_eq!(values(&model.gradient(&theta).unwrap()), [2.0, 4.0]);
        assert_eq!(values(&model.gradient(a.as_tensor()).unwrap()), [2.0, 4.0]);
        a.set(&Tensor::new(&[5.0, 6.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(values(&theta), [1.0, 2.0]);
    }

    #[test]
    fn variables_without_gradient_are_named_and_all_are_put_back() {
        let (a, idle) = (var(&[1.0, 2.0]), var(&[7.0]));
        let vars = || [("a".to_owned(), a.clone()), ("idle".to_owned(), idle.clone())];
        let at = Tensor::new(&[9.0, 9.0, 9.0], &Device::Cpu).unwrap();
        let model = VarGradient::new(vars(), || a.sqr()?.sum_all()).unwrap();
        let error = model.gradient(&at).unwrap_err();
        assert!(error.to_string().contains("variable `idle` receives no gradient"), "{error}");
        assert!(error.hint().unwrap().contains("batch norm"));
        assert_eq!(values(&model.theta().unwrap()), [1.0, 2.0, 7.0]);
        let error = model.gradient(&Tensor::new(&[9.0], &Device::Cpu).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "theta has shape [1], expected [3]");

        let failing = VarGradient::new(vars(), || a.reshape(7)).unwrap();
        assert!(failing.gradient(&at).is_err());
        assert_eq!(values(&failing.theta().unwrap()), [1.0, 2.0, 7.0]);
        let rows = VarGradient::new(vars(), || a.sqr()).unwrap();
        assert_eq!(rows.gradient(&at).unwrap_err().to_string(), "loss has shape [2], expected []");
        assert!(VarGradient::new([], || a.sqr()).is_err());
    }
}
