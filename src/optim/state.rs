//! What an optimiser remembers between steps, so that a run can be resumed.

use candle_core::Tensor;

use super::{OptimError, Optimizer};
use crate::Result;

/// Steps done, and the base's buffers by name.
///
/// `velocity` of SGD with momentum; `first_moment` and `second_moment` of AdamW; `mean_square` of RMSprop; each `[n]` in the dtype of the
/// parameters. Noise has no state: the number of the step keys it.
#[derive(Debug, Clone)]
pub struct OptimizerState {
    /// Steps since the start.
    pub steps: u64,
    /// Empty before the first step.
    pub tensors: Vec<(String, Tensor)>,
}

impl Optimizer {
    /// What [`Optimizer::restore`] needs to continue.
    pub fn state(&self) -> OptimizerState {
        let names = self.base.descent().buffers().iter().map(|&name| name.to_owned());
        OptimizerState { steps: self.steps, tensors: names.zip(self.buffers.iter().cloned()).collect() }
    }

    /// Continues from `state`, bit for bit as without an interruption, given the same configuration and setup.
    ///
    /// # Errors
    /// [`OptimError::State`] for a tensor that is missing, superfluous or not a vector of the parameters.
    pub fn restore(&mut self, state: OptimizerState) -> Result<()> {
        let OptimizerState { steps, mut tensors } = state;
        let refused = |name: &str, reason: String| OptimError::State { name: name.into(), reason };
        let dim = self.dim;
        let mut find = |name: &str| {
            let place = tensors.iter().position(|(other, _)| other == name);
            let (_, tensor) =
                place.map(|place| tensors.swap_remove(place)).ok_or_else(|| refused(name, "is missing".into()))?;
            if tensor.dims() != [dim] {
                return Err(refused(name, format!("has shape {:?}, but must have [{dim}]", tensor.dims())).into());
            }
            Ok(tensor.contiguous()?)
        };
        let names = if steps > 0 { self.base.descent().buffers() } else { &[] };
        let buffers = names.iter().map(|name| find(name)).collect::<Result<_>>()?;
        if let Some((name, _)) = tensors.first() {
            return Err(refused(name, "is not a buffer of this optimizer".into()).into());
        }
        (self.buffers, self.steps) = (buffers, steps);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{optimizer, quadratic, values, vector};
    use super::super::{OPTIMIZERS, OptimizerConfig, Setup};
    use super::*;

    /// Of every method: after three steps, a new optimiser with the state of the first makes the same next three.
    #[test]
    fn a_restored_optimizer_makes_the_same_steps() {
        let more = ["sgd:momentum=0", "sgd:nesterov=true", "sam:base=adamw", "asam:base=adamw", "rwp:base=adamw"];
        let noisy = ["fsgld:sigma=0.1,beta_inverse=0.1,momentum=0.5,num_perturbations=2", "sgld:beta_inverse=0.1"];
        for text in OPTIMIZERS.into_iter().chain(more).chain(noisy) {
            let config: OptimizerConfig = text.parse().unwrap();
            let new = || optimizer(&config, Setup { weight_decay: 0.1, seed: 4, ..Setup::default() }, 3);
            let (mut first, mut theta) = (new(), vector(&[1.0, -2.0, 0.3]));
            let go = |optimizer: &mut Optimizer, mut theta: Tensor| {
                for _ in 0..3 {
                    theta = optimizer.step(&theta, 0.1, &mut quadratic(0.7)).unwrap().theta;
                }
                theta
            };
            theta = go(&mut first, theta);
            let mut second = new();
            second.restore(first.state()).unwrap();
            assert_eq!(second.state().steps, 3);
            let (went_on, restored) = (go(&mut first, theta.clone()), go(&mut second, theta.clone()));
            assert_eq!(values(&went_on), values(&restored), "{text}");
            // And the state matters wherever there is one.
            let forgot = go(&mut new(), theta);
            let stateless = ["sgd:momentum=0", "sgld", "fsgld"].contains(&text) || text.ends_with("momentum=0");
            assert!(stateless || values(&forgot) != values(&went_on), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let mut adamw = optimizer(&"adamw".parse().unwrap(), Setup::default(), 2);
        let tensors = |names: &[(&str, usize)]| {
            names.iter().map(|&(name, n)| (name.to_owned(), vector(&vec![0.0; n]))).collect::<Vec<_>>()
        };
        for (names, message) in [
            (&[("first_moment", 2)][..], "`second_moment` is missing"),
            (&[("first_moment", 2), ("second_moment", 3)], "`second_moment` has shape [3], but must have [2]"),
            (
                &[("first_moment", 2), ("second_moment", 2), ("velocity", 2)],
                "`velocity` is not a buffer of this optimizer",
            ),
        ] {
            let error = adamw.restore(OptimizerState { steps: 1, tensors: tensors(names) }).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().is_some());
            assert_eq!(adamw.state().steps, 0);
        }
        adamw.restore(OptimizerState { steps: 0, tensors: Vec::new() }).unwrap();
        assert!(adamw.restore(OptimizerState { steps: 0, tensors: tensors(&[("velocity", 2)]) }).is_err());
    }
}
