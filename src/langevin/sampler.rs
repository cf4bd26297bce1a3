//! Many chains of SGLD and fSGLD at once.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::{LangevinError, Law, Potential};
use crate::optim::Langevin;
use crate::random::{Purpose, substream};
use crate::{Error, Observer, Result, Step, Workers};

/// The dynamics `x ← x − λ ∇u(x + ε) + sqrt(2 λ/β) ξ`, `ε ~ N(0, σ² I)` and `ξ ~ N(0, I)` fresh in each step: fSGLD
/// (arXiv 2510.02174), and SGLD (Welling and Teh 2011) where `σ = 0`. The step is that of the trainer, as a test shows.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Dynamics {
    /// `λ`.
    pub step_size: f64,
    /// `β`.
    pub beta: f64,
    /// `σ`.
    pub sigma: f64,
}

impl Dynamics {
    /// Refuses settings under which no chain is defined, or all diverge.
    ///
    /// # Errors
    /// [`LangevinError::Setting`], and [`LangevinError::Unstable`] for a step size of `2/k` or more.
    pub fn check(&self, potential: &Potential) -> Result<(), LangevinError> {
        let positive = |name, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(LangevinError::Setting { name, value, reason: "must be a number above 0" }),
        };
        positive("step size", self.step_size)?;
        positive("beta", self.beta)?;
        if !(self.sigma >= 0.0 && self.sigma.is_finite()) {
            return Err(LangevinError::Setting { name: "sigma", value: self.sigma, reason: "must be 0 or more" });
        }
        let limit = 2.0 / potential.steepest();
        if self.step_size >= limit {
            return Err(LangevinError::Unstable { step_size: self.step_size, limit });
        }
        Ok(())
    }
}

/// How many chains, how long, and where they begin.
#[derive(Debug, Clone, Copy)]
pub struct Schedule<'a> {
    /// Independent chains.
    pub chains: usize,
    /// Steps between two snapshots.
    pub steps: usize,
    /// Snapshots of all chains.
    pub snapshots: usize,
    /// An exact draw for each chain, or all at the sharp minimum.
    pub start: Option<&'a Law>,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Number of this run among those of a study; runs of different numbers use different random numbers.
    pub stream: u64,
    /// Threads that share the chains.
    pub threads: usize,
}

/// Chains that share random streams: the cut that threads do not change.
const CHUNK: usize = 64;
/// Room for the chunks of one run among the streams.
const STREAMS: u64 = 1 << 24;

/// Places of all chains, snapshot after snapshot, `[snapshots][chains × dim]`.
///
/// Equal seeds give equal bits, whatever the number of threads. Cost: a gradient and at
/// most `2 dim` normal numbers for each step of a chain.
///
/// # Errors
/// [`LangevinError`] of [`Dynamics::check`], or where a chain diverges; an interruption; [`Error::Threads`].
pub fn sample(
    potential: &Potential,
    dynamics: &Dynamics,
    schedule: &Schedule<'_>,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<f64>>> {
    dynamics.check(potential)?;
    let dim = potential.dim();
    let (workers, chunks) = (Workers::new(schedule.threads)?, schedule.chains.div_ceil(CHUNK));
    let first = schedule.stream * STREAMS;
    let mut states: Vec<Chunk> = (0..chunks)
        .map(|index| {
            let chains = CHUNK.min(schedule.chains - index * CHUNK);
            Chunk::new(potential, chains, schedule, first + index as u64)
        })
        .collect();
    let mut snapshots = Vec::with_capacity(schedule.snapshots);
    for done in 1..=schedule.snapshots {
        workers.install(|| {
            states.par_iter_mut().for_each(|chunk| chunk.advance(potential, dynamics, schedule.steps));
        });
        let places: Vec<f64> = states.iter().flat_map(|chunk| chunk.places.iter().copied()).collect();
        if places.iter().any(|place| !place.is_finite()) {
            let step = done * schedule.steps;
            return Err(LangevinError::Diverged { step, step_size: dynamics.step_size }.into());
        }
        debug_assert_eq!(places.len(), schedule.chains * dim);
        snapshots.push(places);
        let step = Step { task: "chains", done, total: schedule.snapshots, message: String::new() };
        if observer.on_step(&step).is_break() {
            return Err(Error::Interrupted);
        }
    }
    Ok(snapshots)
}

