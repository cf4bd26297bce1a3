//! Noise for parameters, keyed by seed, purpose, draw and chunk, so that any number of threads draws the same numbers.

use candle_core::Tensor;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::Result;
use crate::random::{Purpose, substream};

/// Numbers per sub-stream; part of every result, so it never changes.
const CHUNK: usize = 4096;

/// Where noise comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    pub(super) seed: u64,
    /// Threads that fill the chunks; any number gives the same noise.
    pub(super) threads: usize,
}

/// Standard normals.
pub(super) fn normals(rng: &mut ChaCha8Rng, values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = StandardNormal.sample(rng));
}

/// ±1, one random bit each.
pub(super) fn signs(rng: &mut ChaCha8Rng, values: &mut [f64]) {
    for chunk in values.chunks_mut(64) {
        let mut bits = rng.next_u64();
        for value in chunk {
            *value = if bits & 1 == 1 { 1.0 } else { -1.0 };
            bits >>= 1;
        }
    }
}

impl Noise {
    /// `n` numbers by `fill` for the `draw`-th draw of `purpose`; draws of one purpose must ask for the same `n`.
    pub(super) fn draw(
        &self,
        purpose: Purpose,
        draw: u64,
        n: usize,
        fill: fn(&mut ChaCha8Rng, &mut [f64]),
    ) -> Vec<f64> {
        let mut values = vec![0.0; n];
        let chunks = n.div_ceil(CHUNK);
        let seed = self.seed;
        let fill_chunks = |first: usize, part: &mut [f64]| {
            for (index, chunk) in part.chunks_mut(CHUNK).enumerate() {
                let key = draw * chunks as u64 + (first + index) as u64;
                fill(&mut substream(seed, purpose, key), chunk);
            }
        };
        let share = chunks.div_ceil(self.threads.max(1)).max(1);
        if share >= chunks {
            fill_chunks(0, &mut values);
        } else {
            std::thread::scope(|scope| {
                for (index, part) in values.chunks_mut(share * CHUNK).enumerate() {
                    let fill_chunks = &fill_chunks;
                    scope.spawn(move || fill_chunks(index * share, part));
                }
            });
        }
        values
    }

    /// `scale · values`, rounded once to the dtype of `like` and placed on its device.
    pub(super) fn scaled(&self, mut values: Vec<f64>, scale: f64, like: &Tensor) -> Result<Tensor> {
        values.iter_mut().for_each(|value| *value *= scale);
        Ok(Tensor::from_vec(values, like.dims(), like.device())?.to_dtype(like.dtype())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_threads_draws_the_same_numbers() {
        for fill in [normals, signs] as [fn(&mut ChaCha8Rng, &mut [f64]); 2] {
            let draw = |threads, draw| Noise { seed: 5, threads }.draw(Purpose::Langevin, draw, 3 * CHUNK + 17, fill);
            let one = draw(1, 4);
            for threads in [2, 3, 9] {
                assert_eq!(draw(threads, 4), one, "{threads} threads");
            }
            assert_ne!(draw(1, 5), one);
            // Chunks differ from each other, and the next draw does not begin where this one ended.
            assert_ne!(one[..100], one[CHUNK..CHUNK + 100]);
            assert_ne!(draw(1, 5)[..100], one[3 * CHUNK..][..17].repeat(6)[..100]);
        }
    }

    #[test]
    fn entries_have_mean_0_and_variance_1() {
        let n = 100_000;
        for (fill, fourth) in [(normals as fn(&mut ChaCha8Rng, &mut [f64]), 3.0), (signs, 1.0)] {
            let values = Noise { seed: 1, threads: 2 }.draw(Purpose::Perturbation, 0, n, fill);
            let mean = values.iter().sum::<f64>() / n as f64;
            let square = values.iter().map(|value| value * value).sum::<f64>() / n as f64;
            assert!(mean.abs() < 4.0 / (n as f64).sqrt(), "{mean}");
            // Var(z²) = E z⁴ − 1.
            assert!((square - 1.0).abs() <= 4.0 * ((fourth - 1.0f64) / n as f64).sqrt(), "{square}");
        }
    }
}
