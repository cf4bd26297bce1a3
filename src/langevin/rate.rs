//! Error of the law against the step size.

use super::study::{Measured, Stretch, law, measure, stationary};
use super::{Dynamics, Energy, Potential, StudyOptions};
use crate::statistics::student_quantile;
use crate::vocabulary::Sampler;
use crate::{Observer, Result};

/// One step size.
#[derive(Debug, Clone, PartialEq)]
pub struct RateRow {
    /// Which sampler.
    pub method: Sampler,
    /// Step size, `β`, `σ`.
    pub dynamics: Dynamics,
    /// Against the law of the mean drift: of `u` for SGLD, of the smoothed `u` for fSGLD.
    pub energy: Energy,
    /// The distance.
    pub measured: Measured,
    /// Whether it is well above the noise floor, and so enters the fit.
    pub in_fit: bool,
}

/// `W₁ ≈ c λ^exponent`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateFit {
    /// Which sampler.
    pub method: Sampler,
    /// The slope of `ln W₁` over `ln λ`.
    pub exponent: f64,
    /// Half the width of its 95 % interval (t, least squares); NaN from two points.
    pub half_width: f64,
    /// Points that it rests on.
    pub num_points: usize,
}

/// Step sizes times the steepest curvature.
const RELATIVE_STEPS: [f64; 6] = [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125];
/// Multiple of the noise floor above which a distance enters the fit.
const STANDS_OUT: f64 = 3.0;
/// Time before the first snapshot and between two, in units of the weakest relaxation of the built-in potentials.
const BURN_IN: f64 = 40.0;
const SPACING: f64 = 8.0;

/// `W₁` and `W₂` of SGLD (`σ = 0`) and fSGLD at six step sizes, each against the law that it approaches as the step
/// size falls, from chains that begin with exact draws from it. The theory (Raginsky et al. 2017, and the paper for
/// fSGLD) bounds `W₁` by a multiple of `λ^{1/2}`; on smooth potentials the order 1 of the Euler scheme is expected
/// (Talay and Tubaro 1990).
///
/// Cost: `chains · 168 · (1 + 2 + … + 32) k` steps for each method, `k` the steepest curvature.
///
/// # Errors
/// Settings out of range; an interruption.
pub fn rate(
    potential: &Potential,
    beta: f64,
    sigma: f64,
    options: &StudyOptions,
    observer: &mut dyn Observer,
) -> Result<(Vec<RateRow>, Vec<RateFit>)> {
    options.check()?;
    let mut rows = Vec::new();
    for (place, (method, sigma, energy)) in
        [(Sampler::Sgld, 0.0, Energy::Plain), (Sampler::Fsgld, sigma, Energy::Smoothed)].into_iter().enumerate()
    {
        let target = law(potential, energy, &Dynamics { step_size: 1.0, beta, sigma })?;
        for (index, relative) in RELATIVE_STEPS.into_iter().enumerate() {
            let dynamics = Dynamics { step_size: relative / potential.steepest(), beta, sigma };
            let number = (10 * place + index) as u64;
            let stretch = Stretch { start: &target, burn_in: BURN_IN, spacing: SPACING, stream: number };
            let snapshots = stationary(potential, &dynamics, &stretch, options, observer)?;
            let measured = measure(&snapshots, &target, potential.dim(), options.seed, number);
            let in_fit = measured.distances.w1 > STANDS_OUT * measured.floor.w1;
            rows.push(RateRow { method, dynamics, energy, measured, in_fit });
        }
    }
    let fits = Sampler::ALL.map(|method| fit(method, &rows)).to_vec();
    Ok((rows, fits))
}

/// Least squares on the points above the noise floor.
fn fit(method: Sampler, rows: &[RateRow]) -> RateFit {
    let own = rows.iter().filter(|row| row.method == method && row.in_fit);
    let points: Vec<(f64, f64)> =
        own.map(|row| (row.dynamics.step_size.ln(), row.measured.distances.w1.ln())).collect();
    let (exponent, half_width) = slope(&points);
    RateFit { method, exponent, half_width, num_points: points.len() }
}

/// Slope of a line through `points`, and half the width of its 95 % interval.
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |part: fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    let left: f64 = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
    let degrees = count - 2.0;
    if degrees < 1.0 {
        return (slope, f64::NAN);
    }
    (slope, student_quantile(0.975, degrees) * (left / degrees / spread).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_and_its_interval_by_hand() {
        // y = 2x + 1 with residuals 0.1, −0.2, 0.1 that a line does not see: s² = 0.06/1, spread 2, t(0.975, 1) =
        // 12.7062.
        let (slope, half_width) = slope(&[(0.0, 1.1), (1.0, 2.8), (2.0, 5.1)]);
        assert!((slope - 2.0).abs() < 1e-14);
        assert!((half_width - 12.706_205 * (0.06f64 / 2.0).sqrt()).abs() < 1e-5);
        assert!(super::slope(&[(0.0, 1.0), (1.0, 3.0)]).1.is_nan());
    }

    #[test]
    fn on_a_gaussian_the_error_is_that_of_the_closed_form() {
        let gaussian = Potential::Gaussian { curvatures: vec![1.0] };
        let options = StudyOptions { chains: 2_048, snapshots: 8, seed: 1, threads: 2 };
        let (rows, fits) = rate(&gaussian, 1.0, 0.5, &options, &mut ()).unwrap();
        for row in &rows[..2] {
            // Deviation of SGLD: 1/sqrt(1 − λ/2), that of the law 1; W₁ of two centred normals: their difference times
            // sqrt(2/π). The standard error of a deviation from n draws is 1/sqrt(2n), n = 16384.
            let exact = ((1.0 - row.dynamics.step_size / 2.0).powf(-0.5) - 1.0) * (2.0 / std::f64::consts::PI).sqrt();
            let error = 4.0 / (2.0f64 * 16_384.0).sqrt() + row.measured.floor.w1;
            assert!((row.measured.distances.w1 - exact).abs() < error, "{row:?} {exact}");
        }
        assert!(fits[0].num_points >= 2 && fits[0].exponent > 0.8, "{fits:?}");
    }
}
