//! Running averages of batch normalisation.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rand::seq::SliceRandom;

use super::TrainError;
use crate::Result;
use crate::data::{Dataset, with_batches};
use crate::objective::Objective;
use crate::plan::TrainConfig;
use crate::program::{BatchStatistics, Program, ProgramError, Start};
use crate::random::{Purpose, substream};

/// The initial buffers: mean 0 and variance 1 for every normalisation.
///
/// # Errors
/// [`TrainError::NoFreshBuffers`]: buffers that are not running statistics, such as tables of positions.
pub(super) fn fresh(program: &Program, dtype: DType) -> Result<HashMap<String, Tensor>> {
    let running = program.running_statistics();
    let others = program.buffers.iter().filter(|(name, _)| !running.contains(name.as_str()));
    let others: Vec<String> = others.map(|(name, _)| name.clone()).collect();
    if !others.is_empty() {
        return Err(TrainError::NoFreshBuffers { names: others }.into());
    }
    let starts = program.starts();
    let buffers = program.buffers.iter().map(|(name, shape)| {
        let value = match starts.get(name.as_str()) {
            Some(Start::Constant(value)) => *value,
            _ => 0.0,
        };
        Ok((name.clone(), Tensor::full(value, shape.as_slice(), &Device::Cpu)?.to_dtype(dtype)?))
    });
    buffers.collect()
}

/// `running ← (1 − m) running + m batch`, with the unbiased variance, in order of the statistics.
pub(super) fn update(buffers: &mut HashMap<String, Tensor>, statistics: &[BatchStatistics]) -> Result<()> {
    for layer in statistics {
        for (name, batch) in [(&layer.running_mean, &layer.mean), (&layer.running_var, &layer.var)] {
            let running = buffers.get_mut(name).ok_or_else(|| ProgramError::MissingTensor { name: name.clone() })?;
            *running = ((&*running * (1.0 - layer.momentum))? + (batch * layer.momentum)?)?;
        }
    }
    Ok(())
}

/// The most rows from which statistics are re-estimated: the errors of the means are then below 1 % of a standard
/// deviation.
const MAX_ROWS: usize = 16_384;

/// Statistics at fixed parameters: the means of batch means and unbiased batch variances over random batches of the
/// training rows, augmented as in training, as `torch.optim.swa_utils.update_bn` has it. (Without augmentation they
/// would belong to other images than the weights were trained with, and cost accuracy.) Other buffers stay as they are. Cost: a forward pass over up to 16384 rows.
///
/// # Errors
/// A loss that is not finite; rows that cannot be read.
pub(super) fn reestimate(
    objective: &Objective<'_>,
    data: &Dataset,
    config: &TrainConfig,
    theta: &Tensor,
) -> Result<HashMap<String, Tensor>> {
    if objective.network().program().running_statistics().is_empty() {
        return Ok(objective.network().buffers().clone());
    }
    let mut order: Vec<usize> = (0..data.len()).collect();
    // A folder may be sorted by class, and so would be its batches.
    order.shuffle(&mut substream(config.seed, Purpose::Statistics, 0));
    order.truncate(MAX_ROWS);
    // A last batch of a row or two has no variance to speak of.
    let rest = order.len() % config.batch_size;
    if 2 * rest < config.batch_size && rest < order.len() {
        order.truncate(order.len() - rest);
    }
    let count = order.len() as f64;
    // Epochs count from 1: no epoch has the augmentation that is used here.
    let plan = config.plan(order, 0);
    with_batches(data, &plan, |batches| {
        let mut sums: HashMap<String, Tensor> = HashMap::new();
        for batch in batches {
            let batch = batch?;
            let weight = batch.rows.len() as f64 / count;
            for layer in objective.batch_statistics(theta, &batch)? {
                for (name, values) in [(layer.running_mean, layer.mean), (layer.running_var, layer.var)] {
                    let part = (values * weight)?;
                    let sum = match sums.remove(&name) {
                        None => part,
                        Some(sum) => (sum + part)?,
                    };
                    sums.insert(name, sum);
                }
            }
        }
        let others = objective.network().buffers().iter().filter(|(name, _)| !sums.contains_key(*name));
        let others: Vec<_> = others.map(|(name, values)| (name.clone(), values.clone())).collect();
        sums.extend(others);
        Ok(sums)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_batch_enters_with_its_momentum() {
        let architecture = crate::formats::family("resnet-cifar:8", &[3, 8, 8], 4).unwrap();
        let network = architecture.network(HashMap::new()).unwrap();
        let mut buffers = fresh(network.program(), DType::F64).unwrap();
        let values = |buffers: &HashMap<String, Tensor>, name: &str| buffers[name].to_vec1::<f64>().unwrap();
        assert_eq!(values(&buffers, "bn1.running_mean"), [0.0; 16]);
        assert_eq!(values(&buffers, "bn1.running_var"), [1.0; 16]);
        let constant = |value: f64| Tensor::full(value, 16, &Device::Cpu).unwrap();
        let statistics = BatchStatistics {
            running_mean: "bn1.running_mean".into(),
            running_var: "bn1.running_var".into(),
            momentum: 0.25,
            mean: constant(8.0),
            var: constant(5.0),
        };
        update(&mut buffers, &[statistics.clone(), statistics]).unwrap();
        assert_eq!(values(&buffers, "bn1.running_mean"), [0.75 * 2.0 + 2.0; 16]);
        assert_eq!(values(&buffers, "bn1.running_var"), [0.75 * 2.0 + 1.25; 16]);
    }
}
