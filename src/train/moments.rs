//! What Adam divides its steps by, after the last of them.

use std::fs::File;
use std::path::Path;

use candle_core::Tensor;

use super::part::Part;
use crate::autodiff::ParamSpace;
use crate::checkpoint::{CheckpointError, Recorded};
use crate::curvature::Preconditioner;
use crate::optim::{AdamW, Optimizer, OptimizerState};
use crate::{Result, digest};

/// The second moments of AdamW, also as the base of another method.
#[derive(Debug, Clone)]
pub struct SecondMoments {
    /// Its settings.
    pub adamw: AdamW,
    /// Steps done.
    pub steps: u64,
    /// `v` of the trained parameters, `[n]`.
    pub values: Tensor,
    /// The trained parameters.
    space: ParamSpace,
}

impl SecondMoments {
    /// Those in `state`; `None` of other optimisers, and before the first step.
    pub(super) fn of(optimizer: &Optimizer, state: &OptimizerState, part: &Part) -> Option<Self> {
        let adamw = optimizer.adamw()?.clone();
        let values = state.tensors.iter().find(|(name, _)| name == AdamW::SECOND_MOMENT)?.1.clone();
        Some(Self { adamw, steps: state.steps, values, space: part.space.clone() })
    }

    /// `P` of the last step.
    ///
    /// # Errors
    /// As [`Preconditioner::new`].
    pub fn preconditioner(&self) -> Result<Preconditioner> {
        Preconditioner::new(&self.adamw.preconditioner(&self.values, self.steps as f64)?)
    }

    /// Writes them for the weights in the file `checkpoint`.
    pub(super) fn write(&self, path: &Path, checkpoint: &Path) -> Result<()> {
        let sum = File::open(checkpoint).and_then(|mut file| digest::sum(&mut file));
        let sum = sum.map_err(|source| CheckpointError::Io { path: checkpoint.into(), source })?;
        let &AdamW { beta1, beta2, eps } = &self.adamw;
        let recorded = Recorded { beta1, beta2, eps, steps: self.steps, checkpoint_sha256: digest::hex(&sum) };
        let names = self.space.tensors().iter().map(|tensor| tensor.name.clone());
        recorded.write(path, names.zip(self.space.split(&self.values)?).collect())
    }
}
