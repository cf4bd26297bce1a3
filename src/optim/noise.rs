//! Noise for parameters, keyed by seed, purpose, draw and chunk, so that any number of threads draws the same numbers.

use candle_core::{Device, Tensor, WithDType};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::CHUNK;
use crate::kernels::{Slice, with_float};
use crate::random::fill_signs;
use crate::random::{Purpose, substream};
use crate::workers::may_share;
use crate::{Result, Workers};

/// The law of one entry of `ε/σ`: mean 0, variance 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Perturbation {
    /// Standard normal.
    #[default]
    Gaussian,
    /// ±1 with equal probability.
    Rademacher,
}

impl Perturbation {
    fn fill(self, rng: &mut ChaCha8Rng, values: &mut [f64]) {
        match self {
            Self::Gaussian => values.iter_mut().for_each(|value| *value = StandardNormal.sample(rng)),
            Self::Rademacher => fill_signs(rng, values),
        }
    }
}

/// Which random vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    pub(crate) purpose: Purpose,
    /// Its number among the vectors of this purpose, all of which must be of the same length.
    pub(crate) index: u64,
    /// Of each entry.
    pub(crate) law: Perturbation,
}

/// Where noise comes from.
#[derive(Debug, Clone)]
pub(crate) struct Noise {
    pub(crate) seed: u64,
    /// Who fills the chunks.
    pub(crate) workers: Workers,
}

impl Noise {
    /// `θ + scale · z` with the vector `z` of `draw`, the product rounded once to the dtype of `θ`; one pass.
    ///
    /// `z` is drawn on the host: every device sees the same numbers.
    pub(super) fn shifted(&self, theta: &Tensor, draw: Draw, scale: f64) -> Result<Tensor> {
        let host = theta.to_device(&Device::Cpu)?.contiguous()?;
        let shifted = with_float!(theta.dtype(), T => {
            let mut values = Slice::<T>::of(&host)?.to_vec();
            self.add(&mut values, draw, scale);
            Tensor::from_vec(values, theta.dims(), theta.device())
        })?;
        Ok(shifted)
    }

    /// Adds `scale · z` to `values`.
    pub(crate) fn add<T: WithDType>(&self, values: &mut [T], draw: Draw, scale: f64) {
        let Draw { purpose, index, law } = draw;
        let (seed, first) = (self.seed, index * values.len().div_ceil(CHUNK) as u64);
        let fill = |(index, chunk): (usize, &mut [T])| {
            let mut unit = [0.0; CHUNK];
            law.fill(&mut substream(seed, purpose, first + index as u64), &mut unit[..chunk.len()]);
            chunk.iter_mut().zip(unit).for_each(|(value, unit)| *value += T::from_f64(scale * unit));
        };
        self.workers.install(|| match may_share() {
            true => values.par_chunks_mut(CHUNK).enumerate().for_each(fill),
            false => values.chunks_mut(CHUNK).enumerate().for_each(fill),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn draw(threads: usize, index: u64, law: Perturbation, n: usize) -> Vec<f64> {
        let noise = Noise { seed: 5, workers: Workers::new(threads).unwrap() };
        let like = Tensor::zeros(n, DType::F64, &Device::Cpu).unwrap();
        noise.shifted(&like, Draw { purpose: Purpose::Langevin, index, law }, 1.0).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn any_number_of_threads_draws_the_same_numbers() {
        let n = 3 * CHUNK + 17;
        for law in [Perturbation::Gaussian, Perturbation::Rademacher] {
            let one = draw(1, 4, law, n);
            for threads in [2, 3, 9] {
                assert_eq!(draw(threads, 4, law, n), one, "{threads} threads");
            }
            let next = draw(1, 5, law, n);
            assert_ne!(next, one);
            // Chunks differ from each other, and the next draw does not begin where this one ended.
            assert_ne!(one[..100], one[CHUNK..CHUNK + 100]);
            assert_ne!(next[..17], one[3 * CHUNK..][..17]);
        }
    }

    /// In f32 the numbers are those of f64, scaled and then rounded once.
    #[test]
    fn single_precision_rounds_the_same_numbers() {
        let noise = Noise { seed: 5, workers: Workers::new(2).unwrap() };
        let ones = Tensor::ones(CHUNK + 5, DType::F32, &Device::Cpu).unwrap();
        let draw_4 = Draw { purpose: Purpose::Langevin, index: 4, law: Perturbation::Gaussian };
        let single = noise.shifted(&ones, draw_4, 0.3).unwrap();
        let double = draw(1, 4, Perturbation::Gaussian, CHUNK + 5);
        let rounded: Vec<f32> = double.iter().map(|value| 1.0 + (0.3 * value) as f32).collect();
        assert_eq!(single.to_vec1::<f32>().unwrap(), rounded);
    }

    #[test]
    fn entries_have_mean_0_and_variance_1() {
        let n = 100_000;
        for (law, fourth) in [(Perturbation::Gaussian, 3.0), (Perturbation::Rademacher, 1.0)] {
            let values = draw(2, 0, law, n);
            let mean = values.iter().sum::<f64>() / n as f64;
            let square = values.iter().map(|value| value * value).sum::<f64>() / n as f64;
            assert!(mean.abs() < 4.0 / (n as f64).sqrt(), "{mean}");
            // Var(z²) = E z⁴ − 1.
            assert!((square - 1.0).abs() <= 4.0 * ((fourth - 1.0f64) / n as f64).sqrt(), "{square}");
        }
    }
}