/// Chains with their streams.
struct Chunk {
    /// `[chains × dim]`.
    places: Vec<f64>,
    perturbation: ChaCha8Rng,
    noise: ChaCha8Rng,
}

impl Chunk {
    fn new(potential: &Potential, chains: usize, schedule: &Schedule<'_>, stream: u64) -> Self {
        let mut places = potential.sharp_minimum().repeat(chains);
        if let Some(law) = schedule.start {
            let mut rng = substream(schedule.seed, Purpose::LangevinLaw, stream);
            places.chunks_exact_mut(potential.dim().max(1)).for_each(|place| law.draw(&mut rng, place));
        }
        Self {
            places,
            perturbation: substream(schedule.seed, Purpose::LangevinPerturbation, stream),
            noise: substream(schedule.seed, Purpose::LangevinNoise, stream),
        }
    }

    fn advance(&mut self, potential: &Potential, dynamics: &Dynamics, steps: usize) {
        let dim = potential.dim();
        let scale = Langevin { beta_inverse: 1.0 / dynamics.beta, momentum: 0.0 }.scale(dynamics.step_size);
        let (mut seen, mut gradient) = (vec![0.0; dim], vec![0.0; dim]);
        for _ in 0..steps {
            for place in self.places.chunks_exact_mut(dim.max(1)) {
                seen.copy_from_slice(place);
                perturb(&mut seen, dynamics.sigma, &mut self.perturbation);
                potential.gradient(&seen, &mut gradient);
                for (place, slope) in place.iter_mut().zip(&gradient) {
                    let draw: f64 = StandardNormal.sample(&mut self.noise);
                    *place += scale * draw - dynamics.step_size * slope;
                }
            }
        }
    }
}

