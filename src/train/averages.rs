//! Averages of the parameters along a run.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::Result;

/// The exponential and the equal-weight average of `θ`, where a run asks for them.
#[derive(Debug, Clone, Default)]
pub(super) struct Averages {
    /// `m ← d m + (1 − d) θ` after each step, from the initial parameters on.
    pub(super) ema: Option<Tensor>,
    /// The mean over the ends of epochs.
    pub(super) swa: Option<Tensor>,
    /// Epochs in `swa`.
    pub(super) swa_count: usize,
}

impl Averages {
    /// After a step: the exponential moving average with `decay` (Polyak and Juditsky 1992).
    pub(super) fn after_step(&mut self, theta: &Tensor, decay: Option<f64>) -> Result<()> {
        if let Some(decay) = decay {
            self.ema = Some(match &self.ema {
                None => theta.clone(),
                Some(mean) => ((mean * decay)? + (theta * (1.0 - decay))?)?,
            });
        }
        Ok(())
    }

    /// After an epoch that counts: stochastic weight averaging (Izmailov et al. 2018).
    pub(super) fn after_epoch(&mut self, theta: &Tensor) -> Result<()> {
        self.swa_count += 1;
        self.swa = Some(match &self.swa {
            None => theta.clone(),
            Some(mean) => (mean + ((theta - mean)? / self.swa_count as f64)?)?,
        });
        Ok(())
    }

    /// The tensors that a state stores.
    pub(super) fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = [("ema", &self.ema), ("swa", &self.swa)];
        named.into_iter().filter_map(|(name, tensor)| Some((name.to_owned(), tensor.clone()?))).collect()
    }

    /// The averages that a state stored.
    pub(super) fn from_tensors(tensors: &mut BTreeMap<String, Tensor>, swa_count: usize) -> Self {
        Self { ema: tensors.remove("ema"), swa: tensors.remove("swa"), swa_count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn averages_of_powers_of_two() {
        let theta = |value: f64| Tensor::new(&[value], &Device::Cpu).unwrap();
        let mut averages = Averages::default();
        for value in [8.0, 4.0, 2.0] {
            averages.after_step(&theta(value), Some(0.5)).unwrap();
            averages.after_epoch(&theta(value)).unwrap();
        }
        let values = |tensor: &Option<Tensor>| tensor.as_ref().unwrap().to_vec1::<f64>().unwrap()[0];
        assert_eq!(values(&averages.ema), (8.0 * 0.5 + 4.0 * 0.5) * 0.5 + 2.0 * 0.5);
        assert!((values(&averages.swa) - 14.0 / 3.0).abs() < 1e-15);
        averages.after_step(&theta(100.0), None).unwrap();
        assert_eq!(values(&averages.ema), 4.0);
    }
}
