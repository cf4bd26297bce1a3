//! Per-channel means of a tensor and of its square, in one pass.

use candle_core::{Result, Tensor, WithDType};

use super::layout::Channels;
use crate::kernels::access::with_float;
use crate::kernels::element::Element;
use crate::kernels::parallel;
use crate::kernels::rows::{Held, Parts, row_dot, row_sum};
use crate::kernels::simd::{Isa, Simd, SimdTask};

/// The centre is the mean of every such sample.
const CENTRE_STEP: usize = 8;

impl Channels {
    /// A number per channel near its mean, in the shape `small`: the mean of every eighth sample. About it, the variance
    /// of a channel is at least an eighth of its mean square, so that their difference loses three bits at most.
    pub fn centre(&self, x: &Tensor, small: &[usize]) -> Result<Tensor> {
        with_float!(x.dtype(), T => {
            let held = Held::<T, _>::of([Some(x)])?;
            let slices = held.slices()?;
            let Some(data) = slices[0].as_deref() else { candle_core::bail!("no tensor to centre") };
            let sample_len = self.channels * self.len;
            let mut sums = vec![0.0; self.channels];
            for sample in data.chunks_exact(sample_len).step_by(CENTRE_STEP) {
                let rows = sample.chunks_exact(self.len);
                sums.iter_mut().zip(rows).for_each(|(sum, row)| *sum += row_sum(row));
            }
            let count = (self.samples.div_ceil(CENTRE_STEP) * self.len) as f64;
            let means: Vec<T> = sums.into_iter().map(|sum| T::from_f64(sum / count)).collect();
            Tensor::from_vec(means, small, x.device())
        })
    }

    /// The means of `x − c` and `(x − c)²` over samples and rows, `[K?, 2, C, 1, …]`; of a tangent `ẋ`, those of `ẋ` and
    /// `2 ẋ (x − c)`. `centre` `c` is a constant. Sums along rows are taken in the dtype, sums of rows in f64.
    pub fn moments(&self, x: &Parts<'_>, centre: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let Some(primal) = x.primal else { candle_core::bail!("moments of a value without primal") };
        let tangents = x.tangents.map(|tangents| self.moments_of(primal, Some(tangents), centre)).transpose()?;
        Ok((self.moments_of(primal, None, centre)?, tangents))
    }

    fn moments_of(&self, x: &Tensor, tangents: Option<&Tensor>, centre: &Tensor) -> Result<Tensor> {
        with_float!(x.dtype(), T => {
            let held = Held::<T, _>::of([Some(x), tangents, Some(centre)])?;
            let slices = held.slices()?;
            let [x, main, centre] = std::array::from_fn::<_, 3, _>(|index| slices[index].as_deref());
            let (Some(x), Some(centre)) = (x, centre) else { candle_core::bail!("moments of nothing") };
            let numbers = self.numbers();
            let directions = main.map_or(1, |main| main.len() / numbers.max(1));
            let chunk = self.samples_per_chunk();
            let mut means = Vec::with_capacity(2 * directions * self.channels);
            for k in 0..directions {
                let main = main.map(|main| &main[k * numbers..][..numbers]);
                let parts = parallel::map(self.samples.div_ceil(chunk), |index| {
                    let samples = index * chunk..self.samples.min((index + 1) * chunk);
                    T::dispatch(Isa::best(), MomentsTask { channels: self, x, main, centre, samples })
                });
                let mut sums = vec![0.0; 2 * self.channels];
                parts.iter().for_each(|part| sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part));
                let factor = 1.0 / (self.samples * self.len) as f64;
                means.extend(sums.into_iter().map(|sum| T::from_f64(factor * sum)));
            }
            let lead = tangents.map(|_| directions);
            let (rank, device) = held.first()?;
            let shape = lead.into_iter().chain([2, self.channels]).chain(std::iter::repeat_n(1, rank - 2));
            Tensor::from_vec(means, shape.collect::<Vec<_>>(), device)
        })
    }
}

/// Sums over some samples: first of all channels, then those of their products.
struct MomentsTask<'a, T> {
    channels: &'a Channels,
    x: &'a [T],
    /// A tangent; without one, `x − c` takes its place.
    main: Option<&'a [T]>,
    centre: &'a [T],
    samples: std::ops::Range<usize>,
}

impl<T: Element> SimdTask<T> for MomentsTask<'_, T> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) -> Vec<f64> {
        let Self { channels: &Channels { channels, len, .. }, x, main, centre, samples } = self;
        let mut sums = vec![0.0; 2 * channels];
        let mut shifted = vec![T::ZERO; len];
        for row in samples.start * channels..samples.end * channels {
            let channel = row % channels;
            shifted.iter_mut().zip(&x[row * len..][..len]).for_each(|(out, &x)| *out = x - centre[channel]);
            let (sum, dot) = match main {
                None => (row_sum(&shifted), row_dot(&shifted, &shifted)),
                Some(main) => {
                    let main = &main[row * len..][..len];
                    (row_sum(main), 2.0 * row_dot(main, &shifted))
                }
            };
            sums[channel] += sum;
            sums[channels + channel] += dot;
        }
        sums
    }
}
