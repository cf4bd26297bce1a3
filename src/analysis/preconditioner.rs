//! Adam's preconditioner of a checkpoint.

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use crate::Result;
use crate::autodiff::ParamSpace;
use crate::checkpoint::{AdamMoment, AdamState, CheckpointError};
use crate::curvature::Preconditioner;
use crate::optim::AdamW;
use crate::vocabulary::Scope;

impl AdamState {
    /// `P = (1 − β₁ᵗ)(diag √(v/(1 − β₂ᵗ)) + ε)` (Cohen et al. 2022) of the parameters in `scope`, and 1 elsewhere.
    ///
    /// # Errors
    /// [`CheckpointError::OptimizerState`] for a parameter of the scope without a second moment;
    /// [`crate::curvature::CurvatureError::Preconditioner`] for entries of 0.
    pub fn preconditioner(&self, space: &ParamSpace, scope: &Scope) -> Result<Preconditioner> {
        let wanted = scope.tensors(space)?;
        let mut parts = Vec::new();
        for (index, tensor) in space.tensors().iter().enumerate() {
            let known = self.moments.iter().find(|moment| moment.name == tensor.name);
            parts.push(match known.filter(|_| wanted.contains(&index)) {
                Some(moment) => diagonal(moment)?,
                None if !wanted.contains(&index) => Tensor::ones(tensor.len(), DType::F64, &Device::Cpu)?,
                None => {
                    let reason = format!("it has no second moment of `{}`, which was not trained", tensor.name);
                    return Err(CheckpointError::OptimizerState { path: self.path.clone(), reason }.into());
                }
            });
        }
        Preconditioner::new(&Tensor::cat(&parts, 0)?)
    }

    /// What it is, for configurations.
    pub fn facts(&self) -> Value {
        let steps = self.moments.iter().map(|moment| moment.steps).fold(0.0, f64::max);
        json!({"sha256": self.sha256, "steps": steps})
    }
}

fn diagonal(moment: &AdamMoment) -> Result<Tensor> {
    let &AdamMoment { beta1, beta2, eps, steps, ref second_moment, .. } = moment;
    AdamW { beta1, beta2, eps }.preconditioner(second_moment, steps)
}
