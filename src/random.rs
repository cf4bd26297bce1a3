//! Seeded random streams: one ChaCha stream per purpose, so that one more probe never changes the initial weights.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for; its number is part of every published result, so it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights.
    Initialisation = 1,
    /// Order of the training rows.
    Shuffle = 2,
    /// Label noise.
    LabelNoise = 3,
    /// Choice of a subset of rows.
    Subset = 4,
    /// Assignment of rows to data shards.
    Shards = 5,
    /// Hutchinson and Lanczos start vectors.
    Probes = 6,
    /// Start block of an eigenvalue computation.
    Eigenpairs = 7,
    /// Random directions of loss slices.
    Directions = 8,
    /// The weight perturbation `ε` of fSGLD.
    Perturbation = 9,
    /// The Langevin noise `ξ` of SGLD and fSGLD.
    Langevin = 10,
    /// Drawing of synthetic images.
    Synthetic = 11,
    /// Dropout masks.
    Dropout = 12,
    /// Vectors of self-checks.
    Check = 13,
    /// Labels that the model itself draws, for the Monte Carlo Fisher matrix.
    SampledLabels = 14,
    /// Random combinations of the columns of a loss Hessian's factor.
    OutputSigns = 15,
    /// Start block of a survey.
    Survey = 16,
    /// Rows from which batch statistics are re-estimated.
    Statistics = 30,
    /// Label noise that depends on the image.
    InstanceNoise = 20,
    /// Random crops, flips and cutouts of training images.
    Augmentation = 21,
    /// The perturbation `ε` of chains on small potentials.
    LangevinPerturbation = 50,
    /// The noise `ξ` of chains on small potentials.
    LangevinNoise = 51,
    /// Exact draws from the law of a small potential.
    LangevinLaw = 52,
    /// Directions of sliced distances.
    LangevinSlices = 53,
    /// Resamples of a bootstrap interval.
    Bootstrap = 60,
    /// Sign patterns and splits, where there are too many to count.
    Signs = 61,
    /// Resamples of the rows of an evaluation.
    Resamples = 90,
    /// Rows on which a temperature is fitted.
    HeldOut = 91,
    /// Images of noise.
    NoiseImages = 92,
    /// Gaussian perturbations of measures of sharpness.
    Sharpness = 40,
    /// Random starts of ascents to the worst perturbation.
    SharpnessStart = 41,
    /// Random signs of relative flatness.
    SharpnessSigns = 42,
    /// Random directions of `flatness landscape`.
    LandscapeDirections = 44,
    /// Order of the rows that batch statistics are re-estimated from at the points of a landscape.
    LandscapeStatistics = 45,
    /// Start block of the eigenvectors that span a landscape.
    LandscapeEigenvectors = 46,
    /// Noise of the chains of a learning coefficient.
    LearningCoefficient = 80,
    /// Rows of the minibatches that such a chain sees.
    LearningCoefficientRows = 81,
    /// Start block of the eigenvalue that decides on its step size.
    LearningCoefficientEigenvalue = 82,
}

/// The stream of `purpose` under `seed`. Equal arguments give equal numbers on every machine.
pub fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}

/// A sub-stream of `purpose` for item `index` (a step, a chunk, an image), so that items fill in parallel.
pub fn substream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // The purpose sits above any index that occurs, so sub-streams of two purposes never meet.
    rng.set_stream(((purpose as u64) << 48) | (index + 1));
    rng
}

/// Uniform on `[0, 1)`, a multiple of `2⁻⁵³`: from the raw word, by a formula that no update of a library can change.
pub(crate) fn uniform(rng: &mut (impl Rng + ?Sized)) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Fills `values` with ±1, one random bit each.
pub(crate) fn fill_signs(rng: &mut impl Rng, values: &mut [f64]) {
    for chunk in values.chunks_mut(64) {
        let mut bits = rng.next_u64();
        for value in chunk {
            *value = if bits & 1 == 1 { 1.0 } else { -1.0 };
            bits >>= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_repeatable_and_apart() {
        let first = |purpose| stream(7, purpose).next_u64();
        assert_eq!(first(Purpose::Probes), first(Purpose::Probes));
        assert_ne!(first(Purpose::Probes), first(Purpose::Shuffle));
        assert_ne!(substream(7, Purpose::Probes, 0).next_u64(), substream(7, Purpose::Probes, 1).next_u64());
    }

    #[test]
    fn uniforms_and_signs_have_their_laws() {
        let mut rng = stream(6, Purpose::Check);
        let mean = (0..10_000).map(|_| uniform(&mut rng)).sum::<f64>() / 1e4;
        // Four standard errors, of a variance of 1/12.
        assert!((mean - 0.5).abs() < 4.0 * (1.0f64 / 12.0 / 1e4).sqrt());
        let mut signs = vec![0.0; 1000];
        fill_signs(&mut rng, &mut signs);
        assert!(signs.iter().all(|sign: &f64| sign.abs() == 1.0));
        assert!(signs.iter().sum::<f64>().abs() < 4.0 * 1000f64.sqrt());
    }
}