/// `x ← x + ε`; a zero scale draws nothing, as in the trainer.
fn perturb(place: &mut [f64], sigma: f64, rng: &mut ChaCha8Rng) {
    if sigma > 0.0 {
        for x in place {
            let draw: f64 = StandardNormal.sample(rng);
            *x += sigma * draw;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::ParamSpace;
    use crate::objective::{Evaluation, GradientReport};
    use crate::optim::{Fsgld, Optimizer, OptimizerConfig, PerturbationScale, Setup, Temperature};
    use crate::vocabulary::ParamKind;
    use candle_core::{Device, Tensor};

    fn schedule(chains: usize, steps: usize) -> Schedule<'static> {
        Schedule { chains, steps, snapshots: 1, start: None, seed: 4, stream: 0, threads: 2 }
    }

    fn variance(places: &[f64]) -> f64 {
        places.iter().map(|x| x * x).sum::<f64>() / places.len() as f64
    }

    #[test]
    fn sgld_on_a_gaussian_has_the_variance_of_its_recursion() {
        let gaussian = Potential::Gaussian { curvatures: vec![4.0] };
        // x ← (1 − λk) x + sqrt(2λ/β) ξ, plus −λkσ z of the perturbation: stationary variance
        // (2λ/β + (λkσ)²)/(1 − (1 − λk)²).
        for (step_size, sigma) in [(0.2, 0.0), (0.05, 0.0), (0.2, 0.5)] {
            let dynamics = Dynamics { step_size, beta: 2.0, sigma };
            let factor: f64 = 1.0 - step_size * 4.0;
            let noise = 2.0 * step_size / 2.0 + (step_size * 4.0 * sigma).powi(2);
            let exact = noise / (1.0 - factor * factor);
            let places = sample(&gaussian, &dynamics, &schedule(20_000, 200), &mut ()).unwrap().remove(0);
            // 200 steps: what is left of the start is below 0.8^400. Standard error of a variance: variance·sqrt(2/n).
            assert!((variance(&places) - exact).abs() < 4.0 * exact * 0.01, "{step_size}: {}", variance(&places));
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_threads() {
        let dynamics = Dynamics { step_size: 0.05, beta: 3.0, sigma: 0.3 };
        let run = |threads| {
            let schedule = Schedule { threads, ..schedule(300, 20) };
            sample(&Potential::ring(), &dynamics, &schedule, &mut ()).unwrap()
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn one_step_by_hand() {
        // λ = 0.1, k = 3, from 0, σ = 0.2: −0.1·3·0.2 z + sqrt(0.2/5) ξ with the first numbers of both streams.
        let dynamics = Dynamics { step_size: 0.1, beta: 5.0, sigma: 0.2 };
        let gaussian = Potential::Gaussian { curvatures: vec![3.0] };
        let place = sample(&gaussian, &dynamics, &schedule(1, 1), &mut ()).unwrap()[0][0];
        let first = |purpose| -> f64 { StandardNormal.sample(&mut substream(4, purpose, 0)) };
        let expected = -0.06 * first(Purpose::LangevinPerturbation) + 0.2 * first(Purpose::LangevinNoise);
        assert!((place - expected).abs() < 4.0 * f64::EPSILON);
    }

    /// The trainer's fSGLD with all chains as one vector and its own random numbers, against these chains with the same
    /// numbers: gradients are taken at the same places, bit for bit.
    #[test]
    fn a_step_is_that_of_the_trainer() {
        for (potential, sigma) in [(Potential::double_well(), 0.3), (Potential::ring(), 0.2), (Potential::ring(), 0.0)]
        {
            let (dim, dynamics) = (potential.dim(), Dynamics { step_size: 0.01, beta: 3.0, sigma });
            let scale = PerturbationScale::Fixed(sigma);
            let config = OptimizerConfig::Fsgld(Fsgld {
                temperature: Temperature::MeanLoss(1.0 / 3.0),
                scale,
                ..Fsgld::default()
            });
            let mut places = potential.sharp_minimum().repeat(300);
            let space = ParamSpace::new([("x".into(), vec![places.len()], ParamKind::Weight)]);
            let mut optimizer = Optimizer::new(&config, Setup { seed: 4, ..Setup::default() }, &space).unwrap();
            for step in 0..3 {
                let stream = |purpose| substream(4, purpose, step);
                let mut seen = places.clone();
                perturb(&mut seen, sigma, &mut stream(Purpose::Perturbation));
                let (perturbation, noise) = (stream(Purpose::Perturbation), stream(Purpose::Langevin));
                let mut chunk = Chunk { places: places.clone(), perturbation, noise };
                chunk.advance(&potential, &dynamics, 1);
                let theta = Tensor::new(places.as_slice(), &Device::Cpu).unwrap();
                let update = optimizer.step(&theta, dynamics.step_size, &mut |theta| {
                    let theta: Vec<f64> = theta.to_vec1()?;
                    assert_eq!(theta, seen);
                    let mut gradient = vec![0.0; theta.len()];
                    let pairs = theta.chunks_exact(dim).zip(gradient.chunks_exact_mut(dim));
                    pairs.for_each(|(place, gradient)| potential.gradient(place, gradient));
                    let (loss, nan) = (0.0, f64::NAN);
                    let evaluation = Evaluation { loss, loss_std_err: nan, accuracy: nan, accuracy_std_err: nan };
                    let gradient = Tensor::from_vec(gradient, seen.len(), &Device::Cpu)?;
                    Ok(GradientReport { evaluation, gradient, statistics: Vec::new(), scores: None })
                });
                places = update.unwrap().theta.to_vec1().unwrap();
                for (trained, sampled) in places.iter().zip(&chunk.places) {
                    // The trainer adds noise to `x − λ g`, the sampler subtracts `λ g` from the noise: two roundings
                    // each, of numbers below 4.
                    assert!((trained - sampled).abs() <= 2.0 * 4.0 * f64::EPSILON, "{trained} {sampled}");
                }
            }
        }
    }

    #[test]
    fn settings_without_sense_are_refused() {
        let well = Potential::double_well();
        let refused =
            |step_size, beta, sigma| Dynamics { step_size, beta, sigma }.check(&well).unwrap_err().to_string();
        assert!(refused(0.1, 0.0, 0.1).contains("beta is 0"));
        assert!(refused(0.1, 1.0, -1.0).contains("sigma is -1"));
        assert!(refused(0.0, 1.0, 0.0).contains("step size is 0"));
        assert!(refused(0.25, 1.0, 0.0).contains("chains diverge"));
        let steep = Dynamics { step_size: 0.24, beta: 1.0, sigma: 0.0 };
        assert!(steep.check(&well).is_ok());
    }
}
