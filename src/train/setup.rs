//! What a configuration comes to for the loop: loss, batches, objective.

use candle_core::Device;

use crate::data::{Dataset, EpochPlan};
use crate::objective::ObjectiveOptions;
use crate::plan::TrainConfig;
use crate::program::{BatchNormMode, Loss};

impl TrainConfig {
    /// The loss of one row: the configuration's, else the described one, else what suits the labels.
    pub(super) fn loss_for(&self, described: Option<&Loss>, data: &Dataset) -> Loss {
        let stated = self.loss.as_ref().or(described).cloned();
        stated.or_else(|| Loss::for_labels(&data.targets)).unwrap_or(Loss::Mse {})
    }

    /// The batches of `order` in `epoch`, for the loader.
    pub(super) fn plan(&self, order: Vec<usize>, epoch: usize) -> EpochPlan {
        EpochPlan {
            order,
            batch_size: self.batch_size,
            dtype: self.dtype.dtype(),
            augmentation: self.augmentation.clone(),
            seed: self.seed,
            epoch: epoch as u64,
            threads: self.execution.threads,
        }
    }

    /// The mean loss without the L2 term: its gradient is the optimiser's to add.
    pub(super) fn objective(&self, loss: Loss, batch_norm: BatchNormMode) -> ObjectiveOptions {
        ObjectiveOptions {
            dtype: self.dtype.dtype(),
            device: Device::Cpu,
            batch_norm,
            execution: self.execution,
            num_shards: 1,
            ..ObjectiveOptions::new(loss)
        }
    }
}
